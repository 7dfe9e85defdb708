"""The cost of a node and the time of a failover with 3 to 49 nodes.

Electors run in one process in virtual time. A failover therefore takes the time that the rules
require, with message delays up to hb_interval / 5 and without CPU time.
"""

from __future__ import annotations

import time
from typing import Final

import attrs

from bench.report import Table, parser, publish
from kevy_elect.config import ElectConfig
from kevy_elect.testing import SimulatedCluster

STEP: Final = 0.005
"""Virtual seconds between two checks, which is the precision of the times."""
LONGEST: Final = 60.0
CONFIG: Final = ElectConfig()


@attrs.frozen
class Life:
    """The results of one cluster."""

    cpu: float
    """Milliseconds for each node and second."""
    cpu_each: float
    """Microseconds for each heartbeat."""
    writable: float
    """Milliseconds from the crash of the primary."""
    agreed: float


def live(nodes: int, seed: int, seconds: float) -> Life:
    """Let a cluster elect, idle, and lose its primary."""
    cluster = SimulatedCluster(nodes, CONFIG, seed=f"scale {seed}", checkers=(), raising=False)
    cluster.tracing = False
    primary = cluster.settle()
    cluster.advance(CONFIG.down_after)
    cpu = idle(cluster, seconds) / (nodes * seconds)
    writable, agreed = lose(cluster, primary)
    heartbeats = (nodes - 1) / CONFIG.hb_interval
    return Life(cpu * 1e3, cpu / heartbeats * 1e6, writable * 1e3, agreed * 1e3)


def idle(cluster: SimulatedCluster, seconds: float) -> float:
    """The CPU seconds that so many virtual seconds take."""
    started = time.process_time()
    cluster.advance(seconds)
    return time.process_time() - started


def lose(cluster: SimulatedCluster, primary: str) -> tuple[float, float]:
    """Crash the primary. Return the virtual seconds until another can write, and until all follow
    it."""
    crashed_at = cluster.now
    cluster.crash(primary)
    writable: float | None = None
    while cluster.now < crashed_at + LONGEST:
        cluster.advance(STEP)
        writers = cluster.writers()
        if writers and writable is None:
            writable = cluster.now - crashed_at
        followed = {node.elector.current_primary for node in cluster.running()}
        if writable is not None and followed == set(writers):
            return writable, cluster.now - crashed_at
    raise RuntimeError(f"no primary in {LONGEST} virtual seconds")


def measure(sizes: list[int], seconds: float, repetitions: int) -> list[Table]:
    table = Table(f"scale: hb_interval {CONFIG.hb_interval} s, down_after {CONFIG.down_after} s")
    lives = {n: [live(n, seed, seconds) for seed in range(repetitions)] for n in sizes}
    for name, quantity in (
        ("cpu", "ms CPU/s a node"),
        ("cpu_each", "µs CPU a heartbeat"),
        ("writable", "virtual ms to writable"),
        ("agreed", "virtual ms to agreement"),
    ):
        samples = {n: [getattr(each, name) for each in lives[n]] for n in sizes}
        least = table.add(f"{sizes[0]} nodes", quantity, samples[sizes[0]])
        for nodes in sizes[1:]:
            table.compare(f"{nodes} nodes", quantity, samples[nodes], least)
    table.note("CPU is that of the elector and the simulated network; no sockets, no codec")
    return [table]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 9, 15, 25, 49])
    made.add_argument("--seconds", type=float, default=5.0, help="virtual, of idleness")
    made.add_argument("--repetitions", type=int, default=5)
    options = made.parse_args()
    publish(options, lambda: measure(options.nodes, options.seconds, options.repetitions))


if __name__ == "__main__":
    main()
