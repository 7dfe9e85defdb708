"""Three hosts: on each a node and the Redis that it drives. The clients are elsewhere."""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
from redis import Redis
from redis.exceptions import RedisError

from kevy_elect.children.processes import command_line
from tests.soak.chaos.cluster import PORT, Group
from tests.soak.chaos.network import Network
from tests.soak.chaos.process import Process
from tests.soak.chaos.sandbox import WORLD
from tests.soak.counter.member import TIMINGS
from tests.soak.redis.clients import KEY
from tests.support import FOREGROUND, ROOT

NAMES: Final = ("n1", "n2", "n3")
CLIENTS: Final = "c1"
"""The namespace of the clients, which can always reach every server."""
REDIS_PORT: Final = 6379
SWITCHED_WITHIN: Final = 15.0
"""Seconds within which `switchover` must end, with success or not."""
PROBE: Final = "probe"
"""A key that no client uses."""
_OPTIONS: Final = (
    "hb_interval",
    "down_after",
    "election_timeout",
    "election_backoff",
    "election_backoff_jitter",
)


class Server:
    """A Redis in the namespace of its node, without a disk."""

    def __init__(self, name: str, address: str, directory: Path, log: Path) -> None:
        self.log = log
        self.starts = 0
        self.command = (
            *("nsenter", f"--net=/run/netns/{name}", "redis-server"),
            *("--port", str(REDIS_PORT), "--bind", address, "--protected-mode", "no"),
            *("--save", "", "--repl-diskless-sync-delay", "0", "--repl-timeout", "5"),
            *("--replicaof", "127.0.0.1 1", "--dir", str(directory)),
        )
        self.address = f"{address}:{REDIS_PORT}"
        self._process: subprocess.Popen[bytes] | None = None

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if not self.runs():
            self.starts += 1
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def signal(self, number: signal.Signals) -> None:
        if self.runs():
            assert self._process is not None
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def wake(self) -> None:
        self.signal(signal.SIGCONT)
        self.start()


class OwnServer(Server):
    """A Redis that its node runs: it starts and ends with the node."""

    def runs(self) -> bool:
        return bool(self._pids())

    def start(self) -> None:
        pass

    def signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def _pids(self) -> list[int]:
        title = f"redis-server {self.address}"
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in pids if command_line(pid)[:1] == [title]]


class Member(Process):
    """A node, with its server."""

    def __init__(
        self, name: str, peers: Sequence[str], server: Server, directory: Path, more: Sequence[str]
    ) -> None:
        own = isinstance(server, OwnServer)
        place = WORLD / "redis" / name
        self.data = place / "data"
        self.data.mkdir(parents=True)
        timings = attrs.asdict(TIMINGS)
        super().__init__(
            name,
            (
                *(*FOREGROUND, "kevy-elect", f"--node-id={name}"),
                *(f"--peers={','.join(peers)}", f"--data-dir={self.data}"),
                *(f"--http=unix:{place}/status:lockfile=0", f"--redis={server.address}"),
                *([f"--redis-command={shlex.join(server.command)}"] if own else []),
                *(f"--{each.replace('_', '-')}={timings[each]}" for each in _OPTIONS),
                *more,
            ),
            environment={},
            status=place / "status",
            log=directory / f"{name}.log",
        )
        self.server = server
        self.endings = 0
        """The number of orderly ends by SIGTERM."""

    def end(self) -> None:
        if self.runs():
            self.endings += 1
            self.signal(signal.SIGTERM)

    def wake(self) -> None:
        self.server.wake()
        super().wake()

    def kill(self) -> None:
        super().kill()
        self.server.kill()

    def kill_node(self) -> None:
        super().kill()


class Cluster(Group[Member]):
    def __init__(
        self,
        directory: Path,
        rng: random.Random,
        more: Sequence[str] = (),
        kind: type[Server] = Server,
    ) -> None:
        network = Network((*NAMES, CLIENTS), rng)
        peers = [f"{name}@{network.addresses[name]}:{PORT}:{REDIS_PORT}" for name in NAMES]
        members = []
        for name in NAMES:
            place = WORLD / "redis" / name / "server"
            place.mkdir(parents=True)
            log = directory / f"redis-{name}.log"
            server = kind(name, network.addresses[name], place, log)
            members.append(Member(name, peers, server, directory, more))
        self.begin(directory, network, members)

    def begin(self, directory: Path, network: Network, members: Sequence[Any]) -> None:
        self.switchovers: list[tuple[float, int]] = []
        """The beginning and the exit status of each switchover."""
        self._asking: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._clients: list[subprocess.Popen[bytes]] = []
        Group.__init__(self, directory, network, members)

    def journal(self, name: str) -> Path:
        """The journal of the client of this server."""
        return self.directory / f"{name}.writes"

    def start_clients(self) -> None:
        for member in self:
            words = (member.name, member.server.address, str(self.journal(member.name)))
            self._clients.append(
                subprocess.Popen(
                    [*_enter(CLIENTS), sys.executable, "-m", "tests.soak.redis.clients", *words],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                )
            )

    def stop_clients(self) -> None:
        for client in self._clients:
            client.kill()
            client.wait()

    def switch_over(self, target: str | None) -> None:
        """Begin a handover to `target`, or to the primary's choice."""
        words = [target] if target is not None else []
        with open(self.directory / "switchover.log", "ab") as log:
            command = [sys.executable, "-m", "kevy_elect", "switchover", "--timeout=5s", *words]
            asking = subprocess.Popen(
                [*command, f"--data-dir={self[self.primary].data}"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._asking.append((time.monotonic(), asking))

    def heal(self) -> None:
        super().heal()
        for begun, asking in self._asking:
            try:
                status = asking.wait(SWITCHED_WITHIN)
            except subprocess.TimeoutExpired:
                asking.kill()
                status = asking.wait()
            self.switchovers.append((begun, status))
        self._asking.clear()

    def moves(self, deadline: float) -> float | None:
        """The time at which all replicas confirmed a write; None if they do not before
        `deadline`."""
        while time.monotonic() < deadline:
            for member in self:
                member.wake()
                told = member.status()
                if told is not None and told["can_write"] and _ask(member, "confirm") == b"2":
                    self.primary = member.name
                    return time.monotonic()
            time.sleep(0.02)
        return None

    def statuses(self) -> dict[str, Any]:
        """The statuses of the nodes, and the answers of their servers."""
        servers = {f"server {each.name}": _ask(each, "info").decode() for each in self}
        return super().statuses() | servers

    def values(self) -> set[str]:
        """The values of the clients' writes on the primary."""
        found = _ask(self[self.primary], "read")
        return set(found.decode().split())


def _enter(name: str) -> tuple[str, str]:
    return "nsenter", f"--net=/run/netns/{name}"


def _ask(member: Member, question: str) -> bytes:
    """The answer of a process beside the server."""
    done = subprocess.run(
        [
            *(*_enter(member.name), sys.executable, "-m", "tests.soak.redis.cluster"),
            *(member.server.address, question),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return done.stdout.strip()


def _answer(address: str, question: str) -> None:
    host, _, port = address.partition(":")
    client = Redis(host, int(port), socket_timeout=5.0)
    with suppress(RedisError):
        if question == "confirm":
            client.incr(PROBE)
            print(client.wait(2, 1000))
        elif question == "info":
            print(client.info("replication"))
        else:
            sys.stdout.buffer.write(b"\n".join(client.lrange(KEY, 0, -1)))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
