"""Causes a fault, heals it, waits for agreement, and repeats; records what it sees."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.faults import FAULTS
from tests.soak.chaos.footprint import Footprint
from tests.soak.chaos.schedule import Trouble, schedule

SETTLED_WITHIN: Final = 15.0
"""Seconds within which all nodes must follow one primary, from the healing and once all of them
run. This is much more than an election takes, because a busy machine is no violation."""
STARTING: Final = 45.0
"""Additional seconds if all processes must start first."""
LINKED_WITHIN: Final = 2.0
"""Seconds within which all links must be up after a long cut."""
GIVEN_UP_AFTER: Final = 60.0
SUSPICIOUS: Final = (
    "Traceback",
    "Unhandled",
    "the elector failed",
    "a ballot was lost",
    "both go on speaking",
)
"""Texts that no log may contain, under any fault."""
_KILLED: Final = -9


@attrs.frozen
class Round:
    """One trouble. Times are seconds of the monotonic clock."""

    kind: str
    description: str
    primary: str
    """The primary before it."""
    begun: float
    healed: float
    linked: float | None
    agreed: float | None
    """The time of the agreement; None if it came too late."""


class Campaign:
    def __init__(self, cluster: Cluster, rng: random.Random, *, long: bool, stall: float) -> None:
        self.cluster = cluster
        self.rounds: list[Round] = []
        self.violations: list[str] = []
        self.footprints: list[Footprint] = []
        """The footprint after each round."""
        self._rng = rng
        self._long = long
        self._stall = stall

    def run(self, seconds: float, tell: Callable[[str], None], links: Sequence[str]) -> None:
        """Cause trouble until the time is over or the cluster does not recover. Each of these kinds
        of links is used for an equal part of the time."""
        begun, part = time.monotonic(), seconds / len(links)
        recovered = self._begin(links[0])
        following = list(links[1:])
        for trouble in schedule(self._rng, long=self._long):
            if (
                recovered
                and following
                and time.monotonic() > begun + seconds - part * len(following)
            ):
                kind = following.pop(0)
                recovered = self._begin(kind)
                tell(f"      all start again with {kind} links")
            if not recovered or time.monotonic() > begun + seconds:
                return
            time.sleep(trouble.calm)
            recovered = self._go_through(trouble)
            tell(_in_words(len(self.rounds), self.rounds[-1]))

    def _begin(self, links: str) -> bool:
        """Whether the cluster agrees with links of this kind."""
        if links != self.cluster.links:
            self.cluster.relink(links)
        self.cluster.heal()
        return self._settle(f"the start with {links} links", STARTING)[0]

    def _go_through(self, trouble: Trouble) -> bool:
        """Cause this trouble. Return whether the cluster recovered, in time or later."""
        primary, begun = self.cluster.primary, time.monotonic()
        for fault in trouble.faults:
            fault.harm(self.cluster, self._rng)
        time.sleep(trouble.duration)
        self.cluster.heal()
        healed = time.monotonic()
        resolving = any(fault.resolving for fault in trouble.faults)
        what = f"round {len(self.rounds) + 1} ({trouble.description})"
        recovered, linked, agreed = self._settle(what, self._stall if resolving else 0.0)
        if trouble.faults == (FAULTS["long cut"],) and linked and linked - healed > LINKED_WITHIN:
            self.violations.append(f"{what}: links were back only {linked - healed:.2f} s after it")
        self.rounds.append(
            Round(trouble.kind, trouble.description, primary, begun, healed, linked, agreed)
        )
        return recovered

    def _settle(self, what: str, more: float) -> tuple[bool, float | None, float | None]:
        self.cluster.await_starts()
        now = time.monotonic()
        bound = SETTLED_WITHIN + more
        found = self.cluster.settle(now + bound)
        self.footprints.append(self.cluster.footprint())
        if found.linked and found.agreed:
            return True, found.linked, found.agreed
        place = self.cluster.directory / f"unsettled-{len(self.violations) + 1}.json"
        place.write_text(json.dumps(self.cluster.statuses(), indent=1))
        again = self.cluster.settle(now + GIVEN_UP_AFTER)
        recovered = bool(again.linked and again.agreed)
        outcome = f"after {time.monotonic() - now:.1f} s" if recovered else "never"
        self.violations.append(
            f"{what}: links and agreement were not back within {bound:.0f} s, but {outcome}; "
            f"see {place.name}"
        )
        return recovered, found.linked, found.agreed

    def inspect(self) -> None:
        """Look for forbidden lines in the logs."""
        for node in self.cluster:
            for status in node.deaths:
                if status != _KILLED:
                    self.violations.append(f"{node.name} ended by itself, with status {status}")
            self.violations += [f"{node.log.name}: {line}" for line in suspicious(node.log)]


def suspicious(log: Path) -> list[str]:
    """The lines of a log that are SUSPICIOUS."""
    if not log.exists():
        return []
    with open(log, errors="replace") as lines:
        return [line.strip() for line in lines if any(each in line for each in SUSPICIOUS)]


def _in_words(number: int, played: Round) -> str:
    health = (
        "no agreement in time"
        if played.agreed is None
        else f"agreed after {played.agreed - played.healed:.2f} s"
    )
    return f"{number:4}  {played.description}, {played.healed - played.begun:.2f} s; {health}"
