"""Decides from the journal alone whether two nodes could write at once.

A node may write if `can_write` says so at the moment of the question. A process can always be
stopped between answer and write, and then the store needs the epoch as fencing token. Two things
are therefore judged separately:

- the questions: no question of an older epoch was answered with yes after one of a newer epoch, and
each epoch has one writer. The exact instant lies between `asked` and `answered`. It is a violation
only if no instants in these intervals would be right. - the store: a store that refuses older
epochs than it has seen refuses exactly the writes that came   late, after a question of a newer
epoch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import attrs

from tests.soak.chaos.journal import Write

_NANO = 1e-9


@attrs.define
class Reign:
    """All writes of one epoch."""

    epoch: int
    writers: set[str] = attrs.field(factory=set)
    count: int = 0
    first_answered: float = math.inf
    last_asked: float = -math.inf

    def add(self, write: Write) -> None:
        self.writers.add(write.node)
        self.count += 1
        self.first_answered = min(self.first_answered, write.answered)
        self.last_asked = max(self.last_asked, write.asked)


class FencedStore:
    """Takes writes one after another and refuses epochs older than it has seen."""

    def __init__(self) -> None:
        self._newest = 0

    def takes(self, write: Write) -> bool:
        self._newest = max(self._newest, write.epoch)
        return write.epoch == self._newest


@attrs.frozen
class Verdict:
    violations: list[str]
    writes: int
    epochs: int
    """The number of epochs with a write."""
    highest_epoch: int
    late: int
    """Writes that ended after the first question of a newer epoch, because their process was
    stopped."""
    fenced: int
    """The late writes that a fencing store refuses, because the newer epoch wrote before them."""
    closest: float | None
    """The least number of seconds between the last question of an epoch and the first of the
    next."""
    accepted: list[float]
    """The time when each accepted write ended, in seconds, sorted."""


def judge(writes: Sequence[Write]) -> Verdict:
    reigns = _reigns(writes)
    succession = _succession(reigns)
    store = FencedStore()
    taken = [store.takes(write) for write in writes]
    late = [_is_late(write, succession[write.epoch]) for write in writes]
    return Verdict(
        violations=[
            *_several_writers(reigns),
            *_overlaps(reigns, succession),
            *_refused_in_time(writes, taken, late),
        ],
        writes=len(writes),
        epochs=len(reigns),
        highest_epoch=reigns[-1].epoch if reigns else 0,
        late=sum(1 for took, each in zip(taken, late, strict=True) if each or not took),
        fenced=taken.count(False),
        closest=_closest(reigns),
        accepted=sorted(
            (write.answered if write.done is None else write.done) * _NANO
            for write in itertools.compress(writes, taken)
        ),
    )


def _reigns(writes: Iterable[Write]) -> list[Reign]:
    """The reigns by epoch, the oldest first."""
    reigns: dict[int, Reign] = {}
    for write in writes:
        reigns.setdefault(write.epoch, Reign(write.epoch)).add(write)
    return [reigns[epoch] for epoch in sorted(reigns)]


def _succession(reigns: Sequence[Reign]) -> dict[int, float]:
    """The time for each epoch when the first question of a newer epoch had been answered."""
    succession = {}
    earliest = math.inf
    for reign in reversed(reigns):
        succession[reign.epoch] = earliest
        earliest = min(earliest, reign.first_answered)
    return succession


def _is_late(write: Write, succeeded: float) -> bool | None:
    """Whether this write was late; None if its end is not known, because its process wrote no
    more."""
    if write.done is None:
        return None if write.answered < succeeded < math.inf else succeeded < math.inf
    return write.done > succeeded


def _several_writers(reigns: Iterable[Reign]) -> list[str]:
    return [
        f"epoch {reign.epoch} had several writers: {', '.join(sorted(reign.writers))}"
        for reign in reigns
        if len(reign.writers) > 1
    ]


def _overlaps(reigns: Iterable[Reign], succession: dict[int, float]) -> list[str]:
    return [
        f"{', '.join(sorted(reign.writers))} was told at {reign.last_asked * _NANO:.6f} that it "
        f"may write in epoch {reign.epoch}, "
        f"{(reign.last_asked - succession[reign.epoch]) * _NANO:.6f} s after a newer epoch's "
        "writer had been told so"
        for reign in reigns
        if reign.last_asked > succession[reign.epoch]
    ]


def _refused_in_time(
    writes: Iterable[Write], taken: Iterable[bool], late: Iterable[bool | None]
) -> list[str]:
    return [
        f"the store refuses a write that was not late: {write}"
        for write, took, was_late in zip(writes, taken, late, strict=True)
        if not took and was_late is False
    ]


def _closest(reigns: Sequence[Reign]) -> float | None:
    gaps = [
        (new.first_answered - old.last_asked) * _NANO for old, new in itertools.pairwise(reigns)
    ]
    return min(gaps, default=None)
