"""The kinds, times and durations of faults: all from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs

from tests.soak.chaos.faults import FAULTS, Fault

TWO_AT_ONCE = 0.25
LONG_CUT_AGAIN = 0.01


@attrs.frozen
class Trouble:
    """One fault or two at once, their duration, and the time without faults afterwards."""

    faults: tuple[Fault, ...]
    duration: float
    calm: float

    @property
    def kind(self) -> str:
        return self.faults[0].kind if len(self.faults) == 1 else "two at once"

    @property
    def description(self) -> str:
        return " + ".join(fault.kind for fault in self.faults)


def schedule(rng: random.Random, *, long: bool) -> Iterator[Trouble]:
    """Each kind once, in random order, then at random for ever.

    A run that is not `long` has no long cut, and no fault lasts longer than a second.
    """
    kinds = [fault for fault in FAULTS.values() if long or fault is not FAULTS["long cut"]]
    for fault in rng.sample(kinds, len(kinds)):
        yield _trouble(rng, (fault,), long=long)
    usual = [fault for fault in kinds if fault is not FAULTS["long cut"]]
    while True:
        if long and rng.random() < LONG_CUT_AGAIN:
            yield _trouble(rng, (FAULTS["long cut"],), long=long)
        else:
            number = 2 if rng.random() < TWO_AT_ONCE else 1
            yield _trouble(rng, tuple(rng.sample(usual, number)), long=long)


def _trouble(rng: random.Random, faults: tuple[Fault, ...], *, long: bool) -> Trouble:
    shortest = max(fault.shortest for fault in faults)
    longest = max(fault.longest for fault in faults) if long else max(1.0, shortest)
    return Trouble(faults, rng.uniform(shortest, longest), rng.uniform(0.1, 1.0 if long else 0.2))
