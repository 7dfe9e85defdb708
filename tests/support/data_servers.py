"""Data servers in the states that a test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from kevy_elect.driving import Fencing
from kevy_elect.status import DataStatus
from tests.support.statuses import following


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
