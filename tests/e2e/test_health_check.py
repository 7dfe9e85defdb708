"""A check beside each of three real nodes: who is unhealthy is not primary, if another can be."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from pytest_twisted import ensureDeferred

from tests.support.processes import Cluster, poll

TIMINGS = ("--hb-interval=0.05", "--down-after=2.0", "--stop-grace=0.2")
FAST = ("--shell", "--check-fall=2")
JOB = "while :; do touch beat-$KEVY_NODE_ID; sleep 0.05; done"
BEATS = (
    '[ "$KEVY_ROLE" != primary ] || [ ! -e beat-$KEVY_NODE_ID ] || '
    'find beat-$KEVY_NODE_ID -newermt "-3 seconds" | grep -q .'
)
BROKEN = "! ls broken broken-$KEVY_NODE_ID 2>&- | grep -q ."


def start(cluster: Cluster, *options: str) -> None:
    for node in cluster.nodes.values():
        node.start(node.command(*options, *FAST))


async def check_says(cluster: Cluster, ids: str = "abc", *, healthy: bool) -> None:
    async def do() -> bool:
        told = [await cluster[node_id].status() for node_id in ids]
        return all(each is not None and each["check"]["healthy"] is healthy for each in told)

    await poll(do)


def resignations(cluster: Cluster) -> int:
    return cluster.logs().count("it is unhealthy: the check 'sh'")


@ensureDeferred
async def test_a_job_that_is_stopped_is_found_and_another_member_takes_over(
    cluster: Cluster,
) -> None:
    start(cluster, *TIMINGS, f"--run-primary={JOB}", f"--check-command={BEATS}")
    first = await cluster.settled()

    async def job() -> Any:
        told = await cluster[first["node_id"]].status()
        return told and told["children"][0]["pid"]

    pid = await poll(job)
    os.killpg(pid, signal.SIGSTOP)
    second = await cluster.settled(other_than=first["node_id"])
    assert second["epoch"] > first["epoch"]
    assert not Path(f"/proc/{pid}").exists()
    await check_says(cluster, healthy=True)
    assert resignations(cluster) > 0


@ensureDeferred
async def test_an_unhealthy_replica_does_not_take_over(cluster: Cluster, tmp_path: Path) -> None:
    start(cluster, f"--check-command={BROKEN}", "--election-timeout=20")
    first = (await cluster.settled())["node_id"]
    broken, well = "abc".replace(first, "")  # of two with the same data the former would run first
    (tmp_path / f"broken-{broken}").touch()
    await check_says(cluster, broken, healthy=False)
    cluster[first].kill()
    assert (await cluster.settled(broken + well))["node_id"] == well


@ensureDeferred
async def test_if_all_are_unhealthy_one_is_primary_all_the_same(
    cluster: Cluster, tmp_path: Path
) -> None:
    start(cluster, f"--check-command={BROKEN}")
    first = (await cluster.settled())["node_id"]
    for other in "abc".replace(first, ""):
        (tmp_path / f"broken-{other}").touch()
        await check_says(cluster, other, healthy=False)
    (tmp_path / "broken").touch()

    async def has_stepped_down() -> bool:
        return resignations(cluster) > 0

    await poll(has_stepped_down)
    second = await cluster.settled()
    await check_says(cluster, healthy=False)
    (tmp_path / "broken").unlink()
    await check_says(cluster, first, healthy=True)
    assert (await cluster.settled())["epoch"] == second["epoch"]
    assert resignations(cluster) == 1
