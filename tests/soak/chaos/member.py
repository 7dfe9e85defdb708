"""A node as twistd runs it: the real service, in a process that can misbehave on order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.application import strports
from twisted.application.service import Application
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from kevy_elect.ballot import FileBallot
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService, use_monotonic_time
from tests.soak.chaos.journal import Journal
from tests.soak.chaos.orders import DIE_AFTER_SAVE, DIE_BEFORE_SAVE, STALL_NAMES, Orders
from tests.soak.chaos.settings import MemberSettings
from tests.soak.chaos.workload import Writer
from tests.support.secured import security

HOUR: Final = 3600.0
TIMINGS: Final = ElectConfig(
    hb_interval=0.05,
    down_after=0.5,
    election_timeout=0.5,
    election_backoff=0.1,
    election_backoff_jitter=0.4,
)


def make_application() -> Any:
    """The application for twistd: the election, its status page and the workload."""
    from twisted.internet import reactor

    settings = MemberSettings.from_environment()
    orders = Orders(settings.orders)
    loop: Any = reactor
    loop.seconds = time.time = WallClock()
    if settings.monotonic:
        use_monotonic_time()
    loop.installNameResolver(HostsFile(settings.addresses, settings.stall, orders))
    make_mortal(orders)

    cluster = Cluster(settings.node, tuple(PeerAddr.parse(each) for each in settings.peers))
    ids = [peer.node_id for peer in cluster.peers]
    election = ElectionService(
        cluster,
        data_dir=settings.data,
        config=TIMINGS,
        listen=settings.listen,
        security=security(settings.node, ids, settings.links),
    )
    application = Application("chaos")
    journal = Journal(settings.journal, settings.node)
    for part in (
        election,
        strports.service(f"unix:{settings.status}:lockfile=0", site(election)),
        Writer(election, journal, settings.refusals, orders),
    ):
        part.setServiceParent(application)
    return application


class WallClock:
    """This process's wall clock. SIGUSR1 steps it an hour forward, SIGUSR2 an hour back."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._seconds = time.time
        signal.signal(signal.SIGUSR1, lambda *_: self._step(HOUR))
        signal.signal(signal.SIGUSR2, lambda *_: self._step(-HOUR))

    def __call__(self) -> float:
        return self._seconds() + self._offset

    def _step(self, seconds: float) -> None:
        self._offset += seconds


def make_mortal(orders: Orders) -> None:
    """Let the process die before or after the saving of a ballot, if ordered, before it sends
    anything."""
    save = FileBallot.save

    def save_and_die(self: FileBallot, epoch: int, voted_for: str | None) -> None:
        if orders.take(DIE_BEFORE_SAVE):
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, epoch, voted_for)
        if orders.take(DIE_AFTER_SAVE):
            os.kill(os.getpid(), signal.SIGKILL)

    FileBallot.save = save_and_die  # type: ignore[method-assign]


@attrs.frozen
@implementer(IHostResolution)
class _Question:
    name: str

    def cancel(self) -> None:
        """Do nothing: the answer comes in any case."""


@implementer(IHostnameResolver)
class HostsFile:
    """Knows the nodes' names, and answers `stall` seconds late during an order."""

    def __init__(self, addresses: Mapping[str, str], stall: float, orders: Orders) -> None:
        self._addresses = addresses
        self._stall = stall
        self._orders = orders

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        from twisted.internet import reactor

        loop: Any = reactor
        question = _Question(hostName)
        resolutionReceiver.resolutionBegan(question)

        def answer() -> None:
            address = self._addresses[hostName]
            resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
            resolutionReceiver.resolutionComplete()

        if self._orders.stands(STALL_NAMES):
            late = threading.Timer(self._stall, loop.callFromThread, [answer])
            late.daemon = True
            late.start()
        else:
            answer()
        return question
