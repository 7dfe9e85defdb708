"""Three nodes, each with a real Redis that speaks TLS only to nodes and servers that it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError

from kevy_elect.cli.demo.ports import free_ports
from tests.support.certificates import HERE, Authority
from tests.support.processes import Cluster, poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, RedisServer, tls_options

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


@pytest.fixture
def servers(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, RedisServer]]:
    """They and the nodes, started. The test itself asks them on a port without TLS."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("redis", [HERE])
    found = {}
    for node_id, plain, port in zip("abc", free_ports(3), free_ports(3), strict=True):
        options = tls_options(port, (certificate, key), authority)
        found[node_id] = RedisServer(plain, tmp_path, *FROZEN, *options)
        found[node_id].start()
        node, address = cluster[node_id], f"127.0.0.1:{port}"
        files = (f"--redis-tls-ca={authority.path}", f"--redis-tls-cert={certificate}")
        secured = (*files, f"--redis-tls-key={key}")
        node.start(node.command(f"--redis={address}", f"--advertise={address}", *secured))
    yield found
    for server in found.values():
        server.kill()


@ensureDeferred
async def test_a_confirmed_write_survives_the_death_of_the_primary_and_its_server(
    cluster: Cluster, servers: dict[str, RedisServer]
) -> None:
    async def confirmed() -> str | None:
        node_id: str = (await cluster.settled())["node_id"]
        client = servers[node_id].client
        with suppress(RedisError):  # it takes no writes yet, or no more
            if client.set("key", "value") and client.wait(1, 100):
                return node_id
        return None

    first = await poll(confirmed)
    servers[first].kill()
    cluster[first].kill()
    rest = [server for node_id, server in servers.items() if node_id != first]

    async def taking() -> RedisServer | None:
        return next((server for server in rest if server.takes_writes()), None)

    assert (await poll(taking)).client.get("key") == "value"
