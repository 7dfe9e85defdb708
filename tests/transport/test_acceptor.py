from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.errors import FrameError
from kevy_elect.messages import Accept, Ack, Message
from kevy_elect.transport.acceptor import Acceptor, Incoming
from tests.support.transports import QUICK, Wire, heartbeat


class AcceptorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.heard: list[tuple[str, Message]] = []
        self.greeted: list[tuple[str, bool]] = []
        self.backed: set[tuple[str, int]] = set()
        self.resignation: Message | None = None
        self.acceptor = Acceptor("a", ["b", "c"], QUICK, self, self.clock.seconds)
        self.critical: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def message_received(self, sender: str, message: Message, now: float) -> None:
        self.heard.append((sender, message))

    def check(self, message: Message) -> None:
        if message.epoch == 666:
            raise FrameError("bad_epoch", "too far ahead")

    def member_connected(self, member: str, *, greeted: bool) -> None:
        self.greeted.append((member, greeted))

    def expect_last_will(self, first: Message) -> bool:
        return first == self.resignation

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        return (sender, epoch) in self.backed

    def log(self, event: dict[str, object]) -> None:
        if event.get("log_level") is LogLevel.critical:
            self.critical.append(str(event["log_format"]).format(**event))

    def connect(self, host: str = "192.0.2.1", port: int = 40000) -> Incoming:
        connection = self.acceptor.buildProtocol(IPv4Address("TCP", host, port))
        connection.makeConnection(Wire(host, port))
        return connection

    def say(self, connection: Incoming, member: str) -> None:
        connection.dataReceived(wire.encode(heartbeat(member)))

    def hang_up(self, connection: Incoming) -> None:
        connection.connectionLost(Failure(ConnectionDone()))


class LastWillTests(AcceptorTests):
    """The connection of a wrapper is none of its member's node (section 4)."""

    def setUp(self) -> None:
        super().setUp()
        self.resignation = heartbeat("b", 7)

    def test_it_begins_with_a_resignation_and_without_a_greeting(self) -> None:
        self.connect().dataReceived(wire.encode(heartbeat("b", 7)) * 5)
        self.assertEqual(self.heard, [("b", self.resignation)] * 5)
        self.assertEqual(self.greeted, [])

    def test_a_node_that_connects_anew_and_resigns_greets(self) -> None:
        self.connect().dataReceived(wire.GREETING + wire.encode(heartbeat("b", 7)) * 5)
        self.assertEqual(self.greeted, [("b", True)])

    def test_nor_is_it_one_that_says_anything_else(self) -> None:
        for told in ((6, 7), (7, 7, 8)):
            connection = self.connect()
            for epoch in told:
                connection.dataReceived(wire.encode(heartbeat("b", epoch)))
            self.assertEqual(self.greeted.pop(), ("b", False))
            self.assertEqual(self.greeted, [])
            self.hang_up(connection)


class MembersOnlyTests(AcceptorTests):
    """One accepted connection speaks for one member (R1)."""

    def test_the_first_message_says_for_whom_a_connection_speaks(self) -> None:
        connection = self.connect()
        self.say(connection, "b")
        self.assertEqual(connection.member, "b")
        self.assertEqual(self.heard, [("b", heartbeat("b"))])

    def test_strangers_our_own_id_and_the_wildcard_are_refused(self) -> None:
        for name in ("stranger", "a", "*"):
            connection = self.connect()
            self.say(connection, name)
            self.assertTrue(connection.ended, name)
        self.assertEqual(self.heard, [])

    def test_a_connection_cannot_change_for_whom_it_speaks(self) -> None:
        connection = self.connect()
        self.say(connection, "b")
        connection.dataReceived(wire.encode(Accept(1, "c")))
        self.assertTrue(connection.ended)
        self.assertEqual(len(self.heard), 1)

    def test_a_message_that_is_refused_ends_its_connection_only(self) -> None:
        def refuse(sender: str, message: Message, now: float) -> None:
            raise FrameError("bad_epoch", "too far ahead")

        one, other = self.connect(), self.connect(port=40001)
        self.say(other, "c")
        self.message_received = refuse  # type: ignore[method-assign]
        self.say(one, "b")
        self.assertTrue(one.ended)
        self.assertFalse(other.ended)
        self.assertIn("bad_epoch", self.critical[0])


