"""`python -m tests.soak.clients`: existing clients of Redis Sentinel follow three real nodes.

Each client's program writes through the nodes' Sentinel ports, while the primary's node and Redis
are killed and come back, and the role is switched over. Exit status 0 if each installed client
wrote again each time, and no write was lost in a switchover; 1 if not; 2 without Redis.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from tests.soak.clients.catalogue import CLIENTS, Places
from tests.soak.clients.cluster import CALM, IDS, Cluster
from tests.soak.clients.program import NotInstalledError, Program
from tests.soak.clients.report import table
from tests.soak.clients.trial import Trial, follow
from tests.support.redis_servers import REDIS_SERVER
from tests.support.waiting import wait_for


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if REDIS_SERVER is None:
        print("not installed: redis-server", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="kevy-elect-clients-"))
    print(f"logs in {directory}", flush=True)
    cluster = Cluster(directory, options.node_option)
    places = Places(options.python, options.node_modules, options.gopath)
    trials: list[Trial] = []
    try:
        for node_id in IDS:
            cluster.start(node_id)
        for client in options.only or CLIENTS:
            trials.append(_try(client, cluster, places, options))
    finally:
        cluster.end()
        print(f"\n{table(trials)}", flush=True)
        if cluster.restarts:
            print(f"{cluster.restarts} servers were too slow, and killed by their guards")
    return 0 if all(each.works or each.problem for each in trials) else 1


def _try(client: str, cluster: Cluster, places: Places, options: argparse.Namespace) -> Trial:
    print(client, end=" ", flush=True)
    trial = run(client, cluster, places, options.rounds, options.patience)
    print(trial.version, trial.problem or ("yes" if trial.works else "no"), flush=True)
    return trial


def run(client: str, cluster: Cluster, places: Places, rounds: int, patience: float) -> Trial:
    """Try one client.

    The first sentinel in its list is the primary's, which is the worst case, because it is killed
    too.
    """
    trial = Trial(client)
    primary = wait_for(cluster.primary)
    cluster.forget(primary)
    command = [*places.command(client), *cluster.sentinels(primary)]
    log = cluster.directory / f"{re.sub(r'[^a-z0-9]+', '-', client.lower())}.log"
    program = Program(command, places.environment(), log)
    try:
        wait_for(program.begun)
        follow(program, cluster, rounds, patience, trial)
    except NotInstalledError as error:
        trial.problem = str(error)
    finally:
        program.end()
        trial.version = program.version
        trial.errors = list(dict.fromkeys(reversed(program.errors)))[::-1]
    return trial


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.clients", description=__doc__)
    parser.add_argument(
        "--only",
        metavar="CLIENT",
        action="append",
        choices=list(CLIENTS),
        help="only this one; may be repeated. CLIENT is one of %(choices)s",
    )
    parser.add_argument("--rounds", type=int, default=3, help="for each client [%(default)s]")
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds in which a client must have written again [%(default)s]",
    )
    parser.add_argument(
        "--python", default=Places().python, help="that has the clients [%(default)s]"
    )
    parser.add_argument("--node-modules", type=Path, metavar="DIRECTORY", help="of npm's packages")
    parser.add_argument("--gopath", type=Path, metavar="DIRECTORY", help="of Go's packages")
    parser.add_argument(
        "--node-option",
        action="append",
        default=[*CALM],
        help="for twistd kevy-elect, one more; may be repeated",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
