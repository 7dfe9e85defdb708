"""The result of a run, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import attrs

from tests.soak.chaos.outages import Spread, longest_gap, spread
from tests.soak.counter.campaign import Campaign, Round
from tests.soak.redis.judge import Verdict


@attrs.frozen
class Figures:
    """The figures of one kind of fault."""

    rounds: int
    outage: Spread | None
    """Seconds without an acknowledged write."""
    lost: int
    """Lost writes that were acknowledged and not confirmed."""
    overlap: float
    """The longest time, in seconds, in which two servers took writes."""


@attrs.frozen
class Report:
    seed: int
    faults: int
    minutes: float
    load: float
    violations: list[str]
    writes: int
    confirmed: int
    lost: int
    switchovers: int
    other_switchovers: int
    by_kind: dict[str, Figures]
    rounds: list[Round]

    def to_json(self) -> str:
        return json.dumps(attrs.asdict(self), indent=1)

    def to_text(self) -> str:
        return "\n".join(
            [
                "",
                f"seed {self.seed}, {self.faults} faults, {self.minutes:.1f} minutes, "
                f"load {self.load:.1f}",
                f"writes               {self.writes} acknowledged, {self.confirmed} of them "
                f"confirmed; {self.lost} not confirmed and lost",
                f"switchovers          {self.switchovers} done, {self.other_switchovers} not",
                "",
                f"{'':30}{'rounds':8}{'without a write':26}{'lost':8}two servers",
                f"{'':38}median    99 %     max",
                *(_row(kind, figures) for kind, figures in self.by_kind.items()),
                "",
                f"violations           {len(self.violations)}",
                *(f"  {violation}" for violation in self.violations[:50]),
            ]
        )


def make_report(campaign: Campaign, verdict: Verdict, *, seed: int, minutes: float) -> Report:
    switchovers = [status for _, status in campaign.cluster.switchovers]
    kinds = sorted({each.kind for each in campaign.rounds})
    return Report(
        seed=seed,
        faults=campaign.faults,
        minutes=minutes,
        load=os.getloadavg()[2],
        violations=[*campaign.violations, *verdict.violations],
        writes=len(verdict.writes),
        confirmed=sum(write.confirmed > 0 for write in verdict.writes),
        lost=len(verdict.lost),
        switchovers=switchovers.count(0),
        other_switchovers=len(switchovers) - switchovers.count(0),
        by_kind={
            kind: _figures([each for each in campaign.rounds if each.kind == kind], verdict)
            for kind in kinds
        },
        rounds=campaign.rounds,
    )


def _figures(rounds: Sequence[Round], verdict: Verdict) -> Figures:
    acknowledged = [write.acknowledged for write in verdict.writes]

    def within(at: float) -> bool:
        return any(each.begun <= at <= (each.moved or each.healed) for each in rounds)

    return Figures(
        rounds=len(rounds),
        outage=spread(
            [longest_gap(acknowledged, each.begun, each.moved or each.healed) for each in rounds]
        ),
        lost=sum(within(write.acknowledged) for write in verdict.lost),
        overlap=max((each.seconds for each in verdict.overlaps if within(each.begin)), default=0.0),
    )


def _row(kind: str, figures: Figures) -> str:
    outage = figures.outage
    three = () if outage is None else (outage.median, outage.percentile99, outage.maximum)
    cells = "".join(f"{each:6.2f}  " for each in three)
    return f"{kind:30}{figures.rounds:<8}{cells:26}{figures.lost:<8}{figures.overlap:.3f}"