class HowManyTests(AcceptorTests):
    def test_a_member_may_have_two_connections_and_a_third_ends_the_longer_silent(self) -> None:
        first, second = self.connect(port=1), self.connect(port=2)
        self.say(first, "b")
        self.clock.advance(0.1)
        self.say(second, "b")
        self.clock.advance(0.1)
        self.say(first, "b")
        self.assertFalse(first.ended or second.ended)
        third = self.connect(port=3)
        self.say(third, "b")
        self.assertEqual((first.ended, second.ended, third.ended), (False, True, False))

    def test_when_full_the_oldest_stranger_makes_room_and_never_a_member(self) -> None:
        member = self.connect()
        self.say(member, "b")
        strangers = [self.connect(port=port) for port in range(self.acceptor.limit - 1)]
        self.assertEqual(len(self.acceptor), self.acceptor.limit)
        newcomer = self.connect(port=50000)
        self.assertEqual(len(self.acceptor), self.acceptor.limit)
        self.assertEqual([s.ended for s in strangers[:2]], [True, False])
        self.assertFalse(member.ended)
        self.say(newcomer, "c")
        self.assertEqual(newcomer.member, "c")

    def test_the_limit_follows_the_number_of_members(self) -> None:
        self.assertEqual(self.acceptor.limit, 4 * 3 + 16)

    def test_thousands_of_connections_leave_nothing_behind(self) -> None:
        for port in range(3000):
            connection = self.connect(port=port)
            if connection.ended or port % 2:
                self.hang_up(connection)
        self.assertLessEqual(len(self.acceptor), self.acceptor.limit)
        for connection in self.acceptor._listener:
            self.hang_up(connection)
        self.assertEqual(len(self.acceptor), 0)

    def test_a_third_from_another_machine_does_not_end_the_one_that_is_heard(self) -> None:
        real = self.connect("192.0.2.1")
        self.say(real, "b")
        for port in range(10):
            self.clock.advance(0.01)
            self.say(self.connect("192.0.2.66", port), "b")
        self.assertFalse(real.ended)
        self.assertEqual(len(self.heard), 1)

    def test_so_little_is_read_at_once_that_a_flood_leaves_time_for_others(self) -> None:
        transport: Any = self.connect().transport
        self.assertEqual(transport.bufferSize, 4096)


class LoggingTests(AcceptorTests):
    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: dict[str, object]) -> None:
        if "ended the connection" in str(event.get("log_format")):
            self.lines.append(str(event["log_format"]).format(**event))

    def test_what_strangers_can_cause_at_will_is_logged_a_few_times_and_then_counted(self) -> None:
        for _ in range(100):
            self.connect().dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertEqual(len([line for line in self.lines if "bad:" in line]), 5)
        self.connect().dataReceived(b"*1\r\n$4\r\nPING\r\n")
        self.assertIn("wrong_shape", self.lines[-1], "each kind has lines of its own")
        self.clock.advance(10)
        self.connect().dataReceived(b"GET / HTTP/1.1\r\n")
        self.assertIn("and 95 more for this reason", self.lines[-1])


class SilenceTests(AcceptorTests):
    def test_a_first_frame_is_due_within_the_election_timeout(self) -> None:
        connection = self.connect()
        connection.dataReceived(b"*5\r\n")
        self.clock.advance(QUICK.election_timeout - 0.01)
        self.acceptor.sweep(self.clock.seconds())
        self.assertFalse(connection.ended)
        self.clock.advance(0.01)
        self.acceptor.sweep(self.clock.seconds())
        self.assertTrue(connection.ended)

    def test_a_member_silent_for_twice_down_after_is_ended(self) -> None:
        connection = self.connect()
        self.clock.advance(0.2)
        self.say(connection, "b")
        self.clock.advance(2 * QUICK.down_after - 0.01)
        self.acceptor.sweep(self.clock.seconds())
        self.assertFalse(connection.ended)
        self.clock.advance(0.02)
        self.acceptor.sweep(self.clock.seconds())
        self.assertTrue(connection.ended)


