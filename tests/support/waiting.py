"""Waits for a state by asking until a deadline, without sleeping for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

DEADLINE = 60.0
"""Seconds until a wait fails. They are many, because a machine may be busy."""
T = TypeVar("T")


def pauses() -> Iterator[float]:
    """Seconds to wait between two questions, which grow, because questions use processor time of
    the process that is asked. AssertionError after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    pause = 0.01
    while True:
        assert time.monotonic() < deadline, "waited in vain"
        yield pause
        pause = min(1.2 * pause, 0.05)


def wait_for(ask: Callable[[], T | None]) -> T:
    """The first true answer. AssertionError after DEADLINE seconds without one."""
    pause = pauses()
    while not (answer := ask()):
        time.sleep(next(pause))
    return answer
