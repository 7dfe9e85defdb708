"""M1 and M2 of docs/protocol.md: in maintenance no node takes over by itself.

The node under test is `b` of a, b and c, and a is primary, where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Role
from tests.support.nodes import (
    CONFIG,
    Node,
    accept,
    elected,
    follower,
    offer,
    offers,
    orphan,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
LONG = 1000.0


class M1Running(SynchronousTestCase):
    """M1: who runs in maintenance."""

    def never_runs(self, node: Node) -> None:
        self.assertEqual(offers(node.live(6 * DOWN, replica("c", 3))), [])
        self.assertIs(node.role, Role.REPLICA)

    def test_a_primary_that_is_down_is_replaced_by_nobody(self) -> None:
        node = follower()
        node.elector.maintain(node.now, LONG)
        self.never_runs(node)
        self.assertGreater(node.elector.maintained_for(node.now), 0)

    def test_nor_where_there_is_no_primary(self) -> None:
        node = orphan()
        node.elector.maintain(node.now, LONG)
        self.never_runs(node)

    def test_nor_one_that_was_started_again_or_whose_last_will_was_heard(self) -> None:
        node = follower()
        node.elector.maintain(node.now, LONG)
        node.elector.set_acknowledging("a", acknowledging=False)  # another connection of it
        node.hear(replica("a", 3))
        self.assertIsNone(node.primary)
        self.never_runs(node)

    def test_one_that_gave_the_role_up_while_it_ran_is_replaced_at_once(self) -> None:
        node = follower()
        node.elector.maintain(node.now, LONG)
        node.elector.set_acknowledging(
            "a", acknowledging=True
        )  # it was connected anew, and leads still
        node.hear(primary("a", 3), replica("a", 3), replica("c", 3))
        self.assertLess(node.live_until_it_runs(replica("c", 3)), DOWN)

    def test_a_primary_that_an_operator_had_step_down_may_run_again(self) -> None:
        node = elected("b")
        node.elector.maintain(node.now, LONG)
        node.elector.step_down(node.now, 1.0, "the operator had it step down")
        others = replica("a", node.epoch), replica("c", node.epoch)
        self.assertGreaterEqual(node.live_until_it_runs(*others), 1.0)

    def test_a_candidate_gives_up(self) -> None:
        node = running("b")
        node.elector.maintain(node.now, LONG)
        self.assertIs(node.role, Role.REPLICA)
        self.never_runs(node)

    def test_it_votes_and_backs_as_ever(self) -> None:
        node = orphan()
        node.elector.maintain(node.now, LONG)
        node.hear(offer("c", 4))
        self.assertIn(accept("b", 4), [out.message for out in node.sent])
        node.hear(primary("c", 4))
        self.assertEqual(node.primary, "c")
        self.assertTrue(node.elector.backs("c", 4, node.now))

    def test_it_ends_by_its_time_or_sooner(self) -> None:
        for left, ends in ((2 * DOWN, False), (LONG, True)):
            node = follower()
            node.elector.maintain(node.now, left)
            self.assertEqual(offers(node.live(2 * DOWN - 0.25, replica("c", 3))), [])
            if ends:
                node.elector.maintain(node.now, 0.0)
                self.assertEqual(node.texts("maintenance")[-1], "maintenance is over")
            self.assertLessEqual(node.live_until_it_runs(replica("c", 3)), 1.0)


class M2Keeping(SynchronousTestCase):
    """M2: a primary in maintenance keeps the role without its lease, and writes nothing."""

    def test_it_has_its_lease_again_when_the_others_are_back(self) -> None:
        node = elected("b")
        epoch = node.epoch
        node.elector.maintain(node.now, LONG)
        node.live(6 * DOWN)
        self.assertEqual((node.role, node.can_write()), (Role.PRIMARY, False))
        node.live(1.0, replica("a", epoch), replica("c", epoch))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, epoch))
        self.assertTrue(node.can_write())

    def test_without_maintenance_it_gives_the_role_up(self) -> None:
        node = elected("b")
        node.elector.maintain(node.now, LONG)
        node.elector.maintain(node.now, 0.0)
        node.live(6 * DOWN)
        self.assertIs(node.role, Role.REPLICA)

    def test_it_follows_whoever_was_elected_meanwhile(self) -> None:
        node = elected("b")
        node.elector.maintain(node.now, LONG)
        node.live(2 * DOWN)
        node.hear(primary("c", node.epoch + 1))
        self.assertEqual((node.role, node.primary), (Role.REPLICA, "c"))
