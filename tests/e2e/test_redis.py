"""Three nodes, each with a real Redis: clients write to one, and a failover loses nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError
from twisted.internet.threads import deferToThread

from tests.support import ROOT
from tests.support.processes import Cluster, free_ports, poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, RedisServer

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")
WRITES = 200


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, RedisServer]]:
    found = {
        node_id: RedisServer(port, tmp_path, *FROZEN)
        for node_id, port in zip("abc", free_ports(3), strict=True)
    }
    for server in found.values():
        server.start()
    yield found
    for server in found.values():
        server.kill()


def start(cluster: Cluster, servers: dict[str, RedisServer], node_id: str) -> None:
    address = servers[node_id].address
    node = cluster[node_id]
    node.start(node.command(f"--redis={address}", f"--advertise={address}"))


async def replicating(cluster: Cluster, servers: dict[str, RedisServer], ids: str = "abc") -> Any:
    """The status of the primary once all the others' servers have all of its data."""

    async def whole() -> Any:
        found = await cluster.agreed(ids)
        told = [await cluster[node_id].status() for node_id in ids]
        synced = sum(bool(each and each["data"]["in_sync"]) for each in told)
        return found if synced == len(ids) - 1 else None

    return await poll(whole)


def write(server: RedisServer, number: int) -> list[int]:
    """Which of so many values were confirmed by a replica, until the server refuses."""
    confirmed = []
    for value in range(number):
        try:
            server.client.rpush("list", value)
            if server.client.wait(1, 1000):
                confirmed.append(value)
        except RedisError:
            break
    return confirmed


@ensureDeferred
async def test_confirmed_writes_survive_the_death_of_the_primary_and_its_server(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = (await replicating(cluster, servers))["node_id"]
    assert {n for n, server in servers.items() if server.takes_writes()} == {first}
    confirmed = await deferToThread(write, servers[first], WRITES)
    assert len(confirmed) == WRITES
    servers[first].kill()
    cluster[first].kill()
    rest = "abc".replace(first, "")
    second = (await replicating(cluster, servers, rest))["node_id"]
    assert servers[second].client.lrange("list", 0, -1) == [str(each) for each in confirmed]
    servers[first].start()
    start(cluster, servers, first)
    assert (await replicating(cluster, servers))["node_id"] == second
    assert servers[first].client.llen("list") == WRITES


@ensureDeferred
async def test_an_old_primary_that_nobody_fences_confirms_nothing(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = (await replicating(cluster, servers))["node_id"]
    cluster[first].kill()  # its server takes writes on
    writing = deferToThread(write, servers[first], 100_000)
    rest = "abc".replace(first, "")
    second = (await replicating(cluster, servers, rest))["node_id"]
    start(cluster, servers, first)  # which freezes its server
    confirmed = await writing
    kept = {int(each) for each in servers[second].client.lrange("list", 0, -1)}
    assert set(confirmed) <= kept
    assert (await replicating(cluster, servers))["node_id"] == second


@ensureDeferred
async def test_a_switchover_loses_nothing(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = (await replicating(cluster, servers))["node_id"]
    writing = deferToThread(write, servers[first], 100_000)
    command = [sys.executable, "-m", "kevy_elect", "switchover"]
    await deferToThread(
        subprocess.run, [*command, f"--data-dir={cluster[first].data}"], cwd=ROOT, check=True
    )
    confirmed = await writing
    second = (await replicating(cluster, servers))["node_id"]
    assert second != first
    left = [int(each) for each in servers[second].client.lrange("list", 0, -1)]
    assert left[: len(confirmed)] == confirmed
    assert len(left) - len(confirmed) in (0, 1)  # one that was under way


@ensureDeferred
async def test_a_server_that_was_changed_by_hand_is_put_right(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = (await replicating(cluster, servers))["node_id"]
    other = "abc".replace(first, "")[0]
    servers[other].client.execute_command("REPLICAOF", "NO", "ONE")
    assert (await replicating(cluster, servers))["node_id"] == first

    async def right() -> bool:
        return bool(servers[other].replication().get("master_port") == servers[first].port)

    await poll(right)


@ensureDeferred
async def test_a_primary_whose_server_dies_gives_up_the_role(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = (await replicating(cluster, servers))["node_id"]
    servers[first].kill()
    assert (await cluster.settled(other_than=first))["node_id"] != first
    told = await cluster[first].status()
    assert told is not None
    assert told["data"]["problem"]
