"""The bytes of messages: each message is one RESP2 array of bulk strings (section 1).

The decoder accepts only that grammar. It examines each byte a bounded number of times, because it
keeps the parsed part of a frame between reads. It refuses a frame as soon as a header breaks a
bound, before it collects the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from kevy_elect.errors import ConfigError, FrameError
from kevy_elect.messages import (
    U64_MAX,
    Accept,
    Ack,
    Announce,
    Heartbeat,
    Message,
    Offer,
    Role,
    is_node_id,
    is_printable,
)

MAX_ELEMENTS: Final = 16
MAX_ELEMENT: Final = 512
"""The most bytes of an element."""
MAX_DIGITS: Final = 20
"""The most digits of a number field or of a count in a header."""
MAX_UNDECODED: Final = 16 * 1024
"""The most bytes that a connection may hold without completing a frame."""

GREETING: Final = b"*0\r\n"
"""An empty array, which carries no message. As the first bytes of a connection it says that the
dialler reads replies on it (section 4)."""

_CR, _LF = 0x0D, 0x0A
_ARRAY, _BULK = 0x2A, 0x24
_AHEAD: Final = 256
"""A frame that is read at once has at most this many bytes."""
_LENGTHS: Final = [b"$%d" % length for length in range(_AHEAD)]
_PLAIN: Final = {b"*%d\r\n" % elements: elements for elements in range(3, 6)}

T = TypeVar("T")
Grammar = Mapping[bytes, tuple[int, Callable[[list[bytes]], T]]]


def encode(message: Message) -> bytes:
    """The bytes of `message`. There is only one form.

    Raises ConfigError for a field that peers would refuse.
    """
    match message:
        case Heartbeat(epoch, node_id, role, offset):
            return _frame("HB", _digits(epoch), _node_id(node_id), role.value, _digits(offset))
        case Offer(epoch, node_id, offset):
            return _frame("OFFER", _digits(epoch), _node_id(node_id), _digits(offset))
        case Accept(epoch, node_id):
            return _frame("ACCEPT", _digits(epoch), _node_id(node_id))
        case Announce(epoch, node_id, addr):
            return _frame("ANNOUNCE", _digits(epoch), _node_id(node_id), _address(addr))


def encode_ack(ack: Ack) -> bytes:
    """The bytes of `ack`. Raises ConfigError for a number out of bounds."""
    return _frame("ACK", _digits(ack.epoch), _digits(ack.count))


def decode(buffer: bytes | bytearray | memoryview) -> tuple[Message, int] | None:
    """The first message in `buffer`, and the number of bytes up to its end; None if more bytes are
    needed.

    Empty arrays before the message are skipped, and their bytes counted. Raises FrameError if no
    further bytes could complete a message.
    """
    decoder = Decoder(MESSAGES)
    decoder.feed(buffer)
    message = decoder.next_message()
    return None if message is None else (message, decoder.used)


class Decoder(Generic[T]):
    """Decodes the frames of a stream by `grammar`, however the stream is split into reads.

    After a FrameError the decoder cannot be used any more.
    """

    def __init__(self, grammar: Grammar[T]) -> None:
        self.used = 0
        """The bytes of the stream up to the end of the last complete frame."""
        self.greeted = False
        """Whether the stream began with GREETING."""
        self._grammar = grammar
        self._buffer = bytearray()
        self._start = 0  # of the present or last frame
        self._at = 0
        self._elements = -1  # that this frame still lacks; -1 between frames
        self._length = -1  # of the present element; -1 before its header
        self._fields: list[bytes] = []
        self._last: tuple[bytes, T] | None = None  # the last frame and its message

    @property
    def undecoded(self) -> int:
        """The number of bytes that do not make a complete frame yet."""
        return len(self._buffer) - (self._at if self._elements < 0 else self._start)

    @property
    def frame(self) -> bytes:
        """The received bytes of the present or last frame."""
        return bytes(self._buffer[self._start :])

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add received bytes. `next_message` decodes them."""
        if self._elements < 0:
            self._start = self._at
        if self._start:
            del self._buffer[: self._start]
            self._at -= self._start
            self._start = 0
        self._buffer += data

    def next_message(self) -> T | None:
        """The next complete message, or None if more bytes are needed.

        Raises FrameError if the stream breaks the grammar or a bound.
        """
        while True:
            if self._elements < 0:
                self._start = self._at
                if self._at == len(self._buffer):
                    return None
                if self._last is not None and self._buffer.startswith(self._last[0], self._at):
                    return self._repeated(*self._last)
                if not self._plain_frame():
                    count = self._header(_ARRAY, MAX_ELEMENTS)
                    if count is None:
                        return None
                    self._elements = count
            while self._elements:
                if not self._element():
                    return None
            self._elements = -1
            self.used += self._at - self._start
            if self._fields:
                fields, self._fields = self._fields, []
                parsed = self._parse(fields)
                self._last = bytes(self._buffer[self._start : self._at]), parsed
                return parsed
            self.greeted = self.greeted or self.used == len(GREETING)

    def _plain_frame(self) -> bool:
        """Read a whole frame at once, if it is complete and in the form of `encode`, as most are.
        Reading it element by element would give the same fields."""
        at, lines = self._at, 2 * _PLAIN.get(bytes(self._buffer[self._at : self._at + 4]), 0)
        if not lines:
            return False
        ahead = bytes(self._buffer[at + 4 : at + _AHEAD]).split(b"\r\n", lines)
        fields = ahead[1:lines:2]
        if len(ahead) <= lines or ahead[:lines:2] != [_LENGTHS[len(field)] for field in fields]:
            return False
        self._fields = fields
        self._elements = 0
        self._at += 4 + sum(map(len, ahead[:lines])) + 2 * lines
        return True

    def _repeated(self, frame: bytes, said: T) -> T:
        """Use the last message again for the same bytes, because most heartbeats repeat the one
        before. This is safe because no frame is the beginning of another."""
        self._at += len(frame)
        self.used += len(frame)
        return said

    def _parse(self, fields: list[bytes]) -> T:
        verb = fields[0].upper()
        try:
            arity, build = self._grammar[verb]
        except KeyError:
            raise FrameError("wrong_shape", f"unknown verb {fields[0][:40]!r}") from None
        if len(fields) != arity:
            raise FrameError("wrong_shape", f"{verb!r} has {arity} elements, not {len(fields)}")
        return build(fields)

    def _element(self) -> bool:
        """Read one more element. Return whether it was complete."""
        if self._length < 0:
            length = self._header(_BULK, MAX_ELEMENT)
            if length is None:
                return False
            self._length = length
        end = self._at + self._length
        tail = self._buffer[end : end + 2]
        if not b"\r\n".startswith(tail):
            raise FrameError("bad", f"an element of {self._length} bytes does not end in CR LF")
        if len(tail) < 2:
            return False
        self._fields.append(bytes(self._buffer[self._at : end]))
        self._at = end + 2
        self._elements -= 1
        self._length = -1
        return True

    def _header(self, marker: int, limit: int) -> int | None:
        """Read the count between `marker` and CR LF, at most `limit`; None if it is incomplete."""
        buffer, start = self._buffer, self._at
        if len(buffer) == start:
            return None
        if buffer[start] != marker:
            raise FrameError("bad", f"expected {chr(marker)!r}, found {chr(buffer[start])!r}")
        cr = buffer.find(_CR, start + 1, start + MAX_DIGITS + 2)
        end = cr if cr >= 0 else len(buffer)
        digits = bytes(buffer[start + 1 : min(end, start + MAX_DIGITS + 2)])
        if not digits.isdigit() and (digits or cr >= 0):
            raise FrameError("bad", f"{digits!r} is no count")
        if len(digits) > MAX_DIGITS or (digits and int(digits) > limit):
            raise FrameError("bad", f"{digits!r} is more than the {limit} allowed")
        if cr < 0 or len(buffer) == cr + 1:
            return None
        if buffer[cr + 1] != _LF:
            raise FrameError("bad", "CR without LF after a count")
        self._at = cr + 2
        return int(digits)


