"""CPU time, wake-ups and memory of each node of an idle cluster, and of bare Twisted processes.

The bare processes only exchange as many bytes as often over as many connections. Both run at the
same time, so that other work on the machine affects both. Small clusters run several times, because
the cost depends on which timers happen to fire together. Measurements on a busy machine are not
reported.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import attrs

from bench.floor import ASKS, READY
from bench.process import Child, Fleet, Usage, wait_for
from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.cli.demo.ports import HOST, free_ports
from kevy_elect.config import ElectConfig
from kevy_elect.messages import Ack, Announce, Heartbeat, Message, Role
from tests.support import FOREGROUND

SETTLING: Final = 15.0
"""Seconds between the election and the measurement."""
START_TIME: Final = 120.0
PROCESSES: Final = 15
"""The number of concurrent processes of each kind, unless one cluster has more."""
OTHERS: Final = 0.05
"""The part of the machine's time that other processes may use in a valid set."""
CONFIG: Final = ElectConfig()


@attrs.frozen
class Cost:
    """The average use of one node in one repetition."""

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
            f"{cluster}-{name}",
            (*FOREGROUND, "kevy-elect", f"--node-id={name}", f"--peers={peers}"),
        )
        for name in ids
    ]


def start_floor(fleet: Fleet, number: int, cluster: int) -> list[Child]:
    """Start bare processes. The first exchanges the bytes of a primary and its followers."""
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


def _traffic(*, leads: bool) -> dict[str, str]:
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


@attrs.frozen
class Set:
    """One repetition."""

    nodes: Cost
    floor: Cost
    others: float
    """The part of the machine's time that other processes used."""


def observe_both(nodes: list[Child], floor: list[Child], seconds: float) -> Set:
    before = [child.usage() for child in nodes], [child.usage() for child in floor]
    started, busy = time.monotonic(), busy_time()
    time.sleep(seconds)
    passed, busy = time.monotonic() - started, busy_time() - busy
    costs = observe(nodes, before[0], passed), observe(floor, before[1], passed)
    ours = sum(cost.cpu / 1000 * passed * len(nodes) for cost in costs)
    return Set(*costs, others=max(0.0, busy - ours) / passed / (os.cpu_count() or 1))


def busy_time() -> float:
    """Seconds for which this machine's processors have worked since its start."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, *rest = (int(field) for field in fields[:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def measure_one(number: int, seconds: float, repetitions: int, others: float) -> Table:
    clusters = range(max(1, PROCESSES // number))
    table = Table(f"idle: {len(clusters)} × {number} nodes, hb_interval {CONFIG.hb_interval} s")
    with Fleet() as fleet:
        nodes = [child for each in clusters for child in start_nodes(fleet, number, each)]
        floor = [child for each in clusters for child in start_floor(fleet, number, each)]
        await_cluster(nodes)
        await_floor(floor)
        time.sleep(SETTLING)
        sets = [observe_both(nodes, floor, seconds) for _ in range(repetitions)]
    kept = [each for each in sets if each.others <= others]
    table.note(
        f"{len(kept)} of {len(sets)} sets count: other processes used at most {others:.0%} of the "
        f"machine ({_range([each.others for each in sets])} in all sets); one-minute load at the "
        f"end: {os.getloadavg()[0]:.1f}"
    )
    if not kept:
        table.note("nothing to report: try it on an idle machine, or allow more by --others")
        return table
    for quantity, name in (
        ("ms CPU/s a node", "cpu"),
        ("wake-ups/s a node", "wakeups"),
        ("MB resident a node", "resident"),
    ):
        beside = table.add("bare Twisted", quantity, [getattr(each.floor, name) for each in kept])
        table.compare("kevy-elect", quantity, [getattr(each.nodes, name) for each in kept], beside)
    return table


def _range(parts: list[float]) -> str:
    return f"{min(parts):.0%} to {max(parts):.0%}"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--nodes", type=int, nargs="+", default=[3, 5, 9, 25])
    made.add_argument("--seconds", type=float, default=5.0, help="a repetition")
    made.add_argument("--repetitions", type=int, default=5)
    made.add_argument(
        "--others",
        type=float,
        default=OTHERS,
        help="part of the machine's time that other processes may use, for a set to count",
    )
    options = made.parse_args()
    publish(
        options,
        lambda: [
            measure_one(n, options.seconds, options.repetitions, options.others)
            for n in options.nodes
        ],
    )


if __name__ == "__main__":
    main()
