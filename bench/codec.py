"""Frames per second that the wire format's encoder and decoder do, beside hiredis.

hiredis is a general RESP parser in C: it neither checks fields nor builds
messages, and it has no bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role

CHUNK: Final = 64
"""Frames fed at once."""
MESSAGE: Final = Heartbeat(3, "n1", Role.REPLICA, 42)

try:
    import hiredis
except ImportError:
    hiredis = None


def encode(frames: int) -> None:
    for _ in range(frames):
        wire.encode(MESSAGE)


def decode(frames: int) -> None:
    chunk = wire.encode(MESSAGE) * CHUNK
    decoder = wire.Decoder(wire.MESSAGES)
    for _ in range(frames // CHUNK):
        decoder.feed(chunk)
        while decoder.next_message() is not None:
            pass


def decode_singly(frames: int) -> None:
    """As it happens at work: one frame a read."""
    frame = wire.encode(MESSAGE)
    decoder = wire.Decoder(wire.MESSAGES)
    for _ in range(frames):
        decoder.feed(frame)
        while decoder.next_message() is not None:
            pass


def hiredis_encode(frames: int) -> None:
    for _ in range(frames):
        hiredis.pack_command(("HB", 3, "n1", "replica", 42))


def hiredis_decode(frames: int) -> None:
    chunk = wire.encode(MESSAGE) * CHUNK
    reader = hiredis.Reader()
    for _ in range(frames // CHUNK):
        reader.feed(chunk)
        while reader.gets() is not False:
            pass


def hiredis_decode_singly(frames: int) -> None:
    frame = wire.encode(MESSAGE)
    reader = hiredis.Reader()
    for _ in range(frames):
        reader.feed(frame)
        while reader.gets() is not False:
            pass


PAIRS: Final[Sequence[tuple[str, Callable[[int], None], Callable[[int], None]]]] = (
    ("encode", encode, hiredis_encode),
    (f"decode, {CHUNK} frames a read", decode, hiredis_decode),
    ("decode, one frame a read", decode_singly, hiredis_decode_singly),
)


def rate(work: Callable[[int], None], frames: int) -> float:
    started = time.process_time()
    work(frames)
    return frames / (time.process_time() - started)


def measure(frames: int, repetitions: int) -> list[Table]:
    table = Table("codec: heartbeats per second of CPU")
    for what, ours, theirs in PAIRS:
        pairs = [
            (rate(ours, frames), rate(theirs, 10 * frames) if hiredis else 0.0)
            for _ in range(repetitions)
        ]
        mine, others = zip(*pairs, strict=True)
        if hiredis:
            beside = table.add(f"hiredis: {what}", "frames/s", others)
            table.compare(f"kevy_elect: {what}", "frames/s", mine, beside)
        else:
            table.add(f"kevy_elect: {what}", "frames/s", mine)
    table.note(
        f"hiredis {hiredis.__version__}" if hiredis else "hiredis is not installed: pip install it"
    )
    return [table]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--frames", type=int, default=32_000)
    made.add_argument("--repetitions", type=int, default=9)
    options = made.parse_args()
    publish(options, lambda: measure(options.frames, options.repetitions))


if __name__ == "__main__":
    main()
