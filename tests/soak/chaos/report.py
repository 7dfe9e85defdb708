"""The result of a run, as a table and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tests.soak.chaos import footprint
from tests.soak.chaos.campaign import Campaign, Round
from tests.soak.chaos.footprint import Footprint
from tests.soak.chaos.judge import Verdict
from tests.soak.chaos.outages import Spread, longest_gap, spread, time_without_writes

OUTAGE: Final = 0.1
"""Seconds without a write that count as an outage."""
_HEADINGS: Final = (
    ("", 34),
    ("rounds", 7),
    ("without writes", 24),
    ("to agreement", 24),
    ("to all links", 24),
)


@attrs.frozen
class Figures:
    """The figures of one kind of fault: rounds, times without writes, times from healing to
    health."""

    rounds: int
    outage: Spread | None
    agreement: Spread | None
    links: Spread | None


@attrs.frozen
class Report:
    seed: int
    nodes: int
    minutes: float
    load: float
    """The machine's load over the last 15 minutes, because a busy machine elects slowly."""
    violations: list[str]
    elections: int
    """The number of epochs with a write."""
    highest_epoch: int
    writes: int
    asked_in_vain: int
    late: int
    fenced: int
    closest: float | None
    availability: float
    starts: int
    overall: Figures
    by_kind: dict[str, Figures]
    rounds: list[Round]
    footprints: list[Footprint]

    def to_json(self) -> str:
        return json.dumps(attrs.asdict(self), indent=1)

    def to_text(self) -> str:
        closest = "-" if self.closest is None else f"{self.closest * 1000:.1f} ms"
        lines = [
            "",
            f"seed {self.seed}, {self.nodes} nodes, {self.minutes:.1f} minutes, "
            f"load {self.load:.1f}",
            f"elections            {self.elections} that led to a write; "
            f"highest epoch {self.highest_epoch}",
            f"rounds               {len(self.rounds)}, of one fault or two",
            f"processes            {self.starts} started",
            f"writes               {self.writes} made, {self.asked_in_vain} asked for in vain",
            f"held up              {self.late} writes, {self.fenced} of them refused by the fence",
            f"closest handover     {closest} from the last question of a primary to the next's",
            f"availability         {self.availability:.1%} of the time, faults included "
            f"(without gaps over {OUTAGE * 1000:.0f} ms)",
            *footprint.lines(self.footprints),
            "",
            "".join(f"{heading:{width}}" for heading, width in _HEADINGS).rstrip(),
            (f"{'':41}" + f"{'median    99 %     max':24}" * 3).rstrip(),
            *(_row(kind, figures) for kind, figures in self.by_kind.items()),
            _row("all", self.overall),
            "",
            f"violations           {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]
        return "\n".join(lines)


def make_report(
    campaign: Campaign, verdict: Verdict, *, seed: int, minutes: float, refusals: Iterable[Path]
) -> Report:
    cluster, rounds = campaign.cluster, campaign.rounds
    kinds = sorted({each.kind for each in rounds})
    accepted = verdict.accepted
    total = accepted[-1] - accepted[0] if accepted else 0.0
    without = time_without_writes(accepted, OUTAGE)
    return Report(
        seed=seed,
        nodes=len(cluster.names),
        minutes=minutes,
        load=os.getloadavg()[2],
        violations=campaign.violations + verdict.violations,
        elections=verdict.epochs,
        highest_epoch=verdict.highest_epoch,
        writes=verdict.writes,
        asked_in_vain=sum(path.stat().st_size for path in refusals if path.exists()),
        late=verdict.late,
        fenced=verdict.fenced,
        closest=verdict.closest,
        availability=1 - without / total if total else 0.0,
        starts=sum(node.starts for node in cluster),
        overall=_figures(rounds, accepted),
        by_kind={
            kind: _figures([each for each in rounds if each.kind == kind], accepted)
            for kind in kinds
        },
        rounds=rounds,
        footprints=campaign.footprints,
    )


def _figures(rounds: Sequence[Round], accepted: Sequence[float]) -> Figures:
    return Figures(
        rounds=len(rounds),
        outage=spread(
            [longest_gap(accepted, each.begun, each.agreed or each.healed) for each in rounds]
        ),
        agreement=spread([each.agreed - each.healed for each in rounds if each.agreed]),
        links=spread([each.linked - each.healed for each in rounds if each.linked]),
    )


def _row(kind: str, figures: Figures) -> str:
    cells = (figures.outage, figures.agreement, figures.links)
    return f"{kind:34}{figures.rounds:<7}" + "".join(map(_cell, cells)).rstrip()


def _cell(durations: Any) -> str:
    if durations is None:
        return f"{'-':>6}{'':18}"
    return "".join(
        f"{each:6.2f}  " for each in (durations.median, durations.percentile99, durations.maximum)
    )
