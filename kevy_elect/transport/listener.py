"""A port that listens at once or raises the reason, and its accepted connections."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from kevy_elect.errors import ConfigError
from kevy_elect.settings.admin import parse_socket


class Connection(Protocol):
    """An accepted connection. It notifies the listener when it is opened and when it is lost."""

    def end(self) -> None:
        """End it, now or soon."""


C = TypeVar("C", bound=Connection)


class Listener(Generic[C]):
    """A listening port and its accepted connections. It may listen again once it is closed."""

    def __init__(self) -> None:
        self._open: dict[C, None] = {}
        self._port: IListeningPort | None = None
        self._closing = False
        self._waiting: list[Deferred[None]] = []

    def __iter__(self) -> Iterator[C]:
        """The connections that are not lost yet, in the order in which they were opened."""
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    @property
    def address(self) -> IAddress | None:
        """The address of the port, None while it does not listen."""
        return None if self._port is None else self._port.getHost()

    def listen(self, description: str, factory: IProtocolFactory, reactor: Any) -> None:
        """Listen on the endpoint of this description.

        A Unix socket has mode 0600 unless the description has another
        (`unix:/run/x.sock:mode=660`), and replaces the socket of a killed process.
        Raises CannotListenError if the address is in use or not one of this machine's, ConfigError
        for an invalid endpoint, or one that does not listen at once.
        """
        self._closing = False
        unix = parse_socket(description)
        if unix is None:
            self._port = _listen_at_once(description, factory, reactor)
        else:
            path, mode = unix
            _remove_stale(path)
            self._port = reactor.listenUNIX(path, factory, mode=mode, wantPID=False)

    def opened(self, connection: C) -> None:
        """Add `connection`, or end it if the listener is closing."""
        self._open[connection] = None
        if self._closing:
            connection.end()

    def lost(self, connection: C) -> None:
        """Remove `connection`, which is closed."""
        self._open.pop(connection, None)
        self._tell_if_closed()

    def close(self) -> Deferred[None]:
        """Stop listening and end all connections. Fires when the last one is closed. A second call
        waits for the same."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if not self._closing:
            self._closing = True
            if self._port is not None:
                maybeDeferred(self._port.stopListening).addBoth(self._stopped_listening)
            for connection in self:
                connection.end()
        self._tell_if_closed()
        return waiting

    def _stopped_listening(self, _: object) -> None:
        self._port = None
        self._tell_if_closed()

    def _tell_if_closed(self) -> None:
        if self._closing and not self._open and self._port is None:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


def _listen_at_once(description: str, factory: IProtocolFactory, reactor: Any) -> IListeningPort:
    # Some kinds of endpoints listen later, and nothing would handle an error that comes then.
    answers: list[Any] = []
    listening = serverFromString(reactor, description).listen(factory)
    listening.addBoth(answers.append)
    if not answers:
        listening.cancel()
        raise ConfigError(f"{description!r} does not listen at once; use a tcp or unix endpoint")
    if isinstance(answers[0], Failure):
        answers[0].raiseException()
    port: IListeningPort = answers[0]
    return port


def _remove_stale(path: str) -> None:
    """Remove a socket without a listener."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        return  # there is none, or listening will raise the problem
