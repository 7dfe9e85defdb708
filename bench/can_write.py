"""Nanoseconds of one call of `can_write`, and of a bare attribute comparison."""

from __future__ import annotations

import random
import time
import timeit
from collections.abc import Callable
from typing import Final

from twisted.internet.testing import MemoryReactorClock

from bench.report import Table, parser, publish
from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.elector import Elector
from kevy_elect.messages import Accept, Heartbeat, Role
from kevy_elect.service.election import ElectionService

CONFIG: Final = ElectConfig(down_after=1000.0)
"""A down_after that is long enough that no lease ends during the measurement."""


class Floor:
    """The lower bound of the cost of any answer."""

    def __init__(self) -> None:
        self.until = 1e18


def elected() -> Elector:
    """An elector that is primary of three and holds the lease."""
    elector = Elector(
        "a", ["a", "b", "c"], "h:1", config=CONFIG, ballot=MemoryBallot(), rng=random.Random(1)
    )
    now = time.monotonic()
    for peer in "bc":
        elector.on_message(peer, Heartbeat(1, peer, Role.REPLICA, 0), now)
    elector.tick(now)
    elector.on_message("b", Accept(elector.epoch, "b"), now)
    assert elector.can_write(now)
    return elector


def writable_service() -> ElectionService:
    """A service that is a quorum by itself."""
    reactor = MemoryReactorClock()
    cluster = Cluster("a", (PeerAddr.parse("a@127.0.0.1:7101"),))
    service = ElectionService(cluster, ballot=MemoryBallot(), config=CONFIG, reactor=reactor)
    service.startService()
    assert service.can_write()
    return service


def nanoseconds(ask: Callable[[], object], times: int) -> float:
    return timeit.timeit(ask, number=times) / times * 1e9


def measure(times: int, repetitions: int) -> list[Table]:
    table = Table("can_write")
    floor, elector, service = Floor(), elected(), writable_service()
    now = time.monotonic()
    questions: dict[str, Callable[[], object]] = {
        "now < object.attribute": lambda: now < floor.until,
        "Elector.can_write(now)": lambda: elector.can_write(now),
        "time.monotonic()": lambda: time.monotonic(),
        "ElectionService.can_write()": lambda: service.can_write(),
    }
    samples: dict[str, list[float]] = {what: [] for what in questions}
    for _ in range(repetitions):
        for what, ask in questions.items():
            samples[what].append(nanoseconds(ask, times))
    bare, *others = samples.items()
    beside = table.add(bare[0], "ns", bare[1])
    for what, taken in others:
        table.compare(what, "ns", taken, beside)
    table.note("each number includes the call of the lambda that asks")
    return [table]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--times", type=int, default=200_000)
    made.add_argument("--repetitions", type=int, default=9)
    options = made.parse_args()
    publish(options, lambda: measure(options.times, options.repetitions))


if __name__ == "__main__":
    main()
