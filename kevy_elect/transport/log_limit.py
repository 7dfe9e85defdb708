"""Lines for the log that somebody else can cause at will: a few of a kind, then their number."""

from __future__ import annotations

from typing import Final

import attrs

WINDOW: Final = 10.0
"""Seconds in which at most BURST lines of one cause are written."""
BURST: Final = 5


@attrs.define
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


class Sparing:
    """Says which of the lines of a cause are to be written. There must be few causes."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def line(self, cause: str, now: float) -> int | None:
        """None if a line of this cause is to be left out, else how many were before it."""
        window = self._windows.get(cause)
        left_out = 0
        if window is None or now - window.began >= WINDOW:
            left_out = 0 if window is None else window.left_out
            window = self._windows[cause] = _Window(now)
        if window.lines == BURST:
            window.left_out += 1
            return None
        window.lines += 1
        return left_out
