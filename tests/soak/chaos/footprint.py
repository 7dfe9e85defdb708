"""The resources of nodes by /proc and their logs: at the start of a run, at most, and at its
end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs


@attrs.frozen
class Footprint:
    """The resources of one process, or the greatest values of several."""

    memory: int = 0
    """Resident kilobytes."""
    descriptors: int = 0
    threads: int = 0
    log: int = 0
    """Bytes of the log."""


_UNITS: Final = {
    "memory": (1024, " MB"),
    "descriptors": (1, ""),
    "threads": (1, ""),
    "log": (1000, " KB"),
}


def take(pid: int | None, log: Path) -> Footprint:
    """The footprint of a process; if it has ended, only that of its log."""
    size = log.stat().st_size if log.exists() else 0
    try:
        told = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return Footprint(log=size)
    rows = dict(line.split(":", 1) for line in told.splitlines())
    if "VmRSS" not in rows:  # it has ended, and nobody has collected it yet
        return Footprint(log=size)
    return Footprint(int(rows["VmRSS"].split()[0]), descriptors, int(rows["Threads"]), size)


def greatest(footprints: Iterable[Footprint]) -> Footprint:
    values = [attrs.astuple(each) for each in footprints]
    return Footprint(*map(max, zip(*values, strict=True))) if values else Footprint()


def lines(footprints: Sequence[Footprint]) -> list[str]:
    """A line for each resource: the first, the greatest and the last value."""
    three = (footprints[:1], footprints, footprints[-1:])
    found = [f"{'the greatest node':21}at the start / at most / at the end"]
    for name, (size, unit) in _UNITS.items():
        values = [getattr(greatest(each), name) / size for each in three]
        found.append(f"  {name:19}{' / '.join(f'{value:,.0f}' for value in values)}{unit}")
    return found
