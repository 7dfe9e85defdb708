"""The bounds of a stop: everything that runs only on the primary ends before the lease does."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from kevy_elect.config import ElectConfig

LEAST_LEASE: Final = 10
"""Heartbeat intervals of lease that a grace must leave, so a short delay stops no children."""
LEAST_KILL_TIME: Final = 0.15
"""The least number of seconds before the end of the lease for SIGKILL to take effect."""


class OnExit(Enum):
    """What to do when a command ends by itself although its node is primary."""

    RESTART = "restart"
    STEP_DOWN = "step-down"
    STOP = "stop"


def longest_grace(config: ElectConfig) -> float:
    """The longest time, in seconds, that children may take to stop with these timings. 0 or less
    means that there is no such time."""
    lease = min(config.lease_duration, config.down_after - config.lease_margin)
    return lease - LEAST_LEASE * config.hb_interval


def whole_grace(stop_grace: float) -> float:
    """The seconds of lease that a command needs to stop if it gets `stop_grace` seconds between
    SIGTERM and SIGKILL. SIGKILL takes time too, and longer for a command with much memory."""
    return stop_grace + max(LEAST_KILL_TIME, stop_grace / 4)


def longest_stop_grace(config: ElectConfig) -> float:
    """The longest `stop_grace`, in seconds, that these timings allow, rounded down to milliseconds;
    below 0 if they allow none."""
    longest = longest_grace(config)
    exactly = min(longest - LEAST_KILL_TIME, longest / 1.25)
    return math.floor(exactly * 1000 - 1e-6) / 1000  # rounding errors must not exceed it
