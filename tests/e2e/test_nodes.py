"""Real twistd processes, real sockets, a real disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from pytest_twisted import ensureDeferred

from tests.support import FOREGROUND, TWISTD
from tests.support.processes import DOWN_AFTER, TWIST, Cluster, poll
from tests.support.waiting import DEADLINE, wait_for

BALLOT = re.compile(r"epoch (\d+)\nvoted (\S+)\n")


def saved_epoch(cluster: Cluster, node_id: str) -> int:
    found = BALLOT.fullmatch((cluster[node_id].data / "elect.meta").read_text())
    assert found is not None
    return int(found[1])


@ensureDeferred
async def test_three_processes_elect_one_primary(cluster: Cluster) -> None:
    cluster.start()
    primary = await cluster.settled()
    assert primary["epoch"] >= 2
    assert primary["primary_addr"] in cluster["a"].peers
    assert "elected primary of epoch" in cluster[primary["node_id"]].log.read_text()


@ensureDeferred
async def test_a_killed_primary_is_replaced_and_returns_as_a_replica(cluster: Cluster) -> None:
    cluster.start()
    first = await cluster.settled()
    dead, others = first["node_id"], "abc".replace(first["node_id"], "")
    cluster[dead].kill()
    second = await cluster.settled(others, other_than=dead)
    assert second["epoch"] > first["epoch"]
    assert second["down_peers"] == [dead]
    kept = saved_epoch(cluster, dead)
    cluster[dead].start()
    third = await cluster.settled()
    assert (third["node_id"], third["epoch"]) == (second["node_id"], second["epoch"])
    assert saved_epoch(cluster, dead) >= kept


@ensureDeferred
async def test_each_node_survives_its_restart_with_its_ballot(cluster: Cluster) -> None:
    cluster.start()
    await cluster.settled()
    for node_id in "abc":
        epoch = saved_epoch(cluster, node_id)
        cluster[node_id].kill()
        cluster[node_id].start()
        told = await poll(cluster[node_id].status)
        assert told["epoch"] >= epoch
        await cluster.settled()


@ensureDeferred
async def test_all_at_once_can_be_killed_and_come_back(cluster: Cluster) -> None:
    cluster.start()
    before = await cluster.settled()
    for node in cluster.nodes.values():
        node.kill()
    cluster.start()
    after = await cluster.settled()
    assert after["epoch"] > before["epoch"]


@ensureDeferred
async def test_a_stopped_process_loses_its_lease_and_is_replaced(cluster: Cluster) -> None:
    cluster.start()
    first = await cluster.settled()
    paused, others = first["node_id"], "abc".replace(first["node_id"], "")
    process = cluster[paused].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    second = await cluster.settled(others, other_than=paused)
    process.send_signal(signal.SIGCONT)
    third = await cluster.settled()
    assert third["node_id"] == second["node_id"]


@ensureDeferred
async def test_sigterm_ends_a_node_and_frees_its_port_and_directory(cluster: Cluster) -> None:
    cluster.start()
    await cluster.settled()
    for _ in range(2):
        assert cluster["a"].kill(signal.SIGTERM) == -signal.SIGTERM
        cluster["a"].start()
        await cluster.settled()
    assert "Traceback" not in cluster.logs()


@ensureDeferred
async def test_twist_runs_a_node_too(cluster: Cluster) -> None:
    cluster.start()
    await cluster.settled()
    cluster["c"].kill()
    cluster["c"].start(cluster["c"].command(runner=TWIST))
    await cluster.settled()
    assert cluster["c"].kill(signal.SIGTERM) == -signal.SIGTERM


@ensureDeferred
async def test_a_daemon_is_a_node_like_any_other(cluster: Cluster) -> None:
    cluster.start()
    await cluster.settled()
    node = cluster["c"]
    node.kill()
    pidfile = node.directory / "c.pid"
    runner = (*TWISTD, f"--pidfile={pidfile}", f"--logfile={node.directory / 'c-daemon.log'}")
    assert node.start(node.command(runner=runner)).wait(DEADLINE) == 0
    pid = int(pidfile.read_text())
    try:
        await cluster.settled()
    finally:
        os.kill(pid, signal.SIGTERM)

    async def gone() -> bool:
        return not pidfile.exists()

    await poll(gone)


def refused(
    cluster: Cluster, node_id: str, *more: str, runner: tuple[str, ...] | None = None
) -> str:
    """The output of a node that must not start; it ends with status 1."""
    command = cluster[node_id].command(*more)
    if runner is not None:
        command = cluster[node_id].command(*more, runner=runner)
    ended = subprocess.run(
        command,
        cwd=cluster[node_id].directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 1, output
    assert "Traceback" not in output
    return output


@ensureDeferred
async def test_a_data_directory_in_use_is_refused(cluster: Cluster) -> None:
    cluster["a"].start()
    await poll(cluster["a"].status)
    output = refused(cluster, "b", f"--data-dir={cluster['a'].data}")
    assert str(cluster["a"].data) in output
    assert "in use by node a" in output
    assert "node b needs a directory of its own" in output


@ensureDeferred
@pytest.mark.parametrize("runner", [None, TWIST], ids=["twistd", "twist"])
async def test_a_busy_port_is_refused(cluster: Cluster, runner: tuple[str, ...] | None) -> None:
    cluster["a"].start()
    await poll(cluster["a"].status)
    data = cluster["b"].data
    output = refused(cluster, "a", f"--data-dir={data}", "--http=tcp:0", runner=runner)
    assert "--listen tcp:" in output
    assert "Address already in use; end what holds that port" in output
    assert not (data / "elect.meta").exists()


def test_a_daemon_that_cannot_start_says_so(cluster: Cluster) -> None:
    node = cluster["a"]
    node.data.write_text("no directory")
    log = node.directory / "daemon.log"
    runner = (*TWISTD, f"--pidfile={node.directory / 'a.pid'}", f"--logfile={log}")
    output = refused(cluster, "a", runner=runner)
    assert "--data-dir" in output
    assert str(node.data) in log.read_text()
    wait_for(lambda: not (node.directory / "a.pid").exists())


def test_a_damaged_ballot_refuses_the_start(cluster: Cluster) -> None:
    node = cluster["a"]
    node.data.mkdir()
    ballot = node.data / "elect.meta"
    ballot.write_text("epoch 12\nvot")
    output = refused(cluster, "a")
    assert str(ballot) in output
    assert "epoch N" in output
    assert ballot.read_text() == "epoch 12\nvot"


@pytest.mark.parametrize("runner", [None, TWIST], ids=["twistd", "twist"])
@pytest.mark.parametrize("wrong", ["--down-after=0.1", "--wrong", "--listen=nonsense", "b@h:1"])
def test_wrong_options_are_refused_with_one_message_before_anything_starts(
    cluster: Cluster, runner: tuple[str, ...] | None, wrong: str
) -> None:
    output = refused(cluster, "a", wrong, runner=runner)
    assert output.count("\n") == 1
    assert wrong.partition("=")[0] in output
    assert not cluster["a"].data.exists()


@pytest.mark.parametrize("wrong", ["--listen=stdio:", "--http=unix:/no/such"])
def test_an_endpoint_that_cannot_listen_is_refused_with_one_message(
    cluster: Cluster, wrong: str
) -> None:
    output = refused(cluster, "a", wrong)
    assert f"cannot start: {wrong.replace('=', ' ')}" in output


TAC = """
from twisted.application import internet, service
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.elector import Elector
from kevy_elect.service.election import ElectionService

