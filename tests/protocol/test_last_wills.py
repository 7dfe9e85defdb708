"""A last will is a resignation (R7) that a receiver knows by its connection, which does not greet.

The node under test is `b` of a, b and c, and follows a, which acknowledges.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Message, Role
from tests.support.nodes import (
    CONFIG,
    accept,
    announce,
    candidate,
    follower,
    offer,
    primary,
    replica,
)


class LastWillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = follower(of="a")
        self.node.elector.set_acknowledging("a", acknowledging=True)

    def hear_will(self) -> None:
        will = replica("a", 3)
        self.assertTrue(self.node.elector.expect_last_will(will))
        self.node.hear(will)

    def run_and_win(self) -> None:
        self.node.live_until_it_runs(replica("c", 3))
        self.node.hear(accept("c", self.node.epoch))

    def why_it_ran(self) -> Cause | None:
        runs = [e for e in self.node.elector.events if e.kind is EventKind.CANDIDACY]
        return runs[-1].cause

    def test_who_runs_for_it_says_so(self) -> None:
        self.hear_will()
        self.run_and_win()
        self.assertIs(self.why_it_ran(), Cause.LAST_WILL)
        self.assertIn("running in epoch 4: by the last will of a", self.node.texts("candidacy"))
        self.assertEqual(self.node.elector.began_by_will_of, "a")

    def test_who_ran_before_it_was_heard_does_not(self) -> None:
        self.node.live(CONFIG.down_after + 1.0, replica("c", 3))
        self.assertEqual(self.node.role, Role.CANDIDATE)
        self.hear_will()
        self.node.hear(accept("c", self.node.epoch))
        self.assertEqual(self.node.role, Role.PRIMARY)
        self.assertIsNone(self.node.elector.began_by_will_of)

    def test_so_does_who_votes_for_another(self) -> None:
        self.hear_will()
        self.assertIsNone(self.node.elector.began_by_will_of)
        self.node.hear(offer("c", 4), primary("c", 4), announce("c", 4))
        self.assertEqual((self.node.primary, self.node.elector.began_by_will_of), ("c", "a"))
        self.node.hear(primary("a", 5))
        self.assertIsNone(self.node.elector.began_by_will_of)

    def test_it_is_over_when_that_primary_is(self) -> None:
        self.hear_will()
        self.run_and_win()
        self.node.elector.step_down(self.node.now, 1.0, "on command")
        self.assertIsNone(self.node.elector.began_by_will_of)
        self.node.live(2 * CONFIG.down_after, replica("c", 4), replica("a", 4))
        self.assertIsNot(self.why_it_ran(), Cause.LAST_WILL)

    def test_a_resignation_on_a_nodes_connection_is_none(self) -> None:
        self.node.hear(replica("a", 3))
        self.run_and_win()
        self.assertIs(self.why_it_ran(), Cause.PRIMARY_GONE)
        self.assertIsNone(self.node.elector.began_by_will_of)

    def test_nor_is_what_is_no_resignation_of_the_primary(self) -> None:
        others: tuple[Message, ...] = (
            primary("a", 3),
            candidate("a", 4),
            replica("a", 2),
            replica("a", 4),
            replica("c", 3),
            replica("x", 3),
            offer("a", 4),
            accept("a", 3),
        )
        for message in others:
            self.assertFalse(self.node.elector.expect_last_will(message), message)

    def test_nor_is_the_first_word_of_a_member_that_never_acknowledged(self) -> None:
        node = follower(of="a")
        self.assertFalse(node.elector.expect_last_will(replica("a", 3)))

    def test_who_comes_back_and_leads_again_did_not_by_its_own_last_will(self) -> None:
        self.hear_will()
        self.node.hear(primary("a", 5))
        self.assertIsNone(self.node.elector.began_by_will_of)

    def test_in_maintenance_it_has_nobody_run(self) -> None:
        self.node.elector.maintain(self.node.now, 1000.0)
        self.hear_will()
        self.node.live(6 * CONFIG.down_after, replica("c", 3))
        self.assertEqual(self.node.texts("candidacy"), [])
