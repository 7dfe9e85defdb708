"""How long to wait before a command that ended by itself is started again."""

from __future__ import annotations

from typing import Final

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
STEADY_AFTER: Final = 10.0
"""Seconds; a command that ran this long is restarted after the shortest wait."""


class Backoff:
    """The seconds to wait before each start, which double each time."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def after(self, ran: float) -> float:
        """The wait after a run of `ran` seconds."""
        if ran >= STEADY_AFTER:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY)
        return delay
