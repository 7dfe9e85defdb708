"""The port on which a node answers clients of Redis Sentinel, read-only.

Strangers may reach this port. The number of connections and, for each of them, the size of
requests, the buffered bytes, the work in one turn of the reactor, and the idle time are therefore
bounded.
"""

from __future__ import annotations

import fnmatch
import hmac
import itertools
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, cast

from twisted.internet.interfaces import IAddress, IPushProducer, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from kevy_elect.errors import FrameError
from kevy_elect.ops.resp import Error, Push, Simple, encode
from kevy_elect.ops.sentinel import CHANNELS, REDIS_VERSION, Published, Sentinel
from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers
from kevy_elect.wire import MAX_UNDECODED, Decoder

MAX_CLIENTS: Final = 256
"""The most connections at a time, including those of subscribers."""
MAX_SUBSCRIPTIONS: Final = 32
"""The most channels and patterns of one connection."""
MAX_TURN: Final = 64
"""The most requests of one connection that are answered in one turn of the reactor."""
MAX_LINE: Final = 1024
"""The most bytes of a request that is written as a line."""
PATIENCE: Final = 10.0
"""Seconds within which a request must be complete, an answer read, and a client authenticated."""
IDLE: Final = 300.0
"""Seconds for which a client without subscriptions may send no request."""
LOOK: Final = 0.1
"""Seconds between two checks for changes. A change of the primary is noticed at once."""


class _Frames(Decoder[tuple[str, ...]]):
    """Requests as arrays of bulk strings, with any first word."""

    def __init__(self) -> None:
        super().__init__({})

    def _parse(self, fields: list[bytes]) -> tuple[str, ...]:
        return tuple(field.decode("latin-1") for field in fields)


