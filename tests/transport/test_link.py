from __future__ import annotations

import random
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, UserError
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from kevy_elect import wire
from kevy_elect.config import ElectConfig, PeerAddr
from kevy_elect.messages import Accept, Ack, Announce, Role
from kevy_elect.transport.link import CONNECT_TIMEOUT, Outgoing, PeerLink
from tests.support.transports import QUICK, Wire, heartbeat, rng


class Socket:
    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


class ProducerWire(Wire):
    """A transport whose peer may stop reading."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = Socket()

    def getHandle(self) -> Socket:
        return self.socket


class Connector:
    """What connectTCP returns, as far as a link uses it."""

    def __init__(self, link: PeerLink, transport: Wire | None = None) -> None:
        self.link, self.transport = link, transport

    def stopConnecting(self) -> None:
        self.link.clientConnectionFailed(self, Failure(UserError()))  # type: ignore[arg-type]


@implementer(IHostnameResolver)
class Resolver:
    def __init__(self) -> None:
        self.asked: list[tuple[IResolutionReceiver, str]] = []

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, portNumber: int = 0, **_: Any
    ) -> IHostResolution:
        self.asked.append((resolutionReceiver, hostName))
        return None  # type: ignore[return-value]

    def answer(self, *hosts: str) -> None:
        receiver, _ = self.asked.pop()
        for host in hosts:
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, 0))
        receiver.resolutionComplete()


class LinkTests(SynchronousTestCase):
    host = "192.0.2.7"
    config = ElectConfig()

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.resolver = Resolver()
        self.reactor.nameResolver = self.resolver
        self.link = PeerLink(
            PeerAddr("b", self.host, 7102, 7102),
            self.config,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
            confirm=lambda *confirmation: self.confirmed.append(confirmation),
            connection=lambda peer, connected: self.connections.append((peer, connected)),
        )
        self.confirmed: list[tuple[str, int, float]] = []
        self.connections: list[tuple[str, bool]] = []
        self.link.start()

    @property
    def dialled(self) -> list[str]:
        return [host for host, *_ in self.reactor.tcpClients]

    def fail(self) -> None:  # type: ignore[override]
        self.link.startedConnecting(Connector(self.link))  # type: ignore[arg-type]
        self.link.clientConnectionFailed(self.link.connector, Failure(ConnectionRefusedError()))

    def connect(self) -> ProducerWire:
        transport = ProducerWire()
        self.link.startedConnecting(Connector(self.link, transport))  # type: ignore[arg-type]
        self.stream: Outgoing = self.link.buildProtocol(None)
        self.stream.makeConnection(transport)
        return transport

    def lose(self) -> None:
        reason = Failure(ConnectionDone())
        self.stream.connectionLost(reason)
        self.link.clientConnectionLost(self.link.connector, reason)


class DiallingTests(LinkTests):
    def test_it_dials_the_address_with_half_a_second_to_answer(self) -> None:
        host, port, factory, timeout, _ = self.reactor.tcpClients[0]
        self.assertEqual((host, port, timeout), (self.host, 7102, CONNECT_TIMEOUT))
        self.assertIs(factory, self.link)
        self.assertEqual(CONNECT_TIMEOUT, 0.5)
        self.assertEqual(self.link.state, "connecting")

    def test_it_redials_after_about_100_ms_growing_to_at_most_a_second(self) -> None:
        waits = []
        for attempt in range(1, 13):
            self.fail()
            self.assertEqual(self.link.state, "waiting")
            began = self.reactor.seconds()
            while len(self.dialled) == attempt:
                self.reactor.advance(0.001)
            waits.append(self.reactor.seconds() - began)
        self.assertTrue(0.08 <= waits[0] <= 0.102, waits)
        self.assertTrue(all(0.79 <= wait <= 1.002 for wait in waits[-3:]), waits)
        self.assertGreater(len({round(wait, 3) for wait in waits[-3:]}), 1, "no jitter")

    def test_no_wait_is_longer_than_a_quarter_of_down_after(self) -> None:
        link = PeerLink(
            self.link.peer,
            QUICK,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
            confirm=lambda *_: None,
            connection=lambda peer, connected: None,
        )
        self.assertEqual(link.maxDelay, QUICK.down_after / 4)

    def test_a_lost_connection_is_redialled(self) -> None:
        self.connect()
        self.reactor.advance(60)
        self.lose()
        self.assertEqual(self.link.state, "waiting")
        self.reactor.advance(0.1)
        self.assertEqual(len(self.dialled), 2)

    def test_a_peer_that_hangs_up_at_once_is_dialled_ever_more_slowly(self) -> None:
        for _ in range(10):
            self.connect()
            self.lose()
            self.reactor.advance(1.0)
        began = len(self.dialled)
        self.connect()
        self.lose()
        self.reactor.advance(0.7)
        self.assertEqual(len(self.dialled), began)

    def test_after_a_connection_that_lasted_it_redials_quickly_again(self) -> None:
        for _ in range(10):
            self.fail()
            self.reactor.advance(1.0)
        self.connect()
        self.reactor.advance(5)
        self.lose()
        began = len(self.dialled)
        self.reactor.advance(0.101)
        self.assertEqual(len(self.dialled), began + 1)


class IPv6AddressTests(LinkTests):
    host = "::1"

    def test_an_ipv6_address_is_dialled_without_a_resolver(self) -> None:
        self.assertEqual(self.dialled, ["::1"])


class NameTests(LinkTests):
    host = "node-b.example"

    def test_all_addresses_are_tried_in_turn_then_the_name_is_resolved_anew(self) -> None:
        self.resolver.answer("2001:db8::1", "192.0.2.1", "192.0.2.1")
        self.assertEqual(self.dialled, ["2001:db8::1"])
        self.fail()
        self.assertEqual(self.dialled, ["2001:db8::1", "192.0.2.1"])
        self.fail()
        self.assertEqual(self.link.state, "waiting")
        self.reactor.advance(0.1)
        self.resolver.answer("192.0.2.9")
        self.assertEqual(self.dialled[2:], ["192.0.2.9"])

    def test_a_name_without_address_is_tried_again(self) -> None:
        self.resolver.answer()
        self.assertEqual(self.link.state, "waiting")
        self.reactor.advance(0.1)
        self.assertEqual(len(self.resolver.asked), 1)

    def test_an_answer_after_the_stop_is_ignored(self) -> None:
        stopped = self.link.stop()
        self.successResultOf(stopped)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.dialled, [])

    def test_an_answer_to_the_life_before_a_restart_is_ignored(self) -> None:
        self.successResultOf(self.link.stop())
        late = self.resolver.asked.pop()
        self.link.start()
        self.resolver.asked.append(late)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.dialled, [])


class StalledResolverTests(LinkTests):
    host = "node-b.example"

    def wait(self, seconds: float) -> None:
        """Let time pass and the service sweep."""
        for _ in range(round(seconds / 0.05)):
            self.reactor.advance(0.05)
            self.link.sweep(self.reactor.seconds())

    def test_the_addresses_that_the_name_had_last_are_tried_meanwhile(self) -> None:
        self.resolver.answer("192.0.2.1", "192.0.2.2")
        self.connect()
        self.lose()
        self.wait(0.8)
        self.assertEqual(self.dialled[1:], ["192.0.2.1"])
        self.fail()
        self.assertEqual(self.dialled[2:], ["192.0.2.2"])

    def test_one_question_is_open_at_a_time_and_its_late_answer_is_used(self) -> None:
        self.wait(10)
        self.assertEqual(len(self.resolver.asked), 1)
        self.assertEqual(self.dialled, [])
        self.resolver.answer("192.0.2.1")
        self.wait(2)
        self.assertEqual(self.dialled[:1], ["192.0.2.1"])

    def test_an_answer_that_comes_while_waiting_to_redial_does_not_dial(self) -> None:
        self.wait(0.6)
        self.assertEqual(self.link.state, "waiting")
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.dialled, [])


class WallClockTests(SynchronousTestCase):
    def test_a_wall_clock_set_back_does_not_stop_redialling(self) -> None:
        reactor, monotonic = MemoryReactorClock(), Clock()
        peer = PeerAddr("b", "192.0.2.7", 7102, 7102)
        link = PeerLink(
            peer,
            ElectConfig(),
            reactor=reactor,
            clock=monotonic.seconds,
            rng=rng(),
            confirm=lambda *_: None,
            connection=lambda peer, connected: None,
        )
        link.start()
        link.startedConnecting(Connector(link))  # type: ignore[arg-type]
        link.clientConnectionFailed(link.connector, Failure(ConnectionRefusedError()))
        monotonic.advance(0.2)  # and the reactor's clock stands still
        link.sweep(monotonic.seconds())
        self.assertEqual(len(reactor.tcpClients), 2)
        self.assertEqual(reactor.getDelayedCalls(), [])


class ConnectionTests(LinkTests):
    def test_whether_there_is_a_connection_is_told(self) -> None:
        self.connect()
        self.assertEqual(self.connections, [("b", True)])
        self.lose()
        self.assertEqual(self.connections, [("b", True), ("b", False)])

    def test_the_connection_is_tuned(self) -> None:
        transport = self.connect()
        self.assertEqual(transport.options, {"nodelay": True, "keepalive": True})
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            wanted = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
            self.assertIn(wanted, transport.socket.options)

    def test_what_waited_is_sent_when_the_peer_is_there(self) -> None:
        for epoch in range(1, 100):
            self.link.send(heartbeat("a", epoch))
        self.link.send(Accept(99, "a"))
        transport = self.connect()
        self.assertEqual(
            transport.value(),
            wire.GREETING + wire.encode(heartbeat("a", 99)) + wire.encode(Accept(99, "a")),
        )
        self.assertEqual((len(self.link.outbox), self.link.outbox.dropped), (0, 98))

    def test_while_connected_messages_go_out_at_once(self) -> None:
        transport = self.connect()
        self.link.send(heartbeat("a"))
        self.assertEqual(transport.value(), wire.GREETING + wire.encode(heartbeat("a")))

    def test_r2_an_announce_waits_for_the_first_heartbeat_of_a_connection(self) -> None:
        announce, beat = Announce(2, "a", "h:1"), heartbeat("a", 2)
        transport = self.connect()
        self.link.send(announce)
        self.link.send(Accept(1, "a"))
        begun = wire.GREETING + wire.encode(Accept(1, "a"))
        self.assertEqual(transport.value(), begun)
        self.link.send(beat)
        begun += wire.encode(beat) + wire.encode(announce)
        self.assertEqual(transport.value(), begun)
        self.link.send(announce)
        self.assertEqual(transport.value(), begun + wire.encode(announce))

    def test_the_first_bytes_are_the_greeting(self) -> None:
        self.assertEqual(self.connect().value(), b"*0\r\n")

    def test_anything_but_an_ack_that_comes_back_ends_the_connection(self) -> None:
        transport = self.connect()
        self.stream.dataReceived(b"+OK\r\n" * 10000)
        self.assertTrue(transport.aborted)

    def test_while_the_peer_does_not_read_messages_wait_in_the_outbox(self) -> None:
        transport = self.connect()
        self.stream.pauseProducing()
        for epoch in range(1, 1000):
            self.link.send(heartbeat("a", epoch))
        self.assertEqual(transport.value(), wire.GREETING)
        self.assertEqual(len(self.link.outbox), 1)
        self.stream.resumeProducing()
        self.assertEqual(transport.value(), wire.GREETING + wire.encode(heartbeat("a", 999)))

    def test_a_peer_that_does_not_read_for_down_after_is_cut(self) -> None:
        transport = self.connect()
        self.stream.pauseProducing()
        self.reactor.advance(4.9)
        self.stream.pauseProducing()
        self.link.sweep(self.reactor.seconds())
        self.assertFalse(transport.aborted)
        self.reactor.advance(0.1)
        self.link.sweep(self.reactor.seconds())
        self.assertTrue(transport.aborted)

    def test_one_that_reads_again_in_time_is_not(self) -> None:
        transport = self.connect()
        for _ in range(5):
            self.stream.pauseProducing()
            self.reactor.advance(4)
            self.stream.resumeProducing()
            self.link.sweep(self.reactor.seconds())
        self.assertFalse(transport.aborted)


class AcknowledgementTests(LinkTests):
    """Section 4: an ACK confirms when the heartbeat that it answers was sent."""

    def beat(self, epoch: int, role: Role = Role.PRIMARY) -> float:
        self.reactor.advance(0.2)
        self.link.send(heartbeat("a", epoch, role))
        return self.reactor.seconds()

    def answer(self, epoch: int, count: int) -> None:
        self.stream.dataReceived(wire.encode_ack(Ack(epoch, count)))

    def test_an_ack_confirms_the_sending_time_of_the_heartbeat_it_counts(self) -> None:
        self.connect()
        self.beat(7, Role.REPLICA)
        second, third = self.beat(8), self.beat(8)
        self.reactor.advance(0.1)
        self.answer(8, 2)
        self.answer(8, 3)
        self.assertEqual(self.confirmed, [("b", 8, second), ("b", 8, third)])

    def test_an_ack_that_answers_several_confirms_the_newest(self) -> None:
        self.connect()
        times = [self.beat(8) for _ in range(5)]
        self.answer(8, 4)
        self.answer(8, 3)
        self.assertEqual(self.confirmed, [("b", 8, times[3])])

    def test_an_ack_of_another_epoch_or_of_what_was_not_sent_confirms_nothing(self) -> None:
        self.connect()
        self.beat(8)
        self.beat(8, Role.REPLICA)
        self.answer(7, 1)
        self.answer(8, 2)
        self.answer(8, 3)
        self.assertEqual(self.confirmed, [])

    def test_counts_begin_anew_with_each_connection(self) -> None:
        self.connect()
        self.beat(8)
        self.beat(8)
        self.lose()
        self.connect()
        sent = self.beat(8)
        self.answer(8, 1)
        self.assertEqual(self.confirmed, [("b", 8, sent)])

    def test_the_newest_256_are_remembered(self) -> None:
        self.connect()
        times = [self.beat(8) for _ in range(300)]
        self.answer(8, 44)
        self.assertEqual(self.confirmed, [])
        self.answer(8, 45)
        self.assertEqual(self.confirmed, [("b", 8, times[44])])


class StoppingTests(LinkTests):
    def test_while_waiting_it_is_stopped_at_once(self) -> None:
        self.fail()
        self.successResultOf(self.link.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.link.state, "stopped")

    def test_while_connecting_the_attempt_is_ended(self) -> None:
        self.link.startedConnecting(Connector(self.link))  # type: ignore[arg-type]
        self.successResultOf(self.link.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_while_connected_it_fires_when_the_connection_is_gone(self) -> None:
        transport = self.connect()
        stopped = self.link.stop()
        self.assertTrue(transport.aborted)
        self.assertNoResult(stopped)
        self.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(len(self.dialled), 1)

    def test_it_can_be_started_again(self) -> None:
        self.fail()
        self.successResultOf(self.link.stop())
        self.link.start()
        self.assertEqual(len(self.dialled), 2)


class Deaf(Protocol):
    """Accepts and never reads."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.pauseProducing()
        self.factory.accepted.append(transport)  # type: ignore[union-attr]


