"""Three real nodes of which one is preferred."""

from __future__ import annotations

import subprocess
import sys

from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.support.processes import Cluster, Node, poll
from tests.support.waiting import DEADLINE

KEVY_ELECT = (sys.executable, "-m", "kevy_elect")
PATIENCE = 2
"""A down_after that lasts longer than a switchover on a busy machine."""


def start(cluster: Cluster, node: Node) -> None:
    pages = ",".join(f"{each.node_id}@127.0.0.1:{each.http}" for each in cluster.nodes.values())
    preferring = ("--priorities=c=10", f"--http-peers={pages}")
    node.start(node.command(f"--down-after={PATIENCE}", f"--failback={PATIENCE}", *preferring))


@ensureDeferred
async def test_a_preferred_member_gets_its_role_back_unless_an_operator_moved_it(
    cluster: Cluster,
) -> None:
    for node_id in "ab":
        start(cluster, cluster[node_id])
    await cluster.settled("ab")
    start(cluster, cluster["c"])

    async def leads() -> bool:
        primary = await cluster.agreed()
        return primary is not None and primary["node_id"] == "c"

    await poll(leads)
    told = [status for each in "ab" if (status := await cluster[each].status()) is not None]
    reasons = {event["reason"] for status in told for event in status["events"]}
    assert "failback" in reasons

    moving = [*KEVY_ELECT, "switchover", "b", f"--data-dir={cluster['c'].data}"]
    moved = await deferToThread(
        subprocess.run, moving, capture_output=True, text=True, timeout=DEADLINE
    )
    assert moved.returncode == 0, moved.stderr

    async def stays() -> bool:
        return "an operator moved the role here" in cluster["b"].log.read_text()

    await poll(stays)