class _Lines:
    """Requests as lines, as load balancers and people send them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def undecoded(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_message(self) -> tuple[str, ...] | None:
        """Raises FrameError for a line that is too long."""
        while (end := self._buffer.find(b"\n", 0, MAX_LINE + 1)) >= 0:
            words = self._buffer[:end].decode("latin-1").split()
            del self._buffer[: end + 1]
            if words:
                return tuple(words)
        if len(self._buffer) > MAX_LINE:
            raise FrameError("bad", f"a line of more than {MAX_LINE} bytes")
        return None


class Client(Protocol, TimeoutMixin):
    """One connection."""

    transport: ITCPTransport
    _COMMANDS: ClassVar[dict[str, Callable[[Client, list[str]], Any]]]

    def __init__(self, port: SentinelFactory, number: int) -> None:
        self._port = port
        self._number = number
        self._requests: _Frames | _Lines | None = None
        self._version = 2
        self._trusted = port.password is None
        self._channels: dict[str, None] = {}
        self._patterns: dict[str, frozenset[str]] = {}
        self._reading = True
        self._turn: Any = None
        self.ended = False
        """Whether it reads nothing more."""

    @property
    def subscribed(self) -> int:
        """The number of its channels and patterns."""
        return len(self._channels) + len(self._patterns)

    # The connection

    def connectionMade(self) -> None:
        self._port.connected(self)
        self.transport.setTcpKeepAlive(True)
        self.transport.setTcpNoDelay(True)
        cast(Any, self.transport).registerProducer(_Reader(self), streaming=True)
        self.setTimeout(IDLE if self._trusted else PATIENCE)

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        if self._requests is None:
            self._requests = _Frames() if data.startswith(b"*") else _Lines()
        self._requests.feed(data)
        if self._turn is None:
            self._answer()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended = True
        self.setTimeout(None)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._port.gone(self)

    def timeoutConnection(self) -> None:
        self.end()

    def end(self) -> None:
        """End the connection without waiting for its reader."""
        self.ended = True
        self.transport.abortConnection()

    def callLater(self, delay: float, function: Callable[[], object]) -> Any:
        return timers(self._port.reactor).callLater(delay, function)

    def is_read(self, *, reading: bool) -> None:
        """Called by the transport when the client stops or resumes reading. While it does not read,
        its requests are neither received nor answered."""
        if reading and not self._reading:
            self._take_turn()
        elif not reading:
            self.setTimeout(PATIENCE)
        self._reading = reading

    # Requests

    def _answer(self) -> None:
        """Answer the received requests, up to the bound of one turn."""
        self._turn = None
        try:
            for _ in range(MAX_TURN):
                if self.ended or not self._reading:
                    break
                words = self._requests and self._requests.next_message()
                if not words:
                    return self._all_answered()
                self._do(words)
        except FrameError as error:
            self._say(Error(f"ERR Protocol error: {error.detail}"))
            return self._hang_up()
        if not self.ended:
            cast(Any, self.transport).pauseProducing()
            if self._reading:
                self._take_turn()
        return None

    def _take_turn(self) -> None:
        if self._turn is None and not self.ended:
            self._turn = timers(self._port.reactor).callLater(0, self._answer)

    def _all_answered(self) -> None:
        assert self._requests is not None
        undecoded = self._requests.undecoded
        if undecoded > MAX_UNDECODED:
            self._say(Error("ERR Protocol error: too big a request"))
            return self._hang_up()
        cast(Any, self.transport).resumeProducing()
        if undecoded:
            # Each byte of a slow request must not extend its time.
            if self.timeOut != PATIENCE:
                self.setTimeout(PATIENCE)
        elif self._trusted:
            self.setTimeout(None if self.subscribed else IDLE)
        return None

    def _do(self, words: tuple[str, ...]) -> None:
        verb, rest = words[0].upper(), list(words[1:])
        command = self._COMMANDS.get(verb)
        if not self._trusted and verb not in ("AUTH", "HELLO", "QUIT"):
            self._say(Error("NOAUTH Authentication required."))
        elif self.subscribed and self._version == 2 and verb not in _WHILE_SUBSCRIBED:
            self._say(Error(f"ERR Can't execute '{verb[:40].lower()}' while subscribed"))
        elif command is not None:
            command(self, rest)
        else:
            self._say(Error(f"ERR unknown command '{verb[:40]}'"))
            if isinstance(self._requests, _Lines):
                self._hang_up()  # the client uses another protocol, such as HTTP

    def _say(self, value: Any) -> None:
        self.transport.write(encode(value, self._version))

    def _hang_up(self) -> None:
        """End the connection once the client has read the answers."""
        self.ended = True
        self.setTimeout(PATIENCE)
        transport = cast(Any, self.transport)
        transport.unregisterProducer()  # otherwise the end would wait for it
        transport.resumeProducing()  # TLS ends with a message of the client
        transport.loseConnection()

    # Commands

    def _hello(self, words: list[str]) -> None:
        version = words.pop(0) if words else str(self._version)
        if version not in ("2", "3"):
            return self._say(Error("NOPROTO unsupported protocol version"))
        while words:
            option = words.pop(0).upper()
            if option == "AUTH" and len(words) >= 2:
                if not self._authenticate(words.pop(0), words.pop(0)):
                    return self._say(_WRONG_PASSWORD)
            elif option == "SETNAME" and words:
                words.pop(0)
            else:
                return self._say(Error("ERR Syntax error in HELLO"))
        if not self._trusted:
            return self._say(Error("NOAUTH HELLO must be called with AUTH first"))
        self._version = int(version)
        return self._say(
            {
                "server": "redis",
                "version": REDIS_VERSION,
                "proto": self._version,
                "id": self._number,
                "mode": "sentinel",
                "role": "sentinel",
                "modules": [],
            }
        )

    def _auth(self, words: list[str]) -> None:
        if not 1 <= len(words) <= 2:
            return self._say(_WRONG_NUMBER)
        if self._port.password is None:
            return self._say(Error("ERR AUTH called, but this node has no password"))
        if self._authenticate(*(["default", *words])[-2:]):
            return self._say(_OK)
        return self._say(_WRONG_PASSWORD)

    def _authenticate(self, user: str, password: str) -> bool:
        wanted = self._port.password
        if wanted is None:
            return True
        right = hmac.compare_digest(password.encode("latin-1"), wanted) and user == "default"
        self._trusted = self._trusted or right
        return right

    def _ping(self, words: list[str]) -> None:
        if len(words) > 1:
            return self._say(_WRONG_NUMBER)
        if self.subscribed and self._version == 2:
            return self._say(["pong", *(words or [""])])
        return self._say(words[0] if words else Simple("PONG"))

    def _quit(self, words: list[str]) -> None:
        self._say(_OK)
        self._hang_up()

    def _client(self, words: list[str]) -> None:
        known = words and words[0].upper() in ("SETINFO", "SETNAME")
        self._say(_OK if known else Error("ERR unknown subcommand of CLIENT"))

    def _info(self, words: list[str]) -> None:
        self._say(self._port.sentinel.info())

    def _role(self, words: list[str]) -> None:
        self._say(["sentinel", [self._port.sentinel.name]])

    def _sentinel(self, words: list[str]) -> None:
        self._say(self._port.sentinel.ask(words))

    # Subscriptions

    def _subscribe(self, words: list[str]) -> None:
        self._add("subscribe", words, self._channels, lambda word: None)

    def _psubscribe(self, words: list[str]) -> None:
        self._add("psubscribe", words, self._patterns, _fitting)

    def _unsubscribe(self, words: list[str]) -> None:
        self._remove("unsubscribe", words, self._channels)

    def _punsubscribe(self, words: list[str]) -> None:
        self._remove("punsubscribe", words, self._patterns)

    def _add(
        self, verb: str, words: list[str], to: dict[str, Any], value: Callable[[str], Any]
    ) -> None:
        if not words:
            return self._say(_WRONG_NUMBER)
        if self.subscribed + len(words) > MAX_SUBSCRIPTIONS:
            return self._say(Error(f"ERR no more than {MAX_SUBSCRIPTIONS} subscriptions"))
        for word in words:
            to[word] = value(word)
            self._say(Push([verb, word, self.subscribed]))
        return None

    def _remove(self, verb: str, words: list[str], of: dict[str, Any]) -> None:
        for word in words or list(of):
            of.pop(word, None)
            self._say(Push([verb, word, self.subscribed]))

    def publish(self, news: Published) -> None:
        """Send a message for each matching subscription. A client that does not read is
        disconnected, because its buffer would grow without bound."""
        pushes: list[Push] = []
        if news.channel in self._channels:
            pushes.append(Push(["message", news.channel, news.text]))
        for pattern, channels in self._patterns.items():
            if news.channel in channels:
                pushes.append(Push(["pmessage", pattern, news.channel, news.text]))
        if pushes and not self._reading:
            self.end()
        for each in () if self.ended else pushes:
            self._say(each)


_OK: Final = Simple("OK")
_WRONG_NUMBER: Final = Error("ERR wrong number of arguments")
_WRONG_PASSWORD: Final = Error("WRONGPASS invalid username-password pair")
_SUBSCRIPTIONS: Final = {
    "SUBSCRIBE": Client._subscribe,
    "PSUBSCRIBE": Client._psubscribe,
    "UNSUBSCRIBE": Client._unsubscribe,
    "PUNSUBSCRIBE": Client._punsubscribe,
}
_WHILE_SUBSCRIBED: Final = {*_SUBSCRIPTIONS, "PING", "QUIT"}
Client._COMMANDS = {
    "AUTH": Client._auth,
    "CLIENT": Client._client,
    "HELLO": Client._hello,
    "INFO": Client._info,
    "PING": Client._ping,
    "QUIT": Client._quit,
    "ROLE": Client._role,
    "SENTINEL": Client._sentinel,
    **_SUBSCRIPTIONS,
}


def _fitting(pattern: str) -> frozenset[str]:
    """The channels that match a pattern."""
    try:
        found = re.compile(fnmatch.translate(pattern))
    except re.error:
        return frozenset()
    return frozenset(filter(found.match, CHANNELS))


@implementer(IPushProducer)
class _Reader:
    """Passes on to a client's connection whether the client reads."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def pauseProducing(self) -> None:
        self._client.is_read(reading=False)

    def resumeProducing(self) -> None:
        self._client.is_read(reading=True)

    def stopProducing(self) -> None:
        """The connection is closed; its protocol gets `connectionLost`."""


