"""A link and an acceptor that speak through channels: what protects a plain link protects these."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.config import ElectConfig, PeerAddr
from kevy_elect.messages import Message, Role
from kevy_elect.transport.acceptor import Acceptor, Incoming
from kevy_elect.transport.channel import HANDSHAKE_TIMEOUT, PLAIN_SECURITY, Security
from kevy_elect.transport.link import Outgoing, PeerLink
from tests.support.certificates import Authority
from tests.support.transports import QUICK, Wire, heartbeat, rng
from tests.transport.test_noise import A, B, C, security

FIRST = b"\x00\x60"
"""How a Noise handshake begins: the length of its first message."""


class SecureLinkTests(SynchronousTestCase):
    """Node a dials node b, by real channels over transports in memory."""

    timings = QUICK
    dialler: Security = security(A, b=B, c=C)
    accepting: Security = security(B, a=A, c=C)

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.confirmed: list[tuple[str, int, float]] = []
        self.connections: list[tuple[str, bool]] = []
        self.heard: list[tuple[str, Message]] = []
        self.greeted: list[tuple[str, bool]] = []
        self.link = PeerLink(
            PeerAddr("b", "192.0.2.2", 7102, 7102),
            self.timings,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
            confirm=lambda *confirmation: self.confirmed.append(confirmation),
            connection=lambda peer, connected: self.connections.append((peer, connected)),
            security=self.dialler,
        )
        self.acceptor = Acceptor(
            "b", ["a", "c"], self.timings, self, self.reactor.seconds, self.accepting
        )
        self.link.start()
        self.outgoing: Outgoing = self.link.buildProtocol(None)
        self.incoming: Incoming = self.acceptor.buildProtocol(IPv4Address("TCP", "h", 1))
        self.there, self.back = DialWire(), Wire()
        self.incoming.makeConnection(self.back)
        self.outgoing.makeConnection(self.there)

    def message_received(self, sender: str, message: Message, now: float) -> None:
        self.heard.append((sender, message))

    def check(self, message: Message) -> None:
        pass

    def member_connected(self, member: str, *, greeted: bool) -> None:
        self.greeted.append((member, greeted))

    def expect_last_will(self, first: Message) -> bool:
        return False

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        return True

    def send_much(self) -> None:
        for _ in range(400):
            self.link.send(heartbeat("a"))
        self.carry()

    def assert_unheard(self) -> None:
        """The dialler may say what it likes."""
        self.send_much()
        self.assertEqual((self.heard, self.greeted), ([], []))
        self.assertTrue(self.incoming.ended)

    def carry(self) -> None:
        """Deliver what was written, both ways, until nothing is left."""
        while self.there.value() or self.back.value():
            there, back = self.there.value(), self.back.value()
            self.there.clear()
            self.back.clear()
            self.incoming.dataReceived(there)
            self.outgoing.dataReceived(back)


class DialWire(Wire):
    """What the link dials by: it has a socket's options to set."""

    def getHandle(self) -> DialWire:
        return self

    def setsockopt(self, *option: int) -> None:
        pass


class EstablishedTests(SecureLinkTests):
    def test_a_heartbeat_and_its_acknowledgement_pass_sealed(self) -> None:
        self.assertTrue(self.there.value().startswith(FIRST))
        self.carry()
        self.link.send(heartbeat("a", 3, Role.PRIMARY))
        self.assertNotIn(b"primary", self.there.value())
        self.carry()
        self.assertEqual(self.heard, [("a", heartbeat("a", 3, Role.PRIMARY))])
        self.assertEqual(self.greeted, [("a", True)])
        self.assertEqual(self.confirmed, [("b", 3, self.reactor.seconds())])

    def test_what_is_sent_before_the_handshake_ends_waits_in_the_outbox(self) -> None:
        self.assertEqual(self.link.state, "connecting")
        self.assertEqual(self.connections, [])
        self.link.send(heartbeat("a"))
        self.assertEqual(len(self.link.outbox), 1)
        self.carry()
        self.assertEqual(self.link.state, "connected")
        self.assertEqual(self.connections, [("b", True)])
        self.assertEqual(self.heard, [("a", heartbeat("a"))])

    def test_a_member_that_speaks_as_another_is_cut_off(self) -> None:
        self.carry()
        self.link.send(heartbeat("c", 9, Role.PRIMARY))
        self.carry()
        self.assertEqual(self.heard, [])
        self.assertTrue(self.incoming.ended)
        self.assertEqual(self.acceptor.refused, {"bad_sender": 1})

    def test_members_whose_keys_were_swapped_are_not_taken_for_each_other(self) -> None:
        self.acceptor.use_security(security(B, a=C, c=A))
        self.incoming = self.acceptor.buildProtocol(IPv4Address("TCP", "h", 2))
        self.back = Wire()
        self.incoming.makeConnection(self.back)
        self.carry()
        self.link.send(heartbeat("a", 9, Role.PRIMARY))
        self.carry()
        self.assertEqual(self.heard, [])
        self.assertEqual(self.acceptor.refused, {"bad_sender": 1})

    def test_a_plain_frame_within_a_secure_link_ends_it(self) -> None:
        self.carry()
        self.incoming.dataReceived(wire.encode(heartbeat("a")) * 400)
        self.assertTrue(self.incoming.ended)
        self.assertEqual(self.heard, [])

    def test_keys_that_are_no_longer_listed_end_their_connections_and_others_stay(self) -> None:
        self.carry()
        self.acceptor.use_security(security(B, a=A))
        self.link.use_security(security(A, b=B))
        self.assertFalse(self.incoming.ended or self.outgoing.ended)
        self.acceptor.use_security(security(B, a=C))
        self.assertTrue(self.incoming.ended)
        self.link.use_security(security(A, b=C))
        self.assertTrue(self.outgoing.ended)

    def test_a_link_is_dialled_with_the_new_keys_after_a_change(self) -> None:
        self.carry()
        dialled = len(self.reactor.tcpClients)
        self.link.use_security(security(A, b=C))
        lost = Failure(ConnectionDone())
        self.outgoing.connectionLost(lost)
        self.link.clientConnectionLost(self.reactor.connectors[0], lost)
        self.assertEqual(len(self.reactor.tcpClients), dialled + 1, "it is dialled at once")
        self.assertEqual(self.link.buildProtocol(None).channel.names, {"b"})
        self.assertEqual(self.link.buildProtocol(None).channel.key, security(C, b=C).dials("b").key)


