"""A stranger's means with sockets."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kevy_elect import wire
from kevy_elect.errors import FrameError
from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Role

STRANGER: Final = "127.0.0.9"
CONNECT_TIMEOUT: Final = 1.0
_RESET: Final = struct.pack("ii", 1, 0)


def dial(port: int, source: str = "127.0.0.1") -> socket.socket | None:
    """A connection to this port of the machine; None if it is not accepted.

    It ends with a reset, so that thousands of connections do not use up the machine's ports.
    """
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(CONNECT_TIMEOUT)
    try:
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", port))
    except OSError:
        connection.close()
        return None
    return connection


def say(connection: socket.socket, data: bytes) -> bool:
    """Send all bytes. Return whether the other end still reads."""
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def is_open(connection: socket.socket) -> bool:
    """Whether the other end has not closed it yet."""
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def held() -> Iterator[list[socket.socket]]:
    """A list of connections that are closed at the end."""
    connections: list[socket.socket] = []
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def keep_saying(
    port: int, words: Iterator[bytes], pause: float, until: float, opening: Callable[[], bytes]
) -> int:
    """Send `words` on one connection. If that is ended, continue on a new one, which begins with an
    `opening`. Return the number of connections."""
    dialled = 0
    connection: socket.socket | None = None
    while time.monotonic() < until:
        if connection is None:
            connection = dial(port, STRANGER)
            dialled += connection is not None
            if connection is not None:
                say(connection, opening())
        if connection is not None and not say(connection, next(words)):
            connection.close()
            connection = None
            time.sleep(0.01)
        time.sleep(pause)
    if connection is not None:
        connection.close()
    return dialled


class Trickle:
    """Sends `stream` byte by byte to one port, and starts again whenever it is disconnected."""

    def __init__(self, port: int, stream: bytes) -> None:
        self.sent = 0
        self.dialled = 0
        self._port = port
        self._stream = stream
        self._at = 0
        self._connection: socket.socket | None = None

    @property
    def done(self) -> bool:
        return self._at == len(self._stream)

    def send_one(self) -> None:
        if self._connection is None:
            self._connection = dial(self._port)
            self.dialled += 1
        if self._connection is None or self.done:
            return
        if say(self._connection, self._stream[self._at : self._at + 1]):
            self._at += 1
            self.sent += 1
        else:
            self.close()

    def close(self) -> None:
        self._at = 0
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Mutator:
    """Frames with faults of every kind. No member could have sent any of them."""

    def __init__(self, rng: random.Random, members: list[str]) -> None:
        self._rng = rng
        self._members = members

    def frame(self) -> bytes:
        while True:
            frame = self._random() if self._rng.random() < 0.2 else self._mutated()
            if not self._is_speech(frame):
                return frame

    def _random(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(1, 200))

    def _mutated(self) -> bytes:
        frame = bytearray(wire.encode(self._message()))
        for _ in range(self._rng.randint(1, 4)):
            at = self._rng.randrange(len(frame))
            match self._rng.randrange(4):
                case 0:
                    frame[at] = self._rng.randrange(256)
                case 1:
                    del frame[at : at + self._rng.randint(1, 8)]
                case 2:
                    frame[at:at] = self._rng.randbytes(self._rng.randint(1, 8))
                case 3:
                    frame[at:at] = frame[at : at + self._rng.randint(1, 20)]
            frame = frame or bytearray(b"*")
        return bytes(frame)

    def _message(self) -> Message:
        rng = self._rng
        epoch, member = rng.getrandbits(rng.randint(1, 64)), rng.choice([*self._members, "x"])
        messages: list[Message] = [
            Heartbeat(epoch, member, rng.choice(list(Role)), rng.getrandbits(32)),
            Offer(epoch, member, rng.getrandbits(32)),
            Accept(epoch, member),
            Announce(epoch, member, "10.0.0.1:6379"),
        ]
        return rng.choice(messages)

    def _is_speech(self, frame: bytes) -> bool:
        try:
            found = wire.decode(frame)
        except FrameError:
            return False
        return found is not None and found[0].sender in self._members
