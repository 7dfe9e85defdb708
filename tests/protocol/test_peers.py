"""Who is alive, who comes first, and until when the others back a lease."""

from __future__ import annotations

import itertools
import math

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Role
from kevy_elect.peers import NEVER, Peers, View, is_better
from tests.support.nodes import CONFIG, primary, replica

NOW = 1000.0
DOWN = CONFIG.down_after
INFERRED = DOWN - CONFIG.lease_margin
EXACT = DOWN - CONFIG.ack_margin


def peers(**heard: float) -> Peers:
    """These peers, heard at these times."""
    views = Peers(heard, CONFIG)
    for node_id, at in heard.items():
        views[node_id].heard = at
    return views


class Alive(SynchronousTestCase):
    def test_never_heard_is_down(self) -> None:
        views = Peers("bc", CONFIG)
        self.assertEqual(views.alive(NOW), [])
        self.assertEqual(views.down(NOW), ["b", "c"])
        self.assertTrue(views.is_down("b", NOW))

    def test_less_than_down_after_ago_is_alive(self) -> None:
        views = peers(b=NOW - DOWN + 0.001)
        self.assertFalse(views.is_down("b", NOW))
        self.assertEqual(views.alive(NOW), [views["b"]])
        self.assertEqual(views.down(NOW), [])

    def test_exactly_down_after_ago_is_down(self) -> None:
        views = peers(b=NOW - DOWN)
        self.assertTrue(views.is_down("b", NOW))
        self.assertEqual(views.alive(NOW), [])
        self.assertEqual(views.down(NOW), ["b"])

    def test_a_quorum_counts_this_node(self) -> None:
        self.assertTrue(peers(b=NOW, c=NEVER).quorum_alive(NOW))
        self.assertFalse(peers(b=NEVER, c=NEVER).quorum_alive(NOW))
        self.assertFalse(peers(b=NOW, c=NEVER, d=NEVER).quorum_alive(NOW))
        self.assertTrue(peers(b=NOW, c=NOW, d=NEVER, e=NEVER).quorum_alive(NOW))
        self.assertTrue(peers().quorum_alive(NOW))

    def test_only_live_views_claim_the_role(self) -> None:
        views = peers(b=NOW - DOWN, c=NOW)
        views["b"].role = views["c"].role = Role.PRIMARY
        self.assertEqual(views.claims_primary(NOW), [views["c"]])


class Views(SynchronousTestCase):
    def test_the_last_heartbeat_counts(self) -> None:
        view = View("b")
        view.update(primary("b", 7, 42))
        self.assertEqual((view.epoch, view.role, view.offset), (7, Role.PRIMARY, 42))
        view.update(replica("b", 6, 41))
        self.assertEqual((view.epoch, view.role, view.offset), (6, Role.REPLICA, 41))

    def test_members(self) -> None:
        views = peers(b=NOW, c=NOW)
        self.assertIn("b", views)
        self.assertNotIn("x", views)
        self.assertEqual([view.node_id for view in views], ["b", "c"])

    def test_the_highest_epoch_of_all_down_or_not(self) -> None:
        self.assertEqual(Peers("", CONFIG).highest_epoch(), 0)
        views = peers(b=NOW, c=NEVER)
        views["b"].epoch, views["c"].epoch = 4, 9
        self.assertEqual(views.highest_epoch(), 9)


class BetterCandidates(SynchronousTestCase):
    def test_the_higher_offset(self) -> None:
        self.assertTrue(is_better(("z", 2), ("a", 1)))
        self.assertFalse(is_better(("a", 1), ("z", 2)))

    def test_on_a_tie_the_lower_id(self) -> None:
        self.assertTrue(is_better(("a", 1), ("b", 1)))
        self.assertFalse(is_better(("b", 1), ("a", 1)))

    def test_nobody_is_better_than_itself(self) -> None:
        self.assertFalse(is_better(("a", 1), ("a", 1)))

    def test_ids_are_ordered_as_bytes(self) -> None:
        ids = ["!", "-", "10", "9", "B", "_", "a", "a!", "aa", "b", "~"]
        self.assertEqual(ids, sorted(ids, key=str.encode))
        for lower, higher in itertools.pairwise(ids):
            self.assertTrue(is_better((lower, 0), (higher, 0)), (lower, higher))


