from __future__ import annotations

import gc
import time
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError, HandoverError
from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Heartbeat, Message, Offer, Role
from kevy_elect.service.election import ElectionService
from kevy_elect.service.handover import HEARTBEATS_TO_RUN, Outcome, Step
from kevy_elect.settings.admin import LONGEST_REASON
from kevy_elect.status import ChildStatus
from tests.service.test_election import ServiceTests
from tests.support.clusters import Cluster
from tests.support.nodes import (
    CONFIG,
    TICK,
    Node,
    elected,
    follower,
    heartbeats,
    offer,
    replica,
)

DOWN = CONFIG.down_after
WITHIN = 1.0
ROOMY = ElectConfig(hb_interval=0.05, down_after=1.2, election_timeout=0.5)
"""With a lease that has room for a grace."""
PATIENT = ElectConfig(hb_interval=0.05, down_after=2.0, election_timeout=0.5)
"""With a silence that lasts longer than a handover on a busy machine."""


def time_until_writing(net: Cluster, target: str) -> float:
    return net.advance_until(lambda: net.writers() == [target], within=DOWN)


class FenceRules(SynchronousTestCase):
    def test_r8_a_fenced_primary_writes_nothing_and_keeps_its_role_and_followers(self) -> None:
        node = elected()
        node.elector.fence(node.now, closed=True)
        self.assertFalse(node.can_write())
        self.assertEqual(node.elector.lease_expires_in(node.now), 0.0)
        sent = node.live(3 * DOWN, replica("b", 3), replica("c", 3))
        self.assertEqual((node.role, node.epoch, node.has_quorum()), (Role.PRIMARY, 3, True))
        self.assertTrue(heartbeats(sent))
        self.assertEqual({out.message.role for out in heartbeats(sent)}, {Role.PRIMARY})
        node.elector.fence(node.now, closed=False)
        self.assertTrue(node.can_write())

    def test_r4_1_a_fenced_primary_still_votes_for_nobody(self) -> None:
        node = elected()
        node.elector.fence(node.now, closed=True)
        node.hear(offer("b", 4))
        self.assertEqual((node.role, node.epoch), (Role.PRIMARY, 3))

    def test_a_fence_survives_another_election_of_the_same_node(self) -> None:
        node = elected()
        node.elector.fence(node.now, closed=True)
        node.elector.step_down(node.now, 0.0, "for this test")
        node.live_until_it_runs(replica("b", 3), replica("c", 3))
        node.hear(*(Heartbeat(4, "b", Role.REPLICA, 0),))
        self.assertFalse(node.can_write())