class SentinelFactory(Factory):
    """The factory for a listening port: `strports.service(endpoint, SentinelFactory(election, …))`.

    It accepts at most MAX_CLIENTS. One more replaces the oldest connection without subscriptions,
    and is refused if there is none.
    """

    log = Logger()
    noisy = False

    def __init__(
        self, election: ElectionService, sentinel: Sentinel, password: bytes | None = None
    ) -> None:
        self.sentinel = sentinel
        self.password = password
        self.reactor: Any = election.reactor
        self._election = election
        self._clients: dict[Client, None] = {}
        self._numbers = itertools.count(1)
        self._unobserve: Callable[[], None] | None = None
        self._next_look: Any = None

    def startFactory(self) -> None:
        self._unobserve = self._election.add_observer(lambda snapshot, reason: self.look())
        self._look_again()

    def stopFactory(self) -> None:
        if self._unobserve is not None:
            self._unobserve()
            self._next_look.cancel()
        self._unobserve = self._next_look = None
        for client in tuple(self._clients):
            client.end()

    def buildProtocol(self, addr: IAddress | None) -> Client | None:
        if len(self._clients) >= MAX_CLIENTS:
            first = next((each for each in self._clients if not each.subscribed), None)
            if first is None:
                return None
            del self._clients[first]
            first.end()
        return Client(self, next(self._numbers))

    def connected(self, client: Client) -> None:
        self._clients[client] = None

    def gone(self, client: Client) -> None:
        self._clients.pop(client, None)

    def _look_again(self) -> None:
        self._next_look = timers(self.reactor).callLater(LOOK, self._look_again)
        self.look()

    def look(self) -> None:
        """Publish the changes."""
        self._publish(self.sentinel.news())

    def _publish(self, news: Iterable[Published]) -> None:
        for each in news:
            for client in tuple(self._clients):
                client.publish(each)
