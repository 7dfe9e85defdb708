"""Three nodes, each with a real Redis: clients write to one, and a failover loses nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kevy_elect.cli.demo.ports import free_ports
from tests.support import ROOT
from tests.support.processes import DOWN_AFTER, Cluster, poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, VALKEY_SERVER, RedisServer
from tests.support.waiting import DEADLINE

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")
WRITES = 200


BOTH = (
    pytest.param(REDIS_SERVER, id="redis"),
    pytest.param(
        VALKEY_SERVER,
        id="valkey",
        marks=pytest.mark.skipif(VALKEY_SERVER is None, reason="needs valkey-server"),
    ),
)


@pytest.fixture
def servers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, RedisServer]]:
    program = getattr(request, "param", REDIS_SERVER)
    found = {
        node_id: RedisServer(port, tmp_path, *FROZEN, program=program)
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
        data = [each["data"] for each in told if each]
        follow = [each["state"] for each in data if each["in_sync"] and not each["problem"]]
        return found if follow == ["following"] * (len(ids) - 1) else None

    return await poll(whole)


async def begun(cluster: Cluster, servers: dict[str, RedisServer]) -> str:
    """Start all nodes; who is primary, once the others' servers have all data."""
    for node_id in "abc":
        start(cluster, servers, node_id)
    found: str = (await replicating(cluster, servers))["node_id"]
    return found


def write(server: RedisServer, number: int) -> list[int]:
    """Which of so many values were confirmed by a replica, until the server refuses."""
    confirmed = []
    for value in range(number):
        try:
            server.client.rpush("list", value)
            if server.client.wait(1, 10_000):
                confirmed.append(value)
        except RedisError:
            break
    return confirmed


@pytest.mark.parametrize("servers", BOTH, indirect=True)
@ensureDeferred
async def test_confirmed_writes_survive_the_death_of_the_primary_and_its_server(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    first = await begun(cluster, servers)
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
    await replicating(cluster, servers)
    assert servers[first].client.llen("list") == WRITES


@ensureDeferred
async def test_an_old_primary_that_nobody_fences_confirms_nothing(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    first = await begun(cluster, servers)
    cluster[first].kill()  # its server takes writes on
    writing = deferToThread(write, servers[first], 100_000)
    rest = "abc".replace(first, "")
    second = (await replicating(cluster, servers, rest))["node_id"]
    start(cluster, servers, first)  # which freezes its server
    confirmed = await writing
    kept = {int(each) for each in servers[second].client.lrange("list", 0, -1)}
    assert set(confirmed) <= kept
    await replicating(cluster, servers)


@ensureDeferred
async def test_a_server_whose_node_stands_still_takes_no_writes(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    """Before the next one takes any."""
    first = await begun(cluster, servers)
    process = cluster[first].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)

    async def refuses() -> bool:
        return not servers[first].takes_writes()

    await poll(refuses)
    await poll(takes_over_from(servers, first))
    process.send_signal(signal.SIGCONT)
    assert (await replicating(cluster, servers))["node_id"] != first


@ensureDeferred
async def test_a_server_whose_node_dies_takes_no_writes(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    """Once the next one does."""
    first = await begun(cluster, servers)
    cluster[first].kill()
    await poll(takes_over_from(servers, first))


def takes_over_from(servers: dict[str, RedisServer], old: str) -> Any:
    async def takes_over() -> bool:
        writers = [n for n, server in servers.items() if server.takes_writes()]
        return len(writers) == 1 and writers != [old]

    return takes_over


@ensureDeferred
async def test_a_switchover_loses_nothing(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    first = await begun(cluster, servers)
    await deferLater(reactor, DOWN_AFTER + 0.1)  # no member runs sooner after its start (R4.3)
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
    first = await begun(cluster, servers)
    other = "abc".replace(first, "")[0]
    servers[other].client.execute_command("REPLICAOF", "NO", "ONE")

    async def right() -> bool:
        leader = (await replicating(cluster, servers))["node_id"]
        return servers[other].replication().get("master_port") == servers[leader].port

    await poll(right)


@ensureDeferred
async def test_a_primary_whose_server_dies_gives_up_the_role(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    first = await begun(cluster, servers)
    servers[first].kill()
    assert (await cluster.settled(other_than=first))["node_id"] != first
    told = await cluster[first].status()
    assert told is not None
    assert told["data"]["problem"]


def seen(cluster: Cluster, node_id: str) -> tuple[str, dict[str, float], int]:
    """What a node's own tools say: `kevy-elect status`, its metrics of the server, `/replica`."""
    command = [sys.executable, "-m", "kevy_elect", "status", f"--data-dir={cluster[node_id].data}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    where = f"http://127.0.0.1:{cluster[node_id].http}"
    with urlopen(f"{where}/metrics", timeout=DEADLINE) as answer:
        found = re.findall(r"^kevy_elect_data_(\S+) (\S+)$", answer.read().decode(), re.MULTILINE)
    try:
        with urlopen(f"{where}/replica", timeout=DEADLINE) as answer:
            code = answer.status
    except HTTPError as error:
        code = error.code
    return told, {name: float(value) for name, value in found}, code


@ensureDeferred
async def test_whoever_looks_sees_how_a_server_is(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    first = await begun(cluster, servers)
    other = "abc".replace(first, "")[0]

    async def all_is_well() -> bool:
        told, metrics, code = await deferToThread(seen, cluster, other)
        right = re.search(rf"^{other} +following +\d+ +\d+ +\d+ +yes$", told, re.MULTILINE)
        return right is not None and code == 200 and metrics.get("lag") == 0

    await poll(all_is_well)
    told, metrics, code = await deferToThread(seen, cluster, first)
    assert re.search(rf"^{first} +primary +\d+ +\d+ +- +-$", told, re.MULTILINE)
    assert (metrics['state{state="primary"}'], metrics["problem"], code) == (1, 0, 503)

    servers[other].kill()

    async def it_is_missed() -> bool:
        told, metrics, code = await deferToThread(seen, cluster, other)
        warned = f"warning: {other}: Redis at {servers[other].address} cannot be reached" in told
        return warned and code == 503 and metrics['state{state="unknown"}'] == 1

    await poll(it_is_missed)