class UnprovenTests(SecureLinkTests):
    timings = ElectConfig()

    def test_a_handshake_that_does_not_end_in_2_s_is_cut_at_both_ends(self) -> None:
        for elapsed, ended in ((HANDSHAKE_TIMEOUT - 0.01, False), (HANDSHAKE_TIMEOUT, True)):
            self.reactor.rightNow = elapsed
            self.link.sweep(elapsed)
            self.acceptor.sweep(elapsed)
            self.assertEqual((self.outgoing.ended, self.incoming.ended), (ended, ended))

    def test_a_peer_that_stops_after_its_first_message_is_forgotten_after_a_while(self) -> None:
        self.incoming.dataReceived(self.there.value())
        self.assertEqual(self.greeted, [])
        self.acceptor.sweep(self.timings.election_timeout)
        self.assertTrue(self.incoming.ended)

    def test_a_handshake_that_comes_byte_by_byte_has_no_more_time(self) -> None:
        first = self.there.value()
        for byte in range(20):
            self.reactor.rightNow = byte * HANDSHAKE_TIMEOUT / 20
            self.incoming.dataReceived(first[byte : byte + 1])
            self.acceptor.sweep(self.reactor.rightNow)
            self.assertFalse(self.incoming.ended)
        self.acceptor.sweep(HANDSHAKE_TIMEOUT)
        self.assertTrue(self.incoming.ended)

    def test_a_stranger_is_counted_and_learns_nothing(self) -> None:
        stranger = security(C, b=B).dials("b")
        self.acceptor.use_security(security(B, a=A))
        connection = self.acceptor.buildProtocol(IPv4Address("TCP", "h", 2))
        transport = Wire()
        connection.makeConnection(transport)
        connection.dataReceived(stranger.start())
        self.assertEqual(transport.value(), b"")
        self.assertTrue(connection.ended)
        self.assertEqual(self.acceptor.refused, {"unknown_key": 1})


class MixedKindsTests(SecureLinkTests):
    """A plain node and one that proves itself understand nothing of each other."""

    dialler = PLAIN_SECURITY

    def test_a_plain_dialler_is_not_heard(self) -> None:
        self.assert_unheard()


class PlainAcceptorTests(SecureLinkTests):
    accepting = PLAIN_SECURITY

    def test_a_secure_dialler_is_refused_and_does_not_believe_itself_connected(self) -> None:
        self.carry()
        self.assertTrue(self.incoming.ended)
        self.assertNotEqual(self.link.state, "connected")
        self.assertEqual(self.acceptor.refused, {"bad": 1})


class TlsCase(SecureLinkTests):
    """Of a node with a certificate, and one with links of another kind."""

    def tls(self, node_id: str, peer: str) -> Security:
        directory = Path(self.mktemp())
        directory.mkdir()
        return Authority(directory).security(node_id, peer)

    def assert_deaf(self) -> None:
        """Neither end believes to be connected, nor hears anything."""
        self.send_much()
        self.assertEqual((self.heard, self.greeted, self.connections), ([], [], []))
        self.assertNotEqual(self.link.state, "connected")


class TlsAcceptorTests(TlsCase):
    def setUp(self) -> None:
        self.accepting = self.tls("b", "a")
        super().setUp()

    def test_noise_is_not_understood(self) -> None:
        self.assert_deaf()
        self.assertTrue(self.incoming.ended)


class TlsDiallerTests(TlsCase):
    def setUp(self) -> None:
        self.dialler = self.tls("a", "b")
        super().setUp()

    def test_it_is_not_understood_by_noise(self) -> None:
        self.assert_deaf()
        self.acceptor.sweep(HANDSHAKE_TIMEOUT)  # its first two bytes are the length of a long one
        self.assertTrue(self.incoming.ended)


class TlsToPlainTests(TlsCase):
    accepting = PLAIN_SECURITY

    def setUp(self) -> None:
        self.dialler = self.tls("a", "b")
        super().setUp()

    def test_it_is_refused(self) -> None:
        self.assert_deaf()
        self.assertTrue(self.incoming.ended)


class PlainToTlsTests(TlsCase):
    dialler = PLAIN_SECURITY

    def setUp(self) -> None:
        self.accepting = self.tls("b", "a")
        super().setUp()

    def test_it_is_not_heard(self) -> None:
        self.assert_unheard()
