"""Compares the answers that clients got with the remaining data. It knows nothing else of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

import attrs

LONGEST_GAP: Final = 0.25
"""The longest time between two writes to one server that count as one run of writes."""


@attrs.frozen
class Write:
    """One acknowledged write, with the number of replicas that confirmed it."""

    server: str
    sent: float
    acknowledged: float
    value: str
    confirmed: int


@attrs.frozen
class Overlap:
    """Two servers took writes from `begin` on, for so many `seconds`."""

    begin: float
    seconds: float
    servers: tuple[str, str]


@attrs.frozen
class Verdict:
    writes: Sequence[Write]
    lost: Sequence[Write]
    """The lost writes that were not confirmed. Their loss is allowed."""
    violations: Sequence[str]
    overlaps: Sequence[Overlap]


def read(server: str, journal: Path) -> list[Write]:
    """The writes in a client's journal. An incomplete last line is ignored."""
    if not journal.exists():
        return []
    lines = journal.read_text().split("\n")[:-1]
    parts = (line.split() for line in lines)
    return [
        Write(server, float(sent), float(acked), value, int(confirmed))
        for sent, acked, value, confirmed in parts
    ]


def judge(
    journals: Mapping[str, Sequence[Write]],
    left: Set[str],
    handovers: Iterable[tuple[float, float]],
) -> Verdict:
    """`left` are the values at the end. No acknowledged write may be lost that was made during one
    of the planned `handovers`, each with its begin and end."""
    writes = sorted(
        itertools.chain.from_iterable(journals.values()), key=lambda write: write.acknowledged
    )
    gone = [write for write in writes if write.value not in left]
    planned = list(handovers)
    violations = [
        f"{write.value} was confirmed on {write.confirmed} replicas and is lost"
        for write in gone
        if write.confirmed
    ]
    violations += [
        f"{write.value} was acknowledged during a switchover and is lost"
        for write in gone
        if any(begin <= write.acknowledged <= end for begin, end in planned)
    ]
    lost = [write for write in gone if not write.confirmed]
    return Verdict(writes, lost, violations, _overlaps(journals))


def _overlaps(journals: Mapping[str, Sequence[Write]]) -> list[Overlap]:
    runs = [run for server, writes in journals.items() for run in _runs(server, writes)]
    runs.sort()
    found = []
    for (begin, end, server), (other_begin, other_end, other) in itertools.combinations(runs, 2):
        if server != other and other_begin < end:
            seconds = min(end, other_end) - max(begin, other_begin)
            found.append(Overlap(other_begin, seconds, (server, other)))
    return found


def _runs(server: str, writes: Sequence[Write]) -> list[tuple[float, float, str]]:
    """The times during which a server took writes without a break."""
    runs: list[tuple[float, float, str]] = []
    for write in writes:
        if runs and write.sent - runs[-1][1] < LONGEST_GAP:
            runs[-1] = (runs[-1][0], write.acknowledged, server)
        else:
            runs.append((write.acknowledged, write.acknowledged, server))
    return runs
