"""Decides whether two children worked at once, and whether anything was lost, from journal and
counter.

A life, one run of the child, was at work from its first stamp to its last. If children ask the
election (`asks`), only the stamps of their questions count: a life had the right from the first
answer yes until its last question. A write that was allowed in time and made late, because the
process was stopped in between, does not violate the election's promise. The counter's check must
keep it from doing harm.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import attrs

from tests.soak.counter.counter import Count
from tests.soak.counter.journal import BUSY, COMPANY, DONE, REFUSED, TURN, Line

SHOWN: Final = 10
"""The number of violations of each kind that are reported."""
_NANO: Final = 1e-9
_CLAIMS: Final = (TURN, BUSY, REFUSED)


class Shift(NamedTuple):
    """The first and the last instant at which a life is known to have worked."""

    first: int
    last: int
    name: str


@attrs.define
class Life:
    """The lines of one run of a child."""

    name: str
    lines: list[Line] = attrs.field(factory=list)

    def at_work(self, *, asks: bool) -> Shift | None:
        """The time at work; None if there was none. The instant of a question lies between `asked`
        and `answered`; this assumes the instant that is no violation."""
        telling = [line for line in self.lines if not asks or line.word in _CLAIMS]
        if not telling:
            return None
        first, last = min(line.answered for line in telling), max(line.asked for line in telling)
        return Shift(first, max(first, last), self.name)


@attrs.frozen
class Verdict:
    violations: list[str]
    lives: int
    """The lives in which the counter was incremented."""
    epochs: int
    final: Count
    acknowledged: list[float]
    """The time of each acknowledged increment, in seconds, sorted."""
    late: int
    """Increments that ended after the first turn of another life."""
    refused: int
    """Turns in which the check prevented a late write."""
    busy: int
    """Turns in which another process was writing."""
    closest: float | None
    """The least number of seconds between the last stamp of a life and the first of the next."""


def judge(lines: Sequence[Line], final: Count, *, asks: bool) -> Verdict:
    """`final` is the counter at the end."""
    lives = _lives(lines)
    shifts = sorted(shift for life in lives if (shift := life.at_work(asks=asks)) is not None)
    done = sorted((line for line in lines if line.word == DONE), key=lambda line: line.asked)
    working = {line.life for line in done}
    return Verdict(
        violations=[
            *_shortened(_two_at_work(shifts)),
            *_shortened(_company(lines)),
            *_shortened(_lost(lines, done, final)),
            *_shortened(_interfered(lives)),
            *_shortened(_fallen(lines, done, final)),
        ],
        lives=len(working),
        epochs=len({line.epoch for line in done}),
        final=final,
        acknowledged=[line.asked * _NANO for line in done],
        late=_late(done, shifts),
        refused=sum(line.word == REFUSED for line in lines),
        busy=sum(line.word == BUSY for line in lines),
        closest=min(
            ((new.first - old.last) * _NANO for old, new in itertools.pairwise(shifts)),
            default=None,
        ),
    )


def _shortened(violations: Iterable[str]) -> Iterator[str]:
    """Shorten the list, because one lasting problem causes thousands of violations."""
    every = iter(violations)
    yield from itertools.islice(every, SHOWN)
    more = sum(1 for _ in every)
    if more:
        yield f"and {more} more of that kind"


def _lives(lines: Iterable[Line]) -> list[Life]:
    lives: dict[tuple[str, str], Life] = {}
    for line in lines:
        name = f"{line.node} {line.life}"
        lives.setdefault((line.node, line.life), Life(name)).lines.append(line)
    return list(lives.values())


def _two_at_work(shifts: Sequence[Shift]) -> Iterator[str]:
    """`shifts` by their beginning."""
    latest: Shift | None = None
    for shift in shifts:
        if latest is not None and shift.first < latest.last:
            yield (
                f"two at work: {latest.name} until {latest.last * _NANO:.6f}, "
                f"{shift.name} since {shift.first * _NANO:.6f}, "
                f"{(latest.last - shift.first) * _NANO:.6f} s before that"
            )
        if latest is None or shift.last > latest.last:
            latest = shift


def _company(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        if line.word == COMPANY:
            yield (
                f"{line.node} {line.life} began at {line.asked * _NANO:.6f} while a process of an "
                "earlier run was still there"
            )


def _lost(lines: Iterable[Line], done: Sequence[Line], final: Count) -> Iterator[str]:
    """`done` by time."""
    missing = len(done) - len({line.counter.number for line in done})
    if missing:
        yield f"{missing} acknowledged increments were lost: others got the same numbers"
    times = [line.asked for line in done]
    for line in lines:
        before = bisect_left(times, line.asked)
        if line.word == TURN and before and line.counter.number < done[before - 1].counter.number:
            yield (
                f"{line.node} {line.life} read {line.counter.number} at {line.asked * _NANO:.6f}, "
                f"after {done[before - 1].counter.number} had been acknowledged"
            )
    if done and final.number < done[-1].counter.number:
        yield f"the counter ends at {final.number}, {done[-1].counter.number} was acknowledged"


def _interfered(lives: Iterable[Life]) -> Iterator[str]:
    """Another life incremented between two increments of one life."""
    for life in lives:
        wrote: Count | None = None
        for line in life.lines:
            if line.word == TURN and wrote is not None and line.counter != wrote:
                yield (
                    f"{life.name} wrote {wrote.epoch} {wrote.number} and read "
                    f"{line.counter.epoch} {line.counter.number} at {line.asked * _NANO:.6f}"
                )
            if line.word == DONE:
                wrote = line.counter


def _fallen(lines: Iterable[Line], done: Sequence[Line], final: Count) -> Iterator[str]:
    """The epoch has fallen, as seen before an increment or in acknowledged increments."""
    for line in lines:
        if line.word == TURN and line.counter.epoch > line.epoch:
            yield (
                f"the epoch falls: {line.node} {line.life} of epoch {line.epoch} is about to write "
                f"over epoch {line.counter.epoch} at {line.asked * _NANO:.6f}"
            )
    ends = [line.counter for line in done] + [final] * bool(done)
    for old, new in itertools.pairwise(ends):
        if new.epoch < old.epoch:
            yield f"the epoch falls: {new.epoch} for {new.number} after {old.epoch}"


def _late(done: Iterable[Line], shifts: Sequence[Shift]) -> int:
    """The number of increments that ended after the beginning of a later shift."""
    firsts = [shift.first for shift in shifts]
    began = {shift.name: shift.first for shift in shifts}
    late = 0
    for line in done:
        following = bisect_right(firsts, began[f"{line.node} {line.life}"])
        late += following < len(firsts) and firsts[following] < line.asked
    return late
