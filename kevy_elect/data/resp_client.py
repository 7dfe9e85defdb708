"""A connection that sends commands to a Redis and takes their replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import hiredis
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from kevy_elect.data.server import DataServerError
from kevy_elect.errors import ConfigError

MAX_REPLY: Final = 1024 * 1024
"""The most bytes of a reply; INFO has about 6,000."""
MAX_WAITING: Final = 256
"""The most commands without a reply."""

Word = str | bytes


def encode_command(words: Sequence[Word]) -> bytes:
    """A command in Redis' format."""
    return hiredis.pack_command(tuple(words))  # type: ignore[arg-type, no-any-return]  # its stub has one word


class RespClient(Protocol):
    """Sends commands in order and returns the reply of each, those of `greeting()` first. If one of
    these is refused, the connection ends. `lost()` is called when the connection has ended.

    A late reply ends the connection, because later commands would take it for their own.
    """

    def __init__(
        self,
        greeting: Callable[[], Iterable[Sequence[Word]]] = tuple,
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._greeting = greeting
        self._on_lost = lost
        self._reader = hiredis.Reader()
        self._unread = 0
        self._waiting: deque[Deferred[Any]] = deque()
        self._lost: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.setTcpNoDelay(True)  # type: ignore[attr-defined]
        try:
            greeting = list(self._greeting())
        except ConfigError as error:
            self._abort(f"cannot be logged in to: {error}")
            return
        for words in greeting:
            self.command(*words).addErrback(lambda failure: self._abort(str(failure.value)))

    def command(self, *words: Word) -> Deferred[Any]:
        """The reply: bytes, an int, a list or None. Fails with DataServerError if it is an error,
        or if the connection ends; its cancellation ends the connection."""
        if self._lost is not None:
            return fail(self._lost)
        if len(self._waiting) >= MAX_WAITING:
            return fail(DataServerError(f"{MAX_WAITING} commands wait for their replies"))
        reply: Deferred[Any] = Deferred(lambda _: self._abort("gave no answer in time"))
        self._waiting.append(reply)
        assert self.transport is not None
        self.transport.write(encode_command(words))
        return reply

    def dataReceived(self, data: bytes) -> None:
        self._unread += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._unread = 0
                self._take(reply)
        except hiredis.ProtocolError as error:
            self._abort(f"speaks no RESP ({error})")
            return
        if self._unread > MAX_REPLY:
            self._abort(f"sent a reply of more than {MAX_REPLY} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail_all(
            "ended the connection"
            if reason.check(ConnectionDone)
            else f"is gone: {reason.getErrorMessage()}"
        )
        self._on_lost()

    def _take(self, reply: object) -> None:
        if not self._waiting:
            self._abort("sent a reply without a command")
            return
        waiting = self._waiting.popleft()
        if isinstance(reply, hiredis.ReplyError):
            waiting.errback(Failure(DataServerError(f"answers {str(reply)[:200]!r}")))
        else:
            waiting.callback(reply)

    def _abort(self, why: str) -> None:
        assert self.transport is not None
        self._fail_all(why)
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def _fail_all(self, why: str) -> None:
        if self._lost is None:
            self._lost = Failure(DataServerError(why))
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.called:
                waiting.errback(self._lost)
