"""Three nodes around one counter, and the processes below each of them."""

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
from enum import Enum
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.cli.supervise import wrapped
from tests.soak.chaos.cluster import PORT, Group
from tests.soak.chaos.network import Network
from tests.soak.chaos.orders import Orders
from tests.soak.chaos.process import Process
from tests.soak.chaos.sandbox import WORLD
from tests.soak.counter.counter import Counter
from tests.soak.counter.member import STOP_GRACE, TIMINGS, Settings
from tests.support import FOREGROUND, ROOT

NAMES: Final = ("n1", "n2", "n3")
TAC: Final = Path(__file__).with_name("node.tac")
SWITCHED_WITHIN: Final = 15.0
"""Seconds within which `switchover` must end, with success or not."""
_OPTIONS: Final = (
    "hb_interval",
    "down_after",
    "election_timeout",
    "election_backoff",
    "election_backoff_jitter",
)


class Kind(Enum):
    """How a node increments the counter while it is primary."""

    COMMAND = "--run-primary"
    TAC = "PrimaryOnly"
    UNCHECKED = "PrimaryOnly, unchecked"
    """Like TAC, but late writes are not refused, so that they can be counted."""


class Member(Process):
    """A node, with its supervisor and its command if it has them.

    With a last will, it runs below a wrapper, whose id is `pid` then, and which exits as the node
    does. Faults hit the node. The wrapper only gets SIGTERM for an orderly end.
    """

    def __init__(self, settings: Settings, kind: Kind, log: Path, *, last_will: bool) -> None:
        self._wrapped = last_will
        self._kind = kind
        self._settings = settings
        super().__init__(
            settings.node,
            self._words(),
            environment=settings.to_environment(),
            status=settings.data.with_name("status"),
            log=log,
        )
        self.data = settings.data
        self.orders = Orders(settings.orders)
        self.endings = 0
        """The number of orderly ends by SIGTERM."""
        self._stopped: list[int] = []
        self.data.mkdir(parents=True)

    def _words(self) -> tuple[str, ...]:
        command = _command(self._settings) if self._kind is Kind.COMMAND else ("-y", str(TAC))
        node = (*FOREGROUND, *command)
        return tuple(wrapped(node)) if self._wrapped else node

    def relink(self, links: list[str]) -> None:
        self._settings = attrs.evolve(self._settings, links=links)
        self.use(self._words(), self._settings.to_environment())

    @property
    def supervisors(self) -> list[int]:
        return [pid for pid in self._below() if _is_supervisor(pid)]

    @property
    def workers(self) -> list[int]:
        """The command and the processes that it has started."""
        return [pid for pid in self._below() if not _is_supervisor(pid)]

    def _below(self) -> list[int]:
        """All processes below the node, parents first."""
        found: list[int] = []
        pid = self.pid
        below = [] if pid is None else _children(pid)
        if self._wrapped and below:
            node, *orphans = below
            below = _children(node) + orphans
        while below:
            found += below
            below = [pid for each in below for pid in _children(each)]
        return found

    @property
    def node_pid(self) -> int | None:
        if not self._wrapped or self.pid is None:
            return self.pid
        return next(iter(_children(self.pid)), None)

    def end(self) -> None:
        """End it in order. `wake` starts it again."""
        if self.runs():
            self.endings += 1
            super().signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        if not self._wrapped:
            super().signal(number)
        elif self.pid is not None and (below := _children(self.pid)):
            _send(below[0], number)

    def kill(self) -> None:
        while self._wrapped and self.pid is not None and not _children(self.pid):
            time.sleep(0.002)  # it starts or ends at this moment
        super().kill()

    def stop(self, pids: Sequence[int]) -> None:
        """Stop these processes by SIGSTOP until the healing."""
        self._stopped += pids
        for pid in pids:
            _send(pid, signal.SIGSTOP)

    def heal(self) -> None:
        for pid in self._stopped:
            _send(pid, signal.SIGCONT)
        self._stopped.clear()
        self.orders.withdraw()
        super().heal()


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        _send(pid, signal.SIGKILL)


class Cluster(Group[Member]):
    def __init__(
        self, directory: Path, kind: Kind, rng: random.Random, *, last_will: bool = False
    ) -> None:
        network = Network(NAMES, rng)
        peers = [f"{name}@{network.addresses[name]}:{PORT}" for name in NAMES]
        self.kind = kind
        self.last_will = last_will
        self.switchovers: list[int] = []
        """The exit statuses of the switchovers."""
        self._asking: list[subprocess.Popen[bytes]] = []
        self.counter = Counter(directory)
        members = [
            Member(
                Settings(
                    node=name,
                    peers=peers,
                    data=WORLD / "counter" / name / "data",
                    orders=WORLD / "counter" / name / "orders",
                    status=f"unix:{WORLD}/counter/{name}/status:lockfile=0",
                    directory=directory,
                    checked=kind is not Kind.UNCHECKED,
                    links=[],
                ),
                kind,
                directory / f"{name}.log",
                last_will=last_will,
            )
            for name in NAMES
        ]
        super().__init__(directory, network, members)

    def switch_over(self, target: str | None) -> None:
        """Begin a handover to `target`, or to the primary's choice."""
        words = [target] if target is not None else []
        with open(self.directory / "switchover.log", "ab") as log:
            command = [sys.executable, "-m", "kevy_elect", "switchover", "--timeout=5s", *words]
            self._asking.append(
                subprocess.Popen(
                    [*command, f"--data-dir={self[self.primary].data}"],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def heal(self) -> None:
        super().heal()
        for asking in self._asking:
            try:
                self.switchovers.append(asking.wait(SWITCHED_WITHIN))
            except subprocess.TimeoutExpired:
                asking.kill()
                self.switchovers.append(asking.wait())
        self._asking.clear()

    def moves(self, deadline: float) -> float | None:
        """The time at which the counter grew; None if it does not grow before `deadline`."""
        before = self.counter.read()
        while self.counter.read() == before:
            if time.monotonic() > deadline:
                return None
            for member in self:
                member.wake()
            time.sleep(0.005)
        return time.monotonic()


def _command(settings: Settings) -> tuple[str, ...]:
    timings = attrs.asdict(TIMINGS)
    work = (sys.executable, "-S", "-m", "tests.soak.counter.work", str(settings.directory))
    return (
        "kevy-elect",
        f"--node-id={settings.node}",
        f"--peers={','.join(settings.peers)}",
        f"--data-dir={settings.data}",
        f"--http={settings.status}",
        f"--run-primary={shlex.join(work)}",
        f"--stop-grace={STOP_GRACE}",
        *settings.links,
        *(f"--{name.replace('_', '-')}={timings[name]}" for name in _OPTIONS),
    )


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_supervisor(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(b"kevy_elect.children.supervisor" in word for word in words)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
