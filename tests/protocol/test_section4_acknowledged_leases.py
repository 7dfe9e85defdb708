"""Section 4: leases that do not depend on what a primary hears.

The peers of the node under test, `a`, answer its heartbeats with ACK where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Heartbeat, Role
from kevy_elect.peers import NEVER, Peers
from tests.support.nodes import (
    CONFIG,
    TICK,
    Node,
    accept,
    announce,
    candidate,
    follower,
    heartbeats,
    offer,
    offers,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
EXACT = DOWN - CONFIG.ack_margin
INFERRED = DOWN - CONFIG.lease_margin
PAUSE = CONFIG.pause_after
HB = CONFIG.hb_interval


def acknowledging(node: Node, peers: str) -> None:
    for peer in peers:
        node.elector.set_acknowledging(peer, acknowledging=True)


def leading(members: str = "abc", *, silent: str = "") -> Node:
    """A primary of epoch 3, elected just now by all. All but the silent peers acknowledge."""
    node = running("a", members, epoch=3)
    peers = members.replace("a", "")
    acknowledging(node, "".join(peer for peer in peers if peer not in silent))
    node.hear(*(accept(peer, 3) for peer in peers))
    assert node.role is Role.PRIMARY
    return node


class Confirmations(SynchronousTestCase):
    def test_an_accept_confirms_the_first_sending_of_the_offer(self) -> None:
        node = running("a", epoch=3)
        acknowledging(node, "bc")
        sent = node.now
        out = node.live(2 * HB, replica("b", 2), replica("c", 2))
        self.assertEqual(len(offers(out)), 2)
        node.hear(accept("b", 3))
        self.assertEqual(node.elector.lease_expires_in(node.now), sent + EXACT - node.now)

    def test_a_late_accept_confirms_that_time_too(self) -> None:
        node = leading("abcde")
        sent = node.now
        node.live(1, *(replica(peer, 3) for peer in "bcde"))
        node.hear(accept("e", 3))
        self.assertEqual(node.elector.peers["e"].confirmed, sent)

    def test_a_confirmation_moves_the_lease_to_the_sending(self) -> None:
        node = leading()
        node.live(HB, replica("b", 3))
        sent = node.now
        node.live(HB, replica("b", 3))
        node.elector.confirm("b", 3, sent)
        self.assertEqual(node.elector.lease_expires_in(node.now), sent + EXACT - node.now)

    def test_forward_only(self) -> None:
        node = leading()
        node.live(1)
        node.elector.confirm("b", 3, node.now)
        self.assertEqual(node.elector.lease_expires_in(node.now), EXACT)
        node.elector.confirm("b", 3, node.now - 1)
        self.assertEqual(node.elector.lease_expires_in(node.now), EXACT)

    def test_of_another_epoch_they_do_not_count(self) -> None:
        node = leading()
        node.live(1)
        left = node.elector.lease_expires_in(node.now)
        for epoch in (2, 4):
            node.elector.confirm("b", epoch, node.now)
            self.assertEqual(node.elector.lease_expires_in(node.now), left)

    def test_those_of_an_older_epoch_are_forgotten_by_the_next_candidacy(self) -> None:
        node = leading()
        node.live(EXACT + TICK)
        node.elector.confirm("c", 3, node.now - EXACT)  # too old to be a lease
        node.hear(replica("b", 7), replica("c", 7))
        node.tick()
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 8))
        self.assertEqual([view.confirmed for view in node.elector.peers], [NEVER, NEVER])
        node.elector.confirm("c", 3, node.now)
        node.elector.confirm("c", 8, node.now)
        self.assertEqual(node.elector.peers["c"].confirmed, NEVER)

    def test_only_a_primary_is_confirmed(self) -> None:
        node = follower("b", of="a")
        before = node.state()
        node.elector.confirm("a", 3, node.now)
        self.assertEqual(node.state(), before)


class Leases(SynchronousTestCase):
    def test_replies_that_stop_end_it_exactly(self) -> None:
        # The link from the primary fails, the other direction works: it hears both all the time.
        node = leading()
        others = replica("b", 3), replica("c", 3)
        sent = node.now
        for _ in range(8):
            if heartbeats(node.live(TICK, *others)):
                sent = node.now
                node.elector.confirm("b", 3, sent)
                node.elector.confirm("c", 3, sent)
        node.live(EXACT - TICK - (node.now - sent), *others)
        end = sent + EXACT
        self.assertTrue(node.elector.can_write(end - 0.001))
        self.assertFalse(node.elector.can_write(end))
        node.live(2 * TICK, *others)
        self.assertGreater(node.now, end)
        self.assertFalse(node.can_write())

    def test_one_of_two_peers_is_enough(self) -> None:
        node = leading()
        for _ in range(100):
            node.live(TICK)
            node.elector.confirm("c", 3, node.now - TICK)
            self.assertTrue(node.can_write())

    def test_of_four_the_second_latest_decides(self) -> None:
        node = leading("abcde")
        begin = node.now
        node.live(2)
        for peer, ago in (("b", 1.5), ("c", 1.0), ("d", 0.5)):
            node.elector.confirm(peer, 3, node.now - ago)
        self.assertEqual(node.elector.lease_expires_in(node.now), EXACT - 1.0)
        self.assertEqual(begin + 2, node.now)

    def test_a_pause_does_not_end_it(self) -> None:
        node = leading()
        node.sleep(EXACT - 0.001)
        self.assertTrue(node.can_write())
        node.tick()
        self.assertTrue(node.can_write())
        node.sleep(0.001)
        self.assertFalse(node.can_write())

    def test_what_a_view_says_does_not_end_it(self) -> None:
        # It was promised, whatever epoch the peer is in by now.
        node = leading()
        node.hear(candidate("b", 7), replica("c", 7))
        node.tick()
        self.assertTrue(node.can_write())
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_with_it_no_offer_is_accepted(self) -> None:
        node = leading()
        node.sleep(EXACT - 0.001)
        self.assertEqual(node.hear(offer("b", 7)), [])
        node.sleep(0.001)
        self.assertEqual(len(node.hear(offer("b", 7))), 1)

    def test_what_is_heard_does_not_keep_it(self) -> None:
        node = leading()
        node.live(EXACT + TICK, replica("b", 3), replica("c", 3))
        self.assertFalse(node.can_write())

    def test_one_acknowledging_peer_and_one_that_is_not(self) -> None:
        node = leading(silent="c")
        node.live(DOWN, replica("c", 3))
        self.assertTrue(node.can_write())  # by what is heard of c
        self.assertFalse(node.can_write(PAUSE))
        node.elector.confirm("b", 3, node.now)
        self.assertTrue(node.can_write(PAUSE))
        self.assertEqual(node.elector.lease_expires_in(node.now), EXACT)

    def test_of_four_one_of_each_kind(self) -> None:
        node = leading("abcde", silent="bc")
        node.live(1, *(replica(peer, 3) for peer in "bc"))
        node.live(DOWN, replica("b", 3))
        self.assertFalse(node.can_write())
        node = leading("abcde", silent="bc")
        for _ in range(80):
            node.live(TICK, replica("b", 3))
            node.elector.confirm("d", 3, node.now - TICK)
            self.assertTrue(node.can_write())
        node.live(INFERRED - TICK)
        self.assertTrue(node.can_write())
        self.assertFalse(node.can_write(TICK))

    def test_a_link_that_acknowledges_no_more_leaves_what_is_heard(self) -> None:
        node = leading()
        others = replica("b", 3), replica("c", 3)
        node.live(EXACT + TICK, *others)
        self.assertFalse(node.can_write())
        node.elector.set_acknowledging("b", acknowledging=False)
        # Losing it in between has set R8's filter; from then on b's heartbeats count.
        node.live(2 * PAUSE, *others)
        self.assertTrue(node.can_write())

    def test_a_link_that_acknowledges_from_now_on_counts_by_that_at_once(self) -> None:
        node = leading(silent="bc")
        node.live(DOWN, replica("b", 3), replica("c", 3))
        self.assertTrue(node.can_write())
        node.elector.set_acknowledging("b", acknowledging=True)
        node.elector.set_acknowledging("c", acknowledging=True)
        self.assertFalse(node.can_write())
        node.elector.confirm("c", 3, node.now - HB)
        self.assertTrue(node.can_write())

    def test_it_ends_before_any_that_confirmed_may_vote_for_another(self) -> None:
        leader = leading()
        voter = follower("b", of="a", epoch=3)
        sent = leader.now
        received = voter.now
        self.assertTrue(voter.elector.backs("a", 3, voter.now))
        leader.elector.confirm("b", 3, sent)
        while not voter.hear(offer("c", 4)):
            voter.live(TICK)
            self.assertLess(voter.now - received, 2 * DOWN)
        self.assertLess(leader.elector.lease_expires_in(sent), voter.now - received)

    def test_without_it_for_down_after_a_primary_steps_down(self) -> None:
        node = leading()
        others = replica("b", 3), replica("c", 3)
        node.live(EXACT + CONFIG.ack_margin, *others)
        self.assertFalse(node.can_write())
        node.live(DOWN - TICK, *others)
        self.assertEqual(node.role, Role.PRIMARY)
        node.live(TICK, *others)
        self.assertEqual(node.role, Role.REPLICA)


class Asking(SynchronousTestCase):
    def test_can_write_is_a_comparison(self) -> None:
        node = leading()
        before = node.state()

        def work(*_: object, **__: object) -> float:
            raise AssertionError("the lease is measured when something happens, not when asked")

        self.patch(Peers, "lease_deadline", work)
        self.patch(Peers, "alive", work)
        asked = [node.can_write(later) for later in (0, EXACT - 0.001, EXACT, 100 * DOWN, 0)]
        self.assertEqual(asked, [True, True, False, False, True])
        self.assertEqual(node.state(), before)

    def test_how_long_a_lease_lasts_if_nothing_more_is_heard(self) -> None:
        node = leading()
        self.assertEqual(node.elector.lease_expires_in(node.now), EXACT)
        self.assertEqual(node.elector.lease_expires_in(node.now + 1), EXACT - 1)
        self.assertEqual(node.elector.lease_expires_in(node.now + EXACT), 0)
        self.assertEqual(node.elector.lease_expires_in(node.now + 100), 0)

    def test_how_long_an_inferred_lease_lasts_if_this_process_goes_on(self) -> None:
        node = leading(silent="bc")
        self.assertEqual(node.elector.lease_expires_in(node.now), INFERRED)
        self.assertEqual(node.elector.lease_expires_in(node.now + PAUSE + TICK), 0)
        node.live(INFERRED - TICK)
        self.assertEqual(node.elector.lease_expires_in(node.now), TICK)

    def test_who_is_not_primary_sees_a_quorum_by_what_it_hears(self) -> None:
        node = follower("b", of="a")
        acknowledging(node, "ac")
        self.assertTrue(node.has_quorum())

    def test_only_a_primary_has_a_lease(self) -> None:
        node = follower("b", of="a")
        self.assertTrue(node.has_quorum())
        self.assertEqual(node.elector.lease_expires_in(node.now), 0)


class Backing(SynchronousTestCase):
    """Whether a heartbeat is answered with ACK: if and only if this node backs its sender."""

    def backs(self, node: Node, sender: str, epoch: int = 3) -> bool:
        return node.elector.backs(sender, epoch, node.now)

    def test_a_replica_backs_its_primary(self) -> None:
        for message in (announce("a", 3), primary("a", 3)):
            node = Node("b", epoch=3)
            node.hear(message)
            self.assertTrue(self.backs(node, "a"))

    def test_a_higher_epoch_is_backed_once_it_is_followed(self) -> None:
        node = follower("b", of="a")
        self.assertFalse(self.backs(node, "a", 4))
        node.hear(primary("a", 4))
        self.assertTrue(self.backs(node, "a", 4))
        self.assertFalse(self.backs(node, "a", 3))

    def test_nobody_else(self) -> None:
        node = follower("b", of="a")
        self.assertFalse(self.backs(node, "c"))

    def test_not_if_it_knows_none(self) -> None:
        node = follower("b", of="a")
        node.hear(replica("a", 3))
        self.assertFalse(self.backs(node, "a"))

    def test_not_a_heartbeat_of_an_older_epoch(self) -> None:
        self.assertFalse(self.backs(follower("b", of="a"), "a", 2))

    def test_not_a_primary_of_an_older_epoch_than_mine(self) -> None:
        node = follower("b", of="a", epoch=3)
        node.hear(offer("a", 4))
        self.assertEqual((node.epoch, node.elector.primary_epoch), (4, 3))
        self.assertFalse(self.backs(node, "a", 3))
        self.assertFalse(self.backs(node, "a", 4))

    def test_not_as_candidate_or_primary(self) -> None:
        node = follower("b", of="a")
        node.live(DOWN, replica("c", 3))
        self.assertEqual((node.role, node.primary), (Role.CANDIDATE, "a"))
        for epoch in (3, 4):
            self.assertFalse(self.backs(node, "a", epoch))
        self.assertFalse(leading().elector.backs("b", 3, 1000.0))

    def pledged(self) -> Node:
        """Voted for c in epoch 4 just now; a was elected in epoch 5 without this node."""
        node = follower("b", of="a", epoch=3)
        node.hear(replica("a", 4))
        node.hear(offer("c", 4))
        node.hear(announce("a", 5))
        return node

    def test_not_while_its_vote_pledges_it_elsewhere(self) -> None:
        node = self.pledged()
        self.assertEqual((node.primary, node.epoch), ("a", 5))
        self.assertFalse(self.backs(node, "a", 5))
        node.live(DOWN - TICK, primary("a", 5))
        self.assertFalse(self.backs(node, "a", 5))
        node.live(TICK, primary("a", 5))
        self.assertTrue(self.backs(node, "a", 5))

    def test_a_vote_that_was_given_back_pledges_no_more(self) -> None:
        node = self.pledged()
        node.hear(replica("c", 4))
        self.assertTrue(self.backs(node, "a", 5))

    def test_a_vote_for_the_primary_itself_does_not_matter(self) -> None:
        node = follower("b", of="a")
        node.hear(offer("a", 4))
        node.hear(announce("a", 4))
        self.assertTrue(self.backs(node, "a", 4))

    def test_asking_changes_nothing(self) -> None:
        node = follower("b", of="a")
        before = node.state()
        self.backs(node, "a")
        self.assertEqual(node.state(), before)

    def test_a_heartbeat_is_backed_in_the_epoch_it_was_sent_in(self) -> None:
        leader, voter = leading(), Node("b", epoch=2)
        for out in heartbeats(leader.live(HB)):
            heartbeat = out.message
            assert isinstance(heartbeat, Heartbeat)
            voter.hear(heartbeat)
            self.assertTrue(self.backs(voter, "a", heartbeat.epoch))
