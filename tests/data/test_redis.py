"""A real Redis, driven."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from twisted.internet import reactor

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.data.redis import Redis
from kevy_elect.data.server import DataServerError
from kevy_elect.data.service import DataService
from kevy_elect.driving import State
from tests.support.data_servers import WARNS, Deciding
from tests.support.logs import logged
from tests.support.processes import poll
from tests.support.redis_servers import FROZEN, REDIS_SERVER, RedisServer

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


@contextlib.contextmanager
def running(directory: Path, *options: str, count: int = 1) -> Iterator[list[RedisServer]]:
    servers = [RedisServer(port, directory, *options) for port in free_ports(count)]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.kill()


@contextlib.asynccontextmanager
async def driven(server: RedisServer, **more: object):  # type: ignore[no-untyped-def]
    redis = Redis(server.address, reactor=reactor, **more)  # type: ignore[arg-type]
    redis.start()
    try:
        yield redis
    finally:
        await redis.stop()


@ensureDeferred
async def test_it_is_promoted_frozen_and_followed(tmp_path: Path) -> None:
    with running(tmp_path, *FROZEN, count=2) as (one, two):
        async with driven(one) as first, driven(two) as second:
            found = await first.report()
            assert (found.takes_writes, found.source) == (False, "")
            promoted = await first.promote()
            assert promoted.takes_writes
            assert promoted.history != found.history
            one.client.set("key", "value")
            await second.follow(one.address)

            async def in_sync() -> bool:
                report = await second.report()
                return bool(report.in_sync and two.client.get("key") == "value")

            await poll(in_sync)
            mine, theirs = await first.report(), await second.report()
            assert theirs.history == mine.history
            frozen = await second.freeze()
            assert frozen.before.in_sync
            assert frozen.before.source == one.address
            assert (frozen.after.source, frozen.after.takes_writes) == ("", False)
            one.client.set("key", "later")
            assert two.client.get("key") == "value"
            assert await second.report() == frozen.after


@ensureDeferred
async def test_one_that_never_had_anything_has_nothing(tmp_path: Path) -> None:
    """It says 1, and so would seem to be ahead of a primary without any writes."""
    with running(tmp_path, *FROZEN) as (server,):
        async with driven(server) as redis:
            assert (await redis.report()).length == 0


@ensureDeferred
async def test_one_that_takes_writes_as_a_replica_is_refused_until_that_is_set(
    tmp_path: Path,
) -> None:
    with running(tmp_path, *FROZEN, "--replica-read-only", "no") as (server,):
        server.client.set("key", "value")
        async with driven(server) as redis:
            for ask in (redis.report, redis.freeze):
                with pytest.raises(DataServerError, match="set 'replica-read-only yes'"):
                    await ask()
            await redis.promote()
            writer = server.client.client_id()
            with pytest.raises(DataServerError, match="set 'replica-read-only yes'"):
                await redis.freeze()
            assert server.client.client_id() != writer
            server.client.config_set("replica-read-only", "yes")
            assert not (await redis.freeze()).after.takes_writes


@contextlib.asynccontextmanager
async def node_of(server: RedisServer, directory: Path):  # type: ignore[no-untyped-def]
    """Drive it by the duties of an election."""
    election = Deciding(directory, reactor)
    service = DataService(election, Redis(server.address, reactor=reactor))  # type: ignore[arg-type]
    service.startService()
    try:
        yield election, service
    finally:
        await service.stopService()
        assert election.directory is not None
        election.directory.release()


@ensureDeferred
async def test_the_node_of_one_that_takes_writes_as_a_replica_waits_until_that_is_set(
    tmp_path: Path,
) -> None:
    with running(tmp_path, *FROZEN, "--replica-read-only", "no") as (server,):
        async with node_of(server, tmp_path / "node") as (election, service):

            async def complains() -> bool:
                return "set 'replica-read-only yes'" in service.status().problem

            await poll(complains)
            assert (election.heard, service.state) == ([], State.UNKNOWN)
            server.client.config_set("replica-read-only", "yes")
            await poll(is_frozen(service))
            assert election.heard == [("frozen", 0, 0)]


@ensureDeferred
async def test_one_that_starts_as_a_primary_is_told_of_with_the_remedy(tmp_path: Path) -> None:
    with running(tmp_path) as (server,), logged(WARNS) as warned:
        async with node_of(server, tmp_path / "node") as (_, service):
            await poll(is_frozen(service))
            assert not server.takes_writes()
    assert len(warned) == 1
    assert "it needs 'replicaof 127.0.0.1 1' in its configuration" in warned[0]


def is_frozen(service: DataService) -> Callable[[], Awaitable[bool]]:
    async def frozen() -> bool:
        return service.state is State.FROZEN

    return frozen


@ensureDeferred
async def test_a_frozen_one_ends_the_connections_of_those_who_could_write(tmp_path: Path) -> None:
    with running(tmp_path, *FROZEN) as (server,):
        async with driven(server) as redis:
            await redis.promote()
            server.client.set("key", "value")
            pubsub = server.client.pubsub()
            pubsub.subscribe("news")
            assert pubsub.get_message(timeout=5) is not None
            frozen = await redis.freeze()
            assert frozen.before.takes_writes
            assert not frozen.after.takes_writes
            with pytest.raises(ReadOnlyError):
                server.client.set("key", "other")
            with pytest.raises(RedisConnectionError):
                pubsub.connection.read_response(timeout=5)
            assert (await redis.report()).length == frozen.after.length


@ensureDeferred
async def test_who_came_back_before_there_was_a_next_primary_is_sent_away_then(
    tmp_path: Path,
) -> None:
    """Some clients never leave a server that only answers READONLY."""
    with running(tmp_path, *FROZEN, count=2) as (one, two):
        async with driven(one) as redis, driven(two) as other:
            await other.promote()
            await redis.promote()
            await redis.freeze()
            came_back = one.client.client_id()
            await redis.follow(two.address)
            reader = one.client.client_id()
            assert reader != came_back
            await redis.freeze()
            await redis.follow(two.address)
            assert one.client.client_id() == reader


@ensureDeferred
async def test_the_readers_of_a_replica_do_not_notice_that_its_node_begins(tmp_path: Path) -> None:
    with running(tmp_path, *FROZEN, count=2) as (one, two):
        async with driven(one) as redis:
            await redis.follow(two.address)
        reader = one.client.client_id()
        async with driven(one) as redis:
            await redis.follow(two.address)
            assert one.client.client_id() == reader


@ensureDeferred
async def test_a_reader_of_a_frozen_replica_stays_connected(tmp_path: Path) -> None:
    with running(tmp_path, *FROZEN) as (server,):
        async with driven(server) as redis:
            before = server.client.client_id()
            await redis.freeze()
            assert server.client.client_id() == before


@ensureDeferred
async def test_one_that_hangs_is_given_up_after_the_deadline(tmp_path: Path) -> None:
    with running(tmp_path) as (server,):
        async with driven(server, deadline=0.2) as redis:
            await redis.report()
            server.pause()
            for ask in (redis.report, redis.freeze, redis.promote):
                with pytest.raises(DataServerError, match=r"no answer (in time|within 0.2 s)"):
                    await ask()
            server.resume()

            async def answers() -> bool:
                try:
                    return bool(await redis.report())
                except DataServerError:
                    return False

            await poll(answers)


@ensureDeferred
async def test_one_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with running(tmp_path) as (server,):
        server.kill()
        async with driven(server) as redis:
            with pytest.raises(DataServerError, match="cannot be reached"):
                await redis.report()


@ensureDeferred
async def test_it_logs_in_as_a_user_who_may_do_no_more_than_needed(tmp_path: Path) -> None:
    with running(tmp_path, *FROZEN) as (server,):
        server.client.execute_command(
            *("ACL", "SETUSER", "kevy-elect", "on", ">secret", "resetchannels", "-@all"),
            *("+ping", "+auth", "+info", "+multi", "+exec", "+replicaof"),
            *("+client|setname", "+client|kill"),
        )
        server.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        async with driven(server, credentials=lambda: ["kevy-elect", b"secret"]) as redis:
            await redis.promote()
            await redis.freeze()
            await redis.follow("127.0.0.1:2")
            assert (await redis.report()).source == "127.0.0.1:2"
        async with driven(server, credentials=lambda: ["kevy-elect", b"wrong"]) as redis:
            with pytest.raises(DataServerError, match="WRONGPASS"):
                await redis.report()
