"""Lines of text through a channel, for requests between members and their answers."""

from __future__ import annotations

from typing import Any, Final

from twisted.protocols.policies import TimeoutMixin

from kevy_elect.service.timers import timers
from kevy_elect.transport.channel import HANDSHAKE_TIMEOUT, MAX_PLAIN, Channel, ChannelError
from kevy_elect.transport.framing import ChannelProtocol

READ_AT_ONCE: Final = 4096
"""The most bytes that are read in one turn of the reactor, as on an election port."""


class ChannelLines(ChannelProtocol, TimeoutMixin):
    """One connection. Override `channelEstablished`, `lineReceived` and `failed`.

    It has one time limit for each part, and arriving bytes do not extend it.
    """

    MAX_LENGTH: int
    """Bytes of a line; a longer line ends the connection."""

    def __init__(self, channel: Channel, reactor: Any) -> None:
        super().__init__(channel)
        self._reactor = reactor
        self._unread = bytearray()

    def lineReceived(self, line: bytes) -> None:
        """Handle a line, without its end."""
        raise NotImplementedError

    def failed(self, why: str) -> None:
        """Report why this side has ended the connection."""
        raise NotImplementedError

    def sendLine(self, line: bytes) -> None:
        """Send a line, in as many sealed pieces as needed."""
        line += b"\n"
        for at in range(0, len(line), MAX_PLAIN):
            self.transport.write(self.channel.seal(line[at : at + MAX_PLAIN]))

    def end(self) -> None:
        """End the connection without waiting for its reader."""
        self.ended = True
        self.transport.abortConnection()

    def fail(self, why: str) -> None:
        """End it, and report why."""
        if not self.ended:
            self.end()
            self.failed(why)

    def callLater(self, delay: float, function: Any) -> Any:
        return timers(self._reactor).callLater(delay, function)

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.bufferSize = READ_AT_ONCE
        self.setTimeout(HANDSHAKE_TIMEOUT)
        self.open_channel()

    def connectionLost(self, reason: object = None) -> None:
        self.ended = True
        self.setTimeout(None)

    def timeoutConnection(self) -> None:
        where = "answer" if self._established else "handshake"
        self.fail(f"its {where} did not come in time")

    def channelFailed(self, error: ChannelError) -> None:
        self.failed(str(error))

    def plainReceived(self, plain: bytes) -> None:
        self._unread += plain
        self._deliver()

    def _deliver(self) -> None:
        while not self.ended:
            end = self._unread.find(b"\n", 0, self.MAX_LENGTH + 1)
            if end < 0:
                if len(self._unread) > self.MAX_LENGTH:
                    self.fail(f"a line of more than {self.MAX_LENGTH} bytes")
                return
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            self.lineReceived(line)
