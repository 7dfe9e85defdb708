"""Causes a fault, heals it, and waits until the counter grows again; records what it sees."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from tests.soak.chaos.campaign import suspicious
from tests.soak.chaos.footprint import Footprint
from tests.soak.counter.cluster import Cluster, Member
from tests.soak.counter.faults import Fault, Trouble, schedule

SETTLED_WITHIN: Final = 20.0
"""Seconds from the healing, once all nodes run, to one primary that all follow and whose child
increments. This is much more than an election takes, because a busy machine is no violation, and
because a child that was killed several times is restarted only after 5 s."""
STARTED_WITHIN: Final = 60.0
"""The same if all processes must start first."""
OVERRAN: Final = "others may be primary from now on"
"""The log line of a node that ends itself because it was stopped for longer than its lease."""


@attrs.frozen
class Round:
    """One trouble. Times are seconds of the monotonic clock."""

    kind: str
    description: str
    primary: str
    """The primary before it."""
    quorum: bool
    """Whether two nodes could hear each other all the time."""
    begun: float
    healed: float
    agreed: float | None
    moved: float | None
    """The time at which the counter grew after the agreement; None if that came too late."""


class Campaign:
    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rounds: list[Round] = []
        self.violations: list[str] = []
        self.footprints: list[Footprint] = []
        """The footprint after each round."""
        self.faults = 0
        self._rng = rng

    def run(
        self,
        faults: int,
        kinds: Sequence[Fault],
        tell: Callable[[str], None],
        fair: Callable[[Trouble], bool] = lambda trouble: True,
        links: Sequence[str] = ("plain",),
    ) -> None:
        """Cause trouble until there were so many `faults` of these `kinds`, or the cluster does not
        recover. A trouble that is not `fair` is left out. Each of these kinds of links is used for
        an equal part of the faults."""
        recovered, following = self._begin(links[0]), list(links[1:])
        for trouble in schedule(self._rng, faults, kinds):
            done = len(links) - len(following)
            if recovered and following and self.faults >= faults * done / len(links):
                kind = following.pop(0)
                recovered = self._begin(kind)
                tell(f"      all start again with {kind} links")
            if not recovered:
                return
            if not fair(trouble):
                continue
            time.sleep(trouble.calm)
            recovered = self._go_through(trouble)
            tell(_in_words(self.faults, self.rounds[-1]))

    def _begin(self, links: str) -> bool:
        """Whether the counter grows with links of this kind."""
        if links != self.cluster.links:
            self.cluster.relink(links)
        self.cluster.heal()
        return self._settle(f"the start with {links} links", STARTED_WITHIN)[1] is not None

    def _go_through(self, trouble: Trouble) -> bool:
        """Cause this trouble. Return whether the cluster recovered."""
        cluster, begun = self.cluster, time.monotonic()
        primary = cluster.primary
        lost, words = set(), []
        for harmed in trouble.harms:
            time.sleep(harmed.after)
            member = harmed.member(cluster)
            harmed.fault.harm(cluster, member, self._rng)
            words.append(f"{harmed.fault.kind} at {member.name}")
            if harmed.fault.whole:
                lost.add(member.name)
        self.faults += len(trouble.harms)
        time.sleep(trouble.duration)
        cluster.heal()
        healed = time.monotonic()
        description = " + ".join(words)
        agreed, moved = self._settle(f"fault {self.faults} ({description})")
        quorum = len(cluster.names) - len(lost) > len(cluster.names) // 2
        self.rounds.append(
            Round(trouble.kind, description, primary, quorum, begun, healed, agreed, moved)
        )
        return moved is not None

    def _settle(
        self, what: str, within: float = SETTLED_WITHIN
    ) -> tuple[float | None, float | None]:
        """The times at which all agreed, and at which the counter grew after that."""
        self.cluster.await_starts()
        deadline = time.monotonic() + within
        agreed = self.cluster.settle(deadline).agreed
        moved = agreed and self.cluster.moves(deadline)
        self.footprints.append(self.cluster.footprint())
        if moved is None:
            place = self.cluster.directory / f"unsettled-{len(self.violations) + 1}.json"
            place.write_text(json.dumps(self.cluster.statuses(), indent=1))
            missing = "agreement" if agreed is None else "the counter moving"
            self.violations.append(
                f"{what}: {missing} was not back within {within:.0f} s; see {place.name}"
            )
        return agreed, moved

    def inspect(self) -> None:
        """Look for unexpected ends of processes and forbidden lines in the logs."""
        for member in self.cluster:
            self.violations += _ends(member)
            self.violations += [f"{member.log.name}: {line}" for line in suspicious(member.log)]


def overran(member: Member) -> int:
    """How often it ended itself because it was stopped for longer than its lease."""
    return member.log.read_text(errors="replace").count(OVERRAN)


def _ends(member: Member) -> Iterator[str]:
    """The ends that no fault caused."""
    allowed = {-9: len(member.deaths), 1: overran(member), 0: member.endings, -15: member.endings}
    for status in set(member.deaths):
        number = member.deaths.count(status)
        if number > allowed.get(status, 0):
            yield f"{member.name} ended by itself, with status {status}, {number} times"


def _in_words(number: int, played: Round) -> str:
    if played.moved is None:
        health = "no counting in time"
    else:
        health = f"counting after {played.moved - played.healed:.2f} s"
    return f"{number:4}  {played.description}, {played.healed - played.begun:.2f} s; {health}"
