"""The result of a run, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Final

import attrs

from tests.soak.chaos import footprint
from tests.soak.chaos.footprint import Footprint
from tests.soak.chaos.outages import Spread, longest_gap, spread
from tests.soak.counter.campaign import Campaign, Round, overran
from tests.soak.counter.judge import Verdict

PRIMARY_KILLED: Final = "node killed, the primary"
NO_QUORUM: Final = "two nodes lost at once"


@attrs.frozen
class Figures:
    """The figures of one kind of fault: the number of rounds, the times without an acknowledgement,
    and the times from the healing until all follow one primary again."""

    rounds: int
    outage: Spread | None
    agreement: Spread | None


@attrs.frozen
class Report:
    kind: str
    seed: int
    faults: int
    minutes: float
    load: float
    """The machine's load over the last 15 minutes, because a busy machine elects slowly."""
    violations: list[str]
    acknowledged: int
    final: tuple[int, int]
    lives: int
    epochs: int
    starts: int
    overran: int
    switchovers: int
    other_switchovers: int
    late: int
    refused: int
    busy: int
    closest: float | None
    overall: Figures
    """The figures of the rounds with a quorum."""
    by_kind: dict[str, Figures]
    rounds: list[Round]
    footprints: list[Footprint]

    def to_json(self) -> str:
        return json.dumps(attrs.asdict(self), indent=1)

    def to_text(self) -> str:
        closest = "-" if self.closest is None else f"{self.closest * 1000:.1f} ms"
        epoch, number = self.final
        lines = [
            "",
            f"{self.kind}, seed {self.seed}, {self.faults} faults, {self.minutes:.1f} minutes, "
            f"load {self.load:.1f}",
            f"increments           {self.acknowledged} acknowledged; the counter has {number}, "
            f"epoch {epoch}",
            f"runs of the child    {self.lives}, in {self.epochs} epochs",
            f"nodes                {self.starts} started, {self.overran} ended themselves, "
            "held up beyond their lease",
            f"switchovers          {self.switchovers} done, {self.other_switchovers} not",
            f"held up              {self.late} increments; refused by the check {self.refused}, "
            f"locked out {self.busy}",
            f"closest handover     {closest}",
            *footprint.lines(self.footprints),
            "",
            f"{'':34}{'rounds':8}{'nothing acknowledged':26}to agreement",
            f"{'':42}{'median    99 %     max':26}median    99 %     max",
            *(_row(kind, figures) for kind, figures in self.by_kind.items()),
            _row("all with a quorum", self.overall),
            "",
            f"violations           {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]
        return "\n".join(lines)


def make_report(campaign: Campaign, verdict: Verdict, *, seed: int, minutes: float) -> Report:
    cluster = campaign.cluster
    quorate = [each for each in campaign.rounds if each.quorum]
    kinds = {
        kind: [each for each in quorate if each.kind == kind]
        for kind in sorted({each.kind for each in quorate})
    }
    killed = [each for each in quorate if each.description == f"node killed at {each.primary}"]
    if killed:
        kinds[PRIMARY_KILLED] = killed
    without = [each for each in campaign.rounds if not each.quorum]
    if without:
        kinds[NO_QUORUM] = without
    return Report(
        kind=cluster.kind.value + (", last will" if cluster.last_will else ""),
        seed=seed,
        faults=campaign.faults,
        minutes=minutes,
        load=os.getloadavg()[2],
        violations=campaign.violations + verdict.violations,
        acknowledged=len(verdict.acknowledged),
        final=verdict.final,
        lives=verdict.lives,
        epochs=verdict.epochs,
        starts=sum(member.starts for member in cluster),
        overran=sum(map(overran, cluster)),
        switchovers=cluster.switchovers.count(0),
        other_switchovers=len(cluster.switchovers) - cluster.switchovers.count(0),
        late=verdict.late,
        refused=verdict.refused,
        busy=verdict.busy,
        closest=verdict.closest,
        overall=_figures(quorate, verdict.acknowledged),
        by_kind={kind: _figures(rounds, verdict.acknowledged) for kind, rounds in kinds.items()},
        rounds=campaign.rounds,
        footprints=campaign.footprints,
    )


def _figures(rounds: Sequence[Round], acknowledged: Sequence[float]) -> Figures:
    return Figures(
        rounds=len(rounds),
        outage=spread(
            [longest_gap(acknowledged, each.begun, each.moved or each.healed) for each in rounds]
        ),
        agreement=spread([each.agreed - each.healed for each in rounds if each.agreed]),
    )


def _row(kind: str, figures: Figures) -> str:
    cells = "".join(map(_cell, (figures.outage, figures.agreement)))
    return f"{kind:34}{figures.rounds:<8}{cells}".rstrip()


def _cell(durations: Spread | None) -> str:
    if durations is None:
        return f"{'-':>6}{'':20}"
    three = (durations.median, durations.percentile99, durations.maximum)
    return f"{''.join(f'{each:6.2f}  ' for each in three):26}"
