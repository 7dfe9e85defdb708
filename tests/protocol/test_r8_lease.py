"""R8 of docs/protocol.md: the lease of a primary.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Outbound, Role
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    Node,
    accept,
    elected,
    follower,
    offer,
    offers,
    replica,
    running,
)

DOWN = CONFIG.down_after
PAUSE = CONFIG.pause_after
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""


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
