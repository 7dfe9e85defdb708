"""`python -m tests.soak.chaos`: real nodes under faults, judged by their writes.

Exit status 0 if nothing was violated; 1 after a violation, with the directory of logs kept and
named; 2 if no run is possible here.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Final

from tests.soak.chaos import sandbox
from tests.soak.chaos.campaign import Campaign
from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.command import add_links, play
from tests.soak.chaos.journal import read
from tests.soak.chaos.judge import judge
from tests.soak.chaos.network import Network
from tests.soak.chaos.report import Report, make_report
from tests.support.secured import IN_TURN

LONG_RUN: Final = 5.0
"""The minutes of a run that is long enough for the long cut, and for faults of full length."""


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.probe:
        sandbox.furnish()
        Network(["probe"], random.Random(0))
        return 0
    return play("chaos", arguments, options, _run)


def _run(options: argparse.Namespace, directory: Path) -> Report:
    rng = random.Random(options.seed)
    begun = time.monotonic()
    # The network has a random source of its own: the number of packets must not change the
    # schedule.
    cluster = Cluster(options.nodes, directory, options.stall, random.Random(options.seed))
    campaign = Campaign(cluster, rng, long=options.minutes >= LONG_RUN, stall=options.stall)
    print(
        f"seed {options.seed}, {options.nodes} nodes, {options.links} links, logs in {directory}",
        flush=True,
    )
    try:
        kinds = IN_TURN[options.links]
        campaign.run(60 * options.minutes, lambda line: print(line, flush=True), kinds)
    except KeyboardInterrupt:
        print("interrupted; judging what there is", flush=True)
    campaign.inspect()
    cluster.kill()
    cluster.keep_ballots()
    return make_report(
        campaign,
        judge(read(cluster.journal)),
        seed=options.seed,
        minutes=(time.monotonic() - begun) / 60,
        refusals=[node.settings.refusals for node in cluster],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule [%(default)s]")
    parser.add_argument("--nodes", type=int, default=3, help="[%(default)s]")
    parser.add_argument(
        "--stall", type=float, default=10.0, help="seconds that names stall [%(default)s]"
    )
    add_links(parser)
    parser.add_argument("--directory", help="for logs, kept then [a temporary one]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
