"""`python -m tests.soak.hostile`: attacks real nodes and measures the effect.

Exit status 0 if no two nodes could write at once, no primary was unseated or lost its lease more
than once, and all was as before within 10 s after each case; else 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import attrs

from tests.soak.hostile.cases import CASES
from tests.soak.hostile.cluster import Cluster
from tests.soak.hostile.measure import Result, measure
from tests.soak.hostile.report import HEADER, row
from tests.soak.hostile.scene import Case
from tests.support.secured import KINDS


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    _raise_descriptor_limit()
    directory = Path(tempfile.mkdtemp(prefix="kevy-elect-hostile-"))
    chosen = [CASES[name] for name in options.case or CASES]
    results = []
    print(f"load {os.getloadavg()[0]:.1f}, logs in {directory}\n\n{HEADER}", flush=True)
    cluster = partial(Cluster, links=options.links, real_time=options.real_time)
    campaign = run(
        chosen, directory, cluster, options.rounds, quick=options.quick, seed=options.seed
    )
    for result in campaign:
        results.append(result)
        print(row(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps([attrs.asdict(each) for each in results], indent=1))
    failed = [each.case for each in results if each.failures]
    if failed:
        print(f"\nharmed by {', '.join(failed)}; logs and journals are in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def run(
    cases: Sequence[Case],
    directory: Path,
    make: Callable[..., Cluster],
    rounds: int,
    *,
    quick: bool,
    seed: int,
) -> Iterator[Result]:
    """Run each case against a cluster of its own, with another seed in each round."""
    for number, case in itertools.product(range(rounds), cases):
        place = directory / f"{case.name}-{number + 1}"
        place.mkdir(parents=True)
        with make(place, command=case.command) as cluster:
            result = measure(case, cluster, seed + number, quick=quick)
        yield result


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.hostile", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one")
    parser.add_argument(
        "--links", choices=KINDS, default="plain", help="of the nodes [%(default)s]"
    )
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="nodes have a real-time priority, which keeps the machine's other work out of the "
        "figures, and the nodes' from that: niceness may count within a session only",
    )
    parser.add_argument("--rounds", type=int, default=1, help="how often all of it [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="small versions of a second each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--seed", type=int, default=1, help="of the frames [%(default)s]")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
