"""The counter: the epoch of its last increment and the number of increments, in one file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple


class Count(NamedTuple):
    epoch: int
    number: int


NOTHING: Final = Count(0, 0)


class Counter:
    """The counter without any check: two concurrent writers lose increments."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "counter"

    def read(self) -> Count:
        """The content of the file; NOTHING without one."""
        try:
            epoch, number = self._path.read_text().split()
        except FileNotFoundError:
            return NOTHING
        return Count(int(epoch), int(number))

    def write(self, count: Count) -> None:
        """Replace the content. It is on the disk when this returns."""
        beside = self._directory / f"counter.{os.getpid()}"
        with open(beside, "w") as file:
            file.write(f"{count.epoch} {count.number}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self._path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Exclude all others until the end of the block, even if the process is stopped meanwhile.

        Raises BlockingIOError if another process is in such a block.
        """
        with open(self._directory / "counter.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
