"""R5 of docs/protocol.md: when a replica runs.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import U64_MAX, Message, Offer, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    Node,
    announce,
    candidate,
    follower,
    heartbeats,
    offer,
    offers,
    orphan,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
STEP = CONFIG.candidate_step
PAUSE = CONFIG.pause_after
TIMEOUT = CONFIG.election_timeout


class R5Running(SynchronousTestCase):
    """R5: who runs, when, and with which epoch."""

    def runs_after(self, node: Node, *hearing: Message) -> float:
        """Seconds until it runs, while it hears these; what it sends then is one OFFER to all."""
        node.sent.clear()
        waited = node.live_until_it_runs(*hearing)
        expected = Offer(node.epoch, node.node_id, node.elector.repl_offset)
        self.assertEqual(offers(node.sent), [Outbound(EVERYBODY, expected)])
        self.assertEqual(node.ballot.load(), (node.epoch, node.node_id))
        return waited

    def never_runs(self, node: Node, *hearing: Message) -> None:
        epoch = node.epoch
        self.assertEqual(offers(node.live(4 * DOWN, *hearing)), [])
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, epoch))

    # Who may

    def test_a_primary_that_is_down_is_replaced_at_once(self) -> None:
        node = follower(of="a")
        self.assertEqual(self.runs_after(node, replica("c", 3)), DOWN)
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 4))

    def test_one_that_is_alive_is_not(self) -> None:
        self.never_runs(follower(of="a", offset=99), primary("a", 3), replica("c", 3))

    def test_an_isolated_node_never_does(self) -> None:
        self.never_runs(follower(of="a"))

    def test_in_a_minority_it_never_does(self) -> None:
        node = follower("b", "abcde", of="a")
        self.never_runs(node, replica("c", 3))
        self.runs_after(node, replica("c", 3), replica("d", 3))

    def test_a_witness_never_does(self) -> None:
        self.never_runs(follower(of="a", witness=True), replica("c", 3))

    def test_not_in_the_hold_after_a_pause(self) -> None:
        node = follower(of="a")
        node.sleep(10 * DOWN)
        node.hear(replica("c", 3))
        node.tick()
        self.assertEqual(self.runs_after(node, replica("c", 3)), PAUSE)

    def test_not_in_backoff(self) -> None:
        node = running("b")
        others = replica("a", 2), replica("c", 2)
        node.live(TIMEOUT, *others)
        self.assertEqual(node.role, Role.REPLICA)
        # It knows none and may not run for down_after anyway: what is left of the backoff
        # shows with a short memory only, so let it be led and left.
        node.hear(announce("a", 3))
        node.hear(replica("a", 3))
        self.assertGreaterEqual(self.runs_after(node, *others), CONFIG.election_backoff)

    def test_not_pledged_by_a_vote_to_another(self) -> None:
        node = follower("c", of="a")
        node.live(DOWN - TICK, replica("b", 3))
        node.live(TICK, replica("b", 3))
        node.hear(offer("b", 4))
        self.assertEqual(self.runs_after(node, candidate("b", 4)), DOWN + STEP)

    def test_a_vote_whose_candidate_gave_up_is_no_obstacle(self) -> None:
        node = follower("c", of="a")
        node.live(DOWN, replica("b", 3))
        node.hear(offer("b", 4))
        node.hear(replica("b", 4))
        # b was better before and was waited for: then the vote bound this node for a moment only.
        self.assertLessEqual(self.runs_after(node, replica("b", 4)), STEP + TICK)

    def test_not_before_it_has_known_none_for_down_after(self) -> None:
        node = orphan()
        self.assertEqual(self.runs_after(node, replica("c", 3)), DOWN)

    def test_not_while_a_live_view_claims_the_role(self) -> None:
        node = orphan(epoch=3, offset=1)
        node.hear(primary("c", 2))
        node.live(STEP - TICK)
        self.assertIsNone(node.primary)
        # It is followed from then on, as better than none (R7), until it is down.
        self.assertEqual(self.runs_after(node, replica("a", 4)), DOWN - STEP + TICK)

    def test_not_while_one_does_although_its_own_primary_is_down(self) -> None:
        node = follower("b", "abcd", of="a", epoch=3)
        out = node.live(3 * DOWN, primary("c", 2), replica("d", 2))
        self.assertEqual((offers(out), node.primary), ([], "c"))

    def test_not_even_if_its_own_primary_stepped_down(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(primary("c", 2), replica("a", 3))
        self.assertEqual(offers(node.tick()), [])
        self.assertEqual(offers(node.live(STEP - TICK, primary("c", 2))), [])

    def test_no_wait_after_its_primary_stepped_down(self) -> None:
        node = follower(of="a")
        node.hear(replica("a", 3))
        self.assertIsNone(node.primary)
        node.tick()
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 4))

    def test_no_wait_in_a_brand_new_cluster(self) -> None:
        node = Node("a")
        node.hear(replica("b", 1), replica("c", 1))
        self.assertEqual(offers(node.tick()), [Outbound(EVERYBODY, offer("a", 2))])

    def test_not_brand_new_if_a_ballot_was_ever_saved_here(self) -> None:
        node = Node("a", epoch=1)
        self.assertEqual(self.runs_after(node, replica("b", 1), replica("c", 1)), DOWN)

    def test_not_brand_new_if_a_member_is_missing(self) -> None:
        self.assertEqual(self.runs_after(Node("a"), replica("b", 1)), DOWN)

    def test_not_brand_new_if_a_member_is_past_epoch_1(self) -> None:
        node = Node("a")
        self.assertEqual(self.runs_after(node, replica("b", 1), replica("c", 2)), DOWN)
        self.assertEqual(node.epoch, 3)

    def test_not_brand_new_if_a_member_is_below_epoch_1(self) -> None:
        self.assertEqual(self.runs_after(Node("a"), replica("b", 1), replica("c", 0)), DOWN)

    def test_not_brand_new_if_a_member_is_primary(self) -> None:
        node = Node("a")
        node.hear(replica("b", 1), primary("c", 1))
        self.assertEqual(offers(node.tick()), [])

    def test_not_before_it_has_run_for_down_after(self) -> None:
        node = Node("a", epoch=3)
        node.hear(announce("b", 3))
        node.hear(replica("b", 3))  # no wait on account of the primary
        self.assertEqual(self.runs_after(node, replica("b", 3), replica("c", 3)), DOWN)

    def test_not_while_another_runs_in_a_higher_epoch(self) -> None:
        node = follower("b", of="a")
        self.never_runs(node, candidate("c", 4))

    def test_an_offer_tells_of_a_candidate_too(self) -> None:
        node = follower("b", of="a", offset=5)
        node.live(DOWN - TICK, replica("c", 3))
        node.hear(offer("c", 4, 0))
        # Refused, but its sender counts as a candidate for pause_after.
        self.assertEqual(self.runs_after(node), PAUSE)
        self.assertEqual(node.epoch, 5)

    def test_a_candidate_of_my_epoch_is_no_obstacle(self) -> None:
        self.assertEqual(self.runs_after(follower(of="a"), candidate("c", 3)), DOWN)

    def test_a_candidate_not_heard_for_pause_after_is_no_obstacle(self) -> None:
        node = follower("b", of="a")
        node.live(DOWN - PAUSE, replica("c", 3))
        node.hear(candidate("c", 4))
        self.assertEqual(self.runs_after(node), PAUSE)

    # In what order

    def test_a_worse_candidate_waits_a_step_for_each_better_one(self) -> None:
        for node_id, better in (("b", 0), ("c", 1), ("d", 2), ("e", 3)):
            node = follower(node_id, "abcde", of="a")
            others = [replica(peer, 3) for peer in "bcde" if peer != node_id]
            self.assertEqual(self.runs_after(node, *others), DOWN + better * STEP)

    def test_more_data_goes_first(self) -> None:
        node = follower("e", "abcde", of="a", offset=9)
        others = [replica(peer, 3, 8) for peer in "bcd"]
        self.assertEqual(self.runs_after(node, *others), DOWN)

    def test_among_equals_a_higher_priority_goes_first(self) -> None:
        order = {"d": 9, "c": 5}
        for node_id, better in (("d", 0), ("c", 1), ("b", 2), ("e", 3)):
            node = follower(node_id, "abcde", of="a", priorities=order)
            others = [replica(peer, 3) for peer in "bcde" if peer != node_id]
            self.assertEqual(self.runs_after(node, *others), DOWN + better * STEP)

    def test_more_data_goes_before_a_higher_priority(self) -> None:
        node = follower("e", "abcde", of="a", offset=9, priorities={"b": 99})
        others = [replica(peer, 3, 8) for peer in "bcd"]
        self.assertEqual(self.runs_after(node, *others), DOWN)

    def test_those_that_are_down_are_not_waited_for(self) -> None:
        node = follower("e", "abcde", of="a")
        node.live(TICK, primary("a", 3), replica("d", 3))
        # b and c were last heard before that: they are down as soon as a is.
        self.assertEqual(self.runs_after(node, replica("d", 3), replica("c", 3)), DOWN + 2 * STEP)

    def test_the_one_that_just_stepped_down_is_not_waited_for(self) -> None:
        node = follower("b", of="a")
        node.hear(replica("a", 3, 99))
        node.tick()
        self.assertEqual(node.role, Role.CANDIDATE)

    def test_one_that_stepped_down_before_the_last_primary_is_waited_for(self) -> None:
        node = follower("b", of="a", epoch=3)
        node.hear(replica("a", 3), announce("c", 4))
        self.assertEqual(self.runs_after(node, replica("a", 4)), DOWN + STEP)

    def test_the_delay_begins_anew_when_a_condition_fails_in_between(self) -> None:
        node = follower("c", of="a")
        node.live(DOWN + STEP - TICK, replica("b", 3))
        self.assertEqual(node.role, Role.REPLICA)
        node.live(TICK, primary("a", 3), replica("b", 3))
        self.assertEqual(self.runs_after(node, replica("b", 3)), DOWN + STEP)

    def test_a_pause_is_no_waiting(self) -> None:
        node = follower("c", of="a")
        node.live(DOWN, replica("b", 3))
        node.sleep(PAUSE + TICK)
        node.hear(replica("b", 3))
        node.tick()
        self.assertEqual(self.runs_after(node, replica("b", 3)), PAUSE + STEP)

    # With what

    def test_the_next_epoch_after_the_highest_in_any_view(self) -> None:
        node = follower(of="a")
        node.hear(replica("c", 41))
        self.runs_after(node, replica("c", 8))
        self.assertEqual(node.epoch, 9)
        node = follower(of="a")
        self.runs_after(node, replica("c", 41))
        self.assertEqual(node.epoch, 42)

    def test_the_view_of_one_that_is_down_counts_there(self) -> None:
        node = follower("b", "abcde", of="a")
        node.hear(replica("d", 41))
        node.live(DOWN, primary("a", 3), replica("c", 3), replica("e", 3))
        self.runs_after(node, replica("c", 3), replica("e", 3))
        self.assertTrue(node.elector.is_peer_down("d", node.now))
        self.assertEqual(node.epoch, 42)

    def test_saved_before_it_is_offered(self) -> None:
        node = follower(of="a")
        node.ballot.full = True
        out = node.live(DOWN + TICK, replica("c", 3))
        self.assertEqual(offers(out), [])
        self.assertEqual((node.role, node.epoch, node.ballot.load()[0]), (Role.REPLICA, 3, 3))

    def test_it_backs_off_when_it_cannot_be_saved(self) -> None:
        node = follower(of="a")
        node.ballot.full = True
        node.live(DOWN, replica("c", 3))
        self.assertEqual(len(node.events("ballot")), 1)
        node.ballot.full = False
        self.assertGreaterEqual(self.runs_after(node, replica("c", 3)), CONFIG.election_backoff)

    def test_alone_it_wins_at_once(self) -> None:
        node = Node("a", "a", start=False)
        out = node.tick()
        self.assertEqual((node.role, node.epoch, node.primary), (Role.PRIMARY, 2, "a"))
        self.assertEqual(node.ballot.load(), (2, "a"))
        self.assertIn(Outbound(EVERYBODY, announce("a", 2)), out)
        self.assertTrue(node.can_write())

    def test_the_last_epoch(self) -> None:
        node = Node("a", "a", epoch=U64_MAX)
        out = node.live(3 * DOWN)
        self.assertEqual(out, heartbeats(out))
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, U64_MAX))
