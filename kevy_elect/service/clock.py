"""The clock of a node."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds since this machine started, including the time for which it slept.

    `time.monotonic()` stops in a suspended machine, which could wake up with a lease although
    another node has become primary. Without CLOCK_BOOTTIME (only Linux has it), this is
    `time.monotonic()`. All processes of a machine share this clock.
    """
    return time.clock_gettime(_CLOCK)