class RivalryTests(AcceptorTests):
    def speak_in_turns(self, one: Incoming, other: Incoming, times: int) -> None:
        for _ in range(times):
            for connection in (one, other):
                self.clock.advance(0.05)
                self.say(connection, "b")

    def test_two_that_go_on_claiming_one_id_are_logged_with_both_addresses(self) -> None:
        one, other = self.connect("192.0.2.1"), self.connect("192.0.2.2")
        self.speak_in_turns(one, other, 5)
        self.assertEqual(len(self.critical), 1)
        for text in ("192.0.2.1:40000", "192.0.2.2:40000", "member b"):
            self.assertIn(text, self.critical[0])

    def test_that_is_logged_once_a_minute(self) -> None:
        one, other = self.connect("192.0.2.1"), self.connect("192.0.2.2")
        self.speak_in_turns(one, other, 590)  # 59 s
        self.assertEqual(len(self.critical), 1)
        self.speak_in_turns(one, other, 590)
        self.assertEqual(len(self.critical), 2)

    def test_a_reconnect_that_overlaps_its_predecessor_is_not(self) -> None:
        old, new = self.connect("192.0.2.1"), self.connect("192.0.2.2")
        for connection in (old, old, old, new, old, new, new, new):
            self.clock.advance(0.05)
            self.say(connection, "b")
        self.assertEqual(self.critical, [])


class AcknowledgementTests(AcceptorTests):
    """Section 4: heartbeats of whom this node backs are answered where replies are read."""

    def written(self, connection: Incoming) -> bytes:
        transport: Any = connection.transport
        value: bytes = transport.value()
        transport.clear()
        return value

    def test_a_heartbeat_of_the_one_that_is_backed_is_acknowledged(self) -> None:
        connection = self.connect()
        connection.dataReceived(wire.GREETING + wire.encode(heartbeat("b", 7)))
        self.assertEqual(self.greeted, [("b", True)])
        self.assertEqual(self.written(connection), b"")
        self.backed.add(("b", 7))
        connection.dataReceived(wire.encode(heartbeat("b", 7)))
        self.assertEqual(self.written(connection), b"*3\r\n$3\r\nACK\r\n$1\r\n7\r\n$1\r\n2\r\n")

    def test_only_heartbeats_are_counted_and_answered(self) -> None:
        connection = self.connect()
        self.backed.add(("b", 7))
        connection.dataReceived(wire.GREETING + wire.encode(Accept(7, "b")))
        self.assertEqual(self.written(connection), b"")
        connection.dataReceived(wire.encode(heartbeat("b", 7)))
        self.assertEqual(self.written(connection), wire.encode_ack(Ack(7, 1)))

    def test_to_a_connection_that_did_not_greet_nothing_is_ever_written(self) -> None:
        self.backed.add(("b", 7))
        for first in (b"", b"*00\r\n"):
            connection = self.connect()
            connection.dataReceived(first + wire.encode(heartbeat("b", 7)) + wire.GREETING)
            connection.dataReceived(wire.encode(heartbeat("b", 7)))
            self.assertEqual(self.written(connection), b"")
            self.hang_up(connection)
        self.assertEqual(self.greeted, [("b", False)] * 2)

    def test_one_that_is_not_heard_gets_no_answer_and_is_counted_all_the_same(self) -> None:
        self.backed.add(("b", 7))
        old, new = self.connect(port=1), self.connect(port=2)
        self.say(old, "b")
        new.dataReceived(wire.GREETING + wire.encode(heartbeat("b", 7)) * 3)
        self.assertEqual(self.written(new), b"")
        self.hang_up(old)
        new.dataReceived(wire.encode(heartbeat("b", 7)))
        self.assertEqual(self.written(new), wire.encode_ack(Ack(7, 4)))

    def test_nothing_is_written_to_a_dialler_that_does_not_read(self) -> None:
        self.backed.add(("b", 7))
        connection = self.connect()
        connection.dataReceived(wire.GREETING)
        connection.pauseProducing()
        connection.dataReceived(wire.encode(heartbeat("b", 7)) * 1000)
        self.assertEqual(self.written(connection), b"")
        connection.resumeProducing()
        connection.dataReceived(wire.encode(heartbeat("b", 7)))
        self.assertEqual(self.written(connection), wire.encode_ack(Ack(7, 1001)))


