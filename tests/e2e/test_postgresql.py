"""Three nodes that drive a PostgreSQL each by the commands of examples/postgresql."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.support import ROOT
from tests.support.processes import Cluster, free_ports, poll
from tests.support.waiting import wait_for

SCRIPT = ROOT / "examples" / "postgresql" / "pg-store"
FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
TIMINGS = ("--hb-interval=0.2", "--down-after=4", "--election-timeout=3")
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{directory}'
fsync = off
wal_log_hints = on
wal_keep_size = 64MB
shared_buffers = 8MB
wal_retrieve_retry_interval = 100ms
synchronous_standby_names = 'ANY 1 (*)'
"""
OPTIONS = ("freeze", "demote", "promote", "follow")
KEEPER = "while :; do {script} before-start && {bin}/postgres -D {data} -p {port}; sleep 0.1; done"


def _user() -> str:
    """The one as whom a server runs: it refuses to be root's."""
    return "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


def _obstacle() -> str | None:
    if not FOUND:
        return "needs PostgreSQL"
    try:
        pwd.getpwnam(_user())
    except KeyError:
        return "needs a user postgres"
    return None


pytestmark = pytest.mark.skipif(_obstacle() is not None, reason=str(_obstacle()))


class Server:
    """One server below a shell that starts it again, as a service manager would."""

    def __init__(self, node_id: str, port: int, directory: Path) -> None:
        self.port, self.data = port, directory / node_id
        self.log = directory / f"{node_id}.log"
        self.state = directory / f"{node_id}.state"
        self.socket = directory
        self.process: subprocess.Popen[bytes] | None = None

    def words(self, *command: str) -> list[str]:
        """This command, as the user of the server and with the variables of the script."""
        login = ["runuser", "-u", _user(), "--"] if os.getuid() == 0 else []
        variables = {
            "PGDATA": self.data,
            "PGPORT": self.port,
            "PGHOST": self.socket,
            "PGUSER": _user(),
            "PG_BIN": FOUND[-1],
            "PG_STATE": self.state,
            "PG_CONNINFO": f"user={_user()}",
        }
        return [*login, "env", *(f"{name}={value}" for name, value in variables.items()), *command]

    def run(self, *command: str) -> str:
        """What it printed; empty if it failed."""
        done = subprocess.run(self.words(*command), capture_output=True, text=True, cwd="/")
        return done.stdout.strip() if done.returncode == 0 else ""

    def sql(self, command: str) -> str:
        psql = [f"{FOUND[-1]}/psql", "-XAtq", "-d", "postgres", "-c", command]
        return self.run(*psql)

    def start(self) -> None:
        keeper = KEEPER.format(script=SCRIPT, bin=FOUND[-1], data=self.data, port=self.port)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.words("sh", "-c", keeper),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

    def kill(self) -> None:
        """It and what keeps it, as if the host died."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            pid = (self.data / "postmaster.pid").read_text().split()[0]
            wait_for(lambda: not Path(f"/proc/{pid}").exists())

    def takes_writes(self) -> bool:
        return self.sql("SELECT pg_is_in_recovery()") == "f"

    def write(self, count: int) -> list[str]:
        """Those of so many rows whose commit was acknowledged, until one is not."""
        taken = []
        for row in range(count):
            value = f"{self.port}-{row}"
            insert = f"INSERT INTO t VALUES ('{value}') RETURNING v"
            if self.sql(insert) != value:
                break
            taken.append(value)
        return taken

    def rows(self) -> set[str]:
        return set(self.sql("SELECT v FROM t").split())


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    """Three copies of one database that start as replicas of nobody."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        directory, user = Path(name), pwd.getpwnam(_user())
        os.chown(directory, user.pw_uid, user.pw_gid)
        ports = free_ports(3)
        found = {n: Server(n, p, directory) for n, p in zip("abc", ports, strict=True)}
        first = found["a"]
        assert first.run(f"{FOUND[-1]}/initdb", "-A", "trust", "-N", "-D", str(first.data))
        with open(first.data / "postgresql.conf", "a") as file:
            file.write(CONFIGURATION.format(directory=directory))
        alone = f"{FOUND[-1]}/postgres --single -c synchronous_standby_names= postgres"
        first.run("sh", "-c", f"echo 'CREATE TABLE t (v text)' | {alone}")
        for server in found.values():
            if server is not first:
                first.run("cp", "-a", str(first.data), str(server.data))
            first.run("mkdir", str(server.state))
        for server in found.values():
            server.start()
        yield found
        for server in found.values():
            server.kill()
            print(server.log.read_text())


def start(cluster: Cluster, servers: dict[str, Server], node_id: str) -> None:
    server, node = servers[node_id], cluster[node_id]
    commands = [f"--{name}={' '.join(server.words(str(SCRIPT), name))}" for name in OPTIONS]
    offset = f"--offset-command={' '.join(server.words(str(SCRIPT), 'offset'))}"
    advertised = f"--advertise=127.0.0.1:{server.port}"
    node.start(node.command(advertised, *TIMINGS, *commands, offset))


async def replicating(cluster: Cluster, ids: str = "abc") -> str:
    """The primary, once the others' servers follow its server."""

    async def whole() -> Any:
        found = await cluster.agreed(ids)
        told = [await cluster[node_id].status() for node_id in ids]
        states = sorted(each["data"]["state"] for each in told if each)
        follow = states == ["following"] * (len(ids) - 1) + ["primary"]
        return found["node_id"] if found and follow else None

    primary: str = await poll(whole)
    return primary


async def eventually(ask: Callable[[], object]) -> None:
    """Until `ask()`, which may take a while, is true."""

    async def asked() -> object:
        return await deferToThread(ask)

    await poll(asked)


@ensureDeferred
async def test_commits_survive_the_death_of_a_host_and_a_switchover_back(
    cluster: Cluster, servers: dict[str, Server]
) -> None:
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = await replicating(cluster)
    assert {n for n, server in servers.items() if server.takes_writes()} == {first}
    kept = await deferToThread(servers[first].write, 10)
    assert len(kept) == 10
    servers[first].kill()
    cluster[first].kill()
    rest = "abc".replace(first, "")
    second = await replicating(cluster, rest)
    assert servers[second].rows() >= set(kept)
    kept += await deferToThread(servers[second].write, 10)
    servers[first].start()
    start(cluster, servers, first)
    await replicating(cluster)
    await eventually(lambda: servers[first].rows() == servers[second].rows() >= set(kept))
    writing = deferToThread(servers[second].write, 1_000_000)
    command = [sys.executable, "-m", "kevy_elect", "switchover", first]
    command.append(f"--data-dir={cluster[second].data}")
    # A busy machine may take longer for the commands than the target has time for them.
    await eventually(lambda: subprocess.run(command, cwd=ROOT).returncode == 0)
    kept += await writing
    assert await replicating(cluster) == first
    await eventually(lambda: all(s.rows() >= set(kept) for s in servers.values()))