class HandingOver(SynchronousTestCase):
    def elected(self) -> Node:
        """A primary whose peers hear a resignation (R2)."""
        node = elected()
        for peer in "bc":
            node.elector.set_acknowledging(peer, acknowledging=True)
        return node

    def test_only_a_primary_hands_over_to_another_member_and_in_some_time(self) -> None:
        follows, leads = follower(), self.elected()
        for node, target, within, rest, problem in (
            (follows, "a", 1.0, 0.0, "b is not primary"),
            (leads, "x", 1.0, 0.0, "'x' is not another member; these are: b, c"),
            (leads, "a", 1.0, 0.0, "'a' is not another member"),
            (leads, "b", 0.0, 0.0, "above 0"),
            (leads, "b", float("inf"), 0.0, "finite"),
            (leads, "b", float("nan"), 0.0, "above 0"),
            (leads, "b", 1.0, -1.0, "not below"),
        ):
            before = node.state()
            with self.assertRaisesRegex(HandoverError, problem):
                node.elector.hand_over(target, node.now, within, rest)
            self.assertEqual(node.state(), before)

    def test_r3_a_vote_for_another_than_the_target_ends_the_silence_towards_all(self) -> None:
        node = self.elected()
        node.elector.hand_over("b", node.now, WITHIN, rest=0.0)
        node.tick()
        self.assertEqual(node.hear(offer("c", 4))[0].to, "c")
        told = heartbeats(node.live(TICK))
        self.assertEqual({out.to for out in told}, {"b", "c"})

    def test_r7_only_the_target_is_told_until_its_offer_is_there(self) -> None:
        node = self.elected()
        node.elector.hand_over("b", node.now, WITHIN, rest=0.0)
        told = heartbeats(node.live(WITHIN - TICK, replica("b", 3), replica("c", 3)))
        self.assertEqual({out.to for out in told}, {"b"})
        self.assertEqual({out.message for out in told}, {replica("a", 3)})

    def test_the_others_are_told_in_the_epoch_that_is_given_up_once_the_target_runs(self) -> None:
        node = self.elected()
        node.elector.hand_over("b", node.now, WITHIN, rest=0.0)
        node.tick()
        answer = node.hear(offer("b", 4))
        self.assertEqual([out.to for out in answer], ["b", "c", "b"])
        self.assertEqual(answer[0].message, replica("a", 3))
        self.assertEqual(node.epoch, 4)

    def test_a_target_that_does_not_run_is_waited_for_no_longer_than_said(self) -> None:
        node = self.elected()
        node.elector.hand_over("b", node.now, WITHIN, rest=10.0)
        node.live(WITHIN, replica("b", 3), replica("c", 3))
        told = heartbeats(node.live(1.0, replica("b", 3), replica("c", 3)))
        self.assertEqual({out.to for out in told}, {"b", "c"})

    def test_r5_afterwards_this_node_rests_as_long_as_said_then_may_run_again(self) -> None:
        for rest in (0.0, 2.0):
            node = elected()
            node.elector.hand_over("b", node.now, WITHIN, rest)
            took = node.live_until_it_runs(replica("b", 3), replica("c", 3))
            self.assertApproximates(took, WITHIN + rest, 2 * TICK)

    def test_it_rests_no_longer_than_until_another_leads(self) -> None:
        net = Cluster()
        first = net.elect()
        target = min(set("abc") - {first})
        net.advance(DOWN)
        net.hand_over(target, within=WITHIN, rest=1000.0)
        time_until_writing(net, target)
        net.advance_until(net.agreed, within=DOWN)
        net.crash(target)
        net.advance_until(lambda: net.writers() == [first], within=4 * DOWN)

    def test_the_best_candidate_is_elected_in_a_few_messages_whoever_voted_lately(self) -> None:
        for members in ("abc", "abcde"):
            net = Cluster(members)
            leader = net.elect()
            net.advance(DOWN)
            for target in (min(set(members) - {leader}), leader):
                net.advance_until(net.agreed, within=DOWN)
                net.advance(CONFIG.hb_interval)
                holder = net.writers()[0]
                net.hand_over(target, within=WITHIN, rest=0.0)
                took = time_until_writing(net, target)
                steps = CONFIG.candidate_step * (sorted(set(members) - {holder}).index(target))
                self.assertLess(took - steps, 8 * Cluster.DELAY + TICK)

    def test_an_offer_that_is_refused_is_not_repeated_at_each_vote_of_the_one_that_resigned(
        self,
    ) -> None:
        net = Cluster("abcde")
        leader = net.elect()
        net.advance(DOWN)
        target = min(set("abcde") - {leader})
        offers = 0

        def lost(sender: str, to: str, message: Message) -> bool:
            nonlocal offers
            offers += sender == target and isinstance(message, Offer)
            return sender == target and to != leader

        net.lose(lost)
        net.hand_over(target, within=WITHIN, rest=0.0)
        net.advance(2.0)
        beats = 2.0 / CONFIG.hb_interval
        self.assertLess(offers, 4 * (beats + 3))

    def test_r5_a_worse_target_takes_a_step_more_for_each_better_one(self) -> None:
        net = Cluster("abc")
        leader = net.elect()
        net.advance(DOWN)
        worst = max(set("abc") - {leader})
        net.hand_over(worst, within=2.0, rest=0.0)
        took = time_until_writing(net, worst)
        self.assertApproximates(took, CONFIG.candidate_step, 2 * TICK + 8 * Cluster.DELAY)


