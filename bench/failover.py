"""The time from SIGKILL of the primary until another node can write, and until all agree on it.

It also measures other programs, as far as they are installed, with the timings nearest to ours:
pysyncobj, Redis Sentinel and etcd. By default each has three nodes.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Final

import attrs

from bench.clusters import CLUSTERS, THREE, Contender, Timings, obstacle, start
from bench.process import DeadlineError
from bench.report import Row, Table, parser, publish

FAST: Final = Timings("50 ms / 500 ms", heartbeat=0.05, down_after=0.5)
DEFAULT: Final = Timings("200 ms / 5 s", heartbeat=0.2, down_after=5.0)


@attrs.frozen
class Failover:
    """Milliseconds from the kill until a survivor may write, and until all follow it."""

    writable: float
    agreed: float


def fail_over(contender: Contender) -> Failover:
    """Kill the primary, measure, and bring it back."""
    old = contender.settle()
    killed_at = contender.kill(old)
    writable_at, agreed_at = contender.succession(old, killed_at)
    contender.revive(old)
    return Failover((writable_at - killed_at) / 1e6, (agreed_at - killed_at) / 1e6)


def take_turns(contenders: list[Contender], runs: int, table: Table) -> dict[str, list[Failover]]:
    """Measure one failover of each after another, so that all have the same load of the machine."""
    taken: dict[str, list[Failover]] = {contender.name: [] for contender in contenders}
    for number in range(runs):
        for contender in list(contenders):
            progress = f"{contender.timings.name}: {number + 1} of {runs}"
            print(f"{contender.name}, {progress}", file=sys.stderr)
            try:
                taken[contender.name].append(fail_over(contender))
            except DeadlineError as error:
                contenders.remove(contender)
                table.note(f"{contender.name}: ended in run {number + 1}: {error}")
    return taken


def measure_one(timings: Timings, runs: int, names: list[str], nodes: int) -> Table:
    table = Table(f"failover: heartbeat / down after {timings.name}, {runs} runs, {nodes} nodes")
    for name in names:
        why = obstacle(name, nodes)
        table.note(f"{name}: {f'not measured, {why}' if why else CLUSTERS[name].explanation}")
    with ExitStack() as ends:
        fill(table, take_turns(start(names, timings, ends, nodes=nodes), runs, table))
    return table


def fill(table: Table, taken: dict[str, list[Failover]]) -> None:
    """Add the measurements to the table. The others are compared with the first contender."""
    for quantity, of in (("ms to writable", _writable), ("ms to agreement", _agreed)):
        ours: Row | None = None
        for name, failovers in taken.items():
            if not failovers:
                continue
            samples = [of(failover) for failover in failovers]
            row = table.compare(name, quantity, samples, ours) if ours else None
            ours = ours or row or table.add(name, quantity, samples)


def _writable(failover: Failover) -> float:
    return failover.writable


def _agreed(failover: Failover) -> float:
    return failover.agreed


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=20, help="with the fast timings")
    made.add_argument("--default-runs", type=int, default=5, help="with the default timings")
    made.add_argument("--only", nargs="+", choices=CLUSTERS, default=list(CLUSTERS))
    made.add_argument("--nodes", type=int, default=THREE, help="of those who can [%(default)s]")
    options = made.parse_args()
    plans = [(FAST, options.runs), (DEFAULT, options.default_runs)]
    publish(
        options,
        lambda: [measure_one(timings, n, options.only, options.nodes) for timings, n in plans if n],
    )


if __name__ == "__main__":
    main()
