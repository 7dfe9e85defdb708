"""The losses of clients of a web service behind HAProxy when its primary is killed, stopped or
hands over.

Three copies run behind examples/haproxy.cfg, with 100 writes a second, whether or not earlier ones
were answered. A run ends when all is as before. The seconds without an answer are those from the
first request without an answer to the last. Only the primary may answer.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import attrs

from bench.balanced import EVERY, HAPROXY, Balanced, Reply, Served, Traffic, violations
from bench.clusters.contender import Timings
from bench.failover import DEFAULT, FAST
from bench.report import Table, parser, publish

AFTERWARDS: Final = 1.0
"""Seconds for which a run continues when all is as before."""


def kill(balanced: Balanced, traffic: Traffic, primary: str) -> None:
    balanced.copies[primary].kill()
    traffic.server(other_than=primary)
    balanced.revive(primary)


def stop(balanced: Balanced, traffic: Traffic, primary: str) -> None:
    balanced.copies[primary].stop()
    traffic.server(other_than=primary)
    balanced.copies[primary].resume()


def switch_over(balanced: Balanced, traffic: Traffic, primary: str) -> None:
    balanced.switch_over(primary)
    traffic.server(other_than=primary)


Fault = Callable[[Balanced, Traffic, str], None]
FAULTS: Final[dict[str, Fault]] = {
    "kill -9": kill,
    "SIGSTOP, then SIGCONT": stop,
    "switchover": switch_over,
}


@attrs.frozen
class Run:
    """The clients' answers from one fault on, and the writes of the copies."""

    replies: list[Reply]
    served: set[int]
    """The requests that a copy answered with 200, whether or not the answer arrived."""

    @property
    def seconds_without(self) -> float:
        """Seconds from the first request that was not answered to the last one."""
        sent = [reply.sent for reply in self.replies if reply.status != 200]
        return (max(sent) - min(sent)) / 1e9 + EVERY if sent else 0.0

    @property
    def slowest(self) -> float:
        """Seconds until the slowest answer."""
        return max(reply.seconds for reply in self.replies if reply.status == 200)

    @property
    def without_server(self) -> int:
        """The number of answers 503 of HAProxy."""
        return sum(reply.status == 503 and reply.node is None for reply in self.replies)

    @property
    def refused(self) -> int:
        """The number of answers 503 of a copy that is not primary."""
        return sum(reply.status == 503 and reply.node is not None for reply in self.replies)

    @property
    def lost(self) -> int:
        """The number of requests with neither 200 nor 503."""
        return sum(reply.status not in (200, 503) for reply in self.replies)

    @property
    def done_all_the_same(self) -> int:
        """The number of writes that were made without an answer 200 for the client."""
        return sum(reply.status != 200 and reply.request in self.served for reply in self.replies)


QUANTITIES: Final[dict[str, Callable[[Run], float]]] = {
    "s without an answer": lambda run: run.seconds_without,
    "s to the slowest answer": lambda run: run.slowest,
    "503 of HAProxy": lambda run: run.without_server,
    "503 of a copy": lambda run: run.refused,
    "lost": lambda run: run.lost,
    "not answered, yet done": lambda run: run.done_all_the_same,
}


def provoke(
    balanced: Balanced, names: list[str], runs: int
) -> tuple[dict[str, list[Run]], list[Reply]]:
    """Make one run with each fault after another. Also return all replies, including those in
    between."""
    times: list[tuple[str, int, int]] = []
    with Traffic(balanced.writes) as traffic:
        for number in range(runs):
            for name in names:
                print(f"{name}, {number + 1} of {runs}", file=sys.stderr)
                primary = balanced.settle()
                traffic.server()
                began = time.monotonic_ns()
                FAULTS[name](balanced, traffic, primary)
                balanced.settle()
                time.sleep(AFTERWARDS)
                times.append((name, began, time.monotonic_ns()))
    served = {each.request for each in balanced.served()}
    taken: dict[str, list[Run]] = {name: [] for name in names}
    for name, began, ended in times:
        replies = [reply for reply in traffic.replies if began <= reply.sent < ended]
        taken[name].append(Run(replies, served))
    return taken, traffic.replies


def count_wrong(replies: list[Reply], served: list[Served]) -> int:
    """The number of writes that a copy answered while it was not primary, or that no copy knows."""
    servers = {each.request: each.node for each in served}
    unknown = sum(
        reply.status == 200 and servers.get(reply.request) != reply.node for reply in replies
    )
    return len(violations(served)) + unknown


def measure(timings: Timings, runs: int, names: list[str], *, trusting: bool) -> Table:
    asking = "which trust HAProxy" if trusting else "which ask can_write()"
    table = Table(
        f"haproxy: heartbeat / down after {timings.name}, {runs} runs each, copies {asking}"
    )
    with Balanced(timings, trusting=trusting) as balanced:
        taken, replies = provoke(balanced, names, runs)
        wrong = count_wrong(replies, balanced.served())
    for name, done in taken.items():
        for quantity, of in QUANTITIES.items():
            table.add(name, quantity, [of(run) for run in done])
    table.note(f"{wrong} of {len(replies):,} writes were answered by one that was not primary")
    return table


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=10, help="with the fast timings")
    made.add_argument("--default-runs", type=int, default=3, help="with the default timings")
    made.add_argument(
        "--trusting-runs", type=int, default=3, help="fast, with copies that do not ask"
    )
    made.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    options = made.parse_args()
    if HAPROXY is None:
        made.error("haproxy is not installed")
    plans = [
        (FAST, options.runs, False),
        (DEFAULT, options.default_runs, False),
        (FAST, options.trusting_runs, True),
    ]
    publish(
        options,
        lambda: [
            measure(timings, n, options.only, trusting=trusting)
            for timings, n, trusting in plans
            if n
        ],
    )


if __name__ == "__main__":
    main()
