"""What the program logs, line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from twisted.logger import LogEvent, formatEvent, globalLogPublisher


@contextlib.contextmanager
def logged(namespace: str) -> Iterator[list[str]]:
    """The lines that loggers of this namespace write from now on."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == namespace:
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)
