"""R8 of docs/protocol.md: a primary renews in place while a member stays in a higher epoch.

The node under test is `a`, primary of epoch 3, of a, b and c: b follows it, c is ahead.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.events import EventKind
from kevy_elect.messages import Heartbeat, Message, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    FragileBallot,
    Node,
    accept,
    announces,
    elected,
    heartbeats,
    offer,
    offers,
    primary,
    replica,
)

DOWN = CONFIG.down_after
TIMEOUT = CONFIG.election_timeout


class R8Renewal(SynchronousTestCase):
    """R8: it renews although it has the lease, and loses nothing by that."""

    def leading(self, members: str = "abc") -> Node:
        node = elected("a", members, epoch=3)
        for peer in members[1:]:
            node.elector.set_connected(peer, connected=True)
            node.elector.set_acknowledging(peer, acknowledging=True)
        self.back(node, "b")
        return node

    def back(self, node: Node, *peers: str) -> None:
        for peer in peers:
            node.elector.confirm(peer, node.epoch, node.now)

    def live(self, node: Node, seconds: float, *hearing: Message, by: str = "b") -> list[Outbound]:
        """Live so long with the backing of `by`; nothing else may end the role."""
        out: list[Outbound] = []
        for _ in range(round(seconds / TICK)):
            self.back(node, *by)
            out += node.live(TICK, *hearing)
            self.assertTrue(node.can_write(), "there is a gap")
        return out

    def renewing(self, ahead: int = 5) -> Node:
        """One that has just offered the epoch after `ahead`."""
        node = self.leading()
        hearing = (replica("b", 3), replica("c", ahead))
        while not node.elector._renews():
            self.live(node, TICK, *hearing)
            assert len(node.sent) < 1000, "it does not renew"
        return node

    def test_when_a_member_stays_ahead_for_down_after(self) -> None:
        node = self.leading()
        hearing = (replica("b", 3), replica("c", 5))
        self.assertEqual(offers(self.live(node, DOWN, *hearing)), [])
        (made,) = offers(self.live(node, TICK, *hearing))
        self.assertEqual(made, Outbound(EVERYBODY, offer("a", 6)))
        self.assertEqual(node.ballot.load(), (6, "a"))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_not_while_there_is_no_connection_to_it(self) -> None:
        node = self.leading()
        node.elector.set_connected("c", connected=False)
        out = self.live(node, 3 * DOWN, replica("b", 3), replica("c", 5))
        self.assertEqual(offers(out), [])
        node.elector.set_connected("c", connected=True)
        self.assertEqual(offers(self.live(node, DOWN, replica("b", 3), replica("c", 5))), [])
        out = self.live(node, TICK, replica("b", 3), replica("c", 5))
        self.assertEqual(len(offers(out)), 1)

    def test_not_if_it_was_ahead_with_a_break(self) -> None:
        node = self.leading()
        self.live(node, DOWN - TICK, replica("b", 3), replica("c", 5))
        self.live(node, TICK, replica("b", 3), replica("c", 3))
        self.assertEqual(offers(self.live(node, DOWN, replica("b", 3), replica("c", 5))), [])

    def test_a_silent_one_is_not_alive(self) -> None:
        node = self.leading()
        self.live(node, TICK, replica("b", 3), replica("c", 5))
        self.assertEqual(offers(self.live(node, DOWN - TICK, replica("b", 3))), [])
        self.assertEqual(offers(self.live(node, 2 * DOWN, replica("b", 3))), [])

    def test_heartbeats_and_announcements_go_on_in_its_epoch(self) -> None:
        node = self.renewing()
        out = self.live(node, TIMEOUT / 2, replica("b", 3), replica("c", 5))
        self.assertEqual({sent.message.epoch for sent in heartbeats(out)}, {3})
        self.assertEqual({sent.message.epoch for sent in announces(out)}, {3})
        roles = {sent.message.role for sent in out if isinstance(sent.message, Heartbeat)}
        self.assertEqual(roles, {Role.PRIMARY})
        kinds = [type(sent.message).__name__ for sent in out]
        at = kinds.index("Heartbeat")
        self.assertEqual(kinds[at - 1], "Offer")  # before each heartbeat
        self.assertEqual(kinds.count("Offer"), kinds.count("Heartbeat"))

    def test_with_a_quorum_it_is_primary_of_the_next_epoch_at_once_and_without_a_gap(self) -> None:
        node = self.renewing()
        out = node.hear(accept("c", 6))
        self.assertEqual((node.role, node.epoch, node.primary), (Role.PRIMARY, 6, "a"))
        self.assertTrue(node.can_write())
        self.assertEqual([type(sent.message).__name__ for sent in out], ["Heartbeat", "Announce"])
        self.assertEqual({sent.message.epoch for sent in out}, {6})
        self.assertTrue(node.can_write(DOWN - CONFIG.ack_margin - TICK))
        self.assertEqual(len(node.events(EventKind.RENEWAL)), 2)
        self.assertNotIn("no more", " ".join(node.texts(EventKind.ROLE)))

    def test_it_keeps_what_was_confirmed_before(self) -> None:
        node = self.renewing()
        confirmed = node.now
        self.back(node, "b")
        node.hear(accept("c", 6))
        node.live(TICK)
        self.assertEqual(node.elector.peers["b"].confirmed, confirmed)

    def test_an_accept_confirms_when_the_offer_was_first_sent(self) -> None:
        node = self.leading("abcde")
        hearing = [*(replica(peer, 3) for peer in "bcd"), replica("e", 5)]
        while not node.elector._renews():
            self.live(node, TICK, *hearing, by="bcd")
        offered = node.now
        node.live(1.0, *hearing)
        node.hear(accept("e", 6))
        self.assertEqual(node.elector.peers["e"].confirmed, offered)
        self.assertEqual(node.epoch, 3)  # two of three

    def test_an_unacknowledging_member_that_accepted_counts_in_the_epoch_offered(self) -> None:
        node = self.leading("abcde")
        for peer in "cde":
            node.elector.set_acknowledging(peer, acknowledging=False)
        hearing = (replica("b", 3), replica("c", 3), replica("d", 3), replica("e", 5))
        while not node.elector._renews():
            self.live(node, TICK, *hearing)
        node.hear(accept("c", 6))
        node.live(DOWN - CONFIG.lease_margin + TICK, replica("c", 6))  # d counts no more
        self.back(node, "b")
        self.assertTrue(node.can_write())
        node.hear(replica("c", 7))
        self.assertFalse(node.can_write())

    def test_offers_up_to_its_ballot_are_refused_meanwhile(self) -> None:
        node = self.renewing()
        for epoch in (4, 5, 6):
            self.assertEqual(node.hear(offer("c", epoch, 99)), [])
        self.assertEqual(node.ballot.load(), (6, "a"))
        (refused, *_) = node.texts(EventKind.REFUSED)
        self.assertIn("not above 6", refused)
        self.assertEqual(node.hear(offer("b", 7, 99)), [])  # R4.1
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_without_a_quorum_in_time_it_stays_primary_and_waits_twice_as_long(self) -> None:
        node = self.renewing()
        hearing = (replica("b", 3), replica("c", 5))
        self.live(node, TIMEOUT, *hearing)
        self.assertFalse(node.elector._renews())
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))
        waits = []
        for _ in range(6):
            began = node.now
            while not node.elector._renews():
                self.live(node, TICK, *hearing)
            waits.append(node.now - began)
            while node.elector._renews():
                self.live(node, TICK, *hearing)
        self.assertEqual([round(wait / DOWN) for wait in waits], [2, 4, 8, 16, 16, 16])
        self.assertEqual(node.ballot.load(), (12, "a"))  # each offer is of a new epoch

    def test_an_accept_that_comes_too_late_wins_nothing(self) -> None:
        node = self.renewing()
        self.live(node, TIMEOUT, replica("b", 3), replica("c", 5))
        node.hear(accept("c", 6))
        self.assertEqual(node.epoch, 3)

    def test_without_the_lease_it_is_a_candidate_with_the_votes_that_it_has(self) -> None:
        node = self.leading("abcde")
        hearing = [*(replica(peer, 3) for peer in "bcd"), replica("e", 5)]
        while not node.elector._renews():
            self.live(node, TICK, *hearing, by="bcd")
        node.hear(accept("e", 6))
        for peer in "bcd":  # what backed it is older than it seemed
            node.elector.peers[peer].confirmed -= DOWN
        node.elector.set_acknowledging("b", acknowledging=True)
        node.live(2 * TICK, *hearing)
        self.assertEqual((node.role, node.epoch, node.primary), (Role.CANDIDATE, 6, None))
        self.assertFalse(node.can_write())
        confirmed = {view.node_id: view.confirmed for view in node.elector.peers}
        self.assertEqual([peer for peer in "bcde" if confirmed[peer] > 0], ["e"])
        node.hear(accept("d", 6))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 6))

    def test_its_epoch_is_that_of_its_ballot_when_it_ends_otherwise(self) -> None:
        node = self.renewing()
        node.elector.step_down(node.now, 1.0, "an operator said so")
        self.assertEqual((node.role, node.epoch), (Role.REPLICA, 6))
        other = self.renewing()
        other.hear(primary("c", 9))
        self.assertEqual((other.role, other.epoch, other.primary), (Role.REPLICA, 9, "c"))

    def test_one_that_cannot_save_does_not_offer(self) -> None:
        node = self.leading()
        assert isinstance(node.ballot, FragileBallot)
        node.ballot.full = True
        out = self.live(node, 3 * DOWN, replica("b", 3), replica("c", 5))
        self.assertEqual(offers(out), [])
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_members_that_are_back_in_its_epoch_need_no_renewal(self) -> None:
        node = self.leading()
        out = self.live(node, 3 * DOWN, replica("b", 3), replica("c", 3))
        self.assertEqual(offers(out), [])
