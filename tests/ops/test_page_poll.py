"""Real sockets: nodes that answer, and whatever else may stand at their address."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kevy_elect.errors import ConfigError
from kevy_elect.ops import page_poll as others_module
from kevy_elect.ops.page_poll import LONGEST_ANSWER, Others
from tests.support.statuses import follower
from tests.support.transports import QUICK, cluster


def ask(urls: dict[str, str], answered: Callable[[str], object] = lambda node_id: None) -> Others:
    return Others(cluster(), QUICK, urls, reactor=reactor, clock=time.monotonic, answered=answered)


class AddressTests(SynchronousTestCase):
    def test_no_member_and_no_http_are_refused(self) -> None:
        for urls, blamed in (
            ({"x": "http://192.0.2.1"}, "'x' is not among the peers a, b, c"),
            ({"b": "file:///etc/passwd"}, "write http://host:port"),
            ({"b": "192.0.2.1:8101"}, "write http://host:port"),
        ):
            with self.assertRaisesRegex(ConfigError, blamed):
                ask(urls)

    def test_our_own_is_allowed_and_not_asked(self) -> None:
        found = ask({"a": "http://192.0.2.1:8101", "b": "http://192.0.2.2:8101"})
        self.assertEqual(
            [(known.node_id, known.url) for known in found],
            [("b", "http://192.0.2.2:8101"), ("c", None)],
        )


class RateTests(SynchronousTestCase):
    def asked(self, every: float | None) -> int:
        """The requests to b within the first 2 s."""
        now, asked = Clock(), []
        found = Others(
            cluster(),
            QUICK,
            {"b": "http://192.0.2.2:8101"},
            reactor=now,
            clock=now.seconds,
            answered=lambda node_id: None,
            every=every,
        )

        async def get(url: str) -> bytes:
            asked.append(url)
            return json.dumps(follower("b")).encode()

        self.patch(found, "_get", get)
        found.start()
        now.pump([0.125] * 16)
        found.stop()
        return len(asked)

    def test_a_short_lease_is_asked_for_often(self) -> None:
        self.assertGreater(self.asked(None), 8)

    def test_who_needs_no_lease_gives_the_rate(self) -> None:
        self.assertEqual(self.asked(1.0), 3)


class Answering(Protocol):
    """Says what it was told to, once it was asked."""

    def dataReceived(self, data: bytes) -> None:
        assert isinstance(self.factory, Server)
        self.factory.asked += 1
        self.factory.answer(self)


class Server(Factory):
    protocol = Answering
    noisy = False

    def __init__(self, answer: Callable[[Any], None]) -> None:
        self.answer = answer
        self.asked = 0
        self.lost = 0


def say(body: bytes, head: bytes = b"HTTP/1.1 200 OK") -> Callable[[Any], None]:
    def answer(connection: Any) -> None:
        length = b"%d" % len(body)
        connection.transport.write(head + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body)

    return answer


class AskingTests(TestCase):
    """What becomes of one question; the node asked is b."""

    def serve(self, answer: Callable[[Any], None]) -> str:
        self.server = Server(answer)
        port = reactor.listenTCP(0, self.server, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    def answer(self, url: str, times: int = 1) -> Deferred[Others]:
        """Fires with what is known after so many answers or failures."""
        done: Deferred[Others] = Deferred()
        left = [times]

        def answered(node_id: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                found.stop()
                done.callback(found)

        found = ask({"b": url}, answered)
        found.start()
        return done

    @inlineCallbacks
    def assert_error(self, url: str, error: str) -> Any:
        found = yield self.answer(url)
        self.assertRegex(found["b"].error, error)
        self.assertIsNone(found["b"].status)

    @inlineCallbacks
    def test_a_status_is_taken_in(self) -> Any:
        found = yield self.answer(self.serve(say(json.dumps(follower("b")).encode())))
        self.assertEqual(found["b"].status.role, "replica")
        self.assertIsNone(found["b"].error)
        self.assertLess(time.monotonic() - found["b"].at, 5)

    @inlineCallbacks
    def test_it_is_asked_again_and_again(self) -> Any:
        yield self.answer(self.serve(say(json.dumps(follower("b")).encode())), times=3)
        self.assertEqual(self.server.asked, 3)

    @inlineCallbacks
    def test_starting_anew_does_not_ask_it_more_often(self) -> Any:
        url = self.serve(say(json.dumps(follower("b")).encode()))
        found = yield self.answer(url)
        for _ in range(10):
            found.start()
            found.stop()
        again: Deferred[None] = Deferred()
        self.patch(found, "_answered", lambda node_id: again.callback(None))
        found.start()
        yield again
        found.stop()
        self.assertEqual(self.server.asked, 2)

    @inlineCallbacks
    def test_a_failure_leaves_what_was_told_before(self) -> Any:
        def answer(connection: Any) -> None:
            if self.server.asked == 1:
                say(json.dumps(follower("b")).encode())(connection)
            else:
                connection.transport.abortConnection()

        found = yield self.answer(self.serve(answer), times=2)
        self.assertIsNotNone(found["b"].error)
        self.assertEqual(found["b"].status.role, "replica")

    def test_nobody_there(self) -> Any:
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{port.getHost().port}"
        return port.stopListening().addCallback(
            lambda _: self.assert_error(url, "^connection was refused by other side$")
        )

    def test_a_name_that_cannot_exist(self) -> Any:
        return self.assert_error("http://no..body:1", ".")

    def test_another_node(self) -> Any:
        return self.assert_error(self.serve(say(json.dumps(follower("c")).encode())), "'c' answers")

    def test_no_json(self) -> Any:
        return self.assert_error(self.serve(say(b"[" * 10_000)), "status: it is no JSON$")

    def test_no_http(self) -> Any:
        def answer(connection: Any) -> None:
            connection.transport.write(b"220 mail.example ESMTP\r\n")

        return self.assert_error(self.serve(answer), ".")

    def test_a_redirect_is_not_followed(self) -> Any:
        target = self.serve(say(json.dumps(follower("b")).encode()))
        followed = self.server
        head = b"HTTP/1.1 302 Found\r\nLocation: " + target.encode() + b"/status"
        asked = self.assert_error(self.serve(say(b"", head)), "^HTTP status 302$")
        return asked.addCallback(lambda _: self.assertEqual(followed.asked, 0))

    def test_an_answer_without_end_in_its_body(self) -> Any:
        flood = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * LONGEST_ANSWER)
        return self.assert_error(
            self.serve(lambda connection: connection.transport.write(flood)),
            f"^the answer is longer than {LONGEST_ANSWER} bytes$",
        )

    def test_an_answer_without_end_in_its_headers(self) -> Any:
        flood = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * LONGEST_ANSWER
        return self.assert_error(
            self.serve(lambda connection: connection.transport.write(flood)),
            f"^the answer is longer than {LONGEST_ANSWER} bytes$",
        )

    def test_an_address_that_never_connects(self) -> Any:
        """As behind a firewall that drops all packets: here, a full queue of connections."""
        self.patch(others_module, "ANSWER_WITHIN", 0.2)
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.addCleanup(full.close)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            self.addCleanup(each.close)
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        return self.assert_error(url, "^no answer within 2 s$")

    def test_an_answer_that_breaks_off(self) -> Any:
        def answer(connection: Any) -> None:
            connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            connection.transport.loseConnection()

        return self.assert_error(self.serve(answer), "^Connection was closed cleanly")

    def test_an_answer_without_a_length_may_lack_its_end(self) -> Any:
        def answer(connection: Any) -> None:
            connection.transport.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
            connection.transport.loseConnection()

        return self.assert_error(self.serve(answer), ".")

    def test_an_answer_that_trickles(self) -> Any:
        self.patch(others_module, "ANSWER_WITHIN", 0.2)

        def answer(connection: Any) -> None:
            connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            trickle = LoopingCall(connection.transport.write, b" ")
            trickle.start(0.02)
            connection.connectionLost = lambda reason: trickle.stop()

        return self.assert_error(self.serve(answer), "^no answer within 2 s$")

    @inlineCallbacks
    def assert_ends_with_the_asking(self, begun: bytes, reached: Deferred[None]) -> Any:
        lost: Deferred[None] = Deferred()

        def answer(connection: Any) -> None:
            connection.transport.write(begun)
            connection.connectionLost = lambda reason: lost.callback(None)
            if not begun:
                reached.callback(None)

        found = ask({"b": self.serve(answer)}, lambda node_id: self.fail("nobody answered"))
        found.start()
        yield reached
        found.stop()
        yield lost

    def test_a_question_without_answer_ends_with_the_asking(self) -> Any:
        return self.assert_ends_with_the_asking(b"", Deferred())

    def test_an_answer_under_way_ends_with_the_asking(self) -> Any:
        reached: Deferred[None] = Deferred()
        read = others_module._Question.read

        def noticing(question: Any, response: Any) -> Any:
            reached.callback(None)
            return read(question, response)

        self.patch(others_module._Question, "read", noticing)
        begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"
        return self.assert_ends_with_the_asking(begun, reached)
