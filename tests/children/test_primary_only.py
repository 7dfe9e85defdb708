from __future__ import annotations

from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.children.primary_only import PrimaryOnly, _check_grace
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.messages import Role
from kevy_elect.service.election import ElectionService
from kevy_elect.service.fence import Fence
from kevy_elect.service.observers import ElectorSnapshot, Observers
from tests.service.test_election import ServiceTests
from tests.support.transports import cluster

CONFIG = ElectConfig(hb_interval=0.1, down_after=5)
GRACE = 1.0


class Leases:
    """What PrimaryOnly asks an election for, with a lease that the test hands out."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.reactor = Clock()
        self.lease_end = 0.0
        self.fenced = False
        self.rests: list[float] = []
        self.fence = Fence(lambda *, closed: None)
        self._observers = Observers(self.state_snapshot)
        self.add_observer = self._observers.add

    def now(self) -> float:
        return self.reactor.seconds()

    def can_write(self) -> bool:
        return self.now() < self.lease_end and not self.fenced

    def state_snapshot(self) -> ElectorSnapshot:
        left = max(0.0, self.lease_end - self.now())
        role = Role.PRIMARY if left else Role.REPLICA
        writes = self.can_write()
        return ElectorSnapshot(role, 7, None, None, left > 0, (), writes, left if writes else 0.0)

    def step_down(self, rest: float, why: str) -> None:
        self.rests.append(rest)
        self.lease_end = 0.0
        self._observers.tell(why)

    def close_fence(self) -> None:
        self.fenced = True
        self._observers.tell("fenced")

    def grant(self, seconds: float) -> None:
        self.lease_end = self.now() + seconds
        self._observers.tell("a lease")


class Child(Service):
    """Notes what it is told; takes `starting` or `stopping` to do it, if given."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.label, self.told = name, told
        self.starting: Deferred[None] | None = None
        self.stopping: Deferred[None] | None = None
        self.failing = False

    def startService(self) -> Any:
        self.told.append(f"start {self.label}")
        if self.failing:
            raise RuntimeError("no")
        super().startService()
        return self.starting

    def stopService(self) -> Any:
        self.told.append(f"stop {self.label}")
        super().stopService()
        return self.stopping


class PrimaryOnlyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.election: Any = Leases()
        self.told: list[str] = []
        self.one, self.two = Child("one", self.told), Child("two", self.told)
        self.overruns = 0
        self.service = PrimaryOnly(
            self.election,
            self.one,
            self.two,
            stop_grace=GRACE,
            on_overrun=self.overrun,
        )
        self.service.startService()

    def tearDown(self) -> None:
        for child in (self.one, self.two):
            child.starting = child.stopping = None
        if self.service.running:
            self.service.stopService()

    def overrun(self) -> None:
        self.overruns += 1

    def pass_time(self, seconds: float, refresh: float = 0.0) -> None:
        """Let time pass; with `refresh`, the lease is renewed to that all the while."""
        for _ in range(round(seconds / 0.05)):
            if refresh:
                self.election.lease_end = self.election.now() + refresh
            self.election.reactor.advance(0.05)

    def heard(self) -> list[str]:
        told, self.told[:] = list(self.told), []
        return told


