"""Nodes that run the Redis that they drive: the server ends with its node."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError

from kevy_elect.children.processes import children, command_line, is_running
from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.data import guard
from tests.support.processes import Cluster, Node, poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, RedisServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


class Host:
    """A node, and the server that its node runs."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node = node
        self.server = RedisServer(free_ports(1)[0], directory, *FROZEN)

    def start(self) -> None:
        words = " ".join(f"'{word}'" for word in self.server.command)
        driven = f"--redis={self.server.address}", f"--advertise={self.server.address}"
        self.node.start(self.node.command(*driven, f"--redis-command={words}"))

    async def data(self) -> dict[str, Any]:
        status = await self.node.status()
        return (status or {}).get("data") or {}

    async def takes_writes(self) -> bool:
        return (await self.data()).get("state") == "primary" and self.server.takes_writes()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        found: int = self.server.client.info("server")["process_id"]
        return found

    @property
    def guard(self) -> int:
        """The process id of the guard."""
        assert self.node.process is not None
        below = children(self.node.process.pid)
        return next(each for each in below if guard.__file__ in command_line(each))


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Host]:
    """A cluster of one, not started."""
    node = Cluster(tmp_path, "a")["a"]
    yield Host(node, tmp_path)
    if node.process is not None and node.process.poll() is None:
        node.kill()
    print(node.log.read_text())


@pytest.fixture
def hosts(cluster: Cluster, tmp_path: Path) -> dict[str, Host]:
    return {node_id: Host(node, tmp_path) for node_id, node in cluster.nodes.items()}


@ensureDeferred
async def test_a_server_dies_with_its_node(alone: Host) -> None:
    alone.start()
    await poll(alone.takes_writes)
    assert (await alone.data())["fencing"] == "supervisor"
    server = alone.pid
    alone.node.kill()
    wait_for(lambda: not is_running(server))


@ensureDeferred
async def test_a_node_that_is_stopped_ends_its_server_in_order(alone: Host) -> None:
    alone.start()
    await poll(alone.takes_writes)
    alone.node.kill(signal.SIGTERM)
    log = alone.node.log.read_text()
    frozen, ended = (
        log.index(said) for said in ("REPLICAOF 127.0.0.1:1 enabled", "is now ready to exit")
    )
    assert frozen < ended
    assert not alone.server.answers()


@ensureDeferred
async def test_a_server_that_crashed_is_started_again(alone: Host) -> None:
    alone.start()
    await poll(alone.takes_writes)
    first = alone.pid
    os.kill(first, signal.SIGKILL)

    async def is_another() -> bool:
        return alone.server.answers() and alone.pid != first and await alone.takes_writes()

    await poll(is_another)
    assert "ended: ended by SIGKILL. It is started again" in alone.node.log.read_text()


@ensureDeferred
async def test_a_server_ends_with_the_lease_if_neither_node_nor_guard_can_freeze_it(
    cluster: Cluster, hosts: dict[str, Host]
) -> None:
    hosts["a"].start()
    for node_id in "bc":
        cluster[node_id].start(cluster[node_id].command("--witness"))
    await poll(hosts["a"].takes_writes)
    server = hosts["a"].pid
    node = cluster["a"].process
    assert node is not None
    for process in (hosts["a"].guard, node.pid):
        os.kill(process, signal.SIGSTOP)
    wait_for(lambda: not is_running(server))
    node.send_signal(signal.SIGCONT)


@ensureDeferred
async def test_a_host_that_comes_back_with_an_empty_server_gets_all_data_again(
    cluster: Cluster, hosts: dict[str, Host]
) -> None:
    for host in hosts.values():
        host.start()

    async def whole(ids: str) -> Any:
        """Who is primary, once the others' servers have all data."""
        found = await cluster.agreed(ids)
        data = [await hosts[node_id].data() for node_id in ids]
        follow = sum(each.get("state") == "following" and each["in_sync"] for each in data)
        return found["node_id"] if found is not None and follow == len(ids) - 1 else None

    async def confirmed() -> Any:
        """Who is primary and has taken a write that the others have."""
        if (leader := await whole("abc")) is None:
            return None
        client = hosts[leader].server.client
        try:
            client.set("key", "value")
            return leader if client.wait(2, 1_000) == 2 else None
        except RedisError:  # the role moves, as it may on a busy machine
            return None

    first = await poll(confirmed)
    server = hosts[first].pid
    cluster[first].kill()
    await poll(lambda: whole("abc".replace(first, "")))
    assert not is_running(server)
    hosts[first].start()
    await poll(lambda: whole("abc"))
    assert hosts[first].server.client.get("key") == "value"