peers = tuple(PeerAddr.parse(peer) for peer in {peers!r}.split(","))
election = ElectionService(
    Cluster("c", peers),
    data_dir={data!r},
    config=ElectConfig(hb_interval=0.1, down_after={down_after}, election_timeout=0.5),
)
other = internet.TimerService(0.05, lambda: print("role", election.state_snapshot().role.value))
application = service.Application("composed")
election.setServiceParent(application)
other.setServiceParent(application)
"""

BUG = """
def fail(self, now):
    raise RuntimeError("a bug in the elector")
from twisted.internet import reactor
reactor.callLater(0.3, setattr, Elector, "tick", fail)
"""


def write_tac(cluster: Cluster, more: str = "") -> list[str]:
    node = cluster["c"]
    tac = node.directory / "composed.tac"
    tac.write_text(TAC.format(peers=node.peers, data=str(node.data), down_after=DOWN_AFTER) + more)
    return [*FOREGROUND, "-y", str(tac)]


@ensureDeferred
async def test_a_tac_composes_it_with_another_service(cluster: Cluster) -> None:
    for node_id in "ab":
        cluster[node_id].start()
    primary = await cluster.settled("ab")
    cluster["c"].start(write_tac(cluster))

    async def seen() -> bool:
        told = await cluster[primary["node_id"]].status()
        return told is not None and told["down_peers"] == []

    await poll(seen)
    for node_id in "ab":
        cluster[node_id].kill(signal.SIGTERM)
    assert "role replica" in cluster["c"].log.read_text()
    assert cluster["c"].kill(signal.SIGTERM) == -signal.SIGTERM


def test_a_bug_in_the_elector_ends_the_process_with_status_1(cluster: Cluster) -> None:
    process = cluster["c"].start(write_tac(cluster, BUG))
    assert process.wait(DEADLINE) == 1
    log = cluster["c"].log.read_text()
    assert "a bug in the elector" in log
    assert "Server Shut Down" in log


STEPPED_CLOCK = """
import signal, time
from twisted.internet.base import ReactorBase
behind = 0.0
ReactorBase.seconds = staticmethod(lambda: time.time() - behind)

def step(*_):
    global behind
    behind = 3600.0

signal.signal(signal.SIGUSR1, step)
from twisted.scripts.twistd import run
run()
"""


@ensureDeferred
async def test_a_wall_clock_set_back_on_all_nodes_at_once_changes_nothing(
    cluster: Cluster,
) -> None:
    lease = 1.5  # which a busy machine does not end by itself
    for node in cluster.nodes.values():
        runner = (sys.executable, "-c", STEPPED_CLOCK, "-n", "--pidfile=")
        node.start(node.command(f"--down-after={lease}", runner=runner))
    before = await cluster.settled()
    for node in cluster.nodes.values():
        assert node.process is not None
        node.process.send_signal(signal.SIGUSR1)
    stepped = time.monotonic()

    async def later() -> bool:
        return time.monotonic() - stepped > 3 * lease

    await poll(later)
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (before["node_id"], before["epoch"])
