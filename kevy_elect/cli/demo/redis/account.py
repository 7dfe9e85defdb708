"""The effect of a takeover on the writes, and its description."""

from __future__ import annotations

import attrs


@attrs.frozen
class Takeover:
    """Another server takes the writes: the time without writes, and the fate of earlier writes."""

    old: str
    new: str
    gap: float
    """Seconds without a write, since the kill of the old server or since its last write."""
    written: int
    """The number of writes that must survive: all that WAIT confirmed, and at a switchover also all
    that were acknowledged during it."""
    lost: int
    """The number of these that are missing."""
    unconfirmed: int
    """The number of other writes that were sent meanwhile and not confirmed."""


def sentence(number: int, crash: Takeover, switchover: Takeover) -> str:
    """The result of a round, in words."""
    return (
        f"Round {number}: after kill -9 of {crash.old} the first write on {crash.new} took "
        f"{crash.gap:.2f} s, {_of(crash.lost, crash.written)} confirmed writes were lost, and "
        f"{crash.unconfirmed:,} stayed unconfirmed; the switchover from {switchover.old} "
        f"to {switchover.new} left {switchover.gap:.2f} s without a write and lost "
        f"{_of(switchover.lost, switchover.written)} writes."
    )


def watched(takeover: Takeover) -> str:
    """The result of a takeover that the demo did not cause, in words."""
    return (
        f"{takeover.new} took its first write {takeover.gap:.2f} s after the last one of "
        f"{takeover.old}; {_of(takeover.lost, takeover.written)} confirmed writes were lost"
    )


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"
