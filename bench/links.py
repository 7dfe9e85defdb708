"""Handshakes and heartbeats per second of CPU time by noise and tls, and by plain links.

Both ends of a connection are in one process, without sockets: this is the cost of a channel in
addition to TCP. It is also compared with the CPU time of an idle node.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from bench.clusters.contender import Timings
from bench.clusters.kevy import KevyElect
from bench.process import Usage
from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.transport.channel import Channel, Security
from tests.support import secured

FRAME: Final = wire.encode(Heartbeat(3, "a", Role.REPLICA, 42))
Ends = tuple[Security, Security]


def ends(kind: str, directory: Path) -> Ends:
    """The security of a and b for each other."""
    given = secured.options(kind, "ab", directory)
    return secured.security("a", "b", given["a"]), secured.security("b", "a", given["b"])


def connect(ends: Ends) -> tuple[Channel, Channel]:
    """A connection of a to b, established at both ends."""
    dialled, accepted = ends[0].dials("b"), ends[1].accepts()
    there = dialled.start()
    while there:
        _, back = accepted.receive(there)
        _, there = dialled.receive(back) if back else (b"", b"")
    assert dialled.established
    assert accepted.established
    return dialled, accepted


def shake(ends: Ends, times: int) -> None:
    for _ in range(times):
        connect(ends)


def beat(ends: Ends, times: int) -> None:
    """Encrypt, decrypt and decode heartbeats one by one."""
    dialled, accepted = connect(ends)
    decoder = wire.Decoder(wire.MESSAGES)
    for _ in range(times):
        plain, _ = accepted.receive(dialled.seal(FRAME))
        decoder.feed(plain)
        assert decoder.next_message() is not None


def cost(work: Callable[[Ends, int], None], ends: Ends, times: int) -> float:
    """Microseconds of CPU time each."""
    started = time.process_time()
    work(ends, times)
    return (time.process_time() - started) / times * 1e6


def measure(kinds: Mapping[str, Ends], beats: int, repetitions: int) -> list[Table]:
    tables = []
    for what, work, times, floor in (
        ("handshake", shake, max(1, beats // 100), "noise"),
        ("heartbeat", beat, beats, "plain"),
    ):
        table = Table(f"links: CPU of one {what}, both ends")
        chosen = {kind: ends for kind, ends in kinds.items() if kind != "plain" or floor == kind}
        samples = [
            {kind: cost(work, ends, times) for kind, ends in chosen.items()}
            for _ in range(repetitions)
        ]
        beside = table.add(floor, "µs CPU", [each[floor] for each in samples])
        for kind in chosen:
            if kind != floor:
                table.compare(kind, "µs CPU", [each[kind] for each in samples], beside)
        tables.append(table)
    return tables


class Idle(KevyElect):
    """Three idle nodes that have a primary."""

    def usage(self) -> Iterator[Usage]:
        return (child.usage() for child in self.children.values())


class IdleNoise(Idle):
    links = "noise"


class IdleTls(Idle):
    links = "tls"


def measure_idle(seconds: float, repetitions: int) -> Table:
    """Measure the clusters of all kinds at once, so that other work of the machine affects all."""
    timings = Timings("200 ms / 5 s", heartbeat=0.2, down_after=5.0)
    table = Table(f"links: CPU of an idle node of three, {timings.name}")
    with ExitStack() as ends:
        kinds: dict[str, Idle] = {"plain": Idle(timings), "noise": IdleNoise(timings)}
        kinds["tls"] = IdleTls(timings)
        for cluster in kinds.values():
            ends.enter_context(closing(cluster))
        for cluster in kinds.values():
            cluster.settle()
        samples = [idle_once(kinds, seconds) for _ in range(repetitions)]
    beside = table.add("plain", "ms CPU a second", [each["plain"] for each in samples])
    for kind in ("noise", "tls"):
        table.compare(kind, "ms CPU a second", [each[kind] for each in samples], beside)
    return table


def idle_once(kinds: Mapping[str, Idle], seconds: float) -> dict[str, float]:
    """Milliseconds of CPU time that a node of each kind uses in a second."""
    before = {kind: list(cluster.usage()) for kind, cluster in kinds.items()}
    started = time.monotonic()
    time.sleep(seconds)
    after = {kind: list(cluster.usage()) for kind, cluster in kinds.items()}
    passed = time.monotonic() - started
    return {
        kind: sum((now - then).cpu for now, then in zip(after[kind], before[kind], strict=True))
        / len(before[kind])
        / passed
        * 1000
        for kind in kinds
    }


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--beats", type=int, default=20_000, help="and a hundredth in handshakes")
    made.add_argument("--repetitions", type=int, default=7)
    made.add_argument("--idle", type=float, default=10.0, help="seconds of each repetition")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kinds = {kind: ends(kind, Path(directory)) for kind in secured.KINDS}
        publish(
            options,
            lambda: [
                *measure(kinds, options.beats, options.repetitions),
                measure_idle(options.idle, options.repetitions),
            ],
        )


if __name__ == "__main__":
    main()
