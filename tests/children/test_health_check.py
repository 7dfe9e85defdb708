from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.children import supervised
from kevy_elect.children.health_check import IN_NEED, RESPITE, REST, HealthCheck
from kevy_elect.config import ElectConfig
from kevy_elect.messages import Role
from kevy_elect.service.observers import ElectorSnapshot, Observers
from kevy_elect.status import CheckStatus, ChildStatus, PeerStatus
from tests.children.test_primary_command import ProcessTests
from tests.support.transports import cluster

CONFIG = ElectConfig()
PATIENCE = CONFIG.down_after + CONFIG.election_timeout


class Election:
    """What a check asks an election for; the test says who is primary, and who is there."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.config = CONFIG
        self.cluster = cluster()
        self.now = self.reactor.seconds
        self.primary: str | None = "a"
        self.has_quorum = True
        self.can_write = True
        self.links = {"b": "connected", "c": "connected"}
        self.running: list[ChildStatus] = []
        self.stepped_down: list[str] = []
        self.stood_back: list[float] = []
        self.stands_back_until = 0.0
        self.observers = Observers(self.state_snapshot)
        self.add_observer = self.observers.add

    def state_snapshot(self) -> ElectorSnapshot:
        role = Role.PRIMARY if self.primary == "a" else Role.REPLICA
        writes = self.can_write and self.primary == "a"
        return ElectorSnapshot(role, 7, self.primary, None, self.has_quorum, (), writes, 1.0)

    def maintained_for(self) -> float:
        return 0.0

    def children(self) -> list[ChildStatus]:
        return self.running

    def peer_status(self) -> list[PeerStatus]:
        return [
            PeerStatus(
                node_id=node_id,
                alive=True,
                heard_ago=0.1,
                epoch=7,
                role=Role.REPLICA,
                offset=0,
                acknowledging=True,
                link=link,
                link_age=1.0,
                incoming_age=1.0,
                queued=0,
                dropped=0,
            )
            for node_id, link in self.links.items()
        ]

    def step_down(self, rest: float, why: str) -> None:
        self.stepped_down.append(why)
        self.elect(None)

    def stand_back(self, seconds: float, why: str) -> None:
        self.stood_back.append(seconds)
        self.stands_back_until = self.now() + seconds

    def elect(self, primary: str | None) -> None:
        self.primary = primary
        self.observers.tell("so it is")


class FakeRun:
    """A run that ends after half a second with `FakeRun.status`, or when the test says so."""

    status: int | None = 0
    runs: list[FakeRun]

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], object],
        **how: Any,
    ) -> None:
        self.command, self.environment = command, environment
        self.started: Deferred[None] = Deferred()
        self.gone: Deferred[int] = Deferred()
        FakeRun.runs.append(self)
        if FakeRun.status is not None:
            how["reactor"].callLater(0.5, lambda: self.gone.callback(FakeRun.status or 0))


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(supervised, "Run", FakeRun)
        FakeRun.runs, FakeRun.status = [], 0
        self.election: Any = Election()

    def start(self, **how: int) -> HealthCheck:
        check = HealthCheck(self.election, ["/usr/bin/check", "--secret"], **how)
        check.startService()
        return check

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.election.reactor.advance(0.25)

    def fail(self, status: int = 1) -> None:  # type: ignore[override]
        FakeRun.status = status

    def test_so_many_failures_in_a_row_make_a_node_unhealthy(self) -> None:
        check = self.start(fall=3)
        for status in (1, 1, 0, 1, 1):
            self.fail(status)
            self.advance(1)
        self.assertTrue(check.healthy)
        self.advance(1)
        problem = "exited with status 1"
        self.assertEqual(check.status(), CheckStatus(healthy=False, problem=problem))

    def test_and_so_many_successes_healthy_again(self) -> None:
        check = self.start(fall=1, rise=2)
        for status, healthy in ((1, False), (0, False), (1, False), (0, False), (0, True)):
            self.fail(status)
            self.advance(1)
            self.assertIs(check.healthy, healthy)
        self.assertEqual(check.status(), CheckStatus(healthy=True, problem=""))

    def test_a_healthy_node_is_left_alone(self) -> None:
        self.start()
        self.advance(10)
        self.election.elect(None)
        self.advance(10)
        self.assertEqual((self.election.stepped_down, self.election.stood_back), ([], []))

    def test_an_unhealthy_primary_steps_down_and_says_why(self) -> None:
        self.start(fall=2)
        self.fail()
        self.advance(2)
        why = "it is unhealthy: the check 'check' exited with status 1"
        self.assertEqual(self.election.stepped_down, [why])

    def test_not_if_nobody_else_is_there(self) -> None:
        self.election.links = {"b": "connecting", "c": "waiting"}
        self.start()
        self.fail()
        self.advance(20)
        self.assertEqual(self.election.stepped_down, [])
        self.election.links["b"] = "connected"
        self.advance(1)
        self.assertEqual(len(self.election.stepped_down), 1)

    def test_it_stands_back_while_another_is_primary(self) -> None:
        check = self.start()
        self.fail()
        self.advance(4)
        self.election.elect("b")
        self.election.stood_back.clear()
        self.advance(100)
        self.assertEqual(set(self.election.stood_back), {REST})
        self.assertGreaterEqual(len(self.election.stood_back), 100)
        self.fail(0)
        self.advance(1)
        self.assertTrue(check.healthy)
        self.election.stood_back.clear()
        self.advance(10)
        self.assertEqual(self.election.stood_back, [])

    def test_it_runs_if_no_healthy_member_has_taken_the_role_in_time(self) -> None:
        self.election.primary = "b"
        self.start()
        self.fail()
        self.advance(10)
        lost = self.election.now()
        self.election.elect(None)
        self.advance(PATIENCE)
        self.assertEqual(self.election.stands_back_until, lost + PATIENCE)
        self.election.stood_back.clear()
        self.advance(10)
        self.assertEqual(self.election.stood_back, [])

    def test_time_in_which_nobody_can_be_elected_does_not_count(self) -> None:
        self.election.primary, self.election.has_quorum = None, False
        self.start()
        self.fail()
        self.advance(100)
        self.election.has_quorum = True
        self.election.stood_back.clear()
        self.advance(PATIENCE - REST)
        self.assertEqual(set(self.election.stood_back), {REST})

    def test_who_took_the_role_though_unhealthy_keeps_it_for_some_time(self) -> None:
        self.start()
        self.fail()
        self.advance(4)
        self.election.elect("a")
        self.advance(IN_NEED - 4)
        self.assertEqual(len(self.election.stepped_down), 1)
        self.advance(4)
        self.assertEqual(len(self.election.stepped_down), 2)

    def test_what_fails_on_the_primary_alone_does_not_send_the_role_round_and_round(self) -> None:
        check = self.start()
        self.fail()
        self.advance(4)
        self.fail(0)
        self.advance(2)
        self.assertTrue(check.healthy)
        self.election.elect("a")
        self.fail()
        self.advance(RESPITE - 10)
        self.assertFalse(check.healthy)
        self.assertEqual(len(self.election.stepped_down), 1)
        self.advance(10)
        self.assertEqual(len(self.election.stepped_down), 2)

    def test_a_primary_is_not_checked_before_all_that_it_runs_has_started(self) -> None:
        self.election.running = [ChildStatus("job", "starting")]
        self.start()
        self.advance(10)
        self.assertEqual(FakeRun.runs, [])
        self.election.running = [ChildStatus("job", "running")]
        self.advance(1)
        (run,) = FakeRun.runs
        self.assertEqual(run.environment["KEVY_ROLE"], "primary")

    def test_nor_while_it_gives_up_its_role(self) -> None:
        self.election.can_write = False
        self.start()
        self.advance(10)
        self.assertEqual(FakeRun.runs, [])

    def test_failures_of_another_role_do_not_count(self) -> None:
        self.election.primary = "b"
        check = self.start(fall=2)
        self.fail()
        self.advance(1.25)
        self.election.elect("a")  # while the second run is under way
        self.advance(1.75)
        self.assertEqual(len(FakeRun.runs), 4)
        self.assertTrue(check.healthy)
        self.advance(1)
        self.assertFalse(check.healthy)

    def test_one_run_at_a_time(self) -> None:
        FakeRun.status = None
        self.start()
        self.advance(10)
        (run,) = FakeRun.runs
        run.gone.callback(0)
        self.advance(1)
        self.assertEqual(len(FakeRun.runs), 2)

    def test_another_command_begins_as_healthy(self) -> None:
        check = self.start(fall=1)
        self.fail()
        self.advance(1)
        check.use(["another"], 2, 1)
        self.assertEqual(check.status(), CheckStatus(healthy=True, problem=""))
        self.advance(1)
        self.assertEqual(FakeRun.runs[-1].command, ("another",))
        self.assertTrue(check.healthy)

    def test_without_a_command_nothing_is_checked(self) -> None:
        check = self.start(fall=1)
        self.fail()
        self.advance(1)
        check.use((), 1, 1)
        self.election.stood_back.clear()
        runs = len(FakeRun.runs)
        self.advance(10)
        self.assertIsNone(check.status())
        self.assertEqual((self.election.stood_back, len(FakeRun.runs)), ([], runs))


class CommandTests(ProcessTests):
    """Real commands, of a node that may not step down."""

    def start(self, script: str, timeout: float = 5.0) -> HealthCheck:
        self.election.now = self.reactor.seconds
        self.election.children = self.election.peer_status = list
        check = HealthCheck(self.election, self.shell(script), fall=1, timeout=timeout)
        check.startService()
        self.addCleanup(lambda: check.stopService() if check.running else None)
        return check

    async def test_it_is_told_of_the_election_and_its_output_is_logged(self) -> None:
        check = self.start("echo $KEVY_NODE_ID $KEVY_ROLE $KEVY_EPOCH; exit 3")
        await self.poll(lambda: not check.healthy)
        self.assertTrue(self.is_logged("the check 'sh': exited with status 3. a primary 7"))
        self.assertTrue(self.is_logged("a is unhealthy, as its check says"))
        await check.stopService()

    async def test_one_that_hangs_has_failed_and_is_killed_with_its_group(self) -> None:
        check = self.start("trap '' TERM; sleep 60 & sleep 60", timeout=0.2)
        await self.poll(lambda: not check.healthy)
        self.assertTrue(self.is_logged("did not end within 0.2 s"))
        await check.stopService()

    async def test_one_that_cannot_be_executed_has_failed(self) -> None:
        check = self.start("")
        check.use(["/no/such"], 1, 1)
        await self.poll(lambda: not check.healthy)
        self.assertTrue(self.is_logged("/no/such: No such file or directory"))
        await check.stopService()

    async def test_stopping_does_not_wait_for_its_end(self) -> None:
        check = self.start("echo > out; sleep 60")
        await self.poll(lambda: self.read())
        await check.stopService()
        self.assertTrue(check.healthy)
