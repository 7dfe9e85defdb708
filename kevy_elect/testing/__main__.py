"""Searches for a schedule of faults that breaks a promise: `python -m kevy_elect.testing`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kevy_elect.testing.explore import Result, Summary, explore
from kevy_elect.testing.mutations import find_all
from kevy_elect.testing.schedules import Mode, draw_schedule, run_schedule


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return 1 if a promise was broken, else 0."""
    options = _parser().parse_args(arguments)
    if options.mutations:
        return _show_mutations()
    if options.replay is not None:
        return max(_replay(options.replay, nodes, options.mode) for nodes in options.nodes)
    seeds = range(options.start, options.start + options.seeds)
    return max(_explore(seeds, nodes, options.mode, options.jobs) for nodes in options.nodes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kevy_elect.testing",
        description="Run clusters under random faults and check every promise at every step.",
    )
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="number of schedules")
    parser.add_argument("--start", type=int, default=0, metavar="SEED", help="first seed")
    parser.add_argument(
        "--nodes", type=_numbers, default=[3], metavar="3,4,5", help="sizes of clusters"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes to use")
    modes = parser.add_mutually_exclusive_group()
    for mode, text in (
        (Mode.INFERRED, "no node acknowledges: leases are inferred (R8)"),
        (Mode.PARTLY, "some nodes acknowledge"),
        (Mode.MIXED, "some nodes run the existing implementation"),
        (Mode.UNCOUNTED, "like --mixed, but they do not count for the lease of ours"),
        (Mode.DATA_SERVERS, "each node drives a data server, to which clients write (D1 to D6)"),
    ):
        modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=text)
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="run one schedule and print what happened"
    )
    parser.add_argument(
        "--mutations",
        action="store_true",
        help="print how soon deliberate mistakes are found",
    )
    parser.set_defaults(mode=Mode.ACKNOWLEDGED)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _explore(seeds: range, nodes: int, mode: Mode, jobs: int) -> int:
    summary = explore(seeds, nodes, mode, jobs)
    print(_summarized(summary, nodes, mode))
    for result in summary.failures:
        print(_explained(result, nodes, mode))
    return 1 if summary.failures else 0


def _summarized(summary: Summary, nodes: int, mode: Mode) -> str:
    settled = summary.settled_within
    theirs = "".join(
        f"\n  broken by nodes of the existing implementation: {promise} in {count} schedules"
        for promise, count in sorted(summary.broken_by_theirs.items())
    )
    writers = ", ".join(f"{length:.2f} s {kind}" for kind, length in summary.dual_writable.items())
    return (
        f"{nodes} nodes, {mode}: {summary.schedules} schedules in {summary.took:.1f} s, "
        f"{summary.per_second:.0f} a second\n"
        f"  violations: {len(summary.failures)}\n"
        f"  settled when the last fault ended: {summary.undisturbed}\n"
        f"  settled after it: median {settled(0.5):.2f} s, 99 % {settled(0.99):.2f} s, "
        f"longest {settled(1):.2f} s\n"
        f"  two writers at most for: {writers}{theirs}"
    )


def _explained(result: Result, nodes: int, mode: Mode) -> str:
    flag = "" if mode is Mode.ACKNOWLEDGED else f" --{mode}"
    return (
        f"  seed {result.seed}: {result.violations[0]}\n"
        f"    python -m kevy_elect.testing --replay {result.seed} --nodes {nodes}{flag}"
    )


def _replay(seed: int, nodes: int, mode: Mode) -> int:
    outcome = run_schedule(draw_schedule(seed, nodes, mode), tracing=True)
    print("\n".join(outcome.trace))
    for violation in outcome.violations:
        print(violation)
    return 1 if outcome.violations else 0


def _show_mutations() -> int:
    """Print how soon each mutation is found. Return 1 if one is not found."""
    missed = 0
    for finding in find_all():
        mutation, outcome = finding.mutation, finding.outcome
        how = "NOT FOUND"
        if outcome is None:
            missed += 1
        else:
            how = f"{outcome.schedule.seed + 1:5}  {outcome.violations[0].promise}"
        where = f"{mutation.nodes} nodes, {mutation.mode}"
        print(f"{mutation.name:<22} {where:<22} {how:<36} {mutation.mistake}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
