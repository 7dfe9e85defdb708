"""A node of the kind `--tac`: the election and its child in one process, by PrimaryOnly."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application import strports
from twisted.application.service import Application, Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.ops.admin import Admin
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService, use_monotonic_time
from kevy_elect.settings.admin import socket_in
from tests.soak.chaos.orders import STOP_BEFORE_WRITE, Orders
from tests.soak.counter.counter import Count, Counter
from tests.soak.counter.journal import BUSY, DONE, REFUSED, START, STOP, TURN, Journal
from tests.support.secured import security

VARIABLE: Final = "COUNTER_MEMBER"
PAUSE: Final = 0.005
TIMINGS: Final = ElectConfig(
    hb_interval=0.05,
    down_after=1.2,
    election_timeout=0.5,
    election_backoff=0.1,
    election_backoff_jitter=0.4,
)
STOP_GRACE: Final = 0.1


@attrs.frozen
class Settings:
    """The settings of a node's process."""

    node: str
    peers: list[str]
    data: Path = attrs.field(converter=Path)
    orders: Path = attrs.field(converter=Path)
    status: str
    directory: Path = attrs.field(converter=Path)
    """The directory of counter and journal."""
    checked: bool
    links: list[str]
    """The options for its links."""

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(attrs.asdict(self), default=str)}

    @classmethod
    def from_environment(cls) -> Settings:
        return cls(**json.loads(os.environ[VARIABLE]))


def make_application() -> Any:
    """The application for twistd: the election, its status page, its admin socket, and the work."""
    use_monotonic_time()
    settings = Settings.from_environment()
    cluster = Cluster(settings.node, tuple(PeerAddr.parse(each) for each in settings.peers))
    ids = [peer.node_id for peer in cluster.peers]
    election = ElectionService(
        cluster,
        data_dir=settings.data,
        config=TIMINGS,
        security=security(settings.node, ids, settings.links),
    )
    orders = Orders(settings.orders)
    work = Incrementing(election, settings.directory, orders, checked=settings.checked)
    application = Application("counter")
    for part in (
        election,
        strports.service(settings.status, site(election)),
        PrimaryOnly(election, work, stop_grace=STOP_GRACE),
        Admin(election, socket_in(settings.data)),
    ):
        part.setServiceParent(application)
    return application


class Incrementing(Service):
    """Asks in each turn whether it may, and increments.

    The process may be stopped after the answer, for longer than the lease. The counter is therefore
    `checked`: one process at a time changes it, and not for an epoch older than its own.
    """

    log = Logger()

    def __init__(
        self, election: ElectionService, directory: Path, orders: Orders, *, checked: bool
    ) -> None:
        self._election = election
        self._directory = directory
        self._counter = Counter(directory)
        self._checked = checked
        self._orders = orders

    def startService(self) -> None:
        super().startService()
        epoch = self._election.state_snapshot().epoch
        self._journal = Journal(self._directory / "journal", self._election.cluster.node_id, epoch)
        self._journal.tell(START)
        self._loop = LoopingCall(self._turn)
        self._loop.start(PAUSE).addErrback(self._failed)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._journal.tell(STOP)
        self._journal.close()

    def _turn(self) -> None:
        asked = time.monotonic_ns()
        allowed = self._election.can_write()
        answered = time.monotonic_ns()
        if not allowed:
            return
        self._journal.epoch = self._election.state_snapshot().epoch
        if self._orders.take(STOP_BEFORE_WRITE):
            os.kill(os.getpid(), signal.SIGSTOP)
        if not self._checked:
            self._increment(asked, answered)
            return
        try:
            with self._counter.alone():
                self._increment(asked, answered)
        except BlockingIOError:
            self._journal.tell(BUSY, asked=asked, answered=answered)

    def _increment(self, asked: int, answered: int) -> None:
        found, epoch = self._counter.read(), self._journal.epoch
        if self._checked and found.epoch > epoch:
            self._journal.tell(REFUSED, found, asked, answered)
            return
        self._journal.tell(TURN, found, asked, answered)
        self._counter.write(following := Count(epoch, found.number + 1))
        self._journal.tell(DONE, following)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the work failed", failure)
        self.running = False
