"""A connection to a Redis that waits for each reply."""

from __future__ import annotations

import select
import socket
from typing import Any, Final

import hiredis

TIMEOUT: Final = 2.0
"""Seconds that a connection or a reply may take."""

Word = str | int


class Client:
    """Sends commands and reads their replies in order. All methods raise OSError if the connection
    ends or a reply takes too long; then close it."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Word, ...]) -> None:
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))  # type: ignore[arg-type]

    def read(self) -> Any:
        """The next reply: bytes, an int, a list, None, or a hiredis.ReplyError."""
        try:
            while (reply := self._reader.gets()) is False:
                more = self._socket.recv(65536)
                if not more:
                    raise ConnectionError("the server ended the connection")
                self._reader.feed(more)
        except hiredis.ProtocolError as error:
            raise ConnectionError(f"the server speaks no RESP: {error}") from None
        return reply

    def ask(self, *words: Word) -> Any:
        """The reply to one command."""
        self.send(words)
        return self.read()

    def has_ended(self) -> bool:
        """Whether the server ended the connection. Ask it only while no reply is due."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._socket.close()