class LeaseDeadlines(SynchronousTestCase):
    def deadline(
        self,
        views: Peers,
        *,
        since: float = NEVER,
        runs_until: float = math.inf,
        leads: bool = True,
    ) -> float:
        return views.lease_deadline(3, since=since, runs_until=runs_until, leads=leads)

    def test_alone(self) -> None:
        self.assertEqual(self.deadline(peers()), math.inf)

    def test_nobody_heard(self) -> None:
        self.assertEqual(self.deadline(peers(b=NEVER, c=NEVER)), NEVER)

    def test_the_latest_of_two_peers_makes_a_quorum(self) -> None:
        self.assertEqual(self.deadline(peers(b=NOW, c=NOW - 1)), NOW + INFERRED)

    def test_the_second_latest_of_four(self) -> None:
        views = peers(b=NOW - 3, c=NOW, d=NOW - 1, e=NOW - 2)
        self.assertEqual(self.deadline(views), NOW - 1 + INFERRED)

    def test_the_second_latest_of_three(self) -> None:
        self.assertEqual(self.deadline(peers(b=NOW, c=NOW - 1, d=NEVER)), NOW - 1 + INFERRED)
        self.assertEqual(self.deadline(peers(b=NOW, c=NEVER, d=NEVER)), NEVER)

    def test_who_does_not_acknowledge_need_not_count_for_a_primary(self) -> None:
        views = Peers("bc", attrs.evolve(CONFIG, count_unacknowledged=False))
        views["b"].heard = views["c"].heard = NOW
        self.assertEqual(self.deadline(views), NEVER)
        self.assertEqual(self.deadline(views, leads=False), NOW + INFERRED)
        views["b"].acknowledging = True
        views["b"].confirmed = NOW - 1
        self.assertEqual(self.deadline(views), NOW - 1 + EXACT)

    def test_a_higher_epoch_does_not_count(self) -> None:
        views = peers(b=NOW, c=NOW - 1)
        views["b"].epoch = 4
        views["c"].epoch = 3
        self.assertEqual(self.deadline(views), NOW - 1 + INFERRED)

    def test_what_was_heard_too_early_does_not_count(self) -> None:
        views = peers(b=NOW, c=NOW - 1)
        self.assertEqual(self.deadline(views, since=NOW), NOW + INFERRED)
        self.assertEqual(self.deadline(views, since=NOW + 0.001), NEVER)

    def test_what_is_inferred_ends_when_this_process_may_have_been_paused(self) -> None:
        views = peers(b=NOW, c=NOW - 1)
        self.assertEqual(self.deadline(views, runs_until=NOW + 0.5), NOW + 0.5)

    def test_acknowledged_by_a_quorum(self) -> None:
        views = peers(b=NOW, c=NOW)
        for view in views:
            view.acknowledging = True
        views["b"].confirmed = NOW - 1
        views["c"].confirmed = NOW - 2
        # Neither a pause nor what is heard matters then.
        for since in (NEVER, NOW + 1):
            self.assertEqual(
                self.deadline(views, since=since, runs_until=NOW + 0.5), NOW - 1 + EXACT
            )

    def test_an_acknowledging_peer_counts_by_its_confirmation_alone(self) -> None:
        views = peers(b=NOW, c=NEVER)
        views["b"].acknowledging = True
        self.assertEqual(self.deadline(views), NEVER)

    def test_acknowledged_and_inferred_peers_together(self) -> None:
        views = peers(b=NOW, c=NOW, d=NEVER, e=NEVER)
        views["c"].acknowledging = True
        views["c"].confirmed = NOW - 3
        self.assertEqual(self.deadline(views), NOW - 3 + EXACT)
        views["c"].confirmed = NOW
        self.assertEqual(self.deadline(views), NOW + INFERRED)
        self.assertEqual(self.deadline(views, runs_until=NOW + 0.5), NOW + 0.5)

    def test_for_who_is_not_primary_all_is_inferred(self) -> None:
        views = peers(b=NOW, c=NEVER)
        views["b"].acknowledging = True
        self.assertEqual(self.deadline(views, leads=False), NOW + INFERRED)

    def test_forgotten_confirmations(self) -> None:
        views = peers(b=NOW, c=NOW)
        for view in views:
            view.acknowledging, view.confirmed = True, NOW
        views.forget_confirmations()
        self.assertEqual(self.deadline(views), NEVER)
