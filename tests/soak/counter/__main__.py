"""`python -m tests.soak.counter`: a counter that only the primary increments, under faults.

Exit status 0 if nothing was violated; 1 after a violation, with the directory of logs kept and
named; 2 if no run is possible here.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.soak.chaos.command import add_links, play
from tests.soak.counter.campaign import Campaign
from tests.soak.counter.cluster import Cluster, Kind
from tests.soak.counter.faults import FAULTS, possible
from tests.soak.counter.journal import read
from tests.soak.counter.judge import judge
from tests.soak.counter.report import Report, make_report
from tests.support.secured import IN_TURN


def main(arguments: list[str]) -> int:
    return play("counter", arguments, _parser().parse_args(arguments), _run)


def _run(options: argparse.Namespace, directory: Path) -> Report:
    begun = time.monotonic()
    # The network has a random source of its own: the number of packets must not change the
    # schedule.
    source = random.Random(options.seed)
    cluster = Cluster(directory, options.kind, source, last_will=options.last_will)
    campaign = Campaign(cluster, random.Random(options.seed))
    print(
        f"{options.kind.value}, seed {options.seed}, {options.links} links, logs in {directory}",
        flush=True,
    )
    try:
        kinds = [
            fault
            for fault in possible(options.kind)
            if options.only is None or fault.kind in options.only
        ]
        campaign.run(
            options.faults,
            kinds,
            lambda line: print(line, flush=True),
            links=IN_TURN[options.links],
        )
    except KeyboardInterrupt:
        print("interrupted; judging what there is", flush=True)
    campaign.inspect()
    cluster.kill()
    verdict = judge(
        read(directory / "journal"), cluster.counter.read(), asks=options.kind is not Kind.COMMAND
    )
    return make_report(
        campaign, verdict, seed=options.seed, minutes=(time.monotonic() - begun) / 60
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.counter", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule [%(default)s]")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--tac",
        dest="kind",
        action="store_const",
        const=Kind.TAC,
        default=Kind.COMMAND,
        help="nodes with PrimaryOnly instead of --run-primary",
    )
    kind.add_argument(
        "--unchecked",
        dest="kind",
        action="store_const",
        const=Kind.UNCHECKED,
        help="the same without a check of late writes, to see some",
    )
    parser.add_argument(
        "--last-will",
        action="store_true",
        help="nodes below `kevy-elect supervise`; faults hit the node, not its wrapper",
    )
    parser.add_argument(
        "--only",
        metavar="KIND",
        action="append",
        choices=list(FAULTS),
        help="only such faults; may be repeated. KIND is one of %(choices)s",
    )
    add_links(parser)
    parser.add_argument("--directory", help="for logs, kept then [a temporary one]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
