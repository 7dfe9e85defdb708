"""Limits log lines that others can cause at will: a few of a kind, then their number."""

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
    """Decides which of the lines of a cause are written. The number of causes must be small.

    The next written line of the cause has the number of lines that were left out. `left_out` has
    it, too, for periodic reports.
    """

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def line(self, cause: str, now: float, burst: int = BURST) -> int | None:
        """None if a line of this cause is to be left out, else how many were before it.
        At most `burst` lines are written in WINDOW seconds."""
        window = self._windows.get(cause)
        left_out = 0
        if window is None or now - window.began >= WINDOW:
            left_out = 0 if window is None else window.left_out
            window = self._windows[cause] = _Window(now)
        if window.lines >= burst:
            window.left_out += 1
            return None
        window.lines += 1
        return left_out

    def left_out(self, now: float) -> list[tuple[str, int]]:
        """The causes whose WINDOW is over, each with how many lines it left out, if any."""
        over = [cause for cause, each in self._windows.items() if now - each.began >= WINDOW]
        counts = [(cause, self._windows.pop(cause).left_out) for cause in over]
        return [(cause, count) for cause, count in counts if count]


def and_more(left_out: int) -> str:
    """The end of a line after which so many were left out; empty for none."""
    return f" (and {left_out} more for this reason before)" if left_out else ""
