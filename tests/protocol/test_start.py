"""A node before its first message, and what it may be told.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError, ConfigError
from kevy_elect.messages import U64_MAX, Accept, Role
from tests.support.nodes import (
    CONFIG,
    TICK,
    FragileBallot,
    Node,
    announce,
    candidate,
    everything,
    follower,
    offer,
    primary,
)

DOWN = CONFIG.down_after


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
        for epoch in (3, 4):
            node.hear(announce("c", epoch))
            view = node.elector.peers["c"]
            self.assertEqual((view.epoch, view.role), (epoch, Role.PRIMARY))

    def test_r7_an_announce_of_an_epoch_that_its_sender_has_left_does_not_change_the_view(
        self,
    ) -> None:
        node = follower()
        node.now += TICK
        node.hear(announce("c", 2))
        view = node.elector.peers["c"]
        self.assertEqual((view.epoch, view.role, view.heard), (3, Role.REPLICA, node.now))

    def test_the_offset_is_an_unsigned_64_bit_number(self) -> None:
        node = Node()
        node.elector.set_repl_offset(U64_MAX)
        for offset in (-1, U64_MAX + 1):
            self.assertRaises(ConfigError, node.elector.set_repl_offset, offset)
        self.assertEqual(node.elector.repl_offset, U64_MAX)
