"""Malicious answers in place of the members' status pages, at the addresses of `--http-peers`."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.soak.hostile.scene import Scene
from tests.soak.hostile.strangers import dial, held, say
from tests.soak.hostile.web import get

WATCHERS: Final = 4
"""The viewers of each node's page: without a viewer, a node asks no other page."""
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_CHUNK: Final = 64 * 1024
_LARGEST: Final = 256 * 1024 - 64
"""The most bytes of a document that is still read."""


def _oversized() -> Iterator[bytes]:
    yield _OK + b"Content-Length: 52428800\r\n\r\n"
    yield from itertools.repeat(b" " * _CHUNK, 800)


def _endless() -> Iterator[bytes]:
    yield _OK + b"\r\n"
    yield from itertools.repeat(b" " * _CHUNK)


def _endless_head() -> Iterator[bytes]:
    yield _OK
    yield from (f"X-{number}: {'x' * 1000}\r\n".encode() for number in itertools.count())


def _dripping() -> Iterator[bytes]:
    for byte in itertools.chain(_OK, b"\r\n", itertools.repeat(ord(" "))):
        yield bytes([byte])
        time.sleep(0.02)


def _deep() -> Iterator[bytes]:
    yield _whole(b"[" * _LARGEST)


def _wide() -> Iterator[bytes]:
    yield _whole(b"[" + b"{}," * (_LARGEST // 3 - 1) + b"{}]")


def _digits() -> Iterator[bytes]:
    yield _whole(b'{"epoch": ' + b"9" * (_LARGEST - 20) + b"}")


def _absurd() -> Iterator[bytes]:
    told = {"node_id": "a" * 4000, "epoch": -1, "role": [], "events": [{}] * 10_000, "peers": 1e308}
    yield _whole(json.dumps(told).encode())


def _redirecting() -> Iterator[bytes]:
    yield b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/status\r\nContent-Length: 0\r\n\r\n"


def _garbage() -> Iterator[bytes]:
    yield from itertools.repeat(bytes(range(256)) * 64, 64)


def _silent() -> Iterator[bytes]:
    time.sleep(3)
    yield b""


def _whole(document: bytes) -> bytes:
    return _OK + f"Content-Length: {len(document)}\r\n\r\n".encode() + document


ANSWERS: Final[tuple[Callable[[], Iterator[bytes]], ...]] = (
    _oversized,
    _endless,
    _endless_head,
    _dripping,
    _deep,
    _wide,
    _digits,
    _absurd,
    _redirecting,
    _garbage,
    _silent,
)


def malicious(scene: Scene) -> str:
    """All kinds of answers in turn, while viewers watch the pages of all nodes."""
    until = scene.until(60.0)
    kinds = itertools.cycle(ANSWERS)
    answered = itertools.count()
    ports = [node.settings.front for node in scene.nodes]
    watched = [node.settings.http for node in scene.nodes for _ in range(WATCHERS)]
    with ThreadPoolExecutor(len(ports) + len(watched)) as pool:
        for port in ports:
            pool.submit(_serve, port, kinds, answered, until)
        events = sum(pool.map(lambda port: _watch(port, until), watched))
    if not events:
        scene.wrong.append("no watcher was told anything")
    return (
        f"{next(answered):,} answers of {len(ANSWERS)} kinds to nodes with {WATCHERS} watchers each"
    )


def _serve(
    port: int, kinds: Iterator[Callable[[], Iterator[bytes]]], answered: Iterator[int], until: float
) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener, held() as connections:
        listener.settimeout(0.1)
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connections.append(connection)
                next(answered)
                words = next(kinds)()
                threading.Thread(
                    target=_answer, args=(connection, words, until), daemon=True
                ).start()


def _answer(connection: socket.socket, words: Iterator[bytes], until: float) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(1.0)
        connection.recv(4096)
        while time.monotonic() < until and say(connection, next(words, b"")):
            pass


def _watch(port: int, until: float) -> int:
    """Read the events of a page until then. Return the number of bytes."""
    read = 0
    while time.monotonic() < until:
        connection = dial(port)
        if connection is None:
            continue
        with connection, contextlib.suppress(OSError):
            say(connection, get("/watch"))
            connection.settimeout(0.5)
            while time.monotonic() < until and (data := connection.recv(_CHUNK)):
                read += len(data)
    return read
