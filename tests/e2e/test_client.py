"""Programs that look for the primary follow a real failover."""

from __future__ import annotations

import subprocess
import sys

from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from kevy_elect.client import Client
from tests.support.processes import Cluster
from tests.support.waiting import DEADLINE


def kevy_elect(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kevy_elect", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


@ensureDeferred
async def test_client_and_command_find_the_primary_and_its_successor(cluster: Cluster) -> None:
    pages = [f"127.0.0.1:{node.http}" for node in cluster.nodes.values()]
    client = Client(pages)
    done = await deferToThread(kevy_elect, "primary", *pages)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Connection refused" in done.stderr

    for node in cluster.nodes.values():
        node.start(node.command("--down-after=2"))
    done = await deferToThread(kevy_elect, "primary", f"--wait={DEADLINE}", *pages)
    first = await cluster.settled()
    assert (done.returncode, done.stdout) == (0, f"{first['primary_addr']}\n")
    found = await deferToThread(client.wait, DEADLINE)
    assert found.address == first["primary_addr"]
    node = cluster[first["node_id"]]
    done = await deferToThread(kevy_elect, "primary", f"--data-dir={node.data}")
    assert (done.returncode, done.stdout) == (0, f"{first['primary_addr']}\n")

    changes = client.changes(0.02)
    assert await deferToThread(next, changes) == found
    node.kill()
    second = found
    while second is None or second.node_id == found.node_id:  # there was none for a while
        second = await deferToThread(next, changes)
    assert second.epoch > found.epoch
