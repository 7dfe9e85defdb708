"""The operator's commands against three real nodes."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.processes import DOWN_AFTER, Cluster, Node, poll
from tests.support.waiting import DEADLINE

KEVY_ELECT = (sys.executable, "-m", "kevy_elect")
Result = subprocess.CompletedProcess[str]
PATIENCE = 2.0
"""A down_after that lasts longer than a switchover on a busy machine."""


def run(*arguments: str, cwd: Path | None = None) -> Result:
    return subprocess.run(
        [*KEVY_ELECT, *arguments], capture_output=True, text=True, timeout=DEADLINE, cwd=cwd
    )


async def ask(node: Node, command: str, *more: str) -> Result:
    """Run a command for this node, beside the reactor."""
    where = f"--data-dir={node.data}"
    result: Result = await deferToThread(run, command, where, *more)
    return result


async def told(node: Node, command: str, *more: str) -> Any:
    return json.loads((await ask(node, command, "--json", *more)).stdout)


async def settled(cluster: Cluster, down_after: float = DOWN_AFTER) -> tuple[Node, list[Node]]:
    """The primary and the others, once all may vote and run (R4.3, R5)."""
    await cluster.settled()
    await deferLater(reactor, down_after + 0.1)
    primary = (await cluster.settled())["node_id"]
    return cluster[primary], [cluster[each] for each in "abc" if each != primary]


@ensureDeferred
async def test_an_operator_sees_moves_and_pauses_the_role(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.start(node.command(f"--down-after={PATIENCE}"))
    primary, (low, high) = await settled(cluster, PATIENCE)

    shown = await ask(primary, "status")
    assert shown.returncode == 0, shown.stderr
    assert primary.node_id in shown.stdout
    assert "primary" in shown.stdout
    assert "connected for" in shown.stdout
    mode = (primary.data / "admin.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600

    moved = await ask(primary, "switchover")
    assert moved.returncode == 0, moved.stderr + moved.stdout
    lines = moved.stdout.splitlines()
    assert "fenced" in lines[0]
    assert f"{low.node_id} is primary of epoch" in lines[-2]
    took = lines[-1].removeprefix("no node could write for ").removesuffix(" s")
    assert 0 < float(took) < PATIENCE
    assert (await cluster.settled())["node_id"] == low.node_id

    named = await told(low, "switchover", high.node_id, "--reason", "a new kernel")
    assert (named["ok"], named["primary"]) == (True, high.node_id)
    assert len(named["steps"]) >= 4
    assert 0 < named["unwritable"] < PATIENCE
    await cluster.settled()

    shown = (await ask(low, "events", "--since", "1h")).stdout
    assert f"handing over to {high.node_id} (reason: a new kernel)" in shown

    refused = await ask(low, "switchover")
    assert refused.returncode == 1
    assert f"{high.node_id} is" in refused.stdout + refused.stderr

    assert (await ask(high, "pause", "10m")).returncode == 1
    paused = await ask(low, "pause", "10m")
    assert (paused.returncode, paused.stderr) == (0, "")
    assert "does not run for election for another" in (await ask(low, "status")).stdout
    assert "does not stand for election for 600 s" in low.log.read_text()

    down = await ask(high, "step-down", "--rest=1m")
    assert down.returncode == 0
    assert (await cluster.settled(other_than=high.node_id))["node_id"] == primary.node_id

    assert (await ask(low, "resume")).returncode == 0
    assert "does not run for election" not in (await ask(low, "status")).stdout

    assert (await ask(low, "offset", "42")).returncode == 0
    assert (await told(low, "status"))["peers"] != []
    await poll(lambda: offset_seen(primary, low.node_id, 42))
    assert (await ask(low, "offset", "-1")).returncode in (1, 2)

    events = await told(primary, "events")
    assert {"role", "candidacy", "vote"} <= {event["kind"] for event in events}
    last = await ask(primary, "events", "-n", "1")
    assert len(last.stdout.splitlines()) == 1


async def offset_seen(by: Node, of: str, offset: int) -> bool:
    peers = (await told(by, "status"))["peers"]
    return any((p["node_id"], p["offset"]) == (of, offset) for p in peers)


@ensureDeferred
async def test_all_nodes_are_asked_where_their_pages_are_known(cluster: Cluster) -> None:
    pages = ",".join(f"{n.node_id}@127.0.0.1:{n.http}" for n in cluster.nodes.values())
    for node in cluster.nodes.values():
        node.start(node.command(*([f"--http-peers={pages}"] if node.node_id == "a" else [])))
    await cluster.settled()
    everybody = await told(cluster["a"], "status", "--all")
    assert everybody["ok"]
    assert [each["node_id"] for each in everybody["nodes"]] == ["a", "b", "c"]
    alone = await ask(cluster["b"], "status", "--all")
    assert "--http-peers" in alone.stdout


@ensureDeferred
async def test_a_stopped_primary_hands_over_unless_it_must_not(cluster: Cluster) -> None:
    cluster["a"].start(cluster["a"].command("--no-handover"))
    for each in "bc":
        cluster[each].start()
    primary, _ = await settled(cluster)
    if primary.node_id == "a":
        await ask(primary, "switchover", "b")
        primary = cluster[(await cluster.settled())["node_id"]]
    successor = await takeover(cluster, primary)
    assert "is primary of epoch" in primary.log.read_text().split("handover,")[-1]

    primary.start()
    await cluster.settled()
    await deferLater(reactor, DOWN_AFTER + 0.1)
    if successor != "a":
        assert (await ask(cluster[successor], "switchover", "a")).returncode == 0
        await cluster.settled()
    await takeover(cluster, cluster["a"])
    assert "fenced" not in cluster["a"].log.read_text().split("SIGTERM")[-1]


async def takeover(cluster: Cluster, primary: Node) -> str:
    """End the primary by SIGTERM; who leads then."""
    assert primary.process is not None
    primary.process.send_signal(signal.SIGTERM)
    assert await deferToThread(primary.process.wait, DEADLINE) == -signal.SIGTERM
    rest = "".join(each for each in "abc" if each != primary.node_id)
    told = await cluster.settled(rest, other_than=primary.node_id)
    return str(told["node_id"])


@ensureDeferred
async def test_a_socket_left_by_a_killed_node_does_not_keep_it_from_starting(
    cluster: Cluster,
) -> None:
    cluster.start()
    await cluster.settled()
    node = cluster["b"]
    node.kill()
    assert (node.data / "admin.sock").exists()
    unreachable = await ask(node, "status")
    assert unreachable.returncode == 3
    assert str(node.data) in unreachable.stderr
    node.start()
    await cluster.settled()
    assert (await ask(node, "status")).returncode == 0


@ensureDeferred
async def test_what_a_killed_node_noted_is_told_by_the_next_one(cluster: Cluster) -> None:
    cluster.start()
    primary, _ = await settled(cluster)
    primary.kill()
    await cluster.settled("".join(set("abc") - {primary.node_id}))
    primary.start()
    await cluster.settled()
    elected = [each["cause"] for each in await told(primary, "events", "--since", "10m")]
    assert "elected" in elected
    shown = (await ask(primary, "events", "-n", "1000")).stdout
    assert shown.count("started, version") == 2
    assert "stopped" not in shown
    status = await primary.status()
    assert status is not None
    assert "elected" in {each["cause"] for each in status["events"]}
    assert (await ask(primary, "events", "-n", "0")).stdout == ""


@ensureDeferred
async def test_in_maintenance_nobody_takes_over_not_even_after_a_restart(cluster: Cluster) -> None:
    cluster.start()
    await cluster.settled()
    await ask_all(list(cluster.nodes.values()), "maintenance", "on")
    first = await cluster.settled()
    dead, *others = sorted(
        cluster.nodes.values(), key=lambda each: each.node_id != first["node_id"]
    )
    dead.kill()
    others[0].kill()
    others[0].start()

    async def may_run() -> bool:
        """Whether both could have taken over for some time, if it were not for the maintenance."""
        both = [status for each in others if (status := await each.status()) is not None]
        return len(both) == 2 and all(
            dead.node_id in each["down_peers"]
            and len(each["down_peers"]) == 1
            and each["uptime"] > 1.5 * DOWN_AFTER
            for each in both
        )

    await poll(may_run)
    for each in others:
        status = await each.status()
        assert status is not None
        assert status["maintained_for"] > 3000
        assert status["role"] == "replica"
        assert status["epoch"] <= first["epoch"]
    await ask_all(others, "maintenance", "off")
    await cluster.settled("".join(each.node_id for each in others), other_than=dead.node_id)


async def ask_all(nodes: Sequence[Node], *command: str) -> None:
    """Run a command for each of these nodes at once, none of which can tell the others."""
    asked = [deferToThread(run, *command, f"--data-dir={node.data}") for node in nodes]
    for result in await gatherResults(asked):
        assert (result.returncode, "run it on the machine of" in result.stdout) == (1, True), result


@ensureDeferred
async def test_the_operators_side_may_be_moved_or_left_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "x.sock"
    cluster["a"].start(cluster["a"].command(f"--admin=unix:{elsewhere}:mode=660"))
    cluster["b"].start(cluster["b"].command("--no-admin"))
    cluster["c"].start()
    await cluster.settled()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o660
    assert (await deferToThread(run, "status", f"--admin=unix:{elsewhere}")).returncode == 0
    assert not (cluster["b"].data / "admin.sock").exists()
    assert (await ask(cluster["b"], "status")).returncode == 3


def test_without_a_node_it_says_how_to_name_one(tmp_path: Path) -> None:
    nowhere = run("status", cwd=tmp_path)
    assert nowhere.returncode == 2
    assert "--data-dir" in nowhere.stderr


@pytest.mark.parametrize(
    "arguments",
    [("pause", "soon"), ("pause", "0"), ("pause",), ("offset",), ("switchover", "--timeout=-1")],
)
def test_wrong_usage_ends_with_2(arguments: Sequence[str], tmp_path: Path) -> None:
    assert run(*arguments, cwd=tmp_path).returncode == 2


@ensureDeferred
async def test_the_children_of_a_primary_are_down_before_the_next_one_runs(
    cluster: Cluster, tmp_path: Path
) -> None:
    stamps = tmp_path / "stamps"
    work = (
        "import os, sys, time, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.1), sys.exit()))\n"
        "while True:\n"
        f"    open({str(stamps)!r}, 'a').write(f\"{{os.environ['KEVY_NODE_ID']}} "
        '{time.monotonic()}\\n")\n'
        "    time.sleep(0.005)\n"
    )
    script = tmp_path / "work.py"
    script.write_text(work)
    for node in cluster.nodes.values():
        node.start(
            node.command(
                f"--run-primary={sys.executable} {script}",
                "--stop-grace=0.2",
                "--down-after=1.0",
                "--hb-interval=0.02",
            )
        )
    primary, _ = await settled(cluster)
    await deferLater(reactor, 0.5)
    began = time.monotonic()
    moved = await told(primary, "switchover")
    assert moved["ok"], moved
    assert any("children are down" in step["step"] for step in moved["steps"])
    await poll(lambda: worked_since(stamps, moved["primary"], began))
    lines = [line.split() for line in stamps.read_text().splitlines()]
    theirs = [float(at) for who, at in lines if who == primary.node_id]
    next_ones = [float(at) for who, at in lines if who == moved["primary"] and float(at) > began]
    assert max(theirs) < min(next_ones)


async def worked_since(stamps: Path, who: str, since: float) -> bool:
    lines = [line.split() for line in stamps.read_text().splitlines()]
    return any(each[0] == who and float(each[1]) > since for each in lines if len(each) == 2)
