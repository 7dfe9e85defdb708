"""R1 and R2 of docs/protocol.md: who is heard, and what is repeated.

The node under test is `b` of a, b and c where nothing else is said.
"""

from __future__ import annotations

import itertools
import random

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import FrameError
from kevy_elect.messages import U64_MAX, Announce, Heartbeat, Outbound, Role
from kevy_elect.peers import NEVER
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
    everything,
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
INFERRED = DOWN - CONFIG.lease_margin
"""What is heard keeps the lease of R8 for so long."""
LEAP = 2**32


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
                    self.assertEqual(node.elector.peers["c"].far_ahead_at, node.now)
                    node.elector.peers["c"].far_ahead_at = NEVER  # that it was seen is all
                    self.assertEqual(node.state(), before)

    def test_the_highest_epoch_that_is_believed(self) -> None:
        node = follower()
        node.hear(announce("c", 3 + LEAP))
        self.assertEqual((node.primary, node.epoch), ("c", 3 + LEAP))

    def test_an_epoch_too_far_ahead_is_believed_once_a_quorum_of_the_others_is_there(self) -> None:
        for members, needed in (("ab", 1), ("abc", 2), ("abcd", 3), ("abcde", 3)):
            far = 3 + LEAP + 1
            node = Node("a", members, epoch=3)
            others = members[1:]
            for peer in others[: needed - 1]:
                self.assertRaises(FrameError, node.hear, replica(peer, far))
            leader = others[needed - 1]
            node.hear(primary(leader, far))
            self.assertEqual((node.primary, node.epoch), (leader, far), members)

    def test_what_one_said_long_ago_or_took_back_is_no_evidence(self) -> None:
        far = 3 + LEAP + 1
        for passed, taken_back in ((DOWN, []), (TICK, [replica("b", 3)])):
            node = Node("a", epoch=3)
            self.assertRaises(FrameError, node.hear, replica("b", far))
            node.live(passed, *taken_back)
            self.assertRaises(FrameError, node.hear, primary("c", far))
            self.assertEqual(node.epoch, 3)

    def test_a_view_far_ahead_counts_for_half_a_leap_when_this_node_runs(self) -> None:
        node = follower("b", of="a")
        node.hear(replica("c", 3 + LEAP))
        node.live_until_it_runs(replica("c", 3 + LEAP))
        self.assertEqual(node.epoch, 3 + LEAP // 2 + 1)


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


class R2InPhase(SynchronousTestCase):
    """R2: a replica's heartbeat leaves with its answer to the primary's."""

    def exchange(self, node: Node, message: Heartbeat, arrivals: list[float]) -> list[float]:
        """The times of the heartbeats of a node that runs when one is due, and at each arrival."""
        sent = []
        for arrival in arrivals:
            while (due := node.elector.heartbeat_due) < arrival:
                node.now = due
                sent += [node.now for _ in heartbeats(node.tick())]
            node.now = arrival
            node.hear(message)
            sent += [node.now for _ in heartbeats(node.tick())]
        return sent

    def test_within_64_intervals_it_leaves_with_the_primarys(self) -> None:
        for phase in range(16):
            node = follower()
            begin = node.now + phase * HB / 16
            arrivals = [begin + HB * i for i in range(1, 80)]
            sent = self.exchange(node, primary("a", 3), arrivals)
            self.assertEqual(sent[-10:], arrivals[-10:], phase)

    def test_until_then_it_comes_hardly_more_often(self) -> None:
        for phase in range(16):
            node = follower()
            begin = node.now + phase * HB / 16
            sent = self.exchange(node, primary("a", 3), [begin + HB * i for i in range(1, 80)])
            self.assertTrue(79 <= len(sent) <= 81, (phase, len(sent)))
            gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
            self.assertTrue(min(gaps) > 0.7 * HB and max(gaps) < 1.1 * HB, (phase, gaps))

    def test_it_leaves_so_although_the_primarys_comes_a_little_early_or_late(self) -> None:
        node, late = follower(), random.Random(1)
        begin = node.now + HB / 8
        arrivals = [begin + HB * (i + late.uniform(0, 1 / 32)) for i in range(200)]
        sent = self.exchange(node, primary("a", 3), arrivals)
        self.assertEqual(sent[-100:], arrivals[-100:])

    def test_messages_all_the_time_hasten_it_by_a_64th_at_most(self) -> None:
        node = follower()
        arrivals = [node.now + HB / 32 * i for i in range(1, 32 * 64 + 1)]
        sent = self.exchange(node, primary("a", 3), arrivals)
        self.assertTrue(64 <= len(sent) <= 66, len(sent))

    def test_the_primarys_own_come_at_their_times(self) -> None:
        node = elected("b", epoch=5)
        begin = node.now + 7 * HB / 8
        sent = self.exchange(node, replica("a", 5), [begin + HB * i for i in range(80)])
        self.assertTrue(79 <= len(sent) <= 81, len(sent))


class R2Silence(SynchronousTestCase):
    """R2: no heartbeat to those who take any for a sign of life of their primary."""

    LONGEST = DOWN + 2 * HB

    def heard_by(self, out: list[Outbound]) -> set[str]:
        """Who got a heartbeat."""
        to = {sent.to for sent in heartbeats(out)}
        return set("abc") - {"b"} if EVERYBODY in to else to

    def deaf(self, node: Node, *peers: str) -> Node:
        """`a` acknowledges, and `c` does not."""
        node.elector.set_acknowledging("a", acknowledging=True)
        node.elector.set_acknowledging("c", acknowledging=False)
        return node

    def stepped_down(self) -> Node:
        node = self.deaf(elected("b"))
        node.elector.step_down(node.now, 60.0, "an operator said so")
        return node

    def test_after_it_stepped_down(self) -> None:
        node = self.stepped_down()
        self.assertEqual(self.heard_by(node.tick()), {"a"})
        out = node.live(self.LONGEST - TICK, replica("a", 3), replica("c", 3))
        self.assertEqual(self.heard_by(out), {"a"})

    def test_for_down_after_and_two_heartbeats_at_most(self) -> None:
        node = self.stepped_down()
        node.live(self.LONGEST, replica("a", 3))
        self.assertEqual(self.heard_by(node.live(HB, replica("a", 3))), {"a", "c"})

    def test_until_it_follows(self) -> None:
        node = self.stepped_down()
        node.tick()
        node.hear(primary("a", 4))
        self.assertEqual(self.heard_by(node.live(HB)), {"a", "c"})

    def overtaken(self) -> Node:
        """It runs again, since it lost its lease and all others are ahead (R8)."""
        node = self.deaf(elected("b"))
        while node.role is Role.PRIMARY:
            node.live(TICK, replica("a", 5), replica("c", 5))
        self.assertEqual((node.role, node.epoch), (Role.CANDIDATE, 6))
        return node

    def test_until_it_leads(self) -> None:
        node = self.overtaken()
        self.assertEqual(self.heard_by(node.live(HB, replica("a", 5), replica("c", 5))), {"a"})
        node.hear(accept("a", 6))
        self.assertEqual(node.role, Role.PRIMARY)
        self.assertEqual(self.heard_by(node.live(HB)), {"a", "c"})

    def test_offers_and_votes_go_to_all_as_ever(self) -> None:
        out = self.overtaken().live(2 * HB, replica("a", 5), replica("c", 5))
        self.assertEqual({sent.to for sent in offers(out)}, {EVERYBODY})
        node = self.stepped_down()
        self.assertEqual(node.hear(offer("c", 4)), [Outbound("c", accept("b", 4))])

    def test_after_a_candidacy_that_timed_out_while_it_knew_no_primary(self) -> None:
        node = self.deaf(running("b", epoch=3))
        node.live(CONFIG.election_timeout - TICK, replica("a", 2), replica("c", 2))
        self.assertEqual(self.heard_by(node.live(HB, replica("a", 2), replica("c", 2))), {"a"})
        self.assertEqual(node.role, Role.REPLICA)

    def test_not_if_it_goes_on_following(self) -> None:
        node = self.deaf(follower("b", epoch=3))
        node.live_until_it_runs(replica("c", 3))
        node.live(CONFIG.election_timeout, replica("c", 3))
        self.assertEqual((node.role, node.primary), (Role.REPLICA, "a"))
        self.assertEqual(self.heard_by(node.live(HB, replica("c", 3))), {"a", "c"})
