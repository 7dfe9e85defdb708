"""A command beside each of three real nodes: it works on the primary only, never on two."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from pytest_twisted import ensureDeferred

from kevy_elect.children.processes import is_running, parent_of
from tests.support.processes import Cluster, logged, poll
from tests.support.waiting import DEADLINE

GRACE = 0.2
CALM = ("--hb-interval=0.1", "--down-after=3.0")
"""A busy machine does not end a lease of these, which would be right, too."""
TIMINGS = ("--hb-interval=0.02", "--down-after=1.0", f"--stop-grace={GRACE}")
WORKER = """
import os, signal, sys, time

stamps = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
node, epoch, run = os.environ["KEVY_NODE_ID"], os.environ["KEVY_EPOCH"], os.getpid()
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("primary", *(os.environ["KEVY_" + each] for each in ("ROLE", "PRIMARY_ID", "PRIMARY_ADDR")))
print("\\x1b[2J \\xff", file=sys.stderr)
sys.stdout.flush()
if "alone" not in sys.argv and os.fork() == 0 and os.fork() == 0:
    os.setsid()  # a grandchild that leaves the group
until = time.monotonic() + (0.3 if "brief" in sys.argv else 60)
while time.monotonic() < until:
    line = f"{node} {epoch} {run} {os.getpid()} {time.monotonic()}\\n"
    os.write(stamps, line.encode())
    time.sleep(0.005)
sys.exit(7)
"""


@attrs.define
class Work:
    """One run of the worker, grandchildren included, as its own stamps tell."""

    node: str
    epoch: int
    pid: int
    began: float
    ended: float
    pids: set[int] = attrs.field(factory=set)


class Workplace:
    """The cluster's workers and the file that all of them stamp."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.stamps = directory / "stamps"
        self.worker = directory / "worker.py"
        self.worker.write_text(WORKER)

    def start(self, *how: str, command: str | None = None, options: tuple[str, ...] = ()) -> None:
        words = [sys.executable, str(self.worker), str(self.stamps), *how]
        run = f"--run-primary={command or shlex.join(words)}"
        for node in self.cluster.nodes.values():
            node.start(node.command(*TIMINGS, run, *options))

    def work(self) -> list[Work]:
        """All runs, by their begin."""
        runs: dict[int, Work] = {}
        text = self.stamps.read_text() if self.stamps.exists() else ""
        for line in text.splitlines():
            node, epoch, run, pid, stamp = line.split()
            at = float(stamp)
            work = runs.setdefault(int(run), Work(node, int(epoch), int(run), at, at))
            work.began, work.ended = min(work.began, at), max(work.ended, at)
            work.pids.add(int(pid))
        return sorted(runs.values(), key=lambda work: work.began)

    def check(self) -> None:
        """Never two at work at once, and no epoch below the one before."""
        for one, next_one in pairwise(self.work()):
            assert one.ended < next_one.began, (one, next_one)
            assert one.epoch <= next_one.epoch

    async def settled(self, runs: int = 1, processes: int = 2) -> Work:
        """The last run, once there are so many and it is at work."""

        async def at_work() -> Work | None:
            work = self.work()
            ready = len(work) >= runs and len(work[-1].pids) >= processes
            return work[-1] if ready and is_running(work[-1].pid) else None

        found: Work = await poll(at_work)
        return found