class CourseTests(PrimaryOnlyTests):
    def test_a_fence_stops_the_children_who_have_as_long_as_the_lease(self) -> None:
        self.election.grant(3)
        self.one.stopping = Deferred()
        self.heard()
        self.election.close_fence()
        self.assertEqual(self.heard(), ["stop two", "stop one"])
        stopped = self.service.when_stopped()
        self.pass_time(2 * GRACE)
        self.assertEqual(self.overruns, 0)
        self.assertNoResult(stopped)
        self.assertEqual(
            [child.state for child in self.service.describe()], ["stopping", "stopped"]
        )
        stopping, self.one.stopping = self.one.stopping, None
        stopping.callback(None)
        self.successResultOf(stopped)

    def test_a_child_whose_stop_fails_may_still_write(self) -> None:
        self.election.grant(3)
        self.one.stopping = fail(RuntimeError("the store did not answer"))
        self.election.close_fence()
        self.assertEqual(self.overruns, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_fence_does_not_outlast_the_lease(self) -> None:
        self.election.grant(3)
        self.one.stopping = Deferred()
        self.election.close_fence()
        self.pass_time(3.1)
        self.assertEqual(self.overruns, 1)

    def test_children_run_while_the_lease_is_safe_in_order_and_back(self) -> None:
        self.pass_time(1)
        self.assertEqual(self.heard(), [])
        self.election.grant(3)
        self.assertEqual(self.heard(), ["start one", "start two"])
        self.pass_time(10, refresh=3)
        self.assertEqual(self.heard(), [])
        self.pass_time(3)
        self.assertEqual(self.heard(), ["stop two", "stop one"])
        self.assertEqual(self.overruns, 0)

    def test_they_are_told_to_stop_before_only_the_grace_is_left(self) -> None:
        self.election.grant(3)
        self.heard()
        self.pass_time(3 - GRACE - 0.1)
        self.assertEqual(self.heard(), [])
        self.pass_time(0.1)
        self.assertEqual(self.heard(), ["stop two", "stop one"])

    def test_a_lease_that_is_lost_at_once_stops_them_at_once(self) -> None:
        self.election.grant(3)
        self.heard()
        self.one.stopping = self.two.stopping = Deferred()
        self.election.step_down(0, "lost")
        self.assertEqual(self.heard(), ["stop two"])

    def test_they_are_started_again_when_the_lease_is_safe_again(self) -> None:
        for _ in range(3):
            self.election.grant(3)
            self.assertEqual(self.heard(), ["start one", "start two"])
            self.pass_time(4)
            self.assertEqual(self.heard(), ["stop two", "stop one"])

    def test_a_lease_no_longer_than_the_grace_starts_nobody(self) -> None:
        self.election.grant(GRACE)
        self.assertEqual(self.heard(), [])

    def test_each_waits_for_the_one_before(self) -> None:
        self.one.starting = Deferred()
        self.two.stopping = Deferred()
        self.election.grant(3)
        self.assertEqual(self.heard(), ["start one"])
        self.one.starting.callback(None)
        self.assertEqual(self.heard(), ["start two"])
        self.pass_time(2.2)
        self.assertEqual(self.heard(), ["stop two"])
        self.two.stopping.callback(None)
        self.assertEqual(self.heard(), ["stop one"])

    def test_a_lease_that_goes_while_they_start_stops_those_that_did(self) -> None:
        self.one.starting = Deferred()
        self.election.grant(3)
        self.pass_time(2.2)
        self.one.starting.callback(None)
        self.assertEqual(self.heard(), ["start one", "stop one"])
        self.assertEqual(self.overruns, 0)

    def test_stopping_the_service_stops_them_and_waits(self) -> None:
        self.election.grant(3)
        self.heard()
        self.one.stopping = Deferred()
        stopped = self.service.stopService()
        self.assertEqual(self.heard(), ["stop two", "stop one"])
        self.assertNoResult(stopped)
        self.one.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.election.reactor.getDelayedCalls(), [])

    def test_it_can_be_started_again(self) -> None:
        self.successResultOf(self.service.stopService())
        self.successResultOf(self.service.stopService())
        self.service.startService()
        self.election.grant(3)
        self.assertEqual(self.heard(), ["start one", "start two"])


