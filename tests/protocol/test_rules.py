"""R1 to R10 of docs/protocol.md, one class a rule, one test a clause.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError, ConfigError, FrameError
from kevy_elect.messages import U64_MAX, Accept, Announce, Heartbeat, Message, Offer, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    FragileBallot,
    Node,
    accept,
    address,
    announce,
    announces,
    candidate,
    elected,
    follower,
    heartbeats,
    offer,
    offers,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
HB = CONFIG.hb_interval
STEP = CONFIG.candidate_step
PAUSE = CONFIG.pause_after
TIMEOUT = CONFIG.election_timeout
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""
LEAP = 2**32


def everything(node_id: str, epoch: int) -> list[Message]:
    """One of each message that this node may send."""
    return [
        primary(node_id, epoch, 9),
        replica(node_id, epoch, 9),
        candidate(node_id, epoch, 9),
        offer(node_id, epoch, 9),
        accept(node_id, epoch),
        announce(node_id, epoch),
    ]


def orphan(node_id: str = "b", members: str = "abc", *, epoch: int = 3, offset: int = 0) -> Node:
    """A follower of `a` whose primary has just said that it is a replica of a later epoch: it
    knows none now, and waits for down_after (R5)."""
    node = follower(node_id, members, epoch=epoch, offset=offset)
    node.hear(replica("a", epoch + 1))
    assert node.primary is None
    return node


class Beginning(SynchronousTestCase):
    """Section 2: what a node keeps, and what it begins with."""

    def test_a_new_node(self) -> None:
        node = Node(start=False)
        self.assertEqual((node.role, node.epoch, node.primary), (Role.REPLICA, 1, None))
        self.assertEqual(node.elector.primary_epoch, 0)
        self.assertIsNone(node.elector.primary_addr)
        self.assertFalse(node.has_quorum())
        self.assertFalse(node.can_write())
        self.assertTrue(node.elector.is_peer_down("a", node.now))

    def test_it_goes_on_in_the_epoch_of_its_ballot(self) -> None:
        self.assertEqual(Node(epoch=7).epoch, 7)

    def test_nothing_is_saved_before_something_happens(self) -> None:
        node = Node()
        node.live(2 * DOWN)
        self.assertEqual(node.ballot.saves, [])

    def test_a_ballot_that_cannot_be_read_is_an_error(self) -> None:
        class Broken(FragileBallot):
            def load(self) -> tuple[int, str | None]:
                raise BallotError("elect.meta is no ballot")

        self.assertRaises(BallotError, Node, ballot=Broken())

    def test_members_must_hold_this_node_once(self) -> None:
        for members in (["a", "c"], ["b", "a", "b"], ["a", "b", "a"], []):
            self.assertRaises(
                ConfigError,
                Elector,
                "b",
                members,
                "b:1",
                config=CONFIG,
                ballot=FragileBallot(),
                rng=random.Random(0),
            )

    def test_only_a_peer_can_be_down(self) -> None:
        node = Node()
        self.assertRaises(ConfigError, node.elector.is_peer_down, "b", node.now)
        self.assertRaises(ConfigError, node.elector.is_peer_down, "x", node.now)

    def test_any_message_makes_a_peer_heard(self) -> None:
        # But for an ACCEPT, which may have waited in a socket (R6).
        for message in everything("c", 3):
            if isinstance(message, Accept):
                continue
            node = follower()
            node.live(DOWN, primary("a", 3))
            self.assertTrue(node.elector.is_peer_down("c", node.now))
            node.hear(message)
            self.assertFalse(node.elector.is_peer_down("c", node.now), message)

    def test_the_view_has_epoch_role_and_offset_of_the_last_heartbeat(self) -> None:
        node = follower()
        node.hear(candidate("c", 2, 17))
        view = node.elector.peers["c"]
        self.assertEqual((view.epoch, view.role, view.offset), (2, Role.CANDIDATE, 17))

    def test_an_offer_above_my_epoch_makes_its_sender_a_candidate_in_the_view(self) -> None:
        node = follower()
        node.hear(offer("c", 7))
        view = node.elector.peers["c"]
        self.assertEqual((view.epoch, view.role), (7, Role.CANDIDATE))

    def test_an_old_offer_does_not(self) -> None:
        node = follower()
        node.hear(offer("c", 3))
        view = node.elector.peers["c"]
        self.assertEqual((view.epoch, view.role), (3, Role.REPLICA))

    def test_an_announce_makes_its_sender_a_primary_in_the_view(self) -> None:
        node = follower()
        node.hear(announce("c", 2))
        view = node.elector.peers["c"]
        self.assertEqual((view.epoch, view.role), (2, Role.PRIMARY))

    def test_the_offset_is_an_unsigned_64_bit_number(self) -> None:
        node = Node()
        node.elector.set_repl_offset(U64_MAX)
        for offset in (-1, U64_MAX + 1):
            self.assertRaises(ConfigError, node.elector.set_repl_offset, offset)
        self.assertEqual(node.elector.repl_offset, U64_MAX)


class R1MembersOnly(SynchronousTestCase):
    """R1: strangers, and epochs that cannot be, change nothing at all."""

    def states(self) -> list[Node]:
        return [Node(), follower(), running("b"), elected("b")]

    def test_strangers_change_nothing(self) -> None:
        for node in self.states():
            for stranger in ("x", "b", "*", "A", ""):
                for epoch in (1, 3, 4, LEAP + 100, U64_MAX):
                    for message in everything(stranger, epoch):
                        before = node.state()
                        self.assertEqual(node.hear(message), [])
                        self.assertEqual(node.state(), before, message)

    def test_a_stranger_is_not_heard_after_a_pause_either(self) -> None:
        node = elected("b")
        node.sleep(10)
        before = node.state()
        node.hear(*everything("x", 3))
        self.assertEqual(node.state(), before)

    def test_a_message_with_another_id_than_its_sender_changes_nothing(self) -> None:
        for node in self.states():
            for message in everything("c", 4):
                before = node.state()
                self.assertEqual(node.elector.on_message("a", message, node.now), [])
                self.assertEqual(node.state(), before)

    def test_an_epoch_too_far_ahead_is_an_error_and_changes_nothing(self) -> None:
        for node in self.states():
            for epoch in (node.epoch + LEAP + 1, U64_MAX):
                for message in everything("c", epoch):
                    node.now += TICK
                    before = node.state()
                    error = self.assertRaises(FrameError, node.hear, message)
                    self.assertEqual(error.kind, "bad_epoch")
                    self.assertEqual(node.state(), before)

    def test_the_highest_epoch_that_is_believed(self) -> None:
        node = follower()
        node.hear(announce("c", 3 + LEAP))
        self.assertEqual((node.primary, node.epoch), ("c", 3 + LEAP))


class R2Heartbeats(SynchronousTestCase):
    """R2: what is said, how often, and again."""

    def test_the_first_tick_sends_one(self) -> None:
        node = Node(start=False, epoch=7, offset=42)
        expected = Outbound(EVERYBODY, Heartbeat(7, "b", Role.REPLICA, 42))
        self.assertEqual(node.tick(), [expected])

    def test_every_hb_interval(self) -> None:
        node = follower()
        out = node.live(40 * HB, primary("a", 3), replica("c", 3))
        self.assertEqual(out, [Outbound(EVERYBODY, replica("b", 3))] * 40)

    def test_not_more_often_however_often_it_runs(self) -> None:
        node = follower()
        for _ in range(10):
            self.assertEqual(node.tick(), [])

    def test_late_ticks_do_not_stretch_the_interval(self) -> None:
        node = follower()
        for _ in range(60):
            node.now += 0.75 * HB
            node.hear(primary("a", 3))
            node.tick()
        self.assertEqual(len(heartbeats(node.sent)), 45)

    def test_nothing_is_made_up_for_after_a_pause(self) -> None:
        node = follower()
        node.sleep(60)
        self.assertEqual(len(heartbeats(node.tick())), 1)

    def test_the_current_epoch_role_and_offset(self) -> None:
        node = elected("b", epoch=5)
        node.elector.set_repl_offset(77)
        out = node.live(HB, replica("a", 5), replica("c", 5))
        self.assertEqual(out, [Outbound(EVERYBODY, Heartbeat(5, "b", Role.PRIMARY, 77))])

    def test_a_candidate_repeats_its_offer_with_each_heartbeat(self) -> None:
        node = running("b")
        out = node.live(4 * HB, replica("a", 2), replica("c", 2))
        self.assertEqual(heartbeats(out), [Outbound(EVERYBODY, candidate("b", 3))] * 4)
        self.assertEqual(offers(out), [Outbound(EVERYBODY, offer("b", 3))] * 4)

    def test_a_primary_repeats_its_announce_every_announce_interval(self) -> None:
        node = elected("b")
        expected = Outbound(EVERYBODY, Announce(3, "b", address("b")))
        out = node.live(8 * CONFIG.announce_interval, replica("a", 3), replica("c", 3))
        self.assertEqual(announces(out), [expected] * 8)

    def test_a_primary_without_its_lease_goes_on_announcing(self) -> None:
        node = elected("b")
        node.live(INFERRED)
        self.assertFalse(node.can_write())
        self.assertEqual(len(announces(node.live(CONFIG.announce_interval))), 1)

    def test_a_replica_neither_offers_nor_announces(self) -> None:
        out = follower().live(2 * DOWN, primary("a", 3), replica("c", 3))
        self.assertEqual(out, heartbeats(out))


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

    def test_2_only_in_a_heartbeat_of_the_votes_epoch(self) -> None:
        for epoch in (3, 5):
            node = self.voter()
            node.hear(replica("c", epoch))
            self.assertFalse(self.accepts(node, "a", 6))

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


class R6Winning(SynchronousTestCase):
    """R6: counting votes, and what follows from each."""

    def test_a_quorum_wins_at_once(self) -> None:
        node = running("b", epoch=3)
        expected = Outbound(EVERYBODY, Announce(3, "b", address("b")))
        self.assertEqual(node.hear(accept("c", 3)), [expected])
        self.assertEqual((node.role, node.primary, node.epoch), (Role.PRIMARY, "b", 3))
        self.assertEqual(node.elector.primary_epoch, 3)
        self.assertEqual(node.elector.primary_addr, address("b"))
        self.assertTrue(node.can_write())

    def test_accepts_are_counted_per_member(self) -> None:
        node = running("b", "abcde", epoch=3)
        self.assertEqual(node.hear(*[accept("c", 3)] * 5), [])
        self.assertEqual(node.role, Role.CANDIDATE)
        self.assertEqual(len(node.hear(accept("e", 3))), 1)
        self.assertEqual(node.role, Role.PRIMARY)

    def test_of_four_three_are_needed(self) -> None:
        node = running("b", "abcd", epoch=3)
        node.hear(accept("c", 3))
        self.assertEqual(node.role, Role.CANDIDATE)
        node.hear(accept("d", 3))
        self.assertEqual(node.role, Role.PRIMARY)

    def test_only_for_the_epoch_offered(self) -> None:
        node = running("b", epoch=3)
        self.assertEqual(node.hear(accept("c", 2), accept("a", 4)), [])
        self.assertEqual(node.role, Role.CANDIDATE)

    def test_those_of_strangers_do_not_count(self) -> None:
        node = running("b", "abcde", epoch=3)
        self.assertEqual(node.hear(*(accept(stranger, 3) for stranger in ("x", "*", "b"))), [])
        self.assertEqual(node.role, Role.CANDIDATE)

    def test_not_by_one_that_is_no_candidate(self) -> None:
        node = follower()
        self.assertEqual(node.hear(accept("a", 3), accept("c", 3)), [])
        self.assertEqual(node.role, Role.REPLICA)

    def test_votes_of_an_earlier_candidacy_do_not_count(self) -> None:
        node = running("b", "abcde", epoch=3)
        node.hear(accept("c", 3))
        others = [replica(peer, 2) for peer in "acde"]
        node.live(TIMEOUT, *others)
        node.live_until_it_runs(*others)
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 4))
        node.hear(accept("d", 4))
        self.assertEqual(node.role, Role.CANDIDATE)

    def test_more_votes_do_not_announce_again(self) -> None:
        node = elected("b", "abcde")
        self.assertEqual(node.hear(accept("c", 3)), [])

    def test_until_the_election_timeout(self) -> None:
        node = running("b", epoch=3)
        node.live(TIMEOUT - TICK)
        self.assertEqual(node.role, Role.CANDIDATE)
        node.live(TICK)
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, 3))
        self.assertEqual(node.hear(accept("a", 3), accept("c", 3)), [])
        self.assertEqual(node.role, Role.REPLICA)

    def test_not_even_before_the_tick_that_notices(self) -> None:
        node = running("b", epoch=3)
        node.now += TIMEOUT
        self.assertEqual(node.hear(accept("a", 3)), [])
        self.assertNotEqual(node.role, Role.PRIMARY)

    def test_without_a_quorum_it_follows_whom_it_followed(self) -> None:
        node = follower(of="a", epoch=3)
        node.live(DOWN + TIMEOUT, replica("c", 3))
        self.assertEqual((node.role, node.epoch, node.primary), (Role.REPLICA, 4, "a"))
        self.assertEqual(node.elector.primary_epoch, 3)

    def test_a_former_primary_then_follows_none(self) -> None:
        node = elected("b", epoch=3)
        node.live(INFERRED)
        node.live(TICK, replica("a", 4), replica("c", 3))
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 5))
        node.live(TIMEOUT, replica("a", 4), replica("c", 3))
        self.assertEqual((node.role, node.primary), (Role.REPLICA, None))

    def test_the_backoff_is_drawn_between_its_bounds(self) -> None:
        draws = set()
        low = CONFIG.election_backoff
        high = low + CONFIG.election_backoff_jitter
        for seed in range(20):
            node = Node("a", epoch=3, seed=seed)
            others = replica("b", 3), replica("c", 3)
            node.hear(announce("b", 3))
            node.live(DOWN, primary("b", 3), *others[1:])
            node.hear(*others)  # no wait
            node.tick()
            self.assertEqual(node.role, Role.CANDIDATE)
            node.live(TIMEOUT, *others)
            node.hear(announce("b", 4))
            node.hear(replica("b", 4))  # no wait again: only the backoff is left
            waited = node.live_until_it_runs(*others)
            draws.add(waited)
            self.assertGreaterEqual(waited, low)
            self.assertLessEqual(waited, high + TICK)
        self.assertGreater(max(draws) - min(draws), CONFIG.election_backoff_jitter / 2)

    def test_an_accept_proves_no_more_than_that_its_sender_lived_when_the_offer_left(self) -> None:
        node = running("b", epoch=3)
        node.live(2.75)  # nobody is heard: the ACCEPT waited in a socket
        node.hear(accept("c", 3))
        self.assertEqual(node.role, Role.PRIMARY)
        self.assertGreater(2.75, INFERRED)
        self.assertFalse(node.can_write())

    def test_so_the_lease_runs_from_the_first_offer(self) -> None:
        node = running("b", "abcde", epoch=3)
        node.now += TICK
        node.hear(*(accept(peer, 3) for peer in "acde"))
        self.assertTrue(node.can_write())
        node.live(INFERRED - 2 * TICK)
        self.assertTrue(node.can_write())
        node.live(TICK)
        self.assertFalse(node.can_write())

    def test_an_accept_does_not_make_a_view_older(self) -> None:
        node = running("b", epoch=3)
        node.live(TICK, candidate("c", 3))
        node.hear(accept("c", 3))
        node.live(INFERRED - TICK)
        self.assertTrue(node.can_write())
        self.assertFalse(node.can_write(TICK))

    def test_an_accept_shows_the_epoch_of_its_sender(self) -> None:
        node = running("b", "abcde", epoch=3)
        node.hear(accept("c", 3))
        self.assertEqual(node.elector.peers["c"].epoch, 3)
        node.hear(replica("c", 7))
        node.hear(accept("c", 3))
        self.assertEqual(node.elector.peers["c"].epoch, 7)


class R7Following(SynchronousTestCase):
    """R7: whose claim to be primary is believed."""

    def assert_follows(
        self, node: Node, primary_id: str, primary_epoch: int, addr: str | None
    ) -> None:
        self.assertEqual(
            (node.role, node.primary, node.elector.primary_epoch, node.elector.primary_addr),
            (Role.REPLICA, primary_id, primary_epoch, addr),
        )

    # Of a higher epoch

    def test_a_heartbeat_of_a_higher_epoch_is_followed(self) -> None:
        for node in (Node(), follower(), running("b"), elected("b")):
            self.assertEqual(node.hear(primary("c", 9)), [])
            self.assert_follows(node, "c", 9, None)
            self.assertEqual(node.epoch, 9)
            self.assertEqual(node.ballot.load(), (9, None))
            self.assertFalse(node.can_write())

    def test_an_announce_of_a_higher_epoch_is_followed(self) -> None:
        for node in (Node(), follower(), running("b"), elected("b")):
            self.assertEqual(node.hear(announce("c", 9)), [])
            self.assert_follows(node, "c", 9, address("c"))
            self.assertEqual(node.epoch, 9)
            self.assertEqual(node.ballot.load(), (9, "c"))

    def test_following_does_not_depend_on_the_save(self) -> None:
        for message in (primary("c", 9), announce("c", 9)):
            node = follower()
            node.ballot.full = True
            node.hear(message)
            self.assertEqual((node.primary, node.epoch), ("c", 9))
            self.assertEqual(node.ballot.load()[0], 3)

    def test_the_same_primary_in_a_higher_epoch_is_followed_in_that(self) -> None:
        for message in (primary("a", 4), announce("a", 4)):
            node = follower(of="a")
            node.hear(message)
            self.assert_follows(node, "a", 4, address("a"))

    # Of my epoch

    def test_the_winner_of_my_epoch_is_followed(self) -> None:
        node = orphan()
        node.hear(offer("c", 4))
        node.hear(primary("c", 4))
        self.assert_follows(node, "c", 4, None)
        node.hear(announce("c", 4))
        self.assert_follows(node, "c", 4, address("c"))

    def test_a_candidate_follows_the_winner_of_its_epoch(self) -> None:
        for message in (primary("c", 3), announce("c", 3)):
            node = running("b", epoch=3)
            node.hear(message)
            self.assertEqual((node.role, node.primary), (Role.REPLICA, "c"))

    def test_it_is_followed_if_my_primary_is_of_an_older_epoch(self) -> None:
        node = follower("b", of="a", epoch=3)
        node.live(DOWN, replica("c", 3))
        node.live(TIMEOUT, replica("c", 3))
        self.assertEqual((node.epoch, node.primary, node.elector.primary_epoch), (4, "a", 3))
        node.hear(primary("c", 4))
        self.assert_follows(node, "c", 4, None)

    def test_a_second_claim_of_one_epoch_is_not(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(primary("c", 3))
        self.assert_follows(node, "a", 3, address("a"))

    def test_an_announce_overrides_what_only_a_heartbeat_claimed(self) -> None:
        node = Node(epoch=3)
        node.hear(primary("a", 3))
        self.assert_follows(node, "a", 3, None)
        node.hear(announce("c", 3))
        self.assert_follows(node, "c", 3, address("c"))

    def test_an_announce_does_not_override_an_announce(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(announce("c", 3))
        self.assert_follows(node, "a", 3, address("a"))

    def test_of_two_primaries_of_one_epoch_the_better_stays(self) -> None:
        for message in (primary("c", 3), announce("c", 3)):
            node = elected("b", epoch=3)
            node.hear(message)
            self.assertEqual((node.role, node.primary), (Role.PRIMARY, "b"))
            self.assertEqual([event.critical for event in node.events("conflict")], [True])

    def test_and_the_other_steps_down(self) -> None:
        for message in (primary("a", 3), announce("a", 3)):
            node = elected("b", epoch=3)
            node.hear(message)
            self.assertEqual(node.role, Role.REPLICA)
            self.assertNotEqual(node.primary, "b")
            self.assertFalse(node.can_write())
            self.assertEqual([event.critical for event in node.events("conflict")], [True])

    def test_better_is_by_data_first(self) -> None:
        node = elected("b", epoch=3, offset=5)
        node.hear(primary("a", 3, 4))
        self.assertEqual(node.role, Role.PRIMARY)
        node.hear(primary("c", 3, 6))
        self.assertEqual(node.role, Role.REPLICA)

    # Of a lower epoch

    def test_a_claim_of_a_lower_epoch_is_not_followed(self) -> None:
        for message in (primary("c", 2), announce("c", 2)):
            node = follower(of="a", epoch=3)
            node.hear(message)
            self.assert_follows(node, "a", 3, address("a"))
            for role, other in (
                (Role.CANDIDATE, running("b", epoch=3)),
                (Role.PRIMARY, elected("b", epoch=3)),
            ):
                other.hear(message)
                self.assertEqual(other.role, role)

    def test_but_an_announce_of_my_primary_may_update_its_address(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(announce("a", 3, "moved:1"))
        self.assert_follows(node, "a", 3, "moved:1")
        node.hear(announce("a", 2, "moved:2"))
        self.assert_follows(node, "a", 3, "moved:2")
        node.hear(announce("c", 2, "moved:3"))
        self.assert_follows(node, "a", 3, "moved:2")

    def test_an_older_primary_is_better_than_none_after_a_step(self) -> None:
        node = orphan(epoch=3)
        node.live(STEP - TICK, primary("c", 2))
        self.assertIsNone(node.primary)
        node.live(TICK, primary("c", 2))
        self.assertEqual((node.primary, node.elector.primary_epoch, node.epoch), ("c", 2, 3))

    def test_the_newest_claim_is_taken(self) -> None:
        node = orphan("b", "abcd", epoch=3)
        node.live(STEP, primary("c", 1, 99), primary("d", 2, 0))
        self.assertEqual((node.primary, node.elector.primary_epoch), ("d", 2))

    def test_only_of_a_live_view(self) -> None:
        node = follower("b", "abcd", of="a", epoch=3)
        node.hear(primary("c", 2))
        node.live(DOWN, primary("a", 3), replica("d", 3))
        node.hear(replica("a", 4))
        node.live(STEP, replica("d", 3))
        self.assertIsNone(node.primary)

    def test_only_by_a_replica(self) -> None:
        node = running("b", epoch=3)
        node.live(STEP + TICK, primary("c", 2), replica("a", 2))
        self.assertEqual((node.role, node.primary), (Role.CANDIDATE, None))

    def test_it_is_given_up_for_the_next_winner(self) -> None:
        node = orphan(epoch=3)
        node.live(STEP, primary("c", 2))
        node.hear(primary("a", 3))
        self.assertEqual((node.primary, node.elector.primary_epoch), ("a", 3))

    # A primary that is none any more

    def test_a_primary_that_says_that_it_is_none_is_forgotten(self) -> None:
        for epoch in (2, 3, 4):
            for message in (replica("a", epoch), candidate("a", epoch)):
                node = follower(of="a", epoch=3)
                node.hear(message)
                self.assertIsNone(node.primary)
                self.assertEqual(node.elector.primary_epoch, 0)
                self.assertIsNone(node.elector.primary_addr)
                self.assertEqual(node.epoch, 3)

    def test_what_another_says_does_not_matter(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(replica("c", 3), candidate("c", 3))
        self.assertEqual(node.primary, "a")

    def test_it_stepped_down_if_it_says_so_in_the_epoch_it_was_primary_in(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(replica("a", 3))
        self.assertEqual(len(offers(node.tick())), 1)

    def test_in_another_epoch_it_may_have_voted(self) -> None:
        for epoch in (2, 4):
            node = follower(of="a", epoch=3)
            node.hear(replica("a", epoch))
            self.assertEqual(offers(node.live(DOWN - TICK, replica("c", 3))), [])
            self.assertEqual(len(offers(node.live(TICK, replica("c", 3)))), 1)


class R8TheLease(SynchronousTestCase):
    """R8: the lease as a primary infers it from what it hears."""

    def silent(self, *, after: float = 1.0, **epochs: int) -> Node:
        """A primary of epoch 3 that last heard its peers, in these epochs, just now."""
        node = elected("a", epoch=3)
        node.live(after, *(replica(peer, epoch) for peer, epoch in epochs.items()))
        return node

    def test_heard_less_than_the_margin_before_down_after(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED - TICK)
        self.assertTrue(node.can_write())
        self.assertTrue(node.can_write(TICK - 0.001))
        self.assertFalse(node.can_write(TICK))
        self.assertFalse(node.has_quorum(TICK))

    def test_it_ends_by_itself_between_two_ticks(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED - TICK)
        self.assertEqual([node.can_write(t) for t in (0, TICK, TICK)], [True, False, False])

    def test_one_of_two_peers_is_enough(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(2 * DOWN, replica("b", 3))
        self.assertTrue(node.can_write())

    def test_one_of_four_peers_is_not(self) -> None:
        node = elected("a", "abcde", epoch=3)
        node.live(2 * DOWN, replica("b", 3), replica("c", 3))
        self.assertTrue(node.can_write())
        node.live(INFERRED, replica("b", 3))
        self.assertFalse(node.can_write())

    def test_a_peer_of_a_lower_epoch_counts(self) -> None:
        node = self.silent(b=2, c=2)
        self.assertTrue(node.can_write())

    def test_a_peer_of_a_higher_epoch_does_not(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED - TICK, replica("b", 3))
        node.hear(replica("b", 4))
        self.assertTrue(node.can_write())  # c was heard just long enough ago
        node.now += TICK
        self.assertFalse(node.can_write())

    def test_all_peers_in_a_higher_epoch_end_it_at_once(self) -> None:
        node = self.silent(b=3, c=3)
        node.hear(replica("b", 4))
        self.assertTrue(node.can_write())
        node.hear(offer("c", 4))
        self.assertFalse(node.can_write())

    def test_only_a_primary_can_write(self) -> None:
        for node in (follower(), running("b")):
            self.assertTrue(node.has_quorum())
            self.assertFalse(node.can_write())

    def test_an_isolated_replica_has_no_quorum(self) -> None:
        node = follower()
        node.live(INFERRED)
        self.assertFalse(node.has_quorum())

    # The filter

    def test_after_losing_it_only_what_is_heard_from_pause_after_on_counts(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED)
        self.assertFalse(node.can_write())
        # From the next tick on the quorum is there again, but the last finding of it missing
        # was at its beginning, before the message.
        node.live(PAUSE, replica("b", 3), replica("c", 3))
        self.assertFalse(node.can_write())
        node.live(TICK, replica("b", 3), replica("c", 3))
        self.assertTrue(node.can_write())

    def test_what_was_heard_before_stays_uncounted(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED)
        node.live(TICK, replica("b", 3))
        node.live(PAUSE + TICK)
        self.assertFalse(node.can_write())
        node.live(TICK, replica("b", 3))
        self.assertTrue(node.can_write())

    def test_each_time_it_is_missing_moves_that_on(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED + 1)
        node.live(PAUSE, replica("b", 3))
        self.assertFalse(node.can_write())
        node.live(TICK, replica("b", 3))
        self.assertTrue(node.can_write())

    def test_a_new_election_lifts_it(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED)
        node.live(TICK, replica("b", 4), replica("c", 3))
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 5))
        node.hear(accept("b", 5))
        self.assertTrue(node.can_write())

    # Running again

    def test_without_lease_and_with_others_ahead_it_runs_again(self) -> None:
        node = self.silent(b=3, c=3)
        node.hear(replica("b", 7), replica("c", 8))
        out = node.tick()
        self.assertEqual(offers(out), [Outbound(EVERYBODY, offer("a", 9))])
        self.assertEqual((node.role, node.epoch, node.primary), (Role.CANDIDATE, 9, None))
        self.assertEqual(node.ballot.load(), (9, "a"))

    def test_not_with_the_lease(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(DOWN, replica("b", 7), replica("c", 3))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))
        self.assertTrue(node.can_write())

    def test_not_without_a_quorum_alive(self) -> None:
        node = elected("a", "abcde", epoch=3)
        node.live(DOWN)
        self.assertEqual(offers(node.live(1, replica("b", 7))), [])
        self.assertEqual(node.role, Role.PRIMARY)
        self.assertEqual(len(offers(node.live(TICK, replica("b", 7), replica("c", 3)))), 1)

    def test_not_if_none_is_ahead(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED)
        self.assertEqual(offers(node.live(DOWN - TICK)), [])

    def test_in_backoff_it_waits(self) -> None:
        node = self.silent(b=3, c=3)
        node.ballot.full = True
        node.hear(replica("b", 4), replica("c", 4))
        self.assertEqual(offers(node.tick()), [])
        self.assertEqual(node.role, Role.PRIMARY)
        node.ballot.full = False
        ahead = replica("b", 4), replica("c", 4)
        self.assertEqual(offers(node.live(CONFIG.election_backoff - TICK, *ahead)), [])
        node.live(CONFIG.election_backoff_jitter + TICK, *ahead)
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 5))

    # Stepping down

    def test_without_lease_for_down_after_it_steps_down(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED)
        self.assertFalse(node.can_write())
        node.live(DOWN - TICK)
        self.assertEqual((node.role, node.primary), (Role.PRIMARY, "a"))
        node.live(TICK)
        self.assertEqual((node.role, node.primary, node.epoch), (Role.REPLICA, None, 3))
        self.assertIsNone(node.elector.primary_addr)

    def test_a_lease_in_between_begins_that_anew(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED + DOWN - 1)
        node.live(2, replica("b", 3))
        self.assertTrue(node.can_write())
        node.live(INFERRED + DOWN - TICK)
        self.assertEqual(node.role, Role.PRIMARY)
        node.live(TICK)
        self.assertEqual(node.role, Role.REPLICA)

    def test_a_new_election_begins_that_anew_too(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED + 1)
        node.hear(replica("b", 7))
        node.tick()
        self.assertEqual(node.role, Role.CANDIDATE)
        node.live(2.75)
        node.hear(accept("b", 8))  # so old that it gives no lease
        node.tick()
        self.assertFalse(node.can_write())
        node.live(DOWN - TICK)
        self.assertEqual(node.role, Role.PRIMARY)
        node.live(TICK)
        self.assertEqual(node.role, Role.REPLICA)

    def test_then_it_does_not_wait_before_it_runs(self) -> None:
        node = self.silent(b=3, c=3)
        node.live(INFERRED + DOWN)
        self.assertEqual(node.role, Role.REPLICA)
        self.assertEqual(offers(node.tick()), [])
        node.now += TICK
        node.hear(replica("b", 3))
        self.assertEqual(offers(node.tick()), [Outbound(EVERYBODY, offer("a", 4))])


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
