"""The journal of the children: a line for each step, in a file that all share."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.soak.counter.counter import NOTHING, Count

START: Final = "start"
COMPANY: Final = "company"
"""At the start of this process, a process of an earlier run still existed."""
TURN: Final = "turn"
"""The process has read the counter and is about to increment it."""
DONE: Final = "done"
"""The increment is on the disk, and acknowledged with this line."""
BUSY: Final = "busy"
"""The process did not increment, because another process was doing so."""
REFUSED: Final = "refused"
"""The process did not increment, because the check found a newer epoch in the counter."""
STOP: Final = "stop"


class Line(NamedTuple):
    """One line. The times are nanoseconds of the machine's monotonic clock.

    A child asks whether it may increment at `asked` or later, and gets the answer yes by
    `answered`. Both are the same for a child that does not ask, and in lines without a question.
    """

    node: str
    life: str
    """One run of the child. It begins with its process id."""
    epoch: int
    word: str
    asked: int
    answered: int
    counter: Count
    """The counter as read, or for DONE as written."""


class Journal:
    """The lines of one life."""

    def __init__(self, path: Path, node: str, epoch: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._who = f"{node} {os.getpid()}@{time.monotonic_ns()}"
        self.epoch = epoch

    def tell(self, word: str, count: Count = NOTHING, asked: int = 0, answered: int = 0) -> None:
        """Append a line by one system call, so that lines of several processes do not mix. Without
        `asked` its time is now."""
        asked = asked or time.monotonic_ns()
        line = f"{self._who} {self.epoch} {word} {asked} {answered or asked} {count[0]} {count[1]}"
        os.write(self._fd, f"{line}\n".encode("ascii"))

    def close(self) -> None:
        os.close(self._fd)


def read(path: Path) -> list[Line]:
    """All lines, in the order in which they reached the file. Raises ValueError for others."""
    if not path.exists():
        return []
    with open(path, encoding="ascii") as lines:
        return [_parse(line) for line in lines]


def _parse(line: str) -> Line:
    node, life, epoch, word, asked, answered, *count = line.split()
    there = Count(*map(int, count))
    return Line(node, life, int(epoch), word, int(asked), int(answered), there)
