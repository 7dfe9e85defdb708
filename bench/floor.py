"""The cost of a Twisted process that only moves the bytes; `floor.tac` runs it.

The environment variable BENCH contains its task in JSON. It imports nothing of kevy_elect, and only
modules that its task needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from twisted.application.service import Application, Service
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, ReconnectingClientFactory, ServerFactory
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import Int32StringReceiver, NetstringReceiver

HOST: Final = "127.0.0.1"
ASKS: Final = b"?"
"""The first byte of a message that requires a reply."""
READY: Final = "linked to all"
LISTENING: Final = "listening"


class Answerer(Protocol):
    """Reads and discards messages, and replies if a message requires it."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if data.startswith(ASKS):
            self.transport.write(self._reply)


class Answers(ServerFactory):
    noisy = False

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def buildProtocol(self, addr: object) -> Answerer:
        return Answerer(self._reply)


class Stream(Protocol):
    """A dialled connection, which discards received bytes."""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.factory.stream = self
        self.factory.connected()


class Link(ReconnectingClientFactory):
    noisy = False
    protocol = Stream
    initialDelay = delay = 0.1
    maxDelay = 0.2
    stream: Stream | None = None

    def __init__(self, exchange: Exchange) -> None:
        self.connected = exchange.connected


class Exchange(Service):
    """Sends `message` to every peer every `interval` seconds, and discards all that it receives.

    Every `often`-th time it also sends `extra`, if there is any.
    """

    def __init__(self, setting: Mapping[str, Any]) -> None:
        self._port = setting["port"]
        self._interval = setting["interval"]
        self._message = setting["message"].encode()
        self._extra = setting["extra"].encode()
        self._often = setting["often"]
        self._reply = setting["reply"].encode()
        self._links = [(Link(self), port) for port in setting["peers"]]
        self._beats = 0
        self._missing = len(self._links)

    def startService(self) -> None:
        super().startService()
        reactor.listenTCP(self._port, Answers(self._reply), interface=HOST)
        for link, port in self._links:
            reactor.connectTCP(HOST, port, link)
        LoopingCall(self._beat).start(self._interval)

    def connected(self) -> None:
        self._missing -= 1
        if not self._missing:
            print(READY, flush=True)

    def _beat(self) -> None:
        self._beats += 1
        message = self._message
        if self._beats % self._often == 0:
            message += self._extra
        for link, _ in self._links:
            if link.stream is not None:
                link.stream.transport.write(message)


class Int32Sink(Int32StringReceiver):
    """Splits the stream into frames and discards them; a frame above its limit ends it."""

    MAX_LENGTH = 512

    def stringReceived(self, string: bytes) -> None:
        pass


class NetstringSink(NetstringReceiver):
    MAX_LENGTH = 512

    def stringReceived(self, string: bytes) -> None:
        pass


SINKS: Final = {"int32": Int32Sink, "netstring": NetstringSink}


class Sink(Service):
    """Reads frames of the requested kind."""

    def __init__(self, setting: Mapping[str, Any]) -> None:
        self._port = setting["port"]
        self._factory = Factory.forProtocol(SINKS[setting["sink"]])
        self._factory.noisy = False

    def startService(self) -> None:
        super().startService()
        reactor.listenTCP(self._port, self._factory, interface=HOST)
        print(LISTENING, flush=True)


def make_application() -> Application:
    setting = json.loads(os.environ["BENCH"])
    application = Application("floor")
    service = Sink(setting) if "sink" in setting else Exchange(setting)
    service.setServiceParent(application)
    return application
