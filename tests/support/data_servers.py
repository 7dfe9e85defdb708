"""Data servers in the states that a test sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from kevy_elect.data.service import DataService
from kevy_elect.directory import DirectoryLock
from kevy_elect.driving import Fencing
from kevy_elect.local_server import STAY, Duty, Task
from kevy_elect.service.fence import Fence
from kevy_elect.status import DataStatus
from tests.support.statuses import following
from tests.support.transports import QUICK, cluster

WARNS = "kevy_elect.data.service.DataService"
"""The namespace of what the driver of a data server logs."""


class Driven:
    """Replaces the driver of a data server, in this state."""

    def __init__(self, **changes: Any) -> None:
        self._status = DataStatus(**following(**changes))

    def become(self, **changes: Any) -> None:
        self._status = attrs.evolve(self._status, **changes)

    def watch(self) -> None:
        """Do nothing."""

    def status(self) -> DataStatus:
        return self._status


class RecordingGuard:
    """A guard that only notes what it is told."""

    pid = 7
    acted: Callable[[], object]

    def __init__(self) -> None:
        self.told: list[str] = []

    def fencing(self, process: int) -> Fencing:
        return Fencing.GUARD

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> Deferred[None]:
        self.told.append("stop")
        return succeed(None)

    def keep(self, until: float, margin: float, process: int) -> None:
        self.margin = margin
        self.told.append("keep")

    def freeze(self) -> None:
        self.told.append("freeze")

    def release(self) -> None:
        self.told.append("release")


class Deciding:
    """What a DataService needs of an election, which decides what it is told to."""

    config = QUICK
    cluster = cluster()
    is_electing = True
    survivor = 0

    def __init__(self, directory: Path, reactor: Any) -> None:
        self.reactor = reactor
        self.directory: DirectoryLock | None = DirectoryLock(directory, "a")
        self.fence = Fence(lambda *, closed: None)
        self.data: DataService | None = None
        self.wanted = STAY
        self.offset = 0
        self.heard: list[object] = []
        self.said: list[int] = []
        self.failures: list[object] = []
        self.observers: list[Callable[[object, str], object]] = []

    def now(self) -> float:
        return float(self.reactor.seconds())

    def duty(self) -> Duty:
        return self.wanted

    def want(self, duty: Duty) -> None:
        self.wanted = duty
        assert self.data is not None
        self.data.watch()

    def set_repl_offset(self, offset: int) -> None:
        self.offset = offset

    @property
    def repl_offset(self) -> int:
        return self.offset

    def lease_left(self) -> float:
        return 1.0

    def say_now(self) -> None:
        self.said.append(self.offset)

    def server_frozen(self, offset: int, newest: int) -> None:
        self.offset = offset
        self.heard.append(("frozen", offset, newest))

    def server_released(self, data_epoch: int = 0) -> None:
        self.heard.append("released")

    def server_promoted(self) -> None:
        self.heard.append("promoted")

    def server_lost(self, why: str) -> None:
        self.heard.append("lost")
        if self.wanted.task is Task.PROMOTE:
            self.wanted = STAY  # it steps down

    def failed(self, failure: object) -> None:
        self.failures.append(failure)

    def add_observer(self, observer: Callable[[object, str], object]) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)
