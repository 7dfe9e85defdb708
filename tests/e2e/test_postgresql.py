"""Three nodes that drive a PostgreSQL each by the commands of examples/postgresql."""

from __future__ import annotations

import itertools
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from kevy_elect.cli.demo.ports import free_ports
from tests.support import ROOT
from tests.support.processes import Cluster, child, poll
from tests.support.waiting import DEADLINE, wait_for

SCRIPT = ROOT / "examples" / "postgresql" / "pg-store"
FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
TIMINGS = ("--hb-interval=0.2", "--down-after=2", "--election-timeout=2")
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
KEEPER = (
    "while [ -e {kept} ]; do {script} before-start && {bin}/postgres -D {data} -p {port}; "
    "sleep 0.1; done"
)


def _user() -> str:
    """The one as whom a server runs: it refuses to be root's."""
    return "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


def _obstacle() -> str | None:
    if not FOUND:
        return "needs PostgreSQL"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "needs runuser"
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
        self.kept = directory / f"{node_id}.kept"
        self.directory = directory
        self.script = directory / SCRIPT.name
        self.numbers = itertools.count()
        self.process: subprocess.Popen[bytes] | None = None

    def words(self, *command: str) -> list[str]:
        """This command with the variables of the script."""
        variables = {
            "PGDATA": self.data,
            "PGPORT": self.port,
            "PGHOST": self.directory,
            "PGUSER": _user(),
            "PG_BIN": FOUND[-1],
            "PG_STATE": self.state,
            "PG_CONNINFO": f"user={_user()}",
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items()), *command]

    def as_user(self, *command: str) -> str:
        """The same for a node, which is root where the tests are."""
        login = ["runuser", "-u", _user(), "--"] if os.getuid() == 0 else []
        return shlex.join([*login, *self.words(*command)])

    def run(self, *command: str) -> str:
        """What it printed; empty if it failed."""
        done = subprocess.run(
            self.words(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            **self._identity(),
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def sql(self, command: str) -> str:
        psql = [f"{FOUND[-1]}/psql", "-XAtq", "-d", "postgres", "-c", command]
        return self.run(*psql)

    def start(self) -> None:
        self.kept.touch()
        keeper = KEEPER.format(
            kept=self.kept, script=self.script, bin=FOUND[-1], data=self.data, port=self.port
        )
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.words("sh", "-c", keeper),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._identity(),
            )

    def kill(self) -> None:
        """It and what keeps it, as if the host died."""
        self.kept.unlink(missing_ok=True)
        wait_for(self._is_dead)

    def _is_dead(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return True
        with suppress(ProcessLookupError, FileNotFoundError, ValueError):  # there is none now
            os.kill(child(self.process.pid), signal.SIGKILL)
        return False

    def _identity(self) -> dict[str, Any]:
        """Who runs it, and where: a server refuses to be root's."""
        if os.getuid() != 0:
            return {"cwd": self.directory}
        found = pwd.getpwnam(_user())
        groups = os.getgrouplist(found.pw_name, found.pw_gid)
        return {
            "cwd": self.directory,
            "user": found.pw_uid,
            "group": found.pw_gid,
            "extra_groups": groups,
        }

    def takes_writes(self) -> bool:
        return self.sql("SELECT pg_is_in_recovery()") == "f"

    def write(self, count: int) -> list[str]:
        """Those of so many rows whose commit was acknowledged, until one is not."""
        taken = []
        for _ in range(count):
            value = f"{self.port}-{next(self.numbers)}"
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
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        directory, user = Path(name), pwd.getpwnam(_user())
        os.chown(directory, user.pw_uid, user.pw_gid)
        shutil.copy(SCRIPT, directory)  # the user may not read a checkout of root
        ports = free_ports(3)
        found = {n: Server(n, p, directory) for n, p in zip("abc", ports, strict=True)}
        initialise(*found.values())
        for server in found.values():
            server.start()
        yield found
        for server in found.values():
            server.kill()
            print(server.log.read_text())


def initialise(first: Server, *others: Server) -> None:
    """Give all of them the same empty table."""
    assert first.run(f"{FOUND[-1]}/initdb", "-A", "trust", "-N", "-D", str(first.data))
    with open(first.data / "postgresql.conf", "a") as file:
        file.write(CONFIGURATION.format(directory=first.directory))
    alone = f"{FOUND[-1]}/postgres --single -c synchronous_standby_names= postgres"
    first.run("sh", "-c", f"echo 'CREATE TABLE t (v text)' | {alone}")
    for server in others:
        first.run("cp", "-a", str(first.data), str(server.data))
    for server in (first, *others):
        first.run("mkdir", str(server.state))


def start(cluster: Cluster, servers: dict[str, Server], node_id: str) -> None:
    server, node = servers[node_id], cluster[node_id]
    commands = [f"--{name}={server.as_user(str(server.script), name)}" for name in OPTIONS]
    offset = f"--offset-command={server.as_user(str(server.script), 'offset')}"
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


async def written(cluster: Cluster, servers: dict[str, Server], ids: str, kept: set[str]) -> str:
    """Add at least ten rows to those that are kept; who took the last of them."""
    wanted = len(kept) + 10

    async def taken() -> str | None:
        primary = await replicating(cluster, ids)
        kept.update(await deferToThread(servers[primary].write, 10))
        return primary if len(kept) >= wanted else None

    primary: str = await poll(taken)
    return primary


async def hand_over(cluster: Cluster, target: str) -> None:
    """Until the target is primary: a busy machine may take longer for the commands than the
    target has time for them."""

    async def done() -> bool:
        primary = await replicating(cluster)
        if primary == target:
            return True
        command = [sys.executable, "-m", "kevy_elect", "switchover", target]
        command.append(f"--data-dir={cluster[primary].data}")
        await deferToThread(subprocess.run, command, cwd=ROOT, timeout=DEADLINE)
        return False

    await poll(done)


@ensureDeferred
async def test_commits_survive_the_death_of_a_host_and_a_switchover_back(
    cluster: Cluster, servers: dict[str, Server]
) -> None:
    kept: set[str] = set()
    for node_id in "abc":
        start(cluster, servers, node_id)
    first = await written(cluster, servers, "abc", kept)
    await eventually(lambda: sum(server.takes_writes() for server in servers.values()) == 1)
    servers[first].kill()
    cluster[first].kill()
    rest = "abc".replace(first, "")
    second = await written(cluster, servers, rest, kept)
    await eventually(lambda: servers[second].rows() >= kept)
    servers[first].start()
    start(cluster, servers, first)
    await replicating(cluster)
    await eventually(lambda: servers[first].rows() >= kept)
    writing = deferToThread(servers[second].write, 1_000_000)
    await hand_over(cluster, first)
    kept.update(await writing)
    await replicating(cluster)
    await eventually(lambda: all(server.rows() >= kept for server in servers.values()))
