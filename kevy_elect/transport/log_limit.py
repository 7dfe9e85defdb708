"""Limits the log lines that others can cause at will: a few of each cause, then their number."""

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
    """Decides which lines of a cause are written. The number of causes must be small.

    `line` returns the number of lines that were left out before the next written one. `left_out`
    returns the same for periodic reports.
    """

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def line(self, cause: str, now: float, burst: int = BURST) -> int | None:
        """The number of lines of this cause that were left out before this one; None if this one is
        to be left out. At most `burst` lines are written in WINDOW seconds."""
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
        """The causes whose WINDOW is over and that left out lines, each with the number of
        these."""
        over = [cause for cause, each in self._windows.items() if now - each.began >= WINDOW]
        counts = [(cause, self._windows.pop(cause).left_out) for cause in over]
        return [(cause, count) for cause, count in counts if count]


def and_more(left_out: int) -> str:
    """The end of a line before which so many lines were left out; empty for none."""
    return f" (and {left_out} more for this reason before)" if left_out else ""
