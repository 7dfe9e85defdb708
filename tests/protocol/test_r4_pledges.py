"""R4 of docs/protocol.md: pledges.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Message, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    TICK,
    FragileBallot,
    Node,
    announce,
    candidate,
    elected,
    follower,
    offer,
    orphan,
    primary,
    replica,
)

DOWN = CONFIG.down_after
PAUSE = CONFIG.pause_after
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""


class R4Pledges(SynchronousTestCase):
    """R4: whom a node may not back yet. The tests begin with the number of the item."""

    def accepts(self, node: Node, candidate_id: str, epoch: int = 4, offset: int = 0) -> bool:
        out = node.hear(offer(candidate_id, epoch, offset))
        if out:
            self.assertEqual(out, [Outbound(candidate_id, Accept(epoch, node.node_id))])
        return bool(out)

    # Item 1

    def test_1_a_primary_with_the_lease_is_pledged(self) -> None:
        node = elected("b")
        self.assertFalse(self.accepts(node, "c"))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_1_one_without_it_is_free(self) -> None:
        node = elected("b")
        node.live(INFERRED - TICK)
        self.assertTrue(node.can_write())
        self.assertFalse(self.accepts(node, "c"))
        # The OFFER put c into a higher epoch: only a counts still, and only until now.
        node = elected("b")
        node.live(INFERRED)
        self.assertTrue(self.accepts(node, "c"))

    def test_1_one_that_was_paused_is_free(self) -> None:
        node = elected("b")
        node.sleep(PAUSE + TICK)
        self.assertTrue(self.accepts(node, "c"))

    # Item 2

    def voter(self) -> Node:
        """Voted for c in epoch 4 just now, knowing no primary."""
        node = orphan()
        self.assertTrue(self.accepts(node, "c", 4))
        return node

    def test_2_pledged_to_whom_i_voted_for_until_down_after(self) -> None:
        node = self.voter()
        node.live(DOWN - TICK)
        self.assertFalse(self.accepts(node, "a", 5))
        node.live(TICK)
        self.assertTrue(self.accepts(node, "a", 6))

    def test_2_not_to_another_candidacy_of_the_same(self) -> None:
        node = self.voter()
        self.assertTrue(self.accepts(node, "c", 5))

    def test_2_free_once_it_says_that_it_is_a_replica(self) -> None:
        node = self.voter()
        node.hear(replica("c", 4))
        self.assertTrue(self.accepts(node, "a", 5))

    def test_2_not_in_a_heartbeat_from_before_the_vote(self) -> None:
        node = self.voter()
        node.hear(replica("c", 3))
        self.assertFalse(self.accepts(node, "a", 6))

    def test_2_until_its_candidate_is_in_a_later_epoch_whatever_it_is_there(self) -> None:
        for message in (replica("c", 5), candidate("c", 5)):
            node = self.voter()
            node.hear(message)
            self.assertTrue(self.accepts(node, "a", 6))
        node = self.voter()
        node.hear(primary("c", 5))
        vote = node.elector._vote
        assert vote is not None
        self.assertTrue(vote.released)

    def test_2_not_while_it_says_that_it_is_a_candidate(self) -> None:
        node = self.voter()
        node.hear(candidate("c", 4))
        self.assertFalse(self.accepts(node, "a", 5))

    def test_2_not_when_another_says_that(self) -> None:
        node = self.voter()
        node.hear(replica("a", 4))
        self.assertFalse(self.accepts(node, "a", 5))

    def test_2_not_what_was_said_before_the_last_accept(self) -> None:
        node = self.voter()
        node.hear(replica("c", 4))
        self.assertTrue(self.accepts(node, "c", 4))  # a late repetition is accepted again
        self.assertFalse(self.accepts(node, "a", 5))

    def test_2_following_does_not_change_the_vote(self) -> None:
        node = self.voter()
        node.hear(announce("a", 5))
        self.assertEqual(node.primary, "a")
        self.assertFalse(self.accepts(node, "a", 6))

    def test_2_comes_before_an_incumbents_renewal(self) -> None:
        # Item 4 would let a renew.
        node = follower(of="a")
        node.live(DOWN, replica("c", 3))
        self.assertEqual(node.role, Role.CANDIDATE)
        node = follower("c", of="a")
        node.live(DOWN, replica("b", 3))
        self.assertTrue(self.accepts(node, "b", 4))
        node.hear(primary("a", 3))
        self.assertEqual(node.primary, "a")
        self.assertFalse(self.accepts(node, "a", 5))

    def test_2_running_clears_the_vote(self) -> None:
        node = self.voter()
        node.hear(replica("c", 4))
        node.live_until_it_runs(replica("a", 4), replica("c", 4))
        self.assertTrue(self.accepts(node, "a", 6))

    # Item 3

    def test_3_pledged_for_down_after_from_the_start(self) -> None:
        node = Node(epoch=3)
        node.live(DOWN - TICK, replica("a", 3), replica("c", 3))
        self.assertFalse(self.accepts(node, "a"))
        node.live(TICK, replica("a", 3), replica("c", 3))
        self.assertTrue(self.accepts(node, "a", 5))

    def test_3_the_start_is_the_first_call_of_either(self) -> None:
        by_message = Node(epoch=3, start=False)
        by_message.sleep(100)
        self.assertFalse(self.accepts(by_message, "a"))
        by_message.live(DOWN - TICK)
        self.assertFalse(self.accepts(by_message, "a"))
        by_message.live(TICK)
        self.assertTrue(self.accepts(by_message, "a"))

    def test_3_even_to_a_primary_that_renews(self) -> None:
        node = Node(epoch=3)
        node.hear(announce("a", 3))
        self.assertFalse(self.accepts(node, "a"))

    def new_node(self, *heard: Message, ballot: FragileBallot | None = None) -> Node:
        node = Node(ballot=ballot)
        node.hear(*(heard or (replica("a", 1), replica("c", 1))))
        return node

    def test_3_free_at_once_in_a_brand_new_cluster(self) -> None:
        self.assertTrue(self.accepts(self.new_node(), "a", 2))

    def test_3_even_when_another_has_voted_there(self) -> None:
        self.assertTrue(self.accepts(self.new_node(replica("c", 2), replica("a", 1)), "a", 2))

    def test_3_not_brand_new_if_a_ballot_was_ever_saved_here(self) -> None:
        self.assertFalse(self.accepts(self.new_node(ballot=FragileBallot(1)), "a", 2))

    def test_3_not_brand_new_if_another_epoch_than_2_is_offered(self) -> None:
        self.assertFalse(self.accepts(self.new_node(), "a", 3))

    def test_3_not_brand_new_if_a_member_is_not_alive(self) -> None:
        self.assertFalse(self.accepts(self.new_node(replica("a", 1)), "a", 2))

    def test_3_not_brand_new_if_one_is_primary(self) -> None:
        # Even of epoch 0, which is not followed, so that item 6 does not refuse already.
        for epoch in (0, 1):
            node = self.new_node(primary("c", epoch), replica("a", 1))
            self.assertFalse(self.accepts(node, "a", 2))

    def test_3_not_brand_new_if_one_is_past_epoch_2(self) -> None:
        self.assertFalse(self.accepts(self.new_node(replica("c", 3), replica("a", 1)), "a", 2))

    def test_3_not_brand_new_if_my_epoch_is_above_1(self) -> None:
        node = self.new_node()
        self.assertTrue(self.accepts(node, "a", 2))
        node.hear(replica("a", 2))  # it gave up
        self.assertFalse(self.accepts(node, "c", 3))

    # Item 4

    def test_4_my_current_primary_may_renew(self) -> None:
        self.assertTrue(self.accepts(follower(of="a"), "a"))

    def test_4_even_in_the_hold_after_a_pause(self) -> None:
        node = follower(of="a")
        node.sleep(PAUSE + TICK)
        self.assertTrue(self.accepts(node, "a"))

    def test_4_who_claims_the_role_may_renew_if_i_know_none(self) -> None:
        # Of a lower epoch, so that it is not followed at once; in the hold, so that item 5 would
        # refuse all others.
        for renews, known in (("c", None), ("c", "a")):
            node = orphan(epoch=3) if known is None else follower(of="a", epoch=3)
            node.sleep(PAUSE + TICK)
            node.hear(primary("c", 2))
            self.assertEqual(node.primary, known)
            self.assertEqual(self.accepts(node, renews, 5), known is None)

    def test_4_a_replica_may_not(self) -> None:
        node = orphan(epoch=3)
        node.sleep(PAUSE + TICK)
        node.hear(replica("c", 2))
        self.assertFalse(self.accepts(node, "c", 5))

    # Item 5

    def test_5_pledged_until_the_hold_has_passed(self) -> None:
        node = orphan()
        node.sleep(PAUSE + TICK)
        node.tick()
        self.assertFalse(self.accepts(node, "c", 4))
        node.live(PAUSE - TICK)
        self.assertFalse(self.accepts(node, "c", 5))
        node.live(TICK)
        self.assertTrue(self.accepts(node, "c", 6))

    def test_5_pledged_although_the_primary_is_down(self) -> None:
        node = follower(of="a")
        node.sleep(10 * DOWN)
        node.tick()
        self.assertTrue(node.elector.is_peer_down("a", node.now))
        self.assertFalse(self.accepts(node, "c", 4))

    # Item 6

    def test_6_pledged_while_my_primary_is_alive(self) -> None:
        node = follower(of="a")
        node.live(DOWN - TICK, replica("c", 3))
        self.assertFalse(self.accepts(node, "c", 4))

    def test_6_free_when_it_is_down(self) -> None:
        node = follower("c", of="a")
        node.live(DOWN, replica("b", 3))
        self.assertTrue(self.accepts(node, "b", 4))

    # Item 7

    def test_7_free(self) -> None:
        self.assertTrue(self.accepts(orphan(), "c"))
