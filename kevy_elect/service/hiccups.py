"""Delays of a process that threatened nothing: too many of them are one line in a log. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from kevy_elect.events import Cause, Event, EventKind
from kevy_elect.peers import NEVER

LONGEST: Final = 1.0
"""Seconds of a delay that has a line of its own in any case; less with a short down_after."""
PERIOD: Final = 60.0
"""Seconds in which the delays are counted."""
MANY: Final = 10
"""Delays in one PERIOD that are worth a line."""


def tolerated(down_after: float) -> float:
    """Seconds of a delay after which no other member has missed this node."""
    return min(down_after / 2, LONGEST)


@attrs.frozen
class Spate:
    """Many delays within one PERIOD."""

    count: int
    longest: float
    """Seconds."""


class Hiccups:
    """Tells the events of short delays from those that are worth a line.

    A short pause is none unless it costs a primary its lease, nor is it that a node which is not
    primary loses sight of the quorum by that pause, and soon has it again.
    """

    def __init__(self) -> None:
        self._began = NEVER
        self._count = 0
        self._longest = 0.0
        self._paused_at = NEVER
        self._lost: Event | None = None  # sight of the quorum, by a short pause

    def sift(self, events: Sequence[Event], down_after: float, *, leads: bool) -> list[Event]:
        """Those of one run of the elector that are worth a line; `leads` if it is primary."""
        if leads:
            self._lost = None
        costs_lease = leads and any(_is_loss(event) for event in events)
        longest = 0.0 if costs_lease else tolerated(down_after)
        return [event for event in events if not self._is_short(event, longest, leads=leads)]

    def _is_short(self, event: Event, longest: float, *, leads: bool) -> bool:
        if event.kind is EventKind.PAUSE and event.lasted < longest:
            self._count_one(event)
            return True
        if event.kind is not EventKind.QUORUM or leads:
            return False
        if event.cause is Cause.LOST and event.at == self._paused_at:
            self._lost = event
            return True
        lost, self._lost = self._lost, None
        return lost is not None

    def _count_one(self, pause: Event) -> None:
        if self._count == 0:
            self._began = pause.at
        self._count += 1
        self._longest = max(self._longest, pause.lasted)
        self._paused_at = pause.at

    def overdue(self, now: float, down_after: float) -> Event | None:
        """A loss of the quorum's sight that was no short one after all; once."""
        lost = self._lost
        if lost is None or now - lost.at < tolerated(down_after):
            return None
        self._lost = None
        return lost

    def spate(self, now: float) -> Spate | None:
        """The delays of the last PERIOD once it is over, if they were many."""
        if self._count == 0 or now - self._began < PERIOD:
            return None
        found = Spate(self._count, self._longest)
        self._count, self._longest = 0, 0.0
        return found if found.count >= MANY else None


def _is_loss(event: Event) -> bool:
    return event.kind is EventKind.QUORUM and event.cause is Cause.LOST
