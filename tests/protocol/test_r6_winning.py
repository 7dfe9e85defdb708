"""R6 of docs/protocol.md: how a candidate wins or gives up.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Announce, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    Node,
    accept,
    address,
    announce,
    announces,
    candidate,
    elected,
    follower,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
TIMEOUT = CONFIG.election_timeout
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""


class R6Winning(SynchronousTestCase):
    """R6: counting votes, and what follows from each."""

    def test_a_quorum_wins_at_once(self) -> None:
        node = running("b", epoch=3)
        expected = [primary("b", 3), Announce(3, "b", address("b"))]
        told = node.hear(accept("c", 3))
        self.assertEqual(told, [Outbound(EVERYBODY, message) for message in expected])
        self.assertEqual((node.role, node.primary, node.epoch), (Role.PRIMARY, "b", 3))
        self.assertEqual(node.elector.primary_epoch, 3)
        self.assertEqual(node.elector.primary_addr, address("b"))
        self.assertTrue(node.can_write())

    def test_accepts_are_counted_per_member(self) -> None:
        node = running("b", "abcde", epoch=3)
        self.assertEqual(node.hear(*[accept("c", 3)] * 5), [])
        self.assertEqual(node.role, Role.CANDIDATE)
        self.assertEqual(len(announces(node.hear(accept("e", 3)))), 1)
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
