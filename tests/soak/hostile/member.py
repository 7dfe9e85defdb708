"""The program of a node: the election, its status page, the work, and a flood on a signal."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application.internet import TimerService
from twisted.application.service import Application, Service
from twisted.internet.task import LoopingCall

from kevy_elect.messages import Heartbeat
from kevy_elect.service.election import ElectionService
from kevy_elect.tap import Options, makeService
from tests.soak.chaos.journal import Journal

VARIABLE: Final = "HOSTILE_MEMBER"
WRITE_INTERVAL: Final = 0.005
NOTED: Final = 0.01
"""Turns with at least this many seconds of processor time are recorded."""
FLOOD_BATCH: Final = 200
"""Heartbeats to each peer in one turn of the reactor."""
DOWN_AFTER: Final = 0.5
TIMINGS: Final = {
    "hb-interval": 0.05,
    "election-timeout": 0.5,
    "election-backoff": 0.1,
    "election-backoff-jitter": 0.3,
}
WITH_A_COMMAND: Final = {"down-after": 1.2, "stop-grace": 0.1}
"""Timings for a command, which needs a part of the lease to end."""


@attrs.frozen
class MemberSettings:
    """The settings of a node's process."""

    node: str
    peers: dict[str, int]
    http: int
    front: int
    """The port at which the others expect its page. Only attacks listen there."""
    fronts: dict[str, int]
    links: list[str]
    """The options for its links."""
    down_after: float
    command: str
    config: Path = attrs.field(converter=Path)
    data: Path = attrs.field(converter=Path)
    hooks: Path = attrs.field(converter=Path)
    """The file with a byte for each run of the hook."""
    turns: Path = attrs.field(converter=Path)
    """The file with a line for each long turn: its end and its length."""
    journal: Path = attrs.field(converter=Path)
    refusals: Path = attrs.field(converter=Path)

    def write(self) -> None:
        """Write the file of --config."""
        hook = f"printf . >> '{self.hooks}'"
        values: dict[str, object] = {
            "node-id": self.node,
            "http": f"tcp:{self.http}:interface=127.0.0.1",
            "data-dir": str(self.data),
            "on-change": ["sh", "-c", hook],
            "down-after": self.down_after,
            **TIMINGS,
        }
        if self.command:
            values |= {"run-primary": self.command, **WITH_A_COMMAND}
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        for table, ports in (("peers", self.peers), ("http-peers", self.fronts)):
            lines += [f"[{table}]", *(f'{n} = "127.0.0.1:{port}"' for n, port in ports.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(attrs.asdict(self), default=str)}

    @classmethod
    def from_environment(cls) -> MemberSettings:
        return cls(**json.loads(os.environ[VARIABLE]))


class Writer:
    """Writes a line whenever it may. The first refusal after a write is a lost lease, whose time
    goes to a file of its own. Another file has the processor time of this process between two
    checks, which shows the reason of a delay on a busy machine."""

    def __init__(self, election: ElectionService, settings: MemberSettings) -> None:
        self._election = election
        self._node = settings.node
        self._journal = Journal(settings.journal, settings.node)
        self._refusals = os.open(settings.refusals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._turns = os.open(settings.turns, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._spent = time.process_time()
        self._writing = False
        self._last_done = 0

    def write(self) -> None:
        asked = time.monotonic_ns()
        spent = time.process_time()
        if spent - self._spent >= NOTED:
            os.write(self._turns, f"{asked} {spent - self._spent:.3f}\n".encode())
        self._spent = spent
        allowed = self._election.can_write()
        answered = time.monotonic_ns()
        if allowed:
            epoch = self._election.state_snapshot().epoch
            self._journal.append(epoch, asked, answered, self._last_done)
            self._last_done = time.monotonic_ns()
        elif self._writing:
            os.write(self._refusals, f"{self._node} {asked}\n".encode())
        self._writing = allowed


class Flooder(Service):
    """A faulty member: between SIGUSR1 and SIGUSR2 it sends heartbeats as fast as they are read."""

    def __init__(self, election: ElectionService) -> None:
        self._election = election
        self._loop = LoopingCall(self._flood)

    def startService(self) -> None:
        super().startService()
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _begin(self, *_: object) -> None:
        if not self._loop.running:
            self._loop.start(0)

    def _end(self, *_: object) -> None:
        if self._loop.running:
            self._loop.stop()

    def _flood(self) -> None:
        now = self._election.state_snapshot()
        heartbeat = Heartbeat(now.epoch, self._election.cluster.node_id, now.role, 0)
        links: Any = self._election._links.values()
        for link in links:
            for _ in range(FLOOD_BATCH):
                link.send(heartbeat)


def make_application() -> Any:
    """The application for twistd."""
    settings = MemberSettings.from_environment()
    options = Options()
    options.parseOptions([f"--config={settings.config}", *settings.links])
    node = makeService(options)
    writing = TimerService(WRITE_INTERVAL, Writer(node.election, settings).write)
    application = Application(settings.node)
    for each in (node, writing, Flooder(node.election)):
        each.setServiceParent(application)
    return application
