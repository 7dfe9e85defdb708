"""Many random schedules, and a summary of their results."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import attrs

from kevy_elect.testing.checkers import Whose
from kevy_elect.testing.schedules import Mode, draw_schedule, run_schedule

BATCH: Final = 50
"""The number of schedules that one process runs in a row."""


@attrs.frozen
class Result:
    """The result of one schedule. Times are virtual seconds."""

    seed: int
    theirs: int
    """The number of nodes of the existing implementation."""
    violations: tuple[str, ...]
    broken_by_theirs: tuple[str, ...]
    """The promises that nodes of the existing implementation broke among themselves."""
    settled_after: float | None
    dual_writable: Mapping[Whose, float]


@attrs.frozen
class Summary:
    """The results of many schedules. `took` is in real seconds, other times are virtual."""

    schedules: int
    took: float
    failures: tuple[Result, ...]
    settling: tuple[float, ...]
    dual_writable: Mapping[Whose, float]
    """The longest time for which two nodes could write, by their implementation."""
    broken_by_theirs: Mapping[str, int]
    """The number of schedules in which they broke each promise."""

    @property
    def per_second(self) -> float:
        """Schedules per real second."""
        return self.schedules / self.took

    @property
    def undisturbed(self) -> int:
        """The number of clusters that were settled when the last fault ended."""
        return self.settling.count(0.0)

    def settled_within(self, part: float) -> float:
        """The time after the last fault within which this part of the other clusters had
        settled."""
        times = self.settling[self.undisturbed :]
        return times[min(len(times) - 1, int(part * len(times)))] if times else math.nan


def explore(seeds: range, nodes: int, mode: Mode, jobs: int = 1) -> Summary:
    """Run the schedules of all these seeds in `jobs` processes."""
    began = time.perf_counter()
    results = list(_results(seeds, nodes, mode, jobs))
    return Summary(
        schedules=len(results),
        took=time.perf_counter() - began,
        failures=tuple(result for result in results if result.violations),
        settling=tuple(sorted(r.settled_after for r in results if r.settled_after is not None)),
        dual_writable={
            kind: max((result.dual_writable[kind] for result in results), default=0.0)
            for kind in Whose
        },
        broken_by_theirs=Counter(p for result in results for p in set(result.broken_by_theirs)),
    )


def _results(seeds: range, nodes: int, mode: Mode, jobs: int) -> Iterator[Result]:
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    work = (batches, itertools.repeat(nodes), itertools.repeat(mode))
    if jobs == 1:
        yield from _chain(map(_run_batch, *work))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from _chain(pool.map(_run_batch, *work))


def _chain(batches: Iterable[list[Result]]) -> Iterator[Result]:
    return itertools.chain.from_iterable(batches)


def _run_batch(seeds: range, nodes: int, mode: Mode) -> list[Result]:
    return [_run(seed, nodes, mode) for seed in seeds]


def _run(seed: int, nodes: int, mode: Mode) -> Result:
    outcome = run_schedule(draw_schedule(seed, nodes, mode))
    return Result(
        seed,
        len(outcome.schedule.legacy),
        tuple(map(str, outcome.ours)),
        tuple(v.promise for v in outcome.violations if v.by is Whose.THEIRS),
        outcome.settled_after,
        outcome.dual_writable,
    )
