"""What runs in a node's process: the election, its status page, the work, and a flood on demand."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application import strports
from twisted.application.internet import TimerService
from twisted.application.service import Application, Service
from twisted.internet.task import LoopingCall

from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.messages import Heartbeat
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService, use_monotonic_time
from tests.soak.chaos.journal import Journal
from tests.support.secured import security

VARIABLE: Final = "HOSTILE_MEMBER"
WRITE_INTERVAL: Final = 0.005
FLOOD_BATCH: Final = 200
"""Heartbeats to each peer in one turn of the reactor."""
CONFIG: Final = ElectConfig(
    hb_interval=0.05,
    down_after=0.5,
    election_timeout=0.5,
    election_backoff=0.1,
    election_backoff_jitter=0.3,
)


@attrs.frozen
class MemberSettings:
    """What a node's process is told when it starts."""

    node: str
    peers: list[str]
    http: int
    links: list[str]
    """The options that say what the member proves itself by."""
    down_after: float
    data: Path = attrs.field(converter=Path)
    journal: Path = attrs.field(converter=Path)
    refusals: Path = attrs.field(converter=Path)

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(attrs.asdict(self), default=str)}

    @classmethod
    def from_environment(cls) -> MemberSettings:
        return cls(**json.loads(os.environ[VARIABLE]))


class Writer:
    """Writes a line whenever it may. The first refusal after a write is a lost lease; it goes
    to a file of its own with its time."""

    def __init__(self, election: ElectionService, settings: MemberSettings) -> None:
        self._election = election
        self._node = settings.node
        self._journal = Journal(settings.journal, settings.node)
        self._refusals = os.open(settings.refusals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._writing = False
        self._last_done = 0

    def write(self) -> None:
        asked = time.monotonic_ns()
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
    """A member gone wild: from SIGUSR1 to SIGUSR2 it sends heartbeats as fast as they are read."""

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
    """What twistd runs."""
    settings = MemberSettings.from_environment()
    use_monotonic_time()
    cluster = Cluster(settings.node, tuple(PeerAddr.parse(peer) for peer in settings.peers))
    ids = [peer.node_id for peer in cluster.peers]
    election = ElectionService(
        cluster,
        data_dir=settings.data,
        config=attrs.evolve(CONFIG, down_after=settings.down_after),
        security=security(settings.node, ids, settings.links),
    )
    application = Application(settings.node)
    page = strports.service(f"tcp:{settings.http}:interface=127.0.0.1", site(election))
    writing = TimerService(WRITE_INTERVAL, Writer(election, settings).write)
    for each in (election, page, writing, Flooder(election)):
        each.setServiceParent(application)
    return application
