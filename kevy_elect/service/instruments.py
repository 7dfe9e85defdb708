"""Measurements of a node that a snapshot does not have, at the time of the measured event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from kevy_elect.events import Event
from kevy_elect.service.observers import enlist


class Probe(Protocol):
    """Receives measurements."""

    def noted(self, event: Event) -> None:
        """The elector noted an event."""

    def ticked(self, late: float) -> None:
        """The elector's tick came `late` seconds after it was due, counted from the one before."""

    def saved(self, took: float, *, kept: bool) -> None:
        """A save of the ballot took so many seconds, and succeeded or not."""


class Probes:
    """All probes of a node. Exceptions of a probe are logged."""

    log = Logger()

    def __init__(self) -> None:
        self._probes: list[Probe] = []

    def add(self, probe: Probe) -> Callable[[], None]:
        """Use `probe` from now on. Returns a function that removes it."""
        return enlist(self._probes, probe)

    def noted(self, event: Event) -> None:
        """Report an event to all probes."""
        self._tell(lambda probe: probe.noted(event))

    def ticked(self, late: float) -> None:
        """Report a tick to all probes."""
        self._tell(lambda probe: probe.ticked(late))

    def saved(self, took: float, *, kept: bool) -> None:
        """Report a save of the ballot to all probes."""
        self._tell(lambda probe: probe.saved(took, kept=kept))

    def _tell(self, tell: Callable[[Probe], None]) -> None:
        for probe in list(self._probes):
            try:
                tell(probe)
            except Exception:
                self.log.failure("{probe} failed to measure", probe=probe)
