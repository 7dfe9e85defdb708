"""How much of a lease a stop needs: what runs only on a primary is down before the lease ends."""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from kevy_elect.config import ElectConfig

LEAST_LEASE: Final = 10
"""Heartbeats of lease that a grace must leave: with less, every hiccup would stop the children."""
LEAST_KILL_TIME: Final = 0.15
"""Seconds that SIGKILL has, at least, to take effect before the lease is over."""


class OnExit(Enum):
    """What to do when a command ends by itself although its node is primary."""

    RESTART = "restart"
    STEP_DOWN = "step-down"
    STOP = "stop"


def longest_grace(config: ElectConfig) -> float:
    """The longest time, in seconds, that children may take to stop with these timings; 0 or
    less if there is none."""
    lease = min(config.lease_duration, config.down_after - config.lease_margin)
    return lease - LEAST_LEASE * config.hb_interval


def whole_grace(stop_grace: float) -> float:
    """The seconds of lease that stopping a command takes which gets `stop_grace` seconds
    between SIGTERM and SIGKILL: SIGKILL takes time too, and more of it with much memory."""
    return stop_grace + max(LEAST_KILL_TIME, stop_grace / 4)


def longest_stop_grace(config: ElectConfig) -> float:
    """The longest time between SIGTERM and SIGKILL, in seconds, for which these timings leave
    enough lease, rounded down to milliseconds; below 0 if there is none."""
    longest = longest_grace(config)
    exactly = min(longest - LEAST_KILL_TIME, longest / 1.25)
    return math.floor(exactly * 1000 - 1e-6) / 1000  # never more, whatever floats lose
