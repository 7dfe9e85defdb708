"""The election that a test decides: as programs see it, and beside the real one."""

from __future__ import annotations

import asyncio
import re
import unittest
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.errors import ConfigError, HandoverError
from kevy_elect.events import Cause, Event, EventKind
from kevy_elect.messages import Role
from kevy_elect.ops.own_status import own_status
from kevy_elect.service.election import ElectionService
from kevy_elect.service.fake import FakeElection
from kevy_elect.service.observers import Change
from kevy_elect.status import ChildStatus
from tests.support import ROOT
from tests.support.nodes import CONFIG, elected
from tests.support.transports import cluster


class FakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.election = FakeElection("a", ["b", "c"])
        self.told: list[str] = []
        self.election.add_observer(lambda snapshot, reason: self.told.append(reason))

    def seen(self) -> tuple[Role, int, str | None, bool]:
        found = self.election.state_snapshot()
        self.assertEqual(found.can_write, self.election.can_write())
        return found.role, found.epoch, found.current_primary, found.can_write


class CourseTests(FakeTests):
    def test_at_first_it_is_a_replica_that_knows_no_primary(self) -> None:
        self.assertEqual(self.seen(), (Role.REPLICA, 0, None, False))
        self.assertTrue(self.election.is_electing)
        self.assertEqual(self.election.state_snapshot().down_peers, ())

    def test_it_is_elected_and_its_lease_is_renewed(self) -> None:
        waiting = self.election.when_primary()
        self.assertNoResult(waiting)
        self.election.elect()
        self.assertEqual(self.successResultOf(waiting).epoch, 1)
        self.election.advance(1000)
        self.assertEqual(self.seen(), (Role.PRIMARY, 1, "a", True))
        snapshot = self.election.state_snapshot()
        self.assertEqual(snapshot.primary_addr, "a.example:6101")
        self.assertEqual(snapshot.lease_expires_in, self.election.lease)
        self.assertEqual(self.told, ["elected primary of epoch 1"])

    def test_another_is_elected_in_a_later_epoch(self) -> None:
        self.election.elect()
        waiting = self.election.when_not_primary()
        self.election.follow("b")
        self.successResultOf(waiting)
        self.assertEqual(self.seen(), (Role.REPLICA, 2, "b", False))
        self.assertEqual(self.election.state_snapshot().primary_addr, "b.example:6101")
        self.assertRaises(ConfigError, self.election.follow, "a")
        self.assertRaises(ConfigError, self.election.follow, "z")

    def test_it_is_unseated_and_nobody_is_primary(self) -> None:
        self.election.elect()
        self.election.unseat("a test says so")
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))
        self.assertEqual(self.told[-1], "a test says so")

    def test_a_lease_that_is_not_renewed_ends_to_the_moment_and_the_role_after_it(self) -> None:
        self.election.elect()
        self.election.advance(5)
        self.election.cut_off()
        self.election.advance(self.election.lease - 1e-6)
        self.assertTrue(self.election.can_write())
        self.election.advance(1e-6)
        self.assertEqual(self.seen(), (Role.PRIMARY, 1, "a", False))
        self.assertEqual(self.election.state_snapshot().down_peers, ("b", "c"))
        self.assertEqual(self.told[-1], "no quorum backs this node any more")
        self.election.advance(self.election.config.down_after)
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))

    def test_a_lease_may_end_without_warning(self) -> None:
        self.election.elect()
        self.election.cut_off(0)
        self.assertEqual(self.seen(), (Role.PRIMARY, 1, "a", False))

    def test_who_hears_the_others_again_in_time_stays_primary(self) -> None:
        self.election.elect()
        self.election.cut_off(1)
        self.election.advance(1.5)
        self.assertFalse(self.election.can_write())
        self.election.reconnect()
        self.election.advance(100)
        self.assertEqual(self.seen(), (Role.PRIMARY, 1, "a", True))

    def test_who_is_unseated_while_cut_off_has_no_quorum(self) -> None:
        self.election.elect()
        self.election.cut_off(5)
        self.election.unseat()
        self.assertFalse(self.election.state_snapshot().has_quorum)
        self.election.advance(100)
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))

    def test_timers_run_at_their_own_time(self) -> None:
        at: list[float] = []
        loop = LoopingCall(lambda: at.append(self.election.now()))
        loop.clock = self.election.reactor
        loop.start(0.25)
        self.election.advance(1)
        loop.stop()
        self.assertEqual(at, [0.0, 0.25, 0.5, 0.75, 1.0])

    def test_without_peers_it_is_refused(self) -> None:
        self.assertRaises(ConfigError, FakeElection, "a", [])

    def test_events_have_kind_cause_and_time_and_probes_hear_of_them(self) -> None:
        heard: list[Event] = []

        class Probe:
            def noted(self, event: Event) -> None:
                heard.append(event)

            def ticked(self, late: float) -> None: ...

            def saved(self, took: float, *, kept: bool) -> None: ...

        self.election.probes.add(Probe())
        self.election.elect()
        self.election.advance(3)
        self.election.follow("c")
        events = self.election.recent_events()
        self.assertEqual([ago for ago, _ in events], [3.0, 0.0])
        self.assertEqual([event for _, event in events], heard)
        last = heard[-1]
        self.assertEqual(
            (last.kind, last.cause, last.member), (EventKind.ROLE, Cause.SUPERSEDED, "c")
        )


