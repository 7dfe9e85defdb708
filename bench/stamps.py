"""The records of a measured process: lines of JSON, each with the monotonic time, which is the same
for all processes of a machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Stamp:
    """One line: the time in nanoseconds, the kind, and further values."""

    at: int
    kind: str
    told: dict[str, Any]


class Stamps:
    """Appends stamps to a file, each with one system call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def append_to(cls, path: str | Path) -> Stamps:
        return cls(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    def put(self, kind: str, **told: Any) -> None:
        line = json.dumps([time.monotonic_ns(), kind, told]) + "\n"
        os.write(self._descriptor, line.encode())


def read(path: Path, since: int = 0) -> Iterator[Stamp]:
    """The stamps in a file that are not older than `since`; none if there is no file yet."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        stamp = Stamp(*json.loads(line))
        if stamp.at >= since:
            yield stamp
