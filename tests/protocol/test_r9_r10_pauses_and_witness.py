"""R9 and R10 of docs/protocol.md: paused processes and witnesses.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Heartbeat, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    Node,
    elected,
    follower,
    offer,
    offers,
    primary,
    replica,
)

DOWN = CONFIG.down_after
HB = CONFIG.hb_interval
PAUSE = CONFIG.pause_after


class R9Pauses(SynchronousTestCase):
    """R9: a process that did not run for a while trusts nothing for a moment."""

    def fresh(self) -> Node:
        """A primary of epoch 3 that heard all just now."""
        node = elected("a", epoch=3)
        node.live(1, replica("b", 3), replica("c", 3))
        return node

    def test_pause_after_is_no_pause_yet(self) -> None:
        node = self.fresh()
        node.sleep(PAUSE)
        node.tick()
        self.assertTrue(node.can_write())

    def test_there_is_no_lease_between_a_pause_and_the_first_call_after_it(self) -> None:
        node = self.fresh()
        self.assertTrue(node.has_quorum(PAUSE - 0.001))
        self.assertFalse(node.has_quorum(PAUSE + 0.001))
        self.assertFalse(node.can_write(PAUSE + 0.001))

    def test_a_replica_has_no_quorum_then_either(self) -> None:
        node = follower()
        self.assertTrue(node.has_quorum(PAUSE - 0.001))
        self.assertFalse(node.has_quorum(PAUSE + 0.001))

    def test_no_lease_in_the_hold_whatever_is_heard(self) -> None:
        node = self.fresh()
        node.sleep(PAUSE + TICK)
        node.hear(replica("b", 3), replica("c", 3))
        node.tick()
        self.assertFalse(node.can_write())
        for _ in range(3):
            node.live(TICK, replica("b", 3), replica("c", 3))
            self.assertFalse(node.can_write())

    def test_what_was_heard_in_the_hold_does_not_count_after_it(self) -> None:
        node = self.fresh()
        node.sleep(PAUSE + TICK)
        node.tick()
        node.live(PAUSE - TICK, replica("b", 3), replica("c", 3))
        node.live(1.5)
        self.assertFalse(node.can_write())

    def test_a_replica_has_its_quorum_back_with_what_it_hears_after_the_hold(self) -> None:
        node = follower()
        node.sleep(PAUSE + TICK)
        node.tick()
        node.live(PAUSE - TICK, primary("a", 3), replica("c", 3))
        self.assertFalse(node.has_quorum())
        node.live(TICK)
        self.assertFalse(node.has_quorum())
        node.hear(primary("a", 3))
        self.assertTrue(node.has_quorum())

    def test_the_lease_comes_back(self) -> None:
        node = self.fresh()
        node.sleep(PAUSE + TICK)
        node.tick()
        node.live(2 * PAUSE + 2 * TICK, replica("b", 3), replica("c", 3))
        self.assertTrue(node.can_write())
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_a_message_is_a_run_as_much_as_a_tick(self) -> None:
        node = follower()
        for _ in range(20):
            node.now += PAUSE
            node.hear(primary("a", 3), replica("c", 3))
            self.assertTrue(node.has_quorum())

    def test_a_late_message_is_a_run_after_a_pause(self) -> None:
        node = follower()
        node.sleep(PAUSE + TICK)
        node.hear(primary("a", 3))
        self.assertFalse(node.has_quorum())

    def test_a_pause_in_the_hold_makes_a_new_one(self) -> None:
        node = follower()
        node.sleep(PAUSE + TICK)
        node.tick()
        node.sleep(PAUSE + TICK)
        node.hear(primary("a", 3), replica("c", 3))
        node.tick()
        self.assertFalse(node.has_quorum())
        node.live(PAUSE - TICK, primary("a", 3), replica("c", 3))
        self.assertFalse(node.has_quorum())

    def test_the_first_call_is_after_no_pause(self) -> None:
        node = Node(start=False)
        node.sleep(100)
        node.hear(replica("a", 1), replica("c", 1))
        self.assertTrue(node.has_quorum())

    def test_a_primary_does_not_run_again_in_the_hold(self) -> None:
        node = self.fresh()
        node.sleep(PAUSE + TICK)
        node.hear(replica("b", 7), replica("c", 7))
        self.assertEqual(offers(node.tick()), [])
        self.assertEqual(offers(node.live(PAUSE - TICK)), [])
        self.assertEqual(offers(node.live(TICK)), [Outbound(EVERYBODY, offer("a", 8))])


class R10Witness(SynchronousTestCase):
    """R10: it votes, it never runs."""

    def test_it_votes(self) -> None:
        node = follower(of="a", witness=True)
        node.live(DOWN, replica("c", 3))
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])

    def test_it_never_runs(self) -> None:
        node = Node("a", epoch=3, witness=True)
        self.assertEqual(offers(node.live(10 * DOWN, replica("b", 3), replica("c", 3))), [])

    def test_not_even_in_a_brand_new_cluster(self) -> None:
        node = Node("a", witness=True)
        node.hear(replica("b", 1), replica("c", 1))
        self.assertEqual(offers(node.tick()), [])

    def test_not_even_alone(self) -> None:
        node = Node("a", "a", witness=True)
        self.assertEqual(offers(node.live(10 * DOWN)), [])
        self.assertEqual(node.role, Role.REPLICA)

    def test_its_offset_is_always_0(self) -> None:
        node = follower(of="a", offset=7, witness=True)
        node.elector.set_repl_offset(99)
        out = node.live(HB, primary("a", 3))
        self.assertEqual(out, [Outbound(EVERYBODY, Heartbeat(3, "b", Role.REPLICA, 0))])
        self.assertEqual(node.elector.repl_offset, 0)
