"""A cluster of real twistd processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from kevy_elect.cli.demo.ports import free_ports
from tests.support import FOREGROUND
from tests.support.forked import Forked, fork
from tests.support.waiting import DEADLINE, pauses

DOWN_AFTER = 1.0
TIMINGS = ("--hb-interval=0.1", f"--down-after={DOWN_AFTER}", "--election-timeout=0.5")
BACKOFF = ("--election-backoff=0.1", "--election-backoff-jitter=0.3")
TWIST = (sys.executable, "-c", "from twisted.application.twist._twist import Twist; Twist.main()")


Process = subprocess.Popen[bytes] | Forked


def start(command: Sequence[str], directory: Path, log: Path, **environment: str) -> Process:
    """Run a command in a directory, with this added to our environment. A twistd in the
    foreground is forked."""
    own = os.environ | environment
    with open(log, "ab") as output:
        if sys.platform == "linux" and tuple(command[: len(FOREGROUND)]) == FOREGROUND:
            return fork(command, directory, output, own)
        return subprocess.Popen(
            command,
            cwd=directory,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


class Node:
    """One node's process, its directory and its log."""

    def __init__(self, node_id: str, peers: str, http: int, directory: Path) -> None:
        self.node_id = node_id
        self.peers = peers
        self.http = http
        self.directory = directory
        self.data = directory / f"data-{node_id}"
        self.log = directory / f"{node_id}.log"
        self.process: Process | None = None

    def command(self, *more: str, runner: Sequence[str] = FOREGROUND) -> list[str]:
        return [
            *runner,
            "kevy-elect",
            f"--node-id={self.node_id}",
            f"--peers={self.peers}",
            f"--data-dir={self.data}",
            f"--http=tcp:{self.http}:interface=127.0.0.1",
            *TIMINGS,
            *BACKOFF,
            *more,
        ]

    def start(self, command: Sequence[str] | None = None) -> Process:
        self.process = start(command or self.command(), self.directory, self.log)
        return self.process

    def kill(self, signal_number: int = signal.SIGKILL) -> int:
        """Send the signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal_number)
        return self.process.wait(DEADLINE)

    async def status(self) -> dict[str, Any] | None:
        """The status document of the node over HTTP; None if it does not answer."""
        told: dict[str, Any] | None = await deferToThread(self.ask)
        return told

    def ask(self) -> Any:
        """The same, for callers without a reactor."""
        try:
            with urlopen(f"http://127.0.0.1:{self.http}/status", timeout=1) as answer:
                return json.load(answer)
        except OSError:
            return None


class Cluster:
    def __init__(self, directory: Path, ids: str = "abc") -> None:
        ports = free_ports(2 * len(ids))
        peers = ",".join(f"{n}@127.0.0.1:{p}" for n, p in zip(ids, ports, strict=False))
        self.nodes = {
            n: Node(n, peers, http, directory)
            for n, http in zip(ids, ports[len(ids) :], strict=True)
        }

    def __getitem__(self, node_id: str) -> Node:
        return self.nodes[node_id]

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    async def agreed(
        self, ids: str = "abc", other_than: str | None = None
    ) -> dict[str, Any] | None:
        """The status of the primary with a lease that all of `ids` follow."""
        told: list[dict[str, Any]] = []
        for node_id in ids:
            status = await self[node_id].status()
            followed = status and status["current_primary"]
            if status is None or followed in (None, other_than):
                return None  # without asking the others, who have enough to do
            told.append(status)
        primaries = {each["current_primary"] for each in told}
        writers = [each for each in told if each["can_write"]]
        if len(primaries) != 1 or len(writers) != 1:
            return None
        return writers[0] if writers[0]["node_id"] in primaries else None

    async def settled(self, ids: str = "abc", other_than: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = await poll(lambda: self.agreed(ids, other_than))
        return found

    def logs(self) -> str:
        return "\n".join(
            f"== {node.log.name}\n{node.log.read_text()}"
            for node in self.nodes.values()
            if node.log.exists()
        )


def child(pid: int) -> int:
    """The only child of this process."""
    (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found)


async def logged(log: Callable[[], str], text: str) -> None:
    """Wait until a log has this text."""

    async def is_logged() -> bool:
        return text in log()

    await poll(is_logged)


async def poll(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer. AssertionError after DEADLINE seconds without one."""
    pause = pauses()
    while not (answer := await ask()):
        await deferLater(reactor, next(pause))
    return answer
