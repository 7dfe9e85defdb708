"""The clock that a node goes by."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds since this machine started, the time included for which it slept.

    `time.monotonic()` stands still in a suspended machine, which would wake up with a lease
    that others have long replaced. Where there is no CLOCK_BOOTTIME (it is Linux's), this is
    `time.monotonic()`. All processes of a machine share this clock.
    """
    return time.clock_gettime(_CLOCK)
