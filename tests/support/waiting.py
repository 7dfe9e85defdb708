"""Waiting for a state: asked again and again until a deadline, never slept for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

DEADLINE = 60.0
"""Seconds after which what is waited for has failed: long, since a machine may be busy."""
T = TypeVar("T")


def pauses() -> Iterator[float]:
    """Seconds to wait between two questions, ever more of them: whoever asks keeps a processor
    from those who are asked. AssertionError after DEADLINE seconds."""
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