@pytest.fixture
def workplace(cluster: Cluster, tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(cluster, tmp_path)
    yield place
    place.check()


def supervisor_of(work: Work) -> int:
    return _parent_of(work.pid)


def guard_of(work: Work) -> int:
    return _parent_of(supervisor_of(work))


def _parent_of(pid: int) -> int:
    found = parent_of(pid)
    assert found is not None
    return found


async def dead(pids: set[int]) -> None:
    async def are_dead() -> bool:
        return not any(map(is_running, pids))

    await poll(are_dead)


@ensureDeferred
async def test_it_works_on_the_primary_only_and_is_heard_in_the_log(
    cluster: Cluster, workplace: Workplace
) -> None:
    workplace.start(options=CALM)
    work = await workplace.settled()
    primary = await cluster.settled()
    assert (work.node, work.epoch) == (primary["node_id"], primary["epoch"])
    address = primary["primary_addr"]
    await logged(cluster.logs, f"primary primary {work.node} {address}")
    await logged(cluster.logs, "\\x1b[2J ÿ")
    assert len(workplace.work()) == 1


@ensureDeferred
async def test_it_moves_when_its_node_is_killed_and_leaves_nobody_behind(
    cluster: Cluster, workplace: Workplace
) -> None:
    workplace.start(options=CALM)
    first = await workplace.settled()
    cluster[first.node].kill()
    killed = time.monotonic()
    await dead(first.pids)
    assert workplace.work()[0].ended < killed + 2.0  # and not at the end of the lease
    second = await workplace.settled(runs=2)
    assert second.node != first.node
    assert second.epoch > first.epoch


@ensureDeferred
async def test_it_ends_in_time_while_its_node_stands_still(
    cluster: Cluster, workplace: Workplace
) -> None:
    workplace.start("stubborn")
    first = await workplace.settled()
    process = cluster[first.node].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await dead(first.pids)
    await workplace.settled(runs=2)
    process.send_signal(signal.SIGCONT)
    assert process.wait(DEADLINE) == 1  # it overran its lease
    await logged(cluster.logs, "stopped in time, and others may be primary")


@ensureDeferred
async def test_it_is_started_again_when_it_ends(cluster: Cluster, workplace: Workplace) -> None:
    workplace.start("brief", options=CALM)
    await workplace.settled(runs=3)
    assert len({(work.node, work.epoch) for work in workplace.work()}) == 1
    await logged(cluster.logs, "exited with status 7 while primary: starting it again in 0.2 s")


@ensureDeferred
async def test_its_end_gives_up_the_role(cluster: Cluster, workplace: Workplace) -> None:
    workplace.start(options=("--on-exit=step-down",))
    first = await workplace.settled()
    os.kill(first.pid, signal.SIGKILL)
    second = await workplace.settled(runs=2)
    assert second.node != first.node
    assert not any(map(is_running, first.pids))
    await logged(cluster.logs, "ended by SIGKILL while primary")
    assert (await cluster.settled())["node_id"] == second.node


@ensureDeferred
async def test_its_end_ends_the_node(cluster: Cluster, workplace: Workplace) -> None:
    workplace.start("brief", options=("--on-exit=stop",))
    first = await workplace.settled()
    process = cluster[first.node].process
    assert process is not None
    second = await workplace.settled(runs=2)
    assert second.node != first.node
    assert not any(map(is_running, first.pids))
    assert process.wait(DEADLINE) == 7
    # The others need not wait for the end of its lease.
    await logged(
        cluster.logs, f"no longer following {first.node}: {first.node} says that it is replica"
    )


@ensureDeferred
async def test_one_that_ignores_sigterm_is_killed(cluster: Cluster, workplace: Workplace) -> None:
    workplace.start("stubborn", options=CALM)
    work = await workplace.settled()
    began = time.monotonic()
    assert cluster[work.node].kill(signal.SIGTERM) == -signal.SIGTERM
    assert not any(map(is_running, work.pids))
    assert max(each.ended for each in workplace.work() if each.node == work.node) < began + 2.5
    await logged(cluster.logs, "is down: it ended by SIGKILL")


@ensureDeferred
@pytest.mark.parametrize("which", [supervisor_of, guard_of])
async def test_a_killed_supervisor_takes_it_along(
    cluster: Cluster, workplace: Workplace, which: Callable[[Work], int]
) -> None:
    """And its grandchildren in sessions of their own."""
    workplace.start("stubborn", options=CALM)
    first = await workplace.settled(processes=2)
    os.kill(which(first), signal.SIGKILL)
    await dead(first.pids)
    second = await workplace.settled(runs=2, processes=2)
    assert second.node == first.node


@ensureDeferred
async def test_a_supervisor_that_stands_still_does_not_save_it(
    cluster: Cluster, workplace: Workplace
) -> None:
    """The node kills the supervisor, whose guard ends the rest."""
    workplace.start("stubborn")
    work = await workplace.settled(processes=2)
    supervisor = supervisor_of(work)
    os.kill(supervisor, signal.SIGSTOP)
    assert cluster[work.node].kill(signal.SIGTERM) == -signal.SIGTERM
    await dead({supervisor, *work.pids})


@ensureDeferred
async def test_one_that_cannot_be_executed_gives_up_the_role(
    cluster: Cluster, workplace: Workplace
) -> None:
    workplace.start(command="/no/such/program --with words")
    await logged(cluster.logs, "/no/such/program: No such file or directory")
    await logged(cluster.logs, "could not be started: giving up the role")


@ensureDeferred
async def test_a_hook_hears_of_each_change_and_an_offset_decides(
    cluster: Cluster, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    hook = (
        "echo $KEVY_NODE_ID from $KEVY_OLD_ROLE/$KEVY_OLD_PRIMARY_ID "
        f"to $KEVY_ROLE/$KEVY_PRIMARY_ID: $KEVY_REASON >> {shlex.quote(str(heard))}"
    )
    for node_id, node in cluster.nodes.items():
        offset = f"--offset-command=echo {ord(node_id)}"
        node.start(node.command(*TIMINGS[:2], "--shell", f"--on-change={hook}", offset))
    first = (await cluster.settled())["node_id"]

    async def offsets_known() -> bool:
        told = await cluster[first].status()
        peers = told["peers"] if told else []
        return [peer["offset"] for peer in peers] == [ord(n) for n in "abc" if n != first]

    async def promotion_heard() -> bool:
        return f"to primary/{first}: " in heard.read_text()

    await poll(offsets_known)
    await poll(promotion_heard)
    cluster[first].kill(signal.SIGTERM)
    second = await cluster.settled("abc".replace(first, ""))
    assert second["node_id"] == max("abc".replace(first, ""))

    async def all_heard() -> bool:
        lines = heard.read_text().splitlines()
        of_first = [line for line in lines if line.startswith(f"{first} from ")]
        return (
            of_first[0] == f"{first} from / to replica/: the node started"
            and of_first[-1].endswith(": the service stopped")
            and any(f"to primary/{second['node_id']}: " in line for line in lines)
        )

    await poll(all_heard)


@ensureDeferred
async def test_the_command_goes_on_while_its_node_renews(
    workplace: Workplace, tmp_path: Path
) -> None:
    """R8: a member comes back in an epoch far above the primary's, as after a candidacy that
    nobody heard of. It is brought back without a moment in which nobody could write."""
    heard = tmp_path / "heard"
    hook = f'echo "$KEVY_NODE_ID $KEVY_OLD_ROLE $KEVY_ROLE" >> {shlex.quote(str(heard))}'
    cluster = workplace.cluster
    workplace.start("alone", options=("--shell", f"--on-change={hook}", *CALM))
    first = (await workplace.settled(processes=1)).node
    await cluster.settled()
    (*_, stray) = "abc".replace(first, "")
    process = cluster[stray].process
    assert process is not None
    command = process.args
    cluster[stray].kill()
    (cluster[stray].data / "elect.meta").write_text("epoch 40\nvoted -\n")
    cluster[stray].start(command)  # type: ignore[arg-type]

    async def renewed() -> bool:
        leader = await cluster.agreed()
        return leader is not None and leader["node_id"] == first and leader["epoch"] > 40

    await poll(renewed)
    (run,) = workplace.work()
    assert is_running(run.pid)
    status = await cluster[first].status()
    assert status is not None
    renewals = [at for at, event in enumerate(status["events"]) if event["kind"] == "renewal"]
    assert len(renewals) >= 2  # it asked, and was renewed
    meanwhile = status["events"][renewals[0] : renewals[-1]]
    assert "lost" not in [e["cause"] for e in meanwhile if e["kind"] == "quorum"]
    changes = [line.split()[1:] for line in heard.read_text().splitlines() if line[0] == first]
    assert ["primary", "replica"] not in changes
