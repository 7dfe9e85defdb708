from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from kevy_elect.ops.connections import KEPT, MAX_READERS, PATIENCE, Copy, FewReaders, Pages

PAGE = b"GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
STREAM = b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Connection(StringTransport):
    """What a connection does; one that was aborted is lost a turn of the reactor later."""

    lost = False

    def __init__(self, protocol: Any, reactor: MemoryReactorClock) -> None:
        super().__init__()
        self._protocol = protocol
        self._reactor = reactor
        protocol.makeConnection(self)

    def say(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def abortConnection(self) -> None:
        super().abortConnection()
        self._reactor.callLater(0, self.lose)

    def lose(self) -> None:
        if not self.lost:
            self.lost = True
            self._protocol.connectionLost(Failure(ConnectionLost()))


class ConnectionsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.stopped = False
        page, stream, root = Resource(), Resource(), Resource()
        page.isLeaf = stream.isLeaf = True
        page.render = lambda request: b"words\n"
        stream.render = self.stream
        root.putChild(b"page", page)
        root.putChild(b"stream", stream)
        self.factory = FewReaders(Pages(root, ["Node.example."], self.reactor), self.stop)

    def stream(self, request: Request) -> int:
        request.write(b"and so on")
        return NOT_DONE_YET

    def stop(self) -> None:
        self.stopped = True

    def connect(self) -> Connection:
        return Connection(self.factory.buildProtocol(None), self.reactor)


class OneRequestTests(ConnectionsTestCase):
    def test_of_many_requests_in_one_piece_one_is_answered(self) -> None:
        connection = self.connect()
        connection.say(PAGE * 1000)
        self.assertEqual(connection.value().count(b" 200 OK"), 1)
        self.assertIn(b"\r\nConnection: close\r\n", connection.value())
        self.assertTrue(connection.disconnecting)

    def test_what_follows_a_request_is_not_answered_later(self) -> None:
        connection = self.connect()
        connection.say(PAGE)
        connection.say(PAGE * 10)
        self.assertEqual(connection.value().count(b" 200 OK"), 1)

    def test_what_is_sent_along_is_thrown_away(self) -> None:
        connection = self.connect()
        connection.say(PAGE[:-2] + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
        self.assertTrue(connection.value().startswith(b"HTTP/1.1 200"))

    def test_an_answer_that_is_not_read_is_given_up(self) -> None:
        connection = self.connect()
        connection.say(PAGE)
        self.reactor.advance(PATIENCE - 0.1)
        self.assertFalse(connection.lost)
        self.reactor.advance(0.2)
        self.assertTrue(connection.lost)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_request_has_so_long_in_all_however_it_drips(self) -> None:
        connection = self.connect()
        for at in range(round(PATIENCE)):
            self.assertFalse(connection.lost)
            connection.say(PAGE[at : at + 1])
            self.reactor.advance(1.01)
        self.assertTrue(connection.lost)

    def test_a_stream_has_no_end(self) -> None:
        connection = self.connect()
        connection.say(STREAM)
        self.reactor.advance(10 * PATIENCE)
        self.assertFalse(connection.lost)


class HostTests(ConnectionsTestCase):
    def status(self, *hosts: str) -> bytes:
        connection = self.connect()
        headers = "".join(f"Host: {host}\r\n" for host in hosts)
        connection.say(f"GET /page HTTP/1.1\r\n{headers}\r\n".encode())
        return connection.value().split()[1]

    def test_it_answers_by_addresses_and_its_own_names(self) -> None:
        for host in ("10.0.0.1", "10.0.0.1:8101", "[::1]", "[fe80::1]:8101", "LOCALHOST:80"):
            self.assertEqual(self.status(host), b"200", host)
        for host in ("node.example", "NODE.example:8101", "node.example.:8101"):
            self.assertEqual(self.status(host), b"200", host)
        self.assertEqual(self.status(), b"200")

    def test_it_answers_by_no_other_name(self) -> None:
        for host in ("evil.example", "evil.example:8101", "node.example.evil", "10.0.0.1.evil"):
            self.assertEqual(self.status(host), b"421", host)
        for host in (
            "[evil]",
            "localhost.evil",
            "@localhost",
            "\xff",
            "evil:@[::1]",
        ):
            self.assertEqual(self.status(host), b"421", host)
        self.assertEqual(self.status("localhost", "evil.example"), b"421")

    def test_it_says_what_to_do(self) -> None:
        connection = self.connect()
        connection.say(b"GET /page HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        self.assertIn(b"--http-host", connection.value())


class FewReadersTests(ConnectionsTestCase):
    def open(self) -> int:
        return sum(not connection.disconnecting for connection in self.connections)

    def fill(self, words: bytes = b"") -> None:
        self.connections = [self.connect() for _ in range(MAX_READERS)]
        for connection in self.connections:
            connection.say(words)

    def test_one_more_takes_the_place_of_the_oldest(self) -> None:
        self.fill()
        for others in range(MAX_READERS):
            newcomer = self.connect()
            self.assertTrue(self.connections[others].disconnecting)
            self.assertEqual(self.open(), MAX_READERS - others - 1)
            self.assertFalse(newcomer.disconnecting)
        newcomer.say(PAGE)
        self.assertIn(b" 200 OK", newcomer.value())

    def test_none_takes_the_place_of_one_that_is_being_answered(self) -> None:
        self.fill()
        self.connections[0].say(STREAM)
        self.connect()
        self.assertEqual([c.disconnecting for c in self.connections[:3]], [False, True, False])

    def test_one_more_is_refused_when_all_are_being_answered(self) -> None:
        self.fill(STREAM)
        self.assertIsNone(self.factory.buildProtocol(None))
        self.assertEqual(self.open(), MAX_READERS)

    def test_who_is_gone_leaves_room(self) -> None:
        self.fill(STREAM)
        self.connections.pop().lose()
        self.connect()

    def test_all_end_with_the_port(self) -> None:
        self.fill(STREAM)
        self.factory.stopFactory()
        self.assertTrue(self.stopped)
        self.assertEqual(self.open(), 0)


class CopyTests(SynchronousTestCase):
    def test_what_is_costly_is_composed_once_in_a_while(self) -> None:
        at, composed = 5.0, 0

        def compose() -> bytes:
            nonlocal composed
            composed += 1
            return b"%d" % composed

        answer = Copy(compose, lambda: at)
        self.assertEqual([answer() for _ in range(100)], [b"1"] * 100)
        at += KEPT * 0.9
        self.assertEqual(answer(), b"1")
        at += KEPT * 0.2
        self.assertEqual([answer(), answer()], [b"2", b"2"])
