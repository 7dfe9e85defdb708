"""Waiting for a state: asked again and again until a deadline, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE = 60.0
"""Seconds after which what is waited for has failed: long, since a machine may be busy."""
PERIOD = 0.01
"""Seconds between two questions."""
T = TypeVar("T")


def wait_for(ask: Callable[[], T | None]) -> T:
    """The first true answer. AssertionError after DEADLINE seconds without one."""
    deadline = time.monotonic() + DEADLINE
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(PERIOD)