class HandTests(FakeTests):
    """What an operator, or the program itself, tells the node."""

    def test_a_handover_makes_its_target_primary(self) -> None:
        self.election.elect()
        steps: list[str] = []
        handover = self.election.switch_over(
            "b", tell=lambda step: steps.append(step.text), reason="new disks"
        )
        self.assertFalse(self.election.can_write())
        self.election.advance(1)
        outcome = self.successResultOf(handover)
        self.assertEqual((outcome.done, outcome.primary, outcome.epoch), (True, "b", 2))
        self.assertIn("fenced", steps[0])
        self.assertIn("new disks", [event.reason for _, event in self.election.recent_events()])

    def test_a_target_that_lacks_data_does_not_get_the_role(self) -> None:
        self.election.elect()
        self.election.set_repl_offset(9)
        self.election.set_peer("b", offset=8)
        handover = self.election.switch_over("b", patience=2)
        self.election.advance(1)
        self.assertNoResult(handover)
        self.election.advance(2)
        self.assertFalse(self.successResultOf(handover).done)
        self.assertTrue(self.election.can_write())

    def test_a_target_that_is_not_there_is_refused(self) -> None:
        self.election.elect()
        self.election.set_peer("b", alive=False)
        self.failureResultOf(self.deferred(lambda: self.election.switch_over("b")), HandoverError)
        self.assertEqual(self.election.state_snapshot().down_peers, ("b",))

    def test_only_a_primary_hands_over_and_only_to_a_peer(self) -> None:
        self.assertRaises(HandoverError, self.election.hand_over, "b", 1.0, 0.0)
        self.election.elect()
        self.assertRaises(HandoverError, self.election.hand_over, "z", 1.0, 0.0)
        self.assertTrue(self.election.can_write())

    def test_a_target_that_dies_on_the_way_is_not_elected(self) -> None:
        self.election.elect()
        self.election.hand_over("b", 1.0, 0.0)
        self.election.set_peer("b", alive=False)
        self.election.advance(10)
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))

    def deferred(self, call: Any) -> Deferred[Any]:
        async def run() -> Any:
            return await call()

        return Deferred.fromCoroutine(run())

    def test_who_writes_is_waited_for_before_the_role_goes(self) -> None:
        written: Deferred[None] = Deferred()

        class Writer:
            def when_stopped(self) -> Deferred[None]:
                return written

            def describe(self) -> list[ChildStatus]:
                return [ChildStatus("w", "stopping")]

        self.election.fence.add(Writer())
        self.election.elect()
        stepping = self.election.step_down(30, "a test says so")
        self.assertEqual(self.seen(), (Role.PRIMARY, 1, "a", False))
        written.callback(None)
        self.successResultOf(stepping)
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))
        self.assertEqual(self.told[-1], "a test says so")

    def test_a_pause_is_told_and_ends(self) -> None:
        self.election.pause(10)
        self.election.advance(4)
        self.assertEqual(self.election.paused_for(), 6)
        self.election.resume()
        self.assertEqual(self.election.paused_for(), 0)
        self.election.elect()
        self.assertRaises(ConfigError, self.election.pause, 10)

    def test_its_status_is_a_status(self) -> None:
        self.election.elect()
        status = own_status(self.election)
        self.assertEqual((status.node_id, status.current_primary), ("a", "a"))
        self.assertEqual([peer.node_id for peer in status.peers], ["b", "c"])
        self.assertTrue(status.dump())


