"""What a driver of a data server decides, whoever carries it out: a node, or a simulated one.

Pure. The server tells what it is in a `Report`; the elector wants it to do its `Duty`.
"""

from __future__ import annotations

import math
from enum import StrEnum

import attrs

from kevy_elect.local_server import OWN, Duty, Task, Told


class State(StrEnum):
    """What the server is, as far as its node knows."""

    UNKNOWN = "unknown"
    FROZEN = "frozen"
    FOLLOWING = "following"
    PRIMARY = "primary"


@attrs.frozen(kw_only=True)
class Report:
    """What a data server says of itself."""

    run: str
    """Which run of the server this is: another one may have lost what the last one had."""
    process: int = 0
    """Its process id, where it runs; 0 if that is not known."""
    takes_writes: bool
    """Of clients."""
    source: str = ""
    """Where it replicates from, `host:port`; empty if it does not, or from nobody."""
    in_sync: bool = False
    """Whether it has all that the source sent, and hears from it now."""
    is_copying: bool = False
    """Whether it is taking over a whole data set, so that what it has is of no use yet."""
    history: str
    """Names the history that its data is part of: another one after each promotion."""
    length: int
    """How much of that history it has; more is newer."""


@attrs.frozen
class Frozen:
    """What a data server was when it was frozen, and what it has been since."""

    before: Report
    after: Report


def needed(duty: Duty, state: State, kept: Duty, doing: Task | None) -> Task | None:
    """What has to be done now so that the server does its duty, if anything has.

    `kept` is the last duty to follow or to take writes that was done, `doing` what is under way.
    """
    match duty.task:
        case Task.FREEZE:
            return None if state is State.FROZEN else Task.FREEZE
        case Task.STAY:
            rests = state in (State.FROZEN, State.FOLLOWING)
            return None if rests and doing is not Task.PROMOTE else Task.FREEZE
        case Task.PROMOTE:
            return None if state is State.PRIMARY else Task.PROMOTE
        case Task.FOLLOW:
            follows = state is State.FOLLOWING and kept == duty
            return None if follows else Task.FOLLOW


def deviation(report: Report, last: Report | None, frozen: Report | None, state: State) -> str:
    """How the server is another one than its node left it, by its `last` report and by that of
    when it was `frozen`; empty if it is not."""
    if last is not None and report.run != last.run:
        return "was restarted"
    if report.takes_writes != (state is State.PRIMARY):
        takes = "takes writes" if report.takes_writes else "takes no writes"
        return f"{takes}, which nobody told it here"
    if last is not None and report.source != last.source:
        return f"replicates from {report.source or 'nobody'}, which nobody told it here"
    if state is State.FROZEN and report != frozen:
        return "was frozen, and is not what it was then"
    return ""


def is_unseen(state: State, kept: Duty, looked_at: float, now: float, longest: float) -> bool:
    """Whether the server's source may have been promoted again, in a later epoch, without notice:
    for more than `longest` seconds the member did not look at the server, or hear the source's."""
    heard_at = math.inf if state is State.FROZEN else kept.heard_at
    return now - min(looked_at, heard_at) > longest


def is_of(kept: Duty, report: Report, state: State, duty: Duty, unseen: bool) -> bool:
    """Whether what the server has is of the data epoch of `kept`. That of a follower may be of a
    later reign of the same member once its `duty` is another one, or if that was `unseen`."""
    if state is State.FOLLOWING:
        is_fed = report.in_sync and report.source == kept.address
        knows = is_fed and duty == kept and not unseen
    else:
        knows = state is State.PRIMARY and report.takes_writes
    return knows and report.length >= kept.begins_at


def told(report: Report, duty: Duty) -> Told:
    """What to note down of a frozen server before it is told this duty."""
    had = report.history, report.run, report.length
    taken = OWN if duty.task is Task.PROMOTE else ""
    return Told(*had, duty.data_epoch, duty.begins_at, taken)
