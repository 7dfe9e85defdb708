"""The results of the trials, as the table of docs/clients.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from tests.soak.chaos.outages import spread
from tests.soak.clients.trial import Outage, Trial

HEADINGS: Final = (
    "client",
    "version",
    "follows",
    "kill: no primary",
    "kill: no write",
    "switchover: no primary",
    "switchover: no write",
    "remarks",
)


def table(trials: Iterable[Trial]) -> str:
    """The table, in seconds, as median and maximum. Clients that were not run are named below
    it."""
    trials = list(trials)
    run = [each for each in trials if not each.problem]
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(_row, run)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    others = [f"not run: {each.client} ({each.problem})" for each in trials if each.problem]
    return "\n".join([*lines, *([""] if others else []), *others])


def _row(trial: Trial) -> tuple[str, ...]:
    lost = sum(each.lost for each in trial.kills), sum(each.lost for each in trial.switchovers)
    remarks = [f"{lost[0]} lost in kills, {lost[1]} in switchovers", *trial.errors[-3:]]
    return (
        trial.client,
        trial.version,
        "yes" if trial.works else "no",
        _seconds([each.led for each in trial.kills]),
        _gaps(trial.kills),
        _seconds([each.led for each in trial.switchovers]),
        _gaps(trial.switchovers),
        "; ".join(remarks).replace("|", "/"),
    )


def _gaps(outages: Sequence[Outage]) -> str:
    gaps = [each.gap for each in outages if each.gap is not None]
    told = _seconds(gaps)
    return told if len(gaps) == len(outages) else f"{told}, then never".removeprefix("-, then ")


def _seconds(durations: Sequence[float]) -> str:
    found = spread(durations)
    return "-" if found is None else f"{found.median:.2f}, {found.maximum:.2f}"
