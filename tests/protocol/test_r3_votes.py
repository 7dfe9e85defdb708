"""R3 of docs/protocol.md: one vote an epoch.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    FragileBallot,
    Node,
    accept,
    announce,
    candidate,
    elected,
    follower,
    offer,
    offers,
    orphan,
    replica,
    running,
)

DOWN = CONFIG.down_after
PAUSE = CONFIG.pause_after
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""


class R3OneVoteAnEpoch(SynchronousTestCase):
    """R3: the answer to an OFFER. The tests begin with the number of the item."""

    def voter(self) -> Node:
        """A node that voted for c in epoch 4 just now."""
        node = orphan()
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])
        return node

    # Item 1

    def test_1_the_accept_is_repeated(self) -> None:
        node = self.voter()
        saves = list(node.ballot.saves)
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])
        self.assertEqual(node.ballot.saves, saves)

    def test_1_even_when_it_is_followed_already(self) -> None:
        node = self.voter()
        node.hear(announce("c", 4))
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])

    def test_1_even_from_an_offset_behind_mine_by_now(self) -> None:
        node = self.voter()
        node.elector.set_repl_offset(9)
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])

    def test_1_repeating_it_renews_the_pledge(self) -> None:
        # The vote is the last ACCEPT sent, and when.
        node = self.voter()
        node.live(DOWN - 1, candidate("c", 4))
        node.hear(offer("c", 4))
        node.live(DOWN - TICK, candidate("c", 4))
        self.assertEqual(node.hear(offer("a", 5)), [])
        node.live(TICK, candidate("c", 4))
        self.assertEqual(node.hear(offer("a", 5)), [Outbound("a", Accept(5, "b"))])

    def test_1_a_vote_of_a_former_life_is_not_repeated(self) -> None:
        ballot = FragileBallot(4, "c")
        node = Node(ballot=ballot)
        node.live(DOWN, replica("a", 3), candidate("c", 4))
        self.assertEqual(node.hear(offer("c", 4)), [])

    def test_1_not_by_one_that_ran_itself_since(self) -> None:
        node = self.voter()
        node.hear(replica("c", 4))
        node.live_until_it_runs(replica("a", 4), replica("c", 4))
        self.assertEqual(node.hear(offer("c", 4)), [])

    # Item 2

    def test_2_a_candidate_withdraws_for_a_better_one_of_its_epoch(self) -> None:
        node = running("b", epoch=3)
        self.assertEqual(node.hear(offer("a", 3)), [Outbound("a", Accept(3, "b"))])
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, 3))
        self.assertEqual(node.ballot.load(), (3, "a"))

    def test_2_better_is_first_of_all_more_data(self) -> None:
        node = running("b", epoch=3, offset=5)
        self.assertEqual(node.hear(offer("a", 3, 4)), [])
        self.assertEqual(node.role, Role.CANDIDATE)
        self.assertEqual(node.hear(offer("c", 3, 6)), [Outbound("c", Accept(3, "b"))])

    def test_2_not_for_a_worse_one(self) -> None:
        node = running("b", epoch=3)
        self.assertEqual(node.hear(offer("c", 3)), [])
        self.assertEqual((node.role, node.ballot.load()), (Role.CANDIDATE, (3, "b")))

    def test_2_not_once_it_is_elected(self) -> None:
        node = elected("b", epoch=3)
        self.assertEqual(node.hear(offer("a", 3, 99)), [])
        self.assertEqual(node.role, Role.PRIMARY)

    def test_2_votes_that_come_after_withdrawing_do_not_elect(self) -> None:
        node = running("b", epoch=3)
        node.hear(offer("a", 3))
        self.assertEqual(node.hear(accept("c", 3)), [])
        self.assertEqual(node.role, Role.REPLICA)

    def test_2_when_the_ballot_cannot_be_saved_there_is_no_accept(self) -> None:
        node = running("b", epoch=3)
        node.ballot.full = True
        self.assertEqual(node.hear(offer("a", 3)), [])
        self.assertEqual(node.ballot.load(), (3, "b"))

    def test_2_pledges_and_offsets_do_not_matter_then(self) -> None:
        # Item 2 goes straight to item 6: here in R9's hold.
        node = running("b", epoch=3)
        node.sleep(PAUSE + TICK)
        self.assertEqual(node.hear(offer("a", 3)), [Outbound("a", Accept(3, "b"))])

    # Item 3

    def test_3_my_epoch_or_a_lower_one_is_refused_in_silence(self) -> None:
        for node in (orphan(), follower(), running("b"), elected("b")):
            state = (node.role, node.epoch, node.primary, node.ballot.load())
            for epoch in (0, 1, 2, 3):
                self.assertEqual(node.hear(offer("c", epoch)), [])
            self.assertEqual((node.role, node.epoch, node.primary, node.ballot.load()), state)

    def test_3_no_second_vote_in_an_epoch(self) -> None:
        node = self.voter()
        node.hear(replica("c", 4))  # no pledge any more, R4.2
        self.assertEqual(node.hear(offer("a", 4, 99)), [])
        self.assertEqual(node.ballot.load(), (4, "c"))

    def test_3_no_second_vote_in_the_next_life_either(self) -> None:
        node = Node(ballot=FragileBallot(4, "c"))
        node.live(DOWN, replica("a", 3), replica("c", 4))
        self.assertEqual(node.hear(offer("a", 4, 99)), [])
        self.assertEqual(node.hear(offer("a", 5, 99)), [Outbound("a", Accept(5, "b"))])

    # Item 4: see R4

    def test_4_refused_while_pledged_to_another(self) -> None:
        node = follower()
        self.assertEqual(node.hear(offer("c", 4)), [])
        self.assertEqual((node.epoch, node.primary, node.ballot.load()[0]), (3, "a", 3))

    # Item 5

    def test_5_a_candidate_with_less_data_is_refused(self) -> None:
        node = orphan(offset=5)
        self.assertEqual(node.hear(offer("c", 4, 4)), [])
        self.assertEqual(node.epoch, 3)
        self.assertEqual(node.hear(offer("c", 4, 5)), [Outbound("c", Accept(4, "b"))])

    def test_5_but_not_my_current_primary(self) -> None:
        node = follower(of="a", offset=5)
        self.assertEqual(node.hear(offer("a", 4, 4)), [Outbound("a", Accept(4, "b"))])

    def test_5_a_primary_without_lease_refuses_less_data_too(self) -> None:
        node = elected("b", offset=5)
        node.live(INFERRED)
        self.assertEqual(node.hear(offer("c", 4, 4)), [])
        self.assertEqual(node.role, Role.PRIMARY)
        self.assertEqual(node.hear(offer("c", 4, 5)), [Outbound("c", Accept(4, "b"))])

    def test_5_a_witness_has_no_data_to_compare(self) -> None:
        node = Node(witness=True, epoch=3)
        node.elector.set_repl_offset(99)
        node.live(DOWN, replica("a", 3), replica("c", 3))
        self.assertEqual(node.hear(offer("c", 4, 0)), [Outbound("c", Accept(4, "b"))])

    # Item 6

    def test_6_saved_before_it_is_sent(self) -> None:
        node = orphan()
        node.hear(offer("c", 4))
        self.assertEqual((node.epoch, node.role), (4, Role.REPLICA))
        self.assertEqual(node.ballot.saves[-1], (4, "c"))

    def test_6_not_sent_when_it_cannot_be_saved(self) -> None:
        node = orphan()
        node.ballot.full = True
        self.assertEqual(node.hear(offer("c", 4)), [])
        self.assertEqual(node.epoch, 3)
        node.ballot.full = False
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])

    def test_6_a_candidate_becomes_replica(self) -> None:
        node = running("b", epoch=3)
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, 4))

    def test_6_a_primary_becomes_replica_and_knows_none(self) -> None:
        node = elected("b")
        node.live(INFERRED)
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", Accept(4, "b"))])
        self.assertEqual((node.role, node.epoch, node.primary), (Role.REPLICA, 4, None))
        self.assertIsNone(node.elector.primary_addr)
        self.assertEqual(node.elector.primary_epoch, 0)
        self.assertFalse(node.can_write())

    def test_6_a_former_primary_waits_before_it_runs_again(self) -> None:
        node = elected("b", epoch=3, offset=5)
        node.live(INFERRED)
        node.hear(offer("c", 4, 5))
        node.hear(replica("c", 4, 5))  # c gave up: nothing but R5's wait is left
        out = node.live(DOWN - TICK, replica("a", 4), replica("c", 4))
        self.assertEqual(offers(out), [])
        out = node.live(TICK, replica("a", 4), replica("c", 4))
        self.assertEqual(offers(out), [Outbound(EVERYBODY, offer("b", 5, 5))])

    def test_6_a_replica_goes_on_following(self) -> None:
        node = follower(of="a")
        node.hear(offer("a", 4))
        self.assertEqual((node.primary, node.elector.primary_epoch), ("a", 3))
