"""The time from SIGKILL of the Redis that takes the writes until another takes one.

Each cluster has three servers: driven by this package, with and without a last will, and watched by
Redis Sentinel.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

from bench.clusters.contender import Contender, Timings
from bench.clusters.driven import DRIVEN
from bench.clusters.sentinel import Sentinel
from bench.failover import DEFAULT, FAST, fill, take_turns
from bench.report import Table, parser, publish

CONTENDERS: dict[str, type[Contender]] = {each.name: each for each in (*DRIVEN, Sentinel)}


def measure(timings: Timings, runs: int, names: list[str]) -> Table:
    table = Table(f"Redis: heartbeat / down after {timings.name}, {runs} runs, 3 servers")
    found = []
    for name in names:
        why = CONTENDERS[name].missing()
        table.note(f"{name}: {f'not measured, {why}' if why else CONTENDERS[name].explanation}")
        if not why:
            found.append(CONTENDERS[name])
    with ExitStack() as ends:
        started = [ends.enter_context(closing(one(timings))) for one in found]
        fill(table, take_turns(started, runs, table))
    return table


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=20, help="with the fast timings")
    made.add_argument("--default-runs", type=int, default=5, help="with the default timings")
    made.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = made.parse_args()
    plans = [(FAST, options.runs), (DEFAULT, options.default_runs)]
    publish(options, lambda: [measure(timings, n, options.only) for timings, n in plans if n])


if __name__ == "__main__":
    main()