class RealSocketTests(TestCase):
    async def test_a_peer_that_never_reads_costs_under_256_kib_and_is_cut(self) -> None:
        from twisted.internet import reactor

        loop: Any = reactor
        server: Any = ServerFactory.forProtocol(Deaf)
        server.noisy, server.accepted = False, []
        port = loop.listenTCP(0, server, interface="127.0.0.1")
        link = PeerLink(
            PeerAddr("b", "127.0.0.1", port.getHost().port, 1),
            QUICK,
            reactor=reactor,
            clock=loop.seconds,
            rng=random.Random(0),
            confirm=lambda *_: None,
            connection=lambda peer, connected: None,
        )
        link.start()
        try:
            await self.poll(lambda: link.state == "connected")
            transport: Any = link._stream.transport  # type: ignore[union-attr]
            most = 0

            def flood() -> bool:
                nonlocal most
                for _ in range(2000):
                    link.send(heartbeat("a"))
                held = len(transport.dataBuffer) + sum(map(len, transport._tempDataBuffer))
                most = max(most, held)
                self.assertLessEqual(len(link.outbox), 1)
                link.sweep(loop.seconds())
                return not transport.connected

            await self.poll(flood)
            self.assertLess(most, 256 * 1024)
            self.assertGreater(link.outbox.dropped, 0)
        finally:
            await link.stop()
            await port.stopListening()
            for accepted in server.accepted:
                accepted.abortConnection()
            await self.poll(lambda: all(not accepted.connected for accepted in server.accepted))

    async def poll(self, state: Callable[[], bool]) -> None:
        from twisted.internet import reactor

        loop: Any = reactor
        deadline = loop.seconds() + 20
        while not state():
            self.assertLess(loop.seconds(), deadline, "waited in vain")
            await deferLater(loop, 0.01)
