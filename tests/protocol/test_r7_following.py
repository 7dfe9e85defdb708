"""R7 of docs/protocol.md: whom a node follows.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.events import Cause
from kevy_elect.messages import Role
from tests.support.nodes import (
    CONFIG,
    TICK,
    Node,
    address,
    announce,
    candidate,
    elected,
    follower,
    offer,
    offers,
    orphan,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
STEP = CONFIG.candidate_step
TIMEOUT = CONFIG.election_timeout


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

    def test_what_is_no_address_is_noted_once_and_shown_to_nobody(self) -> None:
        node = follower(of="a", epoch=3)
        for wrong in ("$(reboot):1", "moved", "moved:0", "moved:65536", "a b:1", "[::1%;x]:1"):
            node.hear(announce("a", 3, wrong))
            self.assert_follows(node, "a", 3, None)
        noted = [e for e in node.events("primary") if e.cause is Cause.NO_ADDRESS]
        self.assertEqual(len(noted), 1)
        self.assertIn("'$(reboot):1'", noted[0].text)
        for right in ("moved:1", "10.0.0.1:65535", "[fe80::1%eth0]:6379"):
            node.hear(announce("a", 3, right))
            self.assert_follows(node, "a", 3, right)

    def test_an_older_primary_is_better_than_none_after_a_step(self) -> None:
        node = orphan(epoch=3)
        node.live(STEP - TICK, primary("c", 2))
        self.assertIsNone(node.primary)
        node.live(TICK, primary("c", 2))
        self.assertEqual((node.primary, node.elector.primary_epoch, node.epoch), ("c", 2, 3))

    def test_and_better_than_one_that_is_down_a_step_later(self) -> None:
        node = follower("b", "abcd", of="a", epoch=3)
        hearing = (primary("c", 2), replica("d", 2))
        node.live(DOWN + STEP - TICK, *hearing)
        self.assertEqual((node.primary, node.role), ("a", Role.REPLICA))
        node.live(TICK, *hearing)
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
        for message in (replica("a", 3), replica("a", 4), candidate("a", 4)):
            node = follower(of="a", epoch=3)
            node.hear(message)
            self.assertIsNone(node.primary)
            self.assertEqual(node.elector.primary_epoch, 0)
            self.assertIsNone(node.elector.primary_addr)
            self.assertEqual(node.epoch, 3)

    def test_what_it_said_before_its_claim_changes_nothing_not_even_when_it_was_heard(self) -> None:
        for message in (replica("a", 2), candidate("a", 2), candidate("a", 3)):
            node = follower(of="a", epoch=3)
            node.now += TICK
            before = node.elector.peers["a"].heard
            node.hear(message)
            self.assertEqual((node.primary, node.elector.primary_epoch), ("a", 3))
            view = node.elector.peers["a"]
            self.assertEqual((view.heard, view.role, view.epoch), (before, Role.PRIMARY, 3))

    def test_it_stepped_down_if_it_says_so_in_the_epoch_of_the_vote_for_it(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(offer("a", 4))  # it renews, and gives up before it has won
        node.hear(replica("a", 4))
        self.assertEqual(len(offers(node.tick())), 1)

    def test_what_another_says_does_not_matter(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(replica("c", 3), candidate("c", 3))
        self.assertEqual(node.primary, "a")

    def test_it_stepped_down_if_it_says_so_in_the_epoch_it_was_primary_in(self) -> None:
        node = follower(of="a", epoch=3)
        node.hear(replica("a", 3))
        self.assertEqual(len(offers(node.tick())), 1)

    def test_in_another_epoch_it_may_have_voted(self) -> None:
        for epoch in (4, 5):
            node = follower(of="a", epoch=3)
            node.hear(replica("a", epoch))
            self.assertEqual(offers(node.live(DOWN - TICK, replica("c", 3))), [])
            self.assertEqual(len(offers(node.live(TICK, replica("c", 3)))), 1)
