"""One client, through failovers and switchovers."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from tests.soak.chaos.outages import longest_gap
from tests.soak.clients.cluster import Cluster
from tests.soak.clients.program import Program
from tests.support.waiting import wait_for


@attrs.frozen
class Outage:
    """The effect of one kill of the primary, or of one switchover, on a client."""

    led: float
    """Seconds in which no server was seen to take writes."""
    gap: float | None
    """The longest time between two writes, in seconds; None if it wrote no more."""
    lost: int
    """Successful writes that the new primary does not have."""


@attrs.define
class Trial:
    client: str
    version: str = ""
    problem: str = ""
    """The reason why it was not run."""
    kills: list[Outage] = attrs.Factory(list)
    switchovers: list[Outage] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    """The errors of its writes, each once, the latest last."""

    @property
    def works(self) -> bool:
        """Whether it always wrote again, and lost nothing in a switchover."""
        every = [*self.kills, *self.switchovers]
        return (
            bool(every)
            and all(each.gap is not None for each in every)
            and not any(each.lost for each in self.switchovers)
        )


def follow(program: Program, cluster: Cluster, rounds: int, patience: float, into: Trial) -> None:
    """Kill the primary and switch over so many times, or until the client does not follow.

    It has `patience` seconds to write each time.
    """
    lost: set[int] = set()
    for _ in range(rounds):
        first = wait_for(cluster.primary)
        killed = _outage(program, cluster, first, cluster.kill, patience, lost)
        into.kills.append(killed)
        cluster.start(first)
        second = wait_for(cluster.primary)
        if killed.gap is None:
            return
        switched = _outage(program, cluster, second, cluster.switch_over, patience, lost)
        into.switchovers.append(switched)
        if switched.gap is None:
            return


def _outage(
    program: Program,
    cluster: Cluster,
    old: str,
    begin: Callable[[str], None],
    patience: float,
    lost: set[int],
) -> Outage:
    """Cause one outage, measure it, and add its lost writes to `lost`."""
    begun = time.monotonic()
    begin(old)
    left, led = _next_writer(cluster, old)
    found = _arrived(program, cluster, led, patience)
    writes = list(program.writes)
    missing = {each.number for each in writes} - wait_for(cluster.numbers) - lost
    lost |= missing
    times = [each.at for each in writes]
    return Outage(led - left, longest_gap(times, begun, times[-1]) if found else None, len(missing))


def _next_writer(cluster: Cluster, old: str) -> tuple[float, float]:
    """The last time at which the old server took writes, and the first time at which the next one
    did."""
    left = time.monotonic()

    def look() -> str | None:
        nonlocal left
        at, found = time.monotonic(), cluster.writer()
        if found == old:
            left = at
        return None if found == old else found

    wait_for(look)
    return left, time.monotonic()


def _arrived(program: Program, cluster: Cluster, led: float, patience: float) -> bool:
    """Whether a successful write after `led` reaches the new primary in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and program.runs():
        late = {each.number for each in program.writes if each.at > led}
        if late and late & cluster.numbers():
            return True
        time.sleep(0.01)
    return False
