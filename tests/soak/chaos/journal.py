"""The file to which all nodes write while they may, a line for each write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Write(NamedTuple):
    """One line. The times are nanoseconds of the machine's monotonic clock.

    `can_write` was called at `asked` or later and had answered yes by `answered`. The write began
    after that and had ended by `done`, which the next line of the same `life` of the node contains.
    It is None for the last line of a life.
    """

    node: str
    life: int
    epoch: int
    sequence: int
    asked: int
    answered: int
    done: int | None


class Journal:
    """Appends numbered lines of a process."""

    def __init__(self, path: Path, node: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._node = node
        self._life = os.getpid()
        self._sequence = 0

    def append(self, epoch: int, asked: int, answered: int, last_done: int) -> None:
        """Append a line by one system call, so that lines of several processes do not mix."""
        self._sequence += 1
        fields = (self._node, self._life, epoch, self._sequence, asked, answered, last_done)
        os.write(self._fd, " ".join(map(str, fields)).encode("ascii") + b"\n")


def read(path: Path) -> list[Write]:
    """All writes, in the order in which they reached the file.

    Raises ValueError for a line that is no write, or if one of a life is missing.
    """
    if not path.exists():
        return []
    with open(path, encoding="ascii") as lines:
        return list(_writes(list(lines)))


def _writes(lines: list[str]) -> Iterator[Write]:
    """Read the lines of a life backwards, because each contains the end of the one before it."""
    done: dict[tuple[str, int], int] = {}
    following: dict[tuple[str, int], int] = {}
    writes = []
    for line in reversed(lines):
        node, *numbers = line.split()
        life, epoch, sequence, asked, answered, last_done = map(int, numbers)
        key = node, life
        if following.get(key, sequence + 1) != sequence + 1:
            raise ValueError(f"after this line, another of the same process is missing: {line!r}")
        following[key] = sequence
        writes.append(Write(node, life, epoch, sequence, asked, answered, done.get(key)))
        done[key] = last_done
    return reversed(writes)