class StandingAside(SynchronousTestCase):
    def test_r5_who_stands_aside_does_not_run_until_the_time_is_over(self) -> None:
        node = Node(epoch=3)
        node.elector.stand_aside(node.now, 3 * DOWN)
        self.assertEqual(node.elector.aside_for(node.now), 3 * DOWN)
        took = node.live_until_it_runs(replica("a", 3), replica("c", 3))
        self.assertGreaterEqual(took, 3 * DOWN)
        self.assertEqual(node.elector.aside_for(node.now), 0.0)

    def test_r5_it_may_be_told_to_run_again(self) -> None:
        node = Node(epoch=3)
        node.elector.stand_aside(node.now, 1000.0)
        node.live(2 * DOWN, replica("a", 3), replica("c", 3))
        self.assertIs(node.role, Role.REPLICA)
        node.elector.stand_aside(node.now, 0.0)
        node.live(2 * CONFIG.candidate_step, replica("a", 3), replica("c", 3))
        self.assertIs(node.role, Role.CANDIDATE)

    def test_a_candidate_that_stands_aside_gives_up_and_votes_on(self) -> None:
        net = Cluster()
        leader = net.elect()
        others = sorted(set("abc") - {leader})
        rival = net.nodes[others[0]]
        rival.elector.stand_aside(rival.clock(), 1000.0)
        net.crash(leader)
        net.advance_until(lambda: net.writers() == [others[1]], within=4 * DOWN)


class Job(Service):
    """A child that takes a while to stop."""

    def __init__(self, reactor: Any, stops_in: float) -> None:
        self.reactor, self.stops_in = reactor, stops_in

    def stopService(self) -> Deferred[None]:
        stopped = deferLater(self.reactor, self.stops_in)
        return stopped.addCallback(lambda _: Service.stopService(self))