class TroubleTests(PrimaryOnlyTests):
    def test_a_child_that_overruns_its_grace_is_told_of_once(self) -> None:
        self.two.stopping = Deferred()
        self.election.grant(3)
        self.pass_time(3 - GRACE)
        self.assertEqual(self.overruns, 0)
        self.pass_time(GRACE - 0.1)
        self.assertEqual(self.overruns, 0)
        self.pass_time(5)
        self.assertEqual(self.overruns, 1)

    def test_one_that_still_runs_when_the_lease_is_over_has_no_grace_left(self) -> None:
        """The process was paused for longer than the lease: others may be primary already."""
        self.two.stopping = Deferred()
        self.election.grant(3)
        self.election.reactor.rightNow += 10  # nothing ran meanwhile
        self.pass_time(0.1)
        self.assertEqual(self.overruns, 1)

    def test_one_that_hangs_while_starting_overruns_too(self) -> None:
        self.one.starting = Deferred()
        self.election.grant(3)
        self.pass_time(4)
        self.assertEqual(self.overruns, 1)

    def test_one_that_cannot_start_gives_up_the_role_for_a_while(self) -> None:
        self.two.failing = True
        self.election.grant(3)
        self.assertEqual(self.heard(), ["start one", "start two", "stop two", "stop one"])
        self.assertEqual(self.election.rests, [30.0])
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_one_that_dies_gives_up_the_role_once_all_are_down(self) -> None:
        self.election.grant(3)
        self.heard()
        self.one.running = False
        self.one.stopping = Deferred()
        self.pass_time(0.1, refresh=3)
        self.assertEqual(self.heard(), ["stop two", "stop one"])
        self.assertEqual(self.election.rests, [])
        self.one.stopping.callback(None)
        self.assertEqual(self.election.rests, [30.0])

    def test_a_timer_whose_call_fails_has_died(self) -> None:
        def fail() -> None:
            raise RuntimeError("no")

        timer = TimerService(1.0, fail)
        timer.clock = self.election.reactor
        family = MultiService()
        timer.setServiceParent(family)
        service = PrimaryOnly(self.election, family, stop_grace=GRACE, on_overrun=self.overrun)
        service.startService()
        self.election.grant(3)
        self.pass_time(0.2)
        self.assertEqual(self.election.rests, [30.0])
        self.assertTrue(self.flushLoggedErrors(RuntimeError))
        self.successResultOf(service.stopService())

    def test_one_that_fails_to_stop_does_not_keep_the_others(self) -> None:
        self.two.stopping = Deferred()
        self.election.grant(3)
        self.pass_time(2.2)
        self.two.stopping.errback(RuntimeError("no"))
        self.assertEqual(self.heard()[-1], "stop one")
        self.assertTrue(self.flushLoggedErrors(RuntimeError))


class MisuseTests(SynchronousTestCase):
    def make(self, *children: Service, **options: Any) -> PrimaryOnly:
        election = ElectionService(cluster(), ballot=MemoryBallot(), config=CONFIG)
        return PrimaryOnly(election, *children, **({"stop_grace": 1.0} | options))

    def test_a_grace_that_leaves_less_than_ten_heartbeats_of_lease_is_refused(self) -> None:
        longest = CONFIG.down_after - CONFIG.lease_margin - 10 * CONFIG.hb_interval
        self.make(Service(), stop_grace=longest)
        for grace in (longest + 0.01, 0, -1, float("nan")):
            error = self.assertRaises(ConfigError, self.make, Service(), stop_grace=grace)
            self.assertIn("stop_grace", str(error))
        hasty = ElectConfig(hb_interval=0.3, down_after=3.0)
        error = self.assertRaises(ConfigError, _check_grace, 0.1, hasty)
        self.assertIn("these timings leave no time to stop children", str(error))

    def test_children_and_a_rest_are_needed(self) -> None:
        self.assertRaises(ConfigError, self.make)
        self.assertRaises(ConfigError, self.make, Service(), rest=-1)


class RealElectionTests(ServiceTests):
    """With real nodes: at most one child runs, and it follows the primary."""

    config = ElectConfig(hb_interval=0.02, down_after=1.0, election_timeout=0.5)

    async def test_the_child_runs_on_the_primary_and_moves_with_the_role(self) -> None:
        self.make(config=self.config)
        children: dict[str, Service] = {}
        parents: dict[str, MultiService] = {}
        for node_id, node in self.nodes.items():
            children[node_id] = Service()
            parents[node_id] = MultiService()
            node.setServiceParent(parents[node_id])
            only = PrimaryOnly(node, children[node_id], stop_grace=0.2, rest=2.0)
            only.setServiceParent(parents[node_id])
            parents[node_id].startService()
        await self.poll(lambda: self.agreed("abc"))
        first = self.agreed("abc")
        assert first is not None
        await self.poll(lambda: children[first].running)
        self.assertEqual([n for n, child in children.items() if child.running], [first])

        children[first].running = False  # it dies
        await self.poll(lambda: self.agreed("abc") not in (None, first), "a successor")
        second = self.agreed("abc")
        assert second is not None
        await self.poll(lambda: children[second].running)
        self.assertFalse(children[first].running)
        for parent in parents.values():
            await parent.stopService()
        self.assertFalse(any(child.running for child in children.values()))
        self.assertEqual(self.crashes, [])
