"""Times without writes."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import attrs


@attrs.frozen
class Spread:
    """The distribution of some durations."""

    count: int
    median: float
    percentile99: float
    maximum: float


def longest_gap(writes: Sequence[float], begin: float, end: float) -> float:
    """The longest time without a write that lies at least partly between `begin` and `end`.

    `writes` are sorted. Nothing is known before the first and after the last one.
    """
    around = writes[max(0, bisect_right(writes, begin) - 1) : bisect_left(writes, end) + 1]
    return max((later - earlier for earlier, later in itertools.pairwise(around)), default=0.0)


def time_without_writes(writes: Sequence[float], at_least: float) -> float:
    """The sum of all gaps that are not shorter than `at_least`."""
    gaps = (later - earlier for earlier, later in itertools.pairwise(writes))
    return sum(gap for gap in gaps if gap >= at_least)


def spread(durations: Sequence[float]) -> Spread | None:
    """The distribution; None without durations."""
    if not durations:
        return None
    ordered = sorted(durations)
    return Spread(len(ordered), _rank(ordered, 0.5), _rank(ordered, 0.99), ordered[-1])


def _rank(ordered: Sequence[float], share: float) -> float:
    """The smallest duration that is not exceeded by this share of all."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
