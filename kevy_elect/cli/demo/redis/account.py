"""What became of the writes when another server took over, and how that is said."""

from __future__ import annotations

import attrs


@attrs.frozen
class Takeover:
    """Another server takes the writes: since when, and what became of those before."""

    old: str
    new: str
    gap: float
    """Seconds without a write: since the kill of the old one, or since its last write."""
    written: int
    """How many writes are promised to be there: all that were confirmed by WAIT, and at a
    switchover all that were acknowledged in its course."""
    lost: int
    """How many of these are not."""
    unconfirmed: int
    """How many more were sent meanwhile and not confirmed."""


def sentence(number: int, crash: Takeover, switchover: Takeover) -> str:
    """What a round has shown."""
    return (
        f"Round {number}: after kill -9 of {crash.old} the first write on {crash.new} took "
        f"{crash.gap:.2f} s, {_of(crash.lost, crash.written)} confirmed writes were lost, and "
        f"{crash.unconfirmed:,} stayed unconfirmed; the switchover from {switchover.old} "
        f"to {switchover.new} left {switchover.gap:.2f} s without a write and lost "
        f"{_of(switchover.lost, switchover.written)} writes."
    )


def watched(takeover: Takeover) -> str:
    """The same of a takeover that the demo did not bring about."""
    return (
        f"{takeover.new} took its first write {takeover.gap:.2f} s after the last one of "
        f"{takeover.old}; {_of(takeover.lost, takeover.written)} confirmed writes were lost"
    )


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"
