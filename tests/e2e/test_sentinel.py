"""A client of Redis Sentinel follows real nodes, unchanged."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import redis
from cryptography import x509
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError
from twisted.internet.threads import deferToThread

from kevy_elect.cli.demo.ports import free_ports
from tests.support.certificates import Authority
from tests.support.processes import Cluster, poll


@ensureDeferred
async def test_the_client_finds_the_primary_by_tls(cluster: Cluster, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("face", [x509.IPAddress(ip_address("127.0.0.1"))])
    (port,) = free_ports(1)
    face = f"--sentinel=tcp:{port}:interface=127.0.0.1", f"--sentinel-cert={certificate}"
    cluster["a"].start(
        cluster["a"].command("--advertise=127.0.0.1:7001", *face, f"--sentinel-key={key}")
    )
    for node_id in "bc":
        cluster[node_id].start(cluster[node_id].command("--witness"))
    client = redis.Sentinel(
        [("127.0.0.1", port)],
        sentinel_kwargs={"ssl": True, "ssl_ca_certs": str(authority.path), "socket_timeout": 1.0},
    )

    def discover() -> tuple[str, int] | None:
        try:
            host, found = client.discover_master("mymaster")
        except (MasterNotFoundError, RedisError):
            return None
        return host, int(found)

    async def finds() -> bool:
        return await deferToThread(discover) == ("127.0.0.1", 7001)

    await poll(finds)


@ensureDeferred
async def test_the_client_finds_the_primary_and_the_next_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("secret\n")
    ports = dict(zip("abc", free_ports(3), strict=True))
    faces = ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in ports.items())
    for node_id, node in cluster.nodes.items():
        node.start(
            node.command(
                f"--advertise=127.0.0.1:{7000 + ord(node_id)}",
                f"--sentinel=tcp:{ports[node_id]}:interface=127.0.0.1",
                "--sentinel-name=store",
                f"--sentinel-peers={faces}",
                f"--sentinel-password-file={password}",
            )
        )
    client = redis.Sentinel(
        [("127.0.0.1", port) for port in ports.values()],
        sentinel_kwargs={"password": "secret"},
        socket_timeout=1.0,
    )

    def discover() -> tuple[str, int] | None:
        try:
            host, port = client.discover_master("store")
        except (MasterNotFoundError, RedisError):
            return None
        return host, int(port)

    async def finds(node_id: str) -> bool:
        return await deferToThread(discover) == ("127.0.0.1", 7000 + ord(node_id))

    first = (await cluster.settled())["node_id"]
    await poll(lambda: finds(first))
    cluster[first].kill()
    rest = "abc".replace(first, "")
    second = (await cluster.settled(rest, other_than=first))["node_id"]
    await poll(lambda: finds(second))
    stranger = redis.Redis("127.0.0.1", ports[second], password="wrong", socket_timeout=1.0)

    def refused() -> str:
        try:
            stranger.ping()
        except RedisError as error:
            return str(error)
        return ""

    assert "password" in (await deferToThread(refused)).lower()
