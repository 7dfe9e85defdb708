"""The time for which a primary that was stopped for 10 s still writes beside its successor.

It gets SIGSTOP, then SIGCONT. Each process that believes that it may write does so every few
milliseconds. The writes of the old primary after SIGCONT are counted. Each cluster has three nodes,
and all run at once.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

import attrs

from bench.clusters import CLUSTERS, Contender, start
from bench.failover import FAST
from bench.report import Table, parser, publish

WATCHED: Final = 20.0
"""Seconds after SIGCONT in which writes of the old primary count."""


@attrs.frozen
class Stale:
    """The writes of the old primary after SIGCONT."""

    milliseconds: float
    """Milliseconds until its last write; 0 without any."""
    writes: float


def pause_all(contenders: list[Contender], seconds: float) -> dict[str, Stale]:
    """Stop each primary, let others take over, continue it, and record its writes."""
    old = {contender: contender.settle() for contender in contenders}
    stopped_at = time.monotonic_ns()
    for contender, name in old.items():
        contender.stop(name)
    for contender, name in old.items():
        contender.succession(name, stopped_at)
    time.sleep(max(0.0, seconds - (time.monotonic_ns() - stopped_at) / 1e9))
    resumed_at = time.monotonic_ns()
    for contender, name in old.items():
        contender.resume(name)
    time.sleep(WATCHED)
    return {
        contender.name: _stale(contender.writes(name, resumed_at), resumed_at)
        for contender, name in old.items()
    }


def _stale(writes: list[int], resumed_at: int) -> Stale:
    return Stale((writes[-1] - resumed_at) / 1e6 if writes else 0.0, len(writes))


def measure(runs: int, seconds: float, names: list[str]) -> list[Table]:
    table = Table(f"pause: primary stopped for {seconds:g} s, down after {FAST.down_after} s")
    for name in names:
        why = CLUSTERS[name].missing()
        table.note(f"{name}: {f'not measured, {why}' if why else CLUSTERS[name].pausing}")
    with ExitStack() as ends:
        contenders = start(names, FAST, ends, writing=True)
        taken = [pause_all(contenders, seconds) for _ in range(runs)]
    for contender in contenders:
        stale = [each[contender.name] for each in taken]
        table.add(contender.name, "ms of stale writes", [each.milliseconds for each in stale])
        table.add(contender.name, "stale writes", [each.writes for each in stale])
    return [table]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--seconds", type=float, default=10.0)
    made.add_argument("--only", nargs="+", choices=CLUSTERS, default=list(CLUSTERS))
    options = made.parse_args()
    publish(options, lambda: measure(options.runs, options.seconds, options.only))


if __name__ == "__main__":
    main()