def _heartbeat(fields: list[bytes]) -> Heartbeat:
    return Heartbeat(_number(fields[1]), _sender(fields[2]), _role(fields[3]), _number(fields[4]))


def _offer(fields: list[bytes]) -> Offer:
    return Offer(_number(fields[1]), _sender(fields[2]), _number(fields[3]))


def _accept(fields: list[bytes]) -> Accept:
    return Accept(_number(fields[1]), _sender(fields[2]))


def _announce(fields: list[bytes]) -> Announce:
    return Announce(_number(fields[1]), _sender(fields[2]), _announced(fields[3]))


def _ack(fields: list[bytes]) -> Ack:
    return Ack(_number(fields[1]), _number(fields[2]))


MESSAGES: Final[Grammar[Message]] = {
    b"HB": (5, _heartbeat),
    b"OFFER": (4, _offer),
    b"ACCEPT": (3, _accept),
    b"ANNOUNCE": (4, _announce),
}
"""The messages of a dialler: verb, number of elements, and the function that reads the fields."""

REPLIES: Final[Grammar[Ack]] = {b"ACK": (3, _ack)}
"""The messages of an acceptor to a dialler that greeted."""

_ROLES: Final = {role.value.encode(): role for role in Role}


def _number(field: bytes) -> int:
    if field.isdigit() and len(field) <= MAX_DIGITS:
        number = int(field)
        if number <= U64_MAX:
            return number
    raise FrameError("bad_numeric", f"{field[:40]!r} is no unsigned 64-bit number")


def _role(field: bytes) -> Role:
    try:
        return _ROLES[field.lower()]
    except KeyError:
        raise FrameError("bad_role", f"{field[:40]!r} is no role") from None


def _sender(field: bytes) -> str:
    text = field.decode("latin-1")
    if not is_node_id(text):
        raise FrameError("wrong_shape", f"{field[:40]!r} is no node id")
    return text


def _announced(field: bytes) -> str:
    text = field.decode("latin-1")
    if not text or not is_printable(text):
        raise FrameError("wrong_shape", f"{field[:40]!r} is no address")
    return text


def _frame(*fields: str) -> bytes:
    parts = [f"*{len(fields)}\r\n"]
    parts += [f"${len(field)}\r\n{field}\r\n" for field in fields]
    return "".join(parts).encode("ascii")


def _digits(number: int) -> str:
    if not 0 <= number <= U64_MAX:
        raise ConfigError(f"{number} is no unsigned 64-bit number")
    return str(number)


def _node_id(text: str) -> str:
    if not is_node_id(text):
        raise ConfigError(f"{text!r} is no node id: 1 to 32 printable ASCII characters, no space")
    return text


def _address(text: str) -> str:
    if not (1 <= len(text) <= MAX_ELEMENT and is_printable(text)):
        raise ConfigError(f"{text!r} is no address: 1 to 512 printable ASCII characters, no space")
    return text
