"""The guard, on a real Redis: it freezes what its node cannot, and kills what does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from redis.exceptions import RedisError
from twisted.internet import reactor

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.data import guard
from kevy_elect.data.guarded import GuardProcess
from kevy_elect.data.redis import Redis
from kevy_elect.service.clock import uptime
from tests.support.processes import poll
from tests.support.redis_servers import REDIS_SERVER, RedisServer
from tests.support.waiting import DEADLINE, wait_for

pytestmark = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


class Guarding:
    """A guard and the server that it guards, which takes writes."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE
        )
        self.tell(server=["127.0.0.1", server.port], process=server.process.pid)

    def tell(self, **what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def end_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def frozen(self) -> bool:
        return not self.server.takes_writes()


@pytest.fixture
def guarding(tmp_path: Path) -> Iterator[Guarding]:
    server = RedisServer(free_ports(1)[0], tmp_path)
    server.start()
    found = Guarding(server)
    yield found
    server.kill()
    found.process.kill()
    found.process.wait()


def test_it_freezes_at_once_when_the_node_ends(guarding: Guarding) -> None:
    guarding.tell(until=uptime() + DEADLINE, margin=1.0)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    assert guarding.frozen()


def test_it_freezes_before_the_lease_ends_if_nothing_more_is_heard(guarding: Guarding) -> None:
    ends = uptime() + 0.5
    guarding.tell(until=ends, margin=0.4)
    wait_for(guarding.frozen)
    assert uptime() < ends + 1.0


def test_a_lease_that_goes_on_is_left_alone(guarding: Guarding) -> None:
    for _ in range(20):
        guarding.tell(until=uptime() + 0.4, margin=0.1)
        time.sleep(0.02)
        assert not guarding.frozen()


def test_a_server_that_takes_no_writes_is_left_alone(guarding: Guarding) -> None:
    guarding.tell(until=uptime() + DEADLINE, margin=0.1)
    guarding.tell(until=None)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    assert not guarding.frozen()


@ensureDeferred
async def test_one_that_was_killed_is_started_again_with_all_that_it_has_to_know(
    tmp_path: Path,
) -> None:
    server = RedisServer(free_ports(1)[0], tmp_path)
    server.start()
    guard = GuardProcess(Redis(server.address, reactor=reactor), reactor=reactor)
    try:
        guard.start()
        guard.keep(uptime() + DEADLINE, 1.0, 0)
        first = guard.pid
        os.kill(first, signal.SIGKILL)

        async def another() -> bool:
            return guard.pid not in (0, first)

        await poll(another)
        await guard.stop()
        assert not server.takes_writes()
    finally:
        server.kill()


def test_it_freezes_when_it_is_told_to(guarding: Guarding) -> None:
    guarding.tell(until=uptime() + DEADLINE, margin=0.1)
    guarding.tell(at_once=True)
    wait_for(guarding.frozen)


def test_it_ends_the_clients_connections(guarding: Guarding) -> None:
    pubsub = guarding.server.client.pubsub()
    pubsub.subscribe("news")
    pubsub.get_message(timeout=DEADLINE)
    guarding.tell(until=uptime() + DEADLINE, margin=0.1)
    guarding.end_node()
    with pytest.raises(RedisError):
        pubsub.connection.read_response(timeout=DEADLINE)


def test_it_kills_a_server_that_does_not_answer_by_the_end_of_the_lease(guarding: Guarding) -> None:
    guarding.server.pause()
    ends = uptime() + 0.6
    guarding.tell(until=ends, margin=0.5)
    assert guarding.server.process.wait(DEADLINE) == -signal.SIGKILL
    assert uptime() >= ends


def test_it_kills_no_process_that_is_not_the_server(guarding: Guarding) -> None:
    """Process ids of another container name other processes here."""
    guarding.tell(process=os.getpid(), until=uptime() + 0.1, margin=0.1)
    guarding.server.pause()
    guarding.end_node()
    guarding.process.wait(DEADLINE)
    guarding.server.resume()
    assert guarding.server.answers()


def test_it_logs_in(guarding: Guarding) -> None:
    guarding.server.client.execute_command(
        *("ACL", "SETUSER", "elect", "on", ">secret", "-@all", "+auth", "+replicaof"),
        "+client|kill",
    )
    guarding.tell(server=["127.0.0.1", guarding.server.port, "elect", "secret"])
    guarding.tell(until=uptime() + DEADLINE, margin=0.1)
    guarding.end_node()
    guarding.process.wait(DEADLINE)
    assert guarding.frozen()


def test_who_listens_on_a_port_is_seen(guarding: Guarding) -> None:
    port = guarding.server.port
    assert guard.listens(guarding.server.process.pid, port)
    assert not guard.listens(os.getpid(), port)
    assert not guard.listens(guarding.server.process.pid, free_ports(1)[0])
