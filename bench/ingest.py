"""Heartbeats per second that one node reads from one connection, and its CPU time for each.

The same repetition measures bare Twisted processes, which split as many frames of as many bytes by
Twisted's own receivers and discard them. The last frame is one that each refuses: when the
connection ends, all frames before it were read.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

import attrs

from bench.floor import LISTENING
from bench.process import Child, Fleet, wait_for
from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.cli.demo.ports import HOST, free_ports
from kevy_elect.messages import Heartbeat, Role
from tests.support import FOREGROUND

BAD_FRAME: Final = b"!"
ANSWER_TIME: Final = 120.0


@attrs.frozen
class Subject:
    """A process that reads frames, and the bytes to send to it."""

    what: str
    child: Child
    port: int
    stream: Callable[[int], bytes]


@attrs.frozen
class Taking:
    """The speed and cost of reading."""

    rate: float
    cpu_each: float


def heartbeats(role: Role, greeting: bytes) -> Callable[[int], bytes]:
    frame = wire.encode(Heartbeat(2, "b", role, 42))
    return lambda frames: greeting + frames * frame + BAD_FRAME


def differing(frames: int) -> bytes:
    """Heartbeats whose offsets all differ."""
    pair = b"".join(wire.encode(Heartbeat(2, "b", Role.REPLICA, offset)) for offset in (42, 43))
    return frames // 2 * pair + BAD_FRAME


def int32_frames(length: int) -> Callable[[int], bytes]:
    frame = (length - 4).to_bytes(4, "big") + b"x" * (length - 4)
    return lambda frames: frames * frame + b"\xff\xff\xff\xff"


def netstrings(length: int) -> Callable[[int], bytes]:
    frame = b"%d:%s," % (length - 4, b"x" * (length - 4))
    assert len(frame) == length
    return lambda frames: frames * frame + b"!"


def take(subject: Subject, frames: int) -> Taking:
    """Send so many frames at once. Return at which speed and cost they were read."""
    data = subject.stream(frames)
    with socket.create_connection((HOST, subject.port), ANSWER_TIME) as connection:
        before, started = subject.child.usage(), time.monotonic()
        connection.sendall(data)
        _await_end(connection)
        ended, after = time.monotonic(), subject.child.usage()
    return Taking(frames / (ended - started), (after - before).cpu / frames * 1e6)


def _await_end(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass


def start_node(fleet: Fleet) -> tuple[Child, int]:
    """Start a witness, which does not run for primary meanwhile, with two absent peers."""
    port, *others = free_ports(3)
    peers = f"a@{HOST}:{port},b@{HOST}:{others[0]},c@{HOST}:{others[1]}"
    command = (*FOREGROUND, "kevy-elect", "--witness", "--node-id=a", f"--peers={peers}")
    child = fleet.start("node", command)
    wait_for(lambda: child.logged("Acceptor starting") or _accepts(port), "the node")
    return child, port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def start_sink(fleet: Fleet, sink: str) -> tuple[Child, int]:
    (port,) = free_ports(1)
    child = fleet.twistd(sink, "floor.tac", {"sink": sink, "port": port})
    wait_for(lambda: child.logged(LISTENING), f"the {sink} process")
    return child, port


def start_subjects(fleet: Fleet) -> list[Subject]:
    node, port = start_node(fleet)
    replica = heartbeats(Role.REPLICA, b"")
    primary = heartbeats(Role.PRIMARY, wire.GREETING)
    length = len(wire.encode(Heartbeat(2, "b", Role.REPLICA, 42)))
    return [
        Subject("bare Int32StringReceiver", *start_sink(fleet, "int32"), int32_frames(length)),
        Subject("bare NetstringReceiver", *start_sink(fleet, "netstring"), netstrings(length)),
        Subject("kevy-elect node", node, port, replica),
        Subject("kevy-elect node, each differs", node, port, differing),
        Subject("kevy-elect node, of its primary, acknowledged", node, port, primary),
    ]


def measure(frames: int, repetitions: int) -> list[Table]:
    table = Table(f"ingest: {frames} heartbeats over one connection")
    with Fleet() as fleet:
        subjects = start_subjects(fleet)
        takings = [[take(subject, frames) for subject in subjects] for _ in range(repetitions)]
    each = list(zip(subjects, zip(*takings, strict=True), strict=True))
    for quantity, of in (("frames/s", _rate), ("µs CPU/frame", _cpu_each)):
        floor = table.add(subjects[0].what, quantity, [of(taking) for taking in each[0][1]])
        for subject, taken in each[1:]:
            table.compare(subject.what, quantity, [of(taking) for taking in taken], floor)
    return [table]


def _rate(taking: Taking) -> float:
    return taking.rate


def _cpu_each(taking: Taking) -> float:
    return taking.cpu_each


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--frames", type=int, default=50_000)
    made.add_argument("--repetitions", type=int, default=5)
    options = made.parse_args()
    publish(options, lambda: measure(options.frames, options.repetitions))


if __name__ == "__main__":
    main()
