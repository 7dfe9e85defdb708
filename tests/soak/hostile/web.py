"""A stranger's means with the port of `--http`."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.soak.hostile.strangers import dial, held, say

ROUTES: Final = ("/metrics", "/status", "/watch", "/", "/primary", "/health", "/nowhere")
READERS: Final = 16
_PIPELINED: Final = 64 * 1024
"""The bytes of requests in one write: as many as a node reads at once."""
_SMALL: Final = 4096
"""The bytes that the kernel may keep for a client that does not read."""


def get(path: str) -> bytes:
    """A request to read `path`."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def pipeline(port: int, path: str, until: float, *, read: bool) -> int:
    """Request `path` again and again on READERS connections. Return the number of connections."""
    with ThreadPoolExecutor(READERS) as pool:
        asked = [pool.submit(_pipeline, port, path, until, read=read) for _ in range(READERS)]
        return sum(each.result() for each in asked)


def _pipeline(port: int, path: str, until: float, *, read: bool) -> int:
    request = get(path)
    burst = request * (_PIPELINED // len(request))
    dialled = 0
    while time.monotonic() < until:
        connection = dial(port)
        if connection is None:
            continue
        dialled += 1
        with connection:
            if read:
                _ask_and_read(connection, burst, until)
            else:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
                connection.settimeout(0.2)
                while time.monotonic() < until and say(connection, burst):
                    pass
    return dialled


def _ask_and_read(connection: socket.socket, burst: bytes, until: float) -> None:
    say(connection, burst)
    connection.settimeout(0.2)
    with contextlib.suppress(OSError):
        while time.monotonic() < until and connection.recv(_PIPELINED):
            pass


def drip(ports: Sequence[int], number: int, until: float) -> int:
    """Hold `number` connections and send a byte on each in turn. Return the number of
    connections."""
    request = get("/status")
    dialled = 0
    with held() as connections:
        said: dict[socket.socket, int] = {}
        while time.monotonic() < until:
            while len(connections) < number and time.monotonic() < until:
                connection = dial(ports[dialled % len(ports)])
                if connection is None:
                    break
                dialled += 1
                said[connection] = 0
                connections.append(connection)
            for connection in list(connections):
                at = said[connection]
                if not say(connection, request[at : at + 1] or b" "):
                    connections.remove(connection)
                    connection.close()
                said[connection] = at + 1
    return dialled
