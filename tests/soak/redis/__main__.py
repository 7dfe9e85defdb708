"""`python -m tests.soak.redis`: three nodes that drive a Redis each, under faults.

Clients write to every server that takes writes, and ask whether each write is confirmed. Exit
status 0 if no confirmed write was lost, none was lost in a switchover, and the cluster always
recovered; 1 otherwise, with the directory of logs kept and named; 2 if no run is possible here.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from pathlib import Path

from tests.soak.chaos import sandbox
from tests.soak.chaos.command import play
from tests.soak.counter.campaign import Campaign, Round
from tests.soak.counter.faults import Trouble
from tests.soak.redis.cluster import Cluster, OwnServer, Server
from tests.soak.redis.faults import FAULTS, FORGETS, FORGETS_WITH_NODE
from tests.soak.redis.judge import judge, read
from tests.soak.redis.report import Report, make_report
from tests.soak.redis.sentinels import Sentinels


def main(arguments: list[str]) -> int:
    return play("redis", arguments, _parser().parse_args(arguments), _run, _obstacle)


def _obstacle() -> str | None:
    if shutil.which("redis-server") is None:
        return "not installed: redis-server"
    return sandbox.obstacle()


def _run(options: argparse.Namespace, directory: Path) -> Report:
    begun = time.monotonic()
    rng = random.Random(options.seed)
    cluster = (
        Sentinels(directory, rng)
        if options.sentinel
        else Cluster(
            directory, rng, options.node_option or (), OwnServer if options.own else Server
        )
    )
    campaign = Campaign(cluster, random.Random(options.seed))
    print(f"seed {options.seed}, logs in {directory}", flush=True)
    kinds = [
        fault for kind, fault in FAULTS.items() if options.only is None or kind in options.only
    ]
    forgets = FORGETS_WITH_NODE if options.own else FORGETS

    def is_fair(trouble: Trouble) -> bool:
        """Whether a majority keeps its data."""
        return sum(each.fault.kind in forgets for each in trouble.harms) < 2

    cluster.heal()
    cluster.start_clients()
    try:
        campaign.run(options.faults, kinds, lambda line: print(line, flush=True), fair=is_fair)
    except KeyboardInterrupt:
        print("interrupted; judging what there is", flush=True)
    cluster.stop_clients()
    if not options.sentinel:
        campaign.inspect()
    left = cluster.values()
    cluster.kill()
    verdict = judge(
        {name: read(name, cluster.journal(name)) for name in cluster.names},
        left,
        [(each.begun, each.moved or each.healed) for each in campaign.rounds if _is_planned(each)],
    )
    return make_report(
        campaign, verdict, seed=options.seed, minutes=(time.monotonic() - begun) / 60
    )


def _is_planned(played: Round) -> bool:
    return played.kind == "switchover"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.redis", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="how many [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule [%(default)s]")
    parser.add_argument(
        "--only",
        metavar="KIND",
        action="append",
        choices=list(FAULTS),
        help="only such faults; may be repeated. KIND is one of %(choices)s",
    )
    parser.add_argument(
        "--node-option", action="append", help="for twistd kevy-elect; may be repeated"
    )
    parser.add_argument(
        "--sentinel", action="store_true", help="Redis Sentinel instead of our nodes, to compare"
    )
    parser.add_argument(
        "--own", action="store_true", help="each node runs its server, with --redis-command"
    )
    parser.add_argument("--directory", help="for logs, kept then [a temporary one]")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