class StopTests(FakeTests):
    def test_a_primary_that_is_stopped_hands_over_first(self) -> None:
        self.election.elect()
        stopped = self.election.stopService()
        self.election.advance(1)
        self.successResultOf(stopped)
        self.assertIn("b is primary of epoch 2", self.told)
        self.assertEqual(self.told[-1], "the service stopped")
        self.assertFalse(self.election.is_electing)
        self.assertEqual(self.election.peer_status(), [])
        self.assertRaises(ConfigError, self.election.elect)

    def test_without_handover_it_stops_at_once(self) -> None:
        election = FakeElection("a", ["b"], handover=False)
        election.elect()
        self.successResultOf(election.stopService())
        self.assertFalse(election.can_write())

    def test_it_begins_anew_and_keeps_its_epoch(self) -> None:
        self.election.follow("b")
        self.successResultOf(self.election.stopService())
        self.election.startService()
        self.election.elect()
        self.assertEqual(self.seen(), (Role.PRIMARY, 2, "a", True))

    def test_it_is_a_service_among_others(self) -> None:
        parent = MultiService()
        self.election.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        self.election.elect()
        stopped: Any = parent.stopService()
        self.election.advance(1)
        self.successResultOf(stopped)
        self.assertFalse(self.election.reactor.getDelayedCalls())


class UsersTests(FakeTests):
    """What takes an election takes this one."""

    def test_children_run_on_the_primary_only_and_are_down_before_the_lease_is(self) -> None:
        child = Service()
        only = PrimaryOnly(
            self.election, child, stop_grace=0.5, on_overrun=lambda: self.fail("too late")
        )
        only.startService()
        self.addCleanup(only.stopService)
        self.assertFalse(child.running)
        self.election.elect()
        self.election.advance(10)
        self.assertTrue(child.running)
        self.assertEqual([each.state for each in self.election.children()], ["running"])
        self.election.cut_off()
        self.election.advance(self.election.lease - 0.5)
        self.assertFalse(child.running)
        self.assertTrue(self.election.can_write())

    def test_a_child_that_ends_by_itself_costs_the_role(self) -> None:
        child = Service()
        only = PrimaryOnly(self.election, child, stop_grace=0.5)
        only.startService()
        self.addCleanup(only.stopService)
        self.election.elect()
        child.running = False
        self.election.advance(1)
        self.assertEqual(self.seen(), (Role.REPLICA, 1, None, False))

    def test_changes_can_be_iterated_over(self) -> None:
        seen: list[Change] = []

        async def run() -> None:
            async for change in self.election.changes():
                seen.append(change)
                if change.snapshot.can_write:
                    return

        running = Deferred.fromCoroutine(run())
        self.election.follow("b")
        self.election.elect()
        self.successResultOf(running)
        self.assertEqual([change.snapshot.current_primary for change in seen], [None, "b", "a"])

    def test_a_task_of_asyncios_can_wait_for_it(self) -> None:
        async def main() -> int:
            waiting = asyncio.ensure_future(self.primary())
            await asyncio.sleep(0)
            self.election.elect()
            return await asyncio.wait_for(waiting, 10)

        self.assertEqual(asyncio.run(main()), 1)

    async def primary(self) -> int:
        return (await self.election.when_primary()).epoch


class LikenessTests(SynchronousTestCase):
    def test_what_needs_the_elector_is_answered_by_the_fake(self) -> None:
        """Each public name that a real service answers as if it did not run."""
        idle = ElectionService(cluster(), ballot=MemoryBallot())
        fake = FakeElection("a", ["b", "c"])
        for name in ("is_electing", "peer_status", "last_tick_ago", "state_snapshot"):
            asked = [getattr(each, name) for each in (idle, fake)]
            self.assertNotEqual(*(each() if callable(each) else each for each in asked))

    def test_a_lease_is_as_long_as_one_that_was_just_renewed(self) -> None:
        real = elected()
        left = real.elector.lease_expires_in(real.now)
        self.assertLessEqual(abs(FakeElection(config=CONFIG).lease - left), CONFIG.hb_interval)


class GuideTests(unittest.TestCase):
    def test_the_example_of_the_guide_passes(self) -> None:
        page = (ROOT / "docs/testing-your-program.md").read_text(encoding="utf-8")
        (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
        names: dict[str, Any] = {"__name__": "example"}
        exec(example, names)
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(names["PromptTests"]).run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (3, [], []))
