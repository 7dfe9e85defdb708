"""CPU, wake-ups and memory of each node of an idle cluster, beside bare Twisted processes.

Those do nothing but exchange as many bytes as often over as many connections.
Both run at the same time, so that other work on the machine hits both. Small
clusters run several times over, because the cost of one depends on which of its
timers happen to fire together.
"""

from __future__ import annotations

import time
from typing import Final

import attrs

from bench.floor import ASKS, READY
from bench.process import HOST, TWISTD, Child, Fleet, Usage, free_ports, wait_for
from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.config import ElectConfig
from kevy_elect.messages import Ack, Announce, Heartbeat, Message, Role

SETTLING: Final = 2.0
"""Seconds after the election until idleness begins."""
START_TIME: Final = 120.0
PROCESSES: Final = 15
"""Of each kind at once, unless one cluster has more."""
CONFIG: Final = ElectConfig()


@attrs.frozen
class Cost:
    """What one node used on average in one repetition."""

    cpu: float
    """Milliseconds a second."""
    wakeups: float
    resident: float
    """Megabytes."""


def start_nodes(fleet: Fleet, number: int, cluster: int) -> list[Child]:
    ids = [f"n{index:02}" for index in range(number)]
    ports = free_ports(number)
    peers = ",".join(f"{name}@{HOST}:{port}" for name, port in zip(ids, ports, strict=True))
    return [
        fleet.start(
            f"{cluster}-{name}", (*TWISTD, "kevy-elect", f"--node-id={name}", f"--peers={peers}")
        )
        for name in ids
    ]


def start_floor(fleet: Fleet, number: int, cluster: int) -> list[Child]:
    """Bare processes; the first exchanges what a primary and its followers do."""
    ports = free_ports(number)
    return [
        fleet.twistd(
            f"{cluster}-floor{index:02}",
            "floor.tac",
            {
                "port": port,
                "peers": [other for other in ports if other != port],
                "interval": CONFIG.hb_interval,
                "often": round(CONFIG.announce_interval / CONFIG.hb_interval),
                **_traffic(leads=index == 0),
            },
        )
        for index, port in enumerate(ports)
    ]


def _traffic(leads: bool) -> dict[str, str]:
    role = Role.PRIMARY if leads else Role.REPLICA
    announce = Announce(2, "n00", f"{HOST}:40000")
    return {
        "message": _as_long_as(Heartbeat(2, "n00", role, 0), (ASKS if leads else b"x").decode()),
        "extra": _as_long_as(announce, "x") if leads else "",
        "reply": "x" * len(wire.encode_ack(Ack(2, 1000))),
    }


def _as_long_as(message: Message, first: str) -> str:
    return first.ljust(len(wire.encode(message)), "x")


def await_cluster(nodes: list[Child]) -> None:
    wait_for(
        lambda: all(n.logged("following") or n.logged("elected primary") for n in nodes),
        "all nodes follow one primary",
        START_TIME,
    )


def await_floor(floor: list[Child]) -> None:
    wait_for(lambda: all(bare.logged(READY) for bare in floor), "all links", START_TIME)


def observe(children: list[Child], before: list[Usage], seconds: float) -> Cost:
    used = [child.usage() - then for child, then in zip(children, before, strict=True)]
    number = len(children)
    return Cost(
        cpu=sum(each.cpu for each in used) / number / seconds * 1000,
        wakeups=sum(each.wakeups for each in used) / number / seconds,
        resident=sum(each.resident for each in used) / number / 1e6,
    )


def observe_both(nodes: list[Child], floor: list[Child], seconds: float) -> tuple[Cost, Cost]:
    before = [child.usage() for child in nodes], [child.usage() for child in floor]
    started = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    return observe(nodes, before[0], passed), observe(floor, before[1], passed)


def measure_one(number: int, seconds: float, repetitions: int) -> Table:
    clusters = range(max(1, PROCESSES // number))
    table = Table(f"idle: {len(clusters)} × {number} nodes, hb_interval {CONFIG.hb_interval} s")
    with Fleet() as fleet:
        nodes = [child for each in clusters for child in start_nodes(fleet, number, each)]
        floor = [child for each in clusters for child in start_floor(fleet, number, each)]
        await_cluster(nodes)
        await_floor(floor)
        time.sleep(SETTLING)
        pairs = [observe_both(nodes, floor, seconds) for _ in range(repetitions)]
    ours, bare = zip(*pairs, strict=True)
    for quantity, name in (
        ("ms CPU/s a node", "cpu"),
        ("wake-ups/s a node", "wakeups"),
        ("MB resident a node", "resident"),
    ):
        beside = table.add("bare Twisted", quantity, [getattr(cost, name) for cost in bare])
        table.compare("kevy-elect", quantity, [getattr(cost, name) for cost in ours], beside)
    return table


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 9, 25])
    made.add_argument("--seconds", type=float, default=5.0, help="a repetition")
    made.add_argument("--repetitions", type=int, default=4)
    options = made.parse_args()
    publish(
        options,
        lambda: [measure_one(n, options.seconds, options.repetitions) for n in options.nodes],
    )


if __name__ == "__main__":
    main()
