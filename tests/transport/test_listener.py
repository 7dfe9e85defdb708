"""A port that listens at once or says why it cannot, and is closed once."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from kevy_elect.errors import ConfigError
from kevy_elect.transport.listener import Listener


class Accepted:
    """A connection that is gone when the test says so."""

    ended = 0

    def end(self) -> None:
        self.ended += 1


class ClosingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.listener = Listener[Accepted]()
        self.listener.listen("tcp:7101", Factory(), MemoryReactorClock())

    def test_it_is_closed_when_the_last_connection_is_gone(self) -> None:
        one, other = Accepted(), Accepted()
        for connection in (one, other):
            self.listener.opened(connection)
        closed = self.listener.close()
        self.assertIsNone(self.listener.address)
        self.assertEqual((one.ended, other.ended), (1, 1))
        self.listener.lost(one)
        self.assertNoResult(closed)
        self.listener.lost(other)
        self.successResultOf(closed)

    def test_closing_again_waits_for_the_same_and_ends_nothing_twice(self) -> None:
        connection = Accepted()
        self.listener.opened(connection)
        both = [self.listener.close(), self.listener.close()]
        self.assertEqual(connection.ended, 1)
        for closed in both:
            self.assertNoResult(closed)
        self.listener.lost(connection)
        for closed in (*both, self.listener.close()):
            self.successResultOf(closed)

    def test_what_comes_while_closing_is_ended_and_waited_for(self) -> None:
        first, late = Accepted(), Accepted()
        self.listener.opened(first)
        closed = self.listener.close()
        self.listener.opened(late)
        self.assertEqual(late.ended, 1)
        self.listener.lost(first)
        self.assertNoResult(closed)
        self.listener.lost(late)
        self.successResultOf(closed)

    def test_a_connection_that_is_gone_at_once_when_it_is_ended(self) -> None:
        listener = self.listener

        class Sudden(Accepted):
            def end(self) -> None:
                super().end()
                listener.lost(self)

        for _ in range(3):
            listener.opened(Sudden())
        self.successResultOf(listener.close())

    def test_what_never_listened_is_closed_at_once(self) -> None:
        self.successResultOf(Listener[Accepted]().close())

    def test_it_may_listen_again(self) -> None:
        self.successResultOf(self.listener.close())
        self.listener.listen("tcp:7102", Factory(), MemoryReactorClock())
        self.assertEqual(self.listener.address.port, 7102)  # type: ignore[union-attr]
        connection = Accepted()
        self.listener.opened(connection)
        self.assertEqual(connection.ended, 0)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class Slow:
    """A kind of endpoint that takes its time."""

    prefix = "slow"

    def __init__(self) -> None:
        self.cancelled = 0

    def parseStreamServer(self, reactor: Any, *args: str) -> Any:
        return self

    def listen(self, factory: Any) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)


class ListeningTests(TestCase):
    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.listener = Listener[Accepted]()
        self.addCleanup(self.listener.close)

    def listen(self, description: str) -> None:
        self.listener.listen(description, Factory.forProtocol(Protocol), self.reactor)

    def test_a_port_that_is_taken_is_raised(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(CannotListenError):
                self.listen(f"tcp:{port}:interface=127.0.0.1")
        self.assertIsNone(self.listener.address)
        self.listen(f"tcp:{port}:interface=127.0.0.1")
        self.assertEqual(self.listener.address.port, port)  # type: ignore[union-attr]

    def test_a_socket_whose_path_cannot_be_is_raised(self) -> None:
        with self.assertRaisesRegex(ConfigError, "choose a shorter one"):
            self.listen(f"unix:/tmp/{'x' * 200}")
        with self.assertRaises(CannotListenError):
            self.listen("unix:/nowhere/at/all")

    def test_an_endpoint_that_answers_later_is_refused_and_given_up(self) -> None:
        slow = Slow()
        self.patch(endpoints, "getPlugins", lambda interface: [slow])
        with self.assertRaisesRegex(ConfigError, "'slow:' does not listen at once; use a tcp"):
            self.listen("slow:")
        self.assertEqual(slow.cancelled, 1)
        self.assertIsNone(self.listener.address)
