"""Frames per second of the wire format's encoder and decoder, and of hiredis.

hiredis is a general RESP parser in C. It does not check fields, builds no messages, and has no
bounds. Frames that repeat the one before, as most heartbeats do, are measured separately from
frames that all differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role

CHUNK: Final = 64
"""The number of frames in one read."""
MESSAGE: Final = Heartbeat(3, "n1", Role.REPLICA, 42)
FRAME: Final = wire.encode(MESSAGE)
SAME: Final = FRAME * CHUNK
DIFFERENT: Final = b"".join(
    wire.encode(Heartbeat(3, "n1", Role.REPLICA, 100 + offset)) for offset in range(CHUNK)
)

try:
    import hiredis
except ImportError:
    hiredis = None


def encode(frames: int) -> None:
    for _ in range(frames):
        wire.encode(MESSAGE)


def decode(reads: int, chunk: bytes) -> None:
    decoder = wire.Decoder(wire.MESSAGES)
    for _ in range(reads):
        decoder.feed(chunk)
        while decoder.next_message() is not None:
            pass


def hiredis_encode(frames: int) -> None:
    for _ in range(frames):
        hiredis.pack_command(("HB", 3, "n1", "replica", 42))


def hiredis_decode(reads: int, chunk: bytes) -> None:
    reader = hiredis.Reader()
    for _ in range(reads):
        reader.feed(chunk)
        while reader.gets() is not False:
            pass


PAIRS: Final[Sequence[tuple[str, Callable[[int], None], Callable[[int], None]]]] = (
    ("encode", encode, hiredis_encode),
    (
        f"decode, {CHUNK} different frames a read",
        lambda frames: decode(frames // CHUNK, DIFFERENT),
        lambda frames: hiredis_decode(frames // CHUNK, DIFFERENT),
    ),
    (
        f"decode, {CHUNK} times the same frame a read",
        lambda frames: decode(frames // CHUNK, SAME),
        lambda frames: hiredis_decode(frames // CHUNK, SAME),
    ),
    (
        "decode, the same frame a read",
        lambda frames: decode(frames, FRAME),
        lambda frames: hiredis_decode(frames, FRAME),
    ),
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