class OneSpeakerTests(AcceptorTests):
    """A node speaks on one connection at a time; its others are old, or a stranger's."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(100)
        self.old = self.connect(port=1)
        self.say(self.old, "b")
        self.new = self.connect(port=2)

    def heard_from(self, connection: Incoming) -> bool:
        before = len(self.heard)
        self.say(connection, "b")
        return len(self.heard) > before

    def test_a_newer_connection_takes_over_when_the_old_one_is_gone(self) -> None:
        self.hang_up(self.old)
        self.assertTrue(self.heard_from(self.new))

    def test_or_when_the_old_one_was_silent_for_pause_after(self) -> None:
        self.clock.advance(QUICK.pause_after + 0.001)
        self.assertTrue(self.heard_from(self.new))

    def test_what_still_comes_on_the_older_one_is_not_heard_and_ends_it(self) -> None:
        self.clock.advance(QUICK.pause_after + 0.001)
        self.heard_from(self.new)
        self.assertFalse(self.heard_from(self.old))
        self.assertTrue(self.old.ended)

    def test_a_member_that_was_cut_off_by_one_stray_message_is_heard_when_it_dials_again(
        self,
    ) -> None:
        self.clock.advance(QUICK.pause_after + 0.001)
        self.heard_from(self.new)
        self.hang_up(self.new)
        self.heard_from(self.old)
        self.assertTrue(self.old.ended)
        self.hang_up(self.old)
        self.assertTrue(self.heard_from(self.connect(port=9)))

    def test_one_that_was_accepted_earlier_is_old_even_if_it_speaks_later(self) -> None:
        waiting = self.connect(port=3)
        newest = self.connect(port=4)
        self.hang_up(self.old)
        self.assertTrue(self.heard_from(newest))
        self.hang_up(newest)
        self.assertFalse(self.heard_from(waiting))

    def test_who_claims_the_id_of_a_member_that_goes_on_speaking_is_not_heard(self) -> None:
        for _ in range(100):
            self.clock.advance(QUICK.hb_interval)
            self.assertTrue(self.heard_from(self.old))
            self.assertFalse(self.heard_from(self.new))
        self.assertEqual(len(self.critical), 1)

    def test_who_is_not_heard_is_ended_for_a_bad_frame_all_the_same(self) -> None:
        self.new.dataReceived(wire.encode(heartbeat("b", epoch=666)))
        self.assertTrue(self.new.ended)
        self.assertIn("bad_epoch", self.critical[0])

    def test_whether_a_member_reads_replies_is_told_by_the_one_that_is_heard(self) -> None:
        self.new.dataReceived(wire.GREETING + wire.encode(heartbeat("b")))
        self.assertEqual(self.greeted, [("b", False)])
        self.hang_up(self.old)
        self.say(self.new, "b")
        self.assertEqual(self.greeted, [("b", False), ("b", True)])


class ClosingTests(AcceptorTests):
    def test_closing_ends_all_and_fires_when_the_last_is_gone(self) -> None:
        one, other = self.connect(port=1), self.connect(port=2)
        closed = self.acceptor.close()
        self.assertTrue(one.ended and other.ended)
        self.hang_up(one)
        self.assertNoResult(closed)
        self.hang_up(other)
        self.assertIsNone(self.successResultOf(closed))

    def test_a_connection_that_comes_while_closing_is_ended_and_waited_for(self) -> None:
        self.connect()
        closed = self.acceptor.close()
        late = self.connect(port=2)
        self.assertTrue(late.ended)
        for connection in self.acceptor._listener:
            self.hang_up(connection)
        self.successResultOf(closed)

    def test_closing_what_never_listened_is_done_at_once(self) -> None:
        self.successResultOf(self.acceptor.close())
