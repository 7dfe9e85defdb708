"""A line for each case, in the form of docs/reliability.md."""

from __future__ import annotations

from typing import Final

from tests.soak.hostile.measure import Result

_COLUMNS: Final = (
    "case",
    "did",
    "elections",
    "leases lost",
    "longest gap before / then; longest turn (ms)",
    "memory (MB)",
    "descriptors before / most / after",
    "threads before / most / after",
    "hooks run",
    "log lines, worst a second; KB of one node",
    "back after (s)",
)
HEADER: Final = "\n".join(
    ("| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)),
)


def row(result: Result) -> str:
    before, most, after = result.descriptors
    cells = (
        f"`{result.case}`: {result.title}",
        f"{result.did} ({result.seconds:.0f} s)",
        f"{result.elections} (epoch +{result.epochs:,})",
        str(result.leases_lost),
        f"{1000 * result.calm_gap:.0f} / {1000 * result.gap:.0f}; {1000 * result.turn:.0f}",
        f"+{result.memory / 1024:.1f}",
        f"{before} / {most} / {after}",
        " / ".join(map(str, result.threads)),
        str(result.hooks),
        f"{result.log_lines:,}, {result.log_rate:.1f}; {result.log_bytes / 1000:,.0f}",
        "never" if result.back_after is None else f"{result.back_after:.1f}",
    )
    return "| " + " | ".join(cells) + " |" + "".join(f"\nWRONG: {each}" for each in result.failures)