class SlowWriter:
    """A writer of a user's own that takes as long as the test wants."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def when_stopped(self) -> Deferred[None]:
        return self.stopped

    def describe(self) -> list[ChildStatus]:
        return [ChildStatus("slow", "running")]


class SlowServer:
    """The driver of a data server that may take so many seconds to freeze."""

    def __init__(self, freezes_within: float) -> None:
        self.freezes_within = freezes_within

    def watch(self) -> None:
        pass


class FailingWriter(SlowWriter):
    def when_stopped(self) -> Deferred[None]:
        return fail(RuntimeError("still writing"))


class RealClusters(ServiceTests):
    """Three real services on real sockets, of which one may hand over."""

    async def settle(self, **options: Any) -> str:
        self.make(**options)
        self.start()
        return await self.settled()

    async def settled(self) -> str:
        await self.poll(lambda: self.agreed("abc"), "a primary")
        primary = self.agreed("abc")
        assert primary is not None
        # Who started less than down_after ago neither runs nor votes (R4.3, R5).
        await deferLater(self.reactor, self.nodes[primary].config.down_after)
        await self.poll(lambda: self.agreed("abc"), "a primary")
        return self.agreed("abc") or primary

    def others(self, primary: str) -> list[str]:
        return sorted(set("abc") - {primary})


class SwitchoverTests(RealClusters):
    async def test_the_role_moves_to_the_best_candidate_or_to_the_one_that_is_named(self) -> None:
        primary = await self.settle(config=PATIENT)
        for target in (None, self.others(primary)[1]):
            holder = self.agreed("abc")
            assert holder is not None
            steps: list[Step] = []
            if target == holder:
                target = self.others(holder)[0]
            outcome = await self.nodes[holder].switch_over(target, tell=steps.append)
            expected = target or self.others(holder)[0]
            self.assertEqual((outcome.done, outcome.primary), (True, expected), outcome.text)
            self.assertEqual([step.at for step in steps], sorted(step.at for step in steps))
            self.assertIn("fenced", steps[0].text)
            self.assertIn(f"{expected} is primary of epoch {outcome.epoch}", steps[-1].text)
            self.assertTrue(0 < outcome.unwritable < PATIENT.down_after)
            await self.poll(lambda e=expected: self.agreed("abc") == e, "agreement")

    async def test_without_a_name_the_most_advanced_is_chosen_and_has_all_data(self) -> None:
        primary = await self.settle()
        _, high = self.others(primary)
        self.nodes[high].set_repl_offset(7)
        self.nodes[primary].set_repl_offset(9)
        await self.poll(lambda: self.offset_seen(primary, high) == 7)
        moved = self.nodes[primary].switch_over()
        await deferLater(self.reactor, 0.1)
        self.assertFalse(moved.called)
        self.assertFalse(self.nodes[primary].can_write())
        self.nodes[high].set_repl_offset(9)
        outcome = await moved
        self.assertEqual((outcome.done, outcome.primary), (True, high), outcome.text)
        self.assertGreater(outcome.unwritable, 0.1)

    async def test_a_target_that_has_to_freeze_a_data_server_first_is_waited_for(self) -> None:
        node = self.nodes[await self.settle()]
        config, asked = node.config, []
        beats = HEARTBEATS_TO_RUN * config.hb_interval

        def hand_over(target: str, within: float, rest: float, reason: str = "") -> None:
            asked.append(within)
            ElectionService.hand_over(node, target, within, rest, reason)

        self.patch(node, "hand_over", hand_over)
        for slow, expected in (
            (0.01, beats + 0.01),
            (10.0, config.down_after - 2 * config.hb_interval),
        ):
            node.data = SlowServer(slow)
            outcome = await node.switch_over()
            self.assertTrue(outcome.done, outcome.text)
            self.assertEqual(asked.pop(), expected)
            node.data = None
            other = self.nodes[outcome.primary or ""]
            await self.poll(lambda o=other: o.can_write(), "a primary")
            await other.switch_over(node.cluster.node_id)
            await self.poll(node.can_write, "the role")

    async def test_the_reason_is_found_where_the_handover_is(self) -> None:
        node = self.nodes[await self.settle()]
        self.assertTrue((await node.switch_over(reason="new disks")).done)
        reasons = {event.reason for _, event in node.recent_events() if event.reason}
        (event,) = (e for _, e in node.recent_events() if e.cause is Cause.HANDED_OVER)
        self.assertEqual((event.reason, reasons), ("new disks", {"new disks"}))

    async def test_a_reason_that_cannot_be_shown_is_refused(self) -> None:
        node = self.nodes[await self.settle()]
        for reason in ("two\nlines", "\x1b[2J", "\u202e", "x" * (LONGEST_REASON + 1)):
            self.assertRaises(ConfigError, node.switch_over, reason=reason)
        self.assertTrue(node.can_write())

    def offset_seen(self, by: str, of: str) -> int:
        return next(p.offset for p in self.nodes[by].peer_status() if p.node_id == of)

    async def test_a_target_that_lacks_data_in_time_does_not_get_the_role(self) -> None:
        primary = await self.settle()
        target = self.others(primary)[0]
        self.nodes[primary].set_repl_offset(5)
        epoch = self.state(primary).epoch
        outcome = await self.nodes[primary].switch_over(target, patience=0.2)
        self.assertFalse(outcome.done)
        self.assertIn(f"{target} has reached only 0 of 5", outcome.text)
        self.assertIn("takes the role back", outcome.text)
        self.assertTrue(self.nodes[primary].can_write())
        self.assertEqual(self.state(primary).epoch, epoch)

    async def test_the_newest_offset_is_asked_for_once_nobody_writes(self) -> None:
        primary = await self.settle()
        node, target = self.nodes[primary], self.others(primary)[0]

        def ask() -> Deferred[None]:
            self.assertFalse(node.can_write())
            node.set_repl_offset(3)
            return deferLater(self.reactor, 0.01)

        node.offset_source = ask
        self.nodes[target].set_repl_offset(3)
        outcome = await node.switch_over(target, patience=5)
        self.assertTrue(outcome.done, outcome.text)

    async def test_children_are_down_before_another_can_be_primary(self) -> None:
        primary = await self.settle(config=ROOMY)
        node = self.nodes[primary]
        job = Job(self.reactor, 0.15)
        job.setName("job")
        only = PrimaryOnly(node, job, stop_grace=0.2)
        only.startService()
        await self.poll(lambda: job.running)
        self.assertEqual(node.children(), [ChildStatus("job", "running")])
        steps: list[Step] = []
        outcome = await node.switch_over(tell=steps.append)
        self.assertTrue(outcome.done, outcome.text)
        self.assertFalse(job.running)
        down = next(step for step in steps if "children are down" in step.text)
        self.assertGreaterEqual(down.at, 0.15)
        self.assertEqual(node.children(), [ChildStatus("job", "stopped")])
        await only.stopService()

    async def test_whoever_does_not_stop_writing_keeps_the_role_here(self) -> None:
        primary = await self.settle()
        node, writer = self.nodes[primary], SlowWriter()
        remove = node.fence.add(writer)
        outcome = await node.switch_over(patience=0.1)
        self.assertFalse(outcome.done)
        self.assertIn("did not stop", outcome.text)
        self.assertTrue(node.can_write())
        remove()

    async def test_who_fails_to_stop_is_not_taken_for_stopped(self) -> None:
        primary = await self.settle()
        node = self.nodes[primary]
        remove = node.fence.add(FailingWriter())
        outcome = await node.switch_over(patience=5)
        self.assertFalse(outcome.done)
        self.assertIn("did not stop: still writing", outcome.text)
        remove()
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_patience_has_an_end_whatever_is_waited_for(self) -> None:
        primary = await self.settle()
        node, offset = self.nodes[primary], Deferred[None]()
        node.offset_source = lambda: offset
        outcome = await node.switch_over(patience=0.1)
        self.assertIn("its offset did not come", outcome.text)
        node.offset_source = None
        hidden = SlowWriter()
        hidden.describe = list  # type: ignore[method-assign]
        remove = node.fence.add(hidden)
        outcome = await node.switch_over(patience=0.1)
        self.assertIn("did not stop", outcome.text)
        remove()
        self.assertTrue(node.can_write())

    async def test_an_offset_that_cannot_be_had_is_told_of(self) -> None:
        primary = await self.settle()
        steps: list[Step] = []
        self.nodes[primary].offset_source = lambda: fail(ConfigError("nobody answers"))
        outcome = await self.nodes[primary].switch_over(tell=steps.append)
        self.assertTrue(outcome.done, outcome.text)
        self.assertIn("maybe too low: nobody answers", "; ".join(step.text for step in steps))

    async def test_one_who_loses_patience_does_not_speak_for_another_who_waits(self) -> None:
        primary = await self.settle()
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        moved = node.switch_over(patience=0.1)
        stepped = node.step_down(60, "a child died")
        self.assertFalse((await moved).done)
        await deferLater(self.reactor, 0.2)
        self.assertFalse(stepped.called)
        self.assertIs(self.state(primary).role, Role.PRIMARY)
        writer.stopped.callback(None)
        await stepped

    async def test_a_caller_who_no_longer_waits_ends_nothing(self) -> None:
        primary = await self.settle()
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        stepped = node.step_down(60, "a child died")
        stepped.cancel()
        await self.assertFailure(stepped, CancelledError)
        self.assertFalse(writer.stopped.called)
        self.assertEqual(self.crashes, [])
        self.assertTrue(node.can_write())

    async def test_a_fence_outlasts_a_restart_of_the_service(self) -> None:
        primary = await self.settle()
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        stepped = node.step_down(0.0, "a child that does not stop")
        await node.stopService()
        node.startService()
        for other in self.others(primary):
            self.nodes[other].pause(60)
        await self.poll(lambda: self.state(primary).role is Role.PRIMARY)
        await self.poll(lambda: self.state(primary).has_quorum)
        self.assertFalse(node.can_write())
        writer.stopped.callback(None)
        await stepped

    async def test_stepping_down_waits_for_all_writers(self) -> None:
        primary = await self.settle()
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        stepped = node.step_down(60, "a child of another died")
        await deferLater(self.reactor, 0.2)
        self.assertIs(self.state(primary).role, Role.PRIMARY)
        self.assertFalse(node.can_write())
        writer.stopped.callback(None)
        await stepped
        self.assertIs(self.state(primary).role, Role.REPLICA)
        await self.poll(lambda: self.agreed("abc") in self.others(primary), "another primary")

    async def test_what_cannot_be_is_refused_and_changes_nothing(self) -> None:
        primary = await self.settle()
        node, other = self.nodes[primary], self.others(primary)[0]
        for target, complaint in (
            (primary, "already"),
            ("zebra", "no other member"),
        ):
            error = self.assertRaises(HandoverError, node.switch_over, target)
            self.assertIn(complaint, str(error))
        error = self.assertRaises(HandoverError, self.nodes[other].switch_over)
        self.assertIn(f"{primary} is", str(error))
        self.assertTrue(node.can_write())
        node.fence.add(SlowWriter())
        first = node.switch_over(patience=0.1)
        self.assertIn("under way", str(self.assertRaises(HandoverError, node.switch_over)))
        self.assertFalse((await first).done)
        await self.nodes[other].stopService()
        await self.poll(lambda: other in self.state(primary).down_peers)
        self.assertIn("not there", str(self.assertRaises(HandoverError, node.switch_over, other)))

    async def test_a_target_that_was_told_not_to_stand_leaves_the_role_where_it_was(self) -> None:
        primary = await self.settle()
        target, third = self.others(primary)
        self.nodes[target].pause(60)
        self.nodes[third].pause(60)
        outcome = await self.nodes[primary].switch_over(target)
        self.assertFalse(outcome.done, outcome.text)
        # On a busy machine it may be elected again only after the handover gave up.
        self.assertIn(outcome.primary, (primary, None), outcome.text)
        await self.poll(lambda: self.nodes[primary].can_write())

    async def test_a_crash_in_the_middle_ends_the_handover_and_the_service(self) -> None:
        primary = await self.settle()
        node = self.nodes[primary]
        node.fence.add(SlowWriter())
        moved = node.switch_over(patience=30)
        node._elector.tick = None  # type: ignore[union-attr,assignment,method-assign]
        await self.assertFailure(moved, HandoverError)
        await self.poll(lambda: self.crashes)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    async def test_a_pause_is_refused_on_the_primary_and_shown_elsewhere(self) -> None:
        primary = await self.settle()
        self.assertRaises(ConfigError, self.nodes[primary].pause, 60)
        other = self.nodes[self.others(primary)[0]]
        for seconds in (0, -1, float("nan"), float("inf")):
            self.assertRaises(ConfigError, other.pause, seconds)
        self.assertEqual(other.paused_for(), 0)
        other.pause(60)
        self.assertTrue(59 < other.paused_for() <= 60)
        other.resume()
        self.assertEqual(other.paused_for(), 0)

    async def test_who_stands_back_does_not_run_and_a_primary_does_not_stand_back(self) -> None:
        primary = await self.settle()
        back, other = self.others(primary)
        self.nodes[primary].stand_back(60, "for this test")
        self.assertTrue(self.nodes[primary].can_write())
        self.nodes[back].set_repl_offset(7)
        self.nodes[back].stand_back(60, "for this test")
        self.nodes[back].resume()
        self.assertEqual(self.nodes[back].paused_for(), 0)
        await self.nodes[primary].step_down(60, "for this test")
        await self.poll(lambda: self.nodes[other].can_write())
        self.assertNotIn(EventKind.CANDIDACY, self.kinds(back))

    def kinds(self, node_id: str) -> list[EventKind]:
        return [event.kind for _, event in self.nodes[node_id].recent_events()]


class StoppingTests(RealClusters):
    """A primary that is stopped hands over on its way out."""

    async def succession(self, old: str) -> Cause | None:
        """Wait until another than `old` can write; why the first of them ran."""
        others = [self.nodes[n] for n in self.others(old)]
        await self.poll(lambda: any(node.can_write() for node in others))
        runs = [
            (at, event.cause)
            for node in others
            for at, event in node.recent_events()
            if event.kind is EventKind.CANDIDACY and event.member == old
        ]
        return min(runs)[1]

    async def test_the_role_is_taken_over_at_once(self) -> None:
        primary = await self.settle(handover=True)
        stopped = self.nodes[primary].stopService()
        self.assertIs(await self.succession(primary), Cause.PRIMARY_GONE)  # not silent for long
        await stopped
        self.assertEqual(self.state(primary).epoch, 0)

    async def test_children_stop_first(self) -> None:
        primary = await self.settle(handover=True, config=ROOMY)
        node = self.nodes[primary]
        job = Job(self.reactor, 0.1)
        only = PrimaryOnly(node, job, stop_grace=0.2)
        only.startService()
        await self.poll(lambda: job.running)
        left = node.stopService()
        ended = only.stopService()
        while not any(self.nodes[n].can_write() for n in self.others(primary)):
            await deferLater(self.reactor, 0.005)
        self.assertFalse(job.running)
        await left
        await ended

    async def test_without_a_target_that_has_all_data_the_others_elect_at_once(self) -> None:
        primary = await self.settle(handover=True)
        self.nodes[primary].set_repl_offset(10)
        stopped = self.nodes[primary].stopService()
        self.assertIs(await self.succession(primary), Cause.PRIMARY_GONE)
        await stopped

    async def test_nobody_left_to_take_over_is_no_reason_to_stay(self) -> None:
        primary = await self.settle(handover=True)
        for other in self.others(primary):
            await self.nodes[other].stopService()
        await self.nodes[primary].stopService()

    async def test_nodes_that_stop_all_at_once_do_not_wait_for_one_another(self) -> None:
        patient = ElectConfig(hb_interval=0.05, down_after=4.0, election_timeout=30.0)
        self.make(config=patient, handover=True)
        self.start()
        await self.poll(lambda: self.agreed("abc"), "a primary")
        began = time.monotonic()
        for stopping in [node.stopService() for node in self.nodes.values()]:
            await stopping
        self.assertLess(time.monotonic() - began, 15)

    async def test_a_single_node_just_stops(self) -> None:
        self.make("a", handover=True)
        self.start("a")
        await self.poll(lambda: self.nodes["a"].can_write())
        await self.nodes["a"].stopService()

    async def test_a_patient_switchover_does_not_keep_it_from_stopping(self) -> None:
        primary = await self.settle(handover=True)
        node = self.nodes[primary]
        node.set_repl_offset(10)
        moved = node.switch_over(patience=86400)
        stopped = node.stopService()
        outcome = await moved.addTimeout(3 * node.config.down_after, self.reactor)
        self.assertIn("stepped down", outcome.text)
        await stopped

    async def test_who_is_stepping_down_does_so_first(self) -> None:
        primary = await self.settle(handover=True)
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        stepped = node.step_down(60, "a child died")
        stopped = node.stopService()
        writer.stopped.callback(None)
        self.assertIs(await self.succession(primary), Cause.PRIMARY_GONE)
        await stepped
        await stopped

    async def test_who_has_just_stepped_down_is_heard(self) -> None:
        primary = await self.settle(handover=True)
        self.nodes[primary].step_down(60, "a child died")
        await self.nodes[primary].stopService()
        self.assertIs(await self.succession(primary), Cause.PRIMARY_GONE)

    async def test_a_switchover_under_way_is_finished_first(self) -> None:
        primary = await self.settle(handover=True)
        node, writer = self.nodes[primary], SlowWriter()
        node.fence.add(writer)
        moved = node.switch_over(patience=10)
        stopped = node.stopService()
        writer.stopped.callback(None)
        outcome: Outcome = await moved
        self.assertTrue(outcome.done, outcome.text)
        await stopped

    async def test_what_runs_no_more_hands_over_nothing(self) -> None:
        service = ElectionService(self.nodes_cluster(), ballot=MemoryBallot())
        self.assertRaises(HandoverError, service.switch_over)
        self.assertEqual(service.children(), [])

    def nodes_cluster(self) -> Any:
        self.make()
        return self.nodes["a"].cluster
