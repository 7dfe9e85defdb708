"""A Redis that speaks TLS, driven and guarded."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.data.guarded import GuardProcess
from kevy_elect.data.redis import Redis
from kevy_elect.data.server import DataServerError
from kevy_elect.service.clock import uptime
from kevy_elect.settings.pem import ClientTls
from kevy_elect.transport.tls_streams import TlsFactory
from tests.support.certificates import HERE, Authority
from tests.support.processes import poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, RedisServer, tls_options
from tests.support.waiting import DEADLINE


@attrs.frozen
class Files:
    """What a server and its clients prove themselves by."""

    authority: Authority
    server: tuple[str, str]
    node: tuple[str, str]

    @property
    def tls(self) -> ClientTls:
        certificate, key = self.node
        return ClientTls(authority=str(self.authority.path), certificate=certificate, key=key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = Authority(tmp_path)
    return Files(authority, authority.sign("server", [HERE]), authority.sign("node", []))


class Secured:
    """A server with a port for the test, and one for TLS, by which a node drives it."""

    def __init__(self, server: RedisServer, port: int, tls: ClientTls) -> None:
        self.server = server
        self.address = f"127.0.0.1:{port}"
        self.driver = Redis(self.address, reactor=reactor, deadline=DEADLINE, tls=tls)


@pytest.fixture
def make(tmp_path: Path, files: Files) -> Iterator[Callable[[], Secured]]:
    servers: list[RedisServer] = []

    def made() -> Secured:
        plain, port = free_ports(2)
        options = tls_options(port, files.server, files.authority)
        server = RedisServer(plain, tmp_path, *FROZEN, *options)
        servers.append(server)
        server.start()
        return Secured(server, port, files.tls)

    yield made
    for server in servers:
        server.kill()


needs_redis = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


@needs_redis
@ensureDeferred
async def test_it_is_promoted_followed_and_frozen(make: Callable[[], Secured]) -> None:
    one, two = make(), make()
    one.driver.start()
    two.driver.start()
    try:
        assert (await one.driver.promote()).takes_writes
        one.server.client.set("key", "value")
        await two.driver.follow(one.address)

        async def in_sync() -> bool:
            report = await two.driver.report()
            return report.in_sync and two.server.client.get("key") == "value"

        await poll(in_sync)
        assert (await two.driver.freeze()).before.source == one.address
        assert not (await one.driver.freeze()).after.takes_writes
    finally:
        await one.driver.stop()
        await two.driver.stop()


@needs_redis
@ensureDeferred
async def test_its_guard_freezes_it_when_the_node_has_ended(make: Callable[[], Secured]) -> None:
    one = make()
    one.server.client.execute_command("REPLICAOF", "NO", "ONE")
    guard = GuardProcess(one.driver, reactor=reactor)
    guard.start()
    guard.keep(uptime() + DEADLINE, 1.0, 0)
    await guard.stop()
    assert not one.server.takes_writes()


@needs_redis
@ensureDeferred
async def test_who_does_not_prove_who_it_is_may_not_drive_it(
    make: Callable[[], Secured], files: Files
) -> None:
    one = make()
    unknown = ClientTls(authority=str(files.authority.path))
    assert await problem(one.address, unknown)


class Refuses(Protocol):
    """Says at once that it is no server for TLS."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"-ERR no\r\n")


class Agrees(Protocol):
    """Answers each command with an OK."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"+OK\r\n" * data.count(b"*"))


async def problem(address: str, tls: ClientTls) -> str:
    """Why a server cannot be asked."""
    redis = Redis(address, reactor=reactor, deadline=DEADLINE, tls=tls)
    redis.start()
    try:
        await redis.follow("127.0.0.1:1")
    except DataServerError as error:
        return str(error)
    finally:
        await redis.stop()
    return ""


class Double:
    """What listens in place of a Redis, with this certificate, or without TLS."""

    def __init__(self, certificate: tuple[str, str] | None) -> None:
        factory: Any = Factory.forProtocol(Refuses)
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            factory = TlsFactory(Factory.forProtocol(Agrees), lambda: context)
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    async def problem(self, tls: ClientTls) -> str:
        try:
            return await problem(self.address, tls)
        finally:
            await self._port.stopListening()


@ensureDeferred
async def test_commands_wait_for_the_handshake(files: Files) -> None:
    assert await Double(files.server).problem(files.tls) == ""


@ensureDeferred
async def test_a_server_of_another_authority_is_told_nothing(tmp_path: Path, files: Files) -> None:
    other = Authority(tmp_path, "other").sign("foreign", [HERE])
    assert "TLS failed: " in await Double(other).problem(files.tls)


@ensureDeferred
async def test_nor_is_one_whose_certificate_names_another_host(files: Files) -> None:
    other = files.authority.sign("another", [x509.DNSName("redis.example")])
    assert "127.0.0.1" in await Double(other).problem(files.tls)


@ensureDeferred
async def test_nor_is_one_without_tls(files: Files) -> None:
    assert "TLS failed: " in await Double(None).problem(files.tls)


@ensureDeferred
async def test_files_are_read_anew_for_each_connection(files: Files) -> None:
    double = Double(files.server)
    Path(files.node[1]).write_text("no key")
    assert "no certificate and its private key" in await double.problem(files.tls)
