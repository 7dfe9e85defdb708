"""The framing protocol: it decodes messages from bytes, and a bad frame ends its connection."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Generic

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.logger import Logger, LogLevel

from kevy_elect import wire
from kevy_elect.errors import FrameError
from kevy_elect.messages import Message
from kevy_elect.transport.channel import PLAIN, Channel, ChannelError
from kevy_elect.transport.log_limit import and_more

_QUOTED: Final = 64
"""The most bytes of a bad frame in the log."""


class ChannelProtocol(Protocol):
    """A connection through a channel. Override `channelEstablished`, `channelFailed`,
    `plainReceived` and `end`."""

    transport: Any

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.ended = False
        """Whether it processes no further bytes."""
        self._established = False

    def channelEstablished(self) -> None:
        """The other end is authenticated."""
        raise NotImplementedError

    def channelFailed(self, error: ChannelError) -> None:
        """Report how the other end failed to authenticate. The connection has been ended."""
        raise NotImplementedError

    def plainReceived(self, plain: bytes) -> None:
        """Process bytes of the other end, which is authenticated."""
        raise NotImplementedError

    def end(self) -> None:
        """End the connection without waiting for its reader."""
        raise NotImplementedError

    def open_channel(self) -> None:
        """Begin the handshake of the channel, if it has one. Call it once connected."""
        self._answer(self.channel.start())

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        receive = self.channel.receive if self._established else self.shake
        try:
            plain, answer = receive(data)
        except ChannelError as error:
            self.end()
            self.channelFailed(error)
            return
        if answer or not self._established:
            self._answer(answer)
        if plain and not self.ended:
            self.plainReceived(plain)

    def shake(self, data: bytes) -> tuple[bytes, bytes]:
        """Pass bytes of the handshake to the channel, as `Channel.receive` does."""
        return self.channel.receive(data)

    def transmit(self, sealed: bytes) -> None:
        """Send these bytes as they are."""
        self.transport.write(sealed)

    def _answer(self, answer: bytes) -> None:
        if answer:
            self.transmit(answer)
        if self.channel.established and not self._established:
            self._established = True
            self.channelEstablished()


class FrameProtocol(ChannelProtocol, Generic[wire.T]):
    """Decodes the messages of the other end, in the manner of IntNStringReceiver.

    Override `messageReceived` and `channelEstablished`; also `badFrameReceived` and
    `channelFailed`, to do more than log. After an error it delivers nothing more, even if more
    bytes arrive.
    """

    grammar: wire.Grammar[wire.T]
    """The messages that the other end may send."""
    MAX_LENGTH: ClassVar[int] = wire.MAX_UNDECODED
    """The most bytes that may be held without completing a frame."""

    transport: ITCPTransport
    member: str | None = None
    """The member that this connection belongs to, once that is known."""

    log = Logger()

    def __init__(self, channel: Channel = PLAIN) -> None:
        super().__init__(channel)
        self._decoder = wire.Decoder(self.grammar)

    def channelEstablished(self) -> None:
        """The other end is authenticated: `write` may be used from now on."""

    def channelFailed(self, error: ChannelError) -> None:
        """Report how the other end failed to authenticate. The connection has been ended."""
        self.log_end(LogLevel.warn, str(error))

    def messageReceived(self, message: wire.T) -> None:
        """Handle one message. A FrameError raised here ends the connection as a bad frame does."""
        raise NotImplementedError

    def badFrameReceived(self, error: FrameError, frame: bytes) -> None:
        """Report the other end, the error and the frame. The connection has been ended."""
        self.log_refusal(error, frame)

    def log_refusal(self, error: FrameError, frame: bytes, left_out: int = 0) -> None:
        level = LogLevel.critical if error.kind == "bad_epoch" else LogLevel.warn
        self.log_end(level, f"{error} in {frame[:_QUOTED]!r}", left_out)

    def log_end(self, level: Any, why: str, left_out: int = 0) -> None:
        """Log that this connection was ended; `left_out` lines like this one were not written."""
        self.log.emit(
            level,
            "ended the connection of {who}: {why}{more}",
            who=self.describe(),
            why=why,
            more=and_more(left_out),
        )

    def write(self, plain: bytes) -> None:
        """Send these bytes through the channel, which is established."""
        self.transmit(self.channel.seal(plain))

    def transmit(self, sealed: bytes) -> None:
        """Send these bytes as they are, and at once: the reactor would send them in another turn,
        which costs more than sending them."""
        transport: Any = self.transport
        if self.ended:
            return
        if not isinstance(transport, Connection):  # in tests
            transport.write(sealed)
            return
        if not transport.dataBuffer:
            sent = transport.writeSomeData(sealed)
            # An error comes again in the reactor, which ends the connection.
            sealed = sealed[sent:] if isinstance(sent, int) else sealed
        if sealed:
            transport.write(sealed)
            transport.doWrite()  # so that all that waits is in dataBuffer

    def plainReceived(self, plain: bytes) -> None:
        self._decoder.feed(plain)
        try:
            self._deliver()
        except FrameError as error:
            frame = self._decoder.frame
            self.end()
            self.badFrameReceived(error, frame)

    def _deliver(self) -> None:
        while not self.ended:
            message = self._decoder.next_message()
            if message is None:
                if self._decoder.undecoded > self.MAX_LENGTH:
                    raise FrameError("bad", f"more than {self.MAX_LENGTH} bytes without a frame")
                return
            self.messageReceived(message)

    def end(self) -> None:
        """Abort the connection, and discard all further bytes of it."""
        if not self.ended:
            self.ended = True
            self._decoder = wire.Decoder(self.grammar)
            self.transport.abortConnection()

    def connectionLost(self, reason: object = None) -> None:
        self.ended = True

    def describe(self) -> str:
        """The other end, for logs: its address, and the member if known."""
        peer = self.transport.getPeer()
        address = f"{getattr(peer, 'host', peer)}:{getattr(peer, 'port', '')}"
        return f"{address} ({self.member})" if self.member else address


class ElectionProtocol(FrameProtocol[Message]):
    """Decodes the messages of a dialler."""

    grammar = wire.MESSAGES

    @property
    def greeted(self) -> bool:
        """Whether the dialler began with a greeting, so that it reads replies (section 4)."""
        return self._decoder.greeted
