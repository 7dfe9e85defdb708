"""How a protocol of frames writes: at once, in order, and without raising."""

from __future__ import annotations

import socket
import struct

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kevy_elect.transport.framing import ElectionProtocol

CHUNKS = 2000
CHUNK = 1000


class Writer(ElectionProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self.lost.callback(None)


class WritingTests(TestCase):
    async def setUp(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.writer = Writer()
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda _: self.writer  # type: ignore[method-assign]
        reactor.connectTCP(*listener.getsockname(), factory)  # type: ignore[attr-defined]
        await self.writer.made
        self.socket: socket.socket = self.writer.transport.getHandle()  # type: ignore[attr-defined]
        self.reader, _ = listener.accept()
        self.reader.settimeout(30)
        self.addCleanup(self.reader.close)

    async def tearDown(self) -> None:
        self.writer.transport.abortConnection()
        await self.writer.lost

    def test_bytes_leave_before_the_reactor_runs_again(self) -> None:
        self.writer.write(b"now")
        self.assertEqual(self.reader.recv(100), b"now")

    async def test_bytes_that_the_kernel_does_not_take_follow_in_order(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        expected = b"".join(struct.pack(">I", i) * (CHUNK // 4) for i in range(CHUNKS))
        for start in range(0, len(expected), CHUNK):
            self.writer.write(expected[start : start + CHUNK])
        waiting = self.writer.transport.dataBuffer  # type: ignore[attr-defined]
        self.assertTrue(waiting, "the kernel took everything")
        arrived = await deferToThread(self._read, len(expected))
        self.assertEqual(arrived, expected)

    async def test_writing_to_a_reset_connection_ends_it_and_does_not_raise(self) -> None:
        self.reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.reader.close()
        for _ in range(3):
            self.writer.write(b"lost")
        await self.writer.lost
        self.writer.write(b"too late")

    def test_nothing_leaves_after_the_end(self) -> None:
        self.writer.end()
        self.writer.write(b"too late")
        with self.assertRaises(BlockingIOError):
            self.reader.setblocking(False)
            self.reader.recv(100)

    def _read(self, size: int) -> bytes:
        arrived = bytearray()
        while len(arrived) < size:
            arrived += self.reader.recv(1 << 16)
        return bytes(arrived)
