"""What the handshakes of strangers may cost, and whom that must not keep out."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.messages import Message
from kevy_elect.transport.acceptor import Acceptor, Incoming
from kevy_elect.transport.handshakes import HOST_SHARE, MAX_HOSTS, SHARE, Handshake, Handshakes
from tests.support.transports import QUICK, Wire, heartbeat
from tests.transport.test_noise import A, B, C, security

STEP = 0.001
"""Seconds that a step of a handshake takes here."""
STRANGER, MEMBER = "198.51.100.1", "192.0.2.1"


class AccountTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handshakes = Handshakes()

    def flood(self, host: str, now: float) -> float:
        """The seconds that one host can make this node work at one moment."""
        took = 0.0
        while self.handshakes.admits(host, now):
            self.handshakes.charge(host, STEP, now)
            took += STEP
        return took

    def test_one_host_has_its_share_of_each_second(self) -> None:
        took = sum(self.flood(STRANGER, 0.01 * turn) for turn in range(1000))
        self.assertTrue(10 * HOST_SHARE < took < 12 * HOST_SHARE, took)

    def test_all_strangers_together_have_one_share(self) -> None:
        hosts = [f"198.51.100.{number}" for number in range(200)]
        took = sum(self.flood(host, 0.1 * turn) for turn in range(100) for host in hosts)
        self.assertTrue(10 * SHARE < took < 12 * SHARE, took)

    def test_the_host_of_a_member_is_let_in_when_strangers_have_used_up_theirs(self) -> None:
        self.handshakes.expect("b", MEMBER)
        for number in range(10):
            self.flood(f"198.51.100.{number}", 0.0)
        self.assertFalse(self.handshakes.admits("203.0.113.1", 0.0))
        self.assertAlmostEqual(self.flood(MEMBER, 0.0), HOST_SHARE)

    def test_a_member_that_has_moved_leaves_no_privilege_behind(self) -> None:
        self.handshakes.expect("b", MEMBER)
        self.handshakes.expect("b", "192.0.2.2")
        for number in range(10):
            self.flood(f"198.51.100.{number}", 0.0)
        self.assertFalse(self.handshakes.admits(MEMBER, 0.0))

    def test_what_a_member_proved_is_given_back(self) -> None:
        for _ in range(1000):
            self.assertTrue(self.handshakes.admits(MEMBER, 0.0))
            handshake = Handshake(self.handshakes, security(B, a=A).accepts(), MEMBER)
            self.handshakes.cpu = iter((0.0, STEP)).__next__
            handshake.receive(b"", 0.0)
            handshake.proven(0.0)

    def test_addresses_that_one_machine_can_take_are_one_host(self) -> None:
        for one, other, same in (
            ("2001:db8::1", "2001:db8::2:3", True),
            ("fe80::1%eth0", "fe80::2", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ):
            handshakes = Handshakes()
            handshakes.charge(one, HOST_SHARE, 0.0)
            self.assertEqual(handshakes.admits(other, 0.0), not same)

    def test_the_hosts_that_are_remembered_are_bounded(self) -> None:
        for number in range(10 * MAX_HOSTS):
            self.handshakes.charge(f"host-{number}", STEP, number / MAX_HOSTS)
        self.assertLessEqual(len(self.handshakes._hosts), MAX_HOSTS)


class FloodTests(SynchronousTestCase):
    """A node that is given forged first messages, ten thousand of them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[str] = []
        self.asked = 0
        self.acceptor = Acceptor(
            "b", ["a", "c"], QUICK, self, self.clock.seconds, security(B, a=A, c=C)
        )
        self.acceptor.handshakes.cpu = self.cpu

    def cpu(self) -> float:
        """As if each step took STEP. It is asked before and after."""
        self.asked += 1
        return self.asked * STEP

    @property
    def spent(self) -> float:
        return self.asked / 2 * STEP

    def message_received(self, sender: str, message: Message, now: float) -> None:
        self.heard.append(sender)

    def check(self, message: Message) -> None:
        pass

    def member_connected(self, member: str, *, greeted: bool) -> None:
        pass

    def expect_last_will(self, first: Message) -> bool:
        return False

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        return True

    def connect(self, host: str) -> Incoming | None:
        connection = self.acceptor.buildProtocol(IPv4Address("TCP", host, 1))
        if connection is not None:
            connection.makeConnection(Wire(host, 1))
        return connection

    def flood(self, words: bytes, host: str = STRANGER) -> None:
        """Ten thousand in ten seconds."""
        for _ in range(10_000):
            self.clock.advance(0.001)
            connection = self.connect(host)
            if connection is not None:
                connection.dataReceived(words)
                connection.connectionLost()

    def speak(self, host: str) -> bool:
        """Whether the member a, at this host, is heard."""
        incoming, dialled = self.connect(host), security(A, b=B).dials("b")
        if incoming is None:
            return False
        incoming.dataReceived(dialled.start())
        transport = incoming.transport
        assert isinstance(transport, Wire)
        dialled.receive(transport.value())
        incoming.dataReceived(dialled.seal(wire.encode(heartbeat("a"))))
        return not incoming.ended

    def test_forged_first_messages_have_a_bounded_part_of_the_processor(self) -> None:
        self.flood(b"\x00\x60" + bytes(range(1, 97)))
        self.assertLess(self.spent, 12 * HOST_SHARE)
        refused = self.acceptor.refused
        self.assertEqual(refused.total(), 10_000)
        self.assertGreater(refused["flood"], 9_000)
        self.assertGreater(refused["bad_seal"], 10 * HOST_SHARE / STEP)

    def test_what_an_onlooker_replays_is_charged_too(self) -> None:
        recorded = security(A, b=B).dials("b").start()
        self.flood(recorded)
        self.assertLess(self.spent, 12 * HOST_SHARE)
        self.assertEqual(self.heard, [])

    def test_a_member_elsewhere_comes_in_meanwhile(self) -> None:
        for _ in range(10):
            self.flood_briefly()
            self.assertTrue(self.speak(MEMBER))

    def flood_briefly(self) -> None:
        for _ in range(200):
            connection = self.connect(STRANGER)
            if connection is not None:
                connection.dataReceived(b"\x00\x60" + bytes(range(1, 97)))

    def test_who_comes_after_a_flood_is_let_in_again(self) -> None:
        self.flood_briefly()
        self.assertFalse(self.speak(STRANGER))
        self.clock.advance(1.0)
        self.assertTrue(self.speak(STRANGER))

    def test_members_that_connect_again_and_again_are_never_refused(self) -> None:
        for _ in range(300):
            self.assertTrue(self.speak(MEMBER))
            self.clock.advance(0.001)
        self.assertEqual(self.acceptor.refused["flood"], 0)

    def test_room_is_made_by_the_host_that_has_most_strangers(self) -> None:
        patient = self.connect("203.0.113.1")
        assert patient is not None
        crowd = [self.connect(STRANGER) for _ in range(100)]
        self.assertFalse(patient.ended)
        open_ones = [each for each in crowd if each is not None and not each.ended]
        self.assertEqual(len(open_ones), self.acceptor.limit - 1)
