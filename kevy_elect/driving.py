"""The decisions of a driver of a data server, for real and simulated nodes (D1 to D6).

Pure. A `Report` describes the server; a `Duty` is what the elector requires of it.
"""

from __future__ import annotations

import math
from enum import StrEnum

import attrs

from kevy_elect.local_server import (
    OWN,
    UNSEEN,
    Assignment,
    Duty,
    Histories,
    Task,
    split_offset,
)


class State(StrEnum):
    """The state of the server, as far as its node knows."""

    UNKNOWN = "unknown"
    FROZEN = "frozen"
    FOLLOWING = "following"
    PRIMARY = "primary"


class Fencing(StrEnum):
    """What keeps the server from taking writes when its node cannot, the strongest first."""

    SUPERVISOR = "supervisor"
    """The node started the server: it is killed when the node dies, and at the end of the lease."""
    GUARD = "guard"
    """A process beside the node freezes it."""
    NODE = "node"
    """Nothing does."""


@attrs.frozen(kw_only=True)
class Report:
    """A data server's description of itself."""

    run: str
    """The id of this run of the server: another run may have lost data of the one before."""
    process: int = 0
    """Its process id on its machine; 0 if that is not known."""
    takes_writes: bool
    """Whether it takes writes of clients."""
    source: str = ""
    """The server from which it replicates, `host:port`; empty if it does not replicate."""
    in_sync: bool = False
    """Whether it has all that the source sent, and receives from it now."""
    is_copying: bool = False
    """Whether it is receiving a whole data set, so that its own data is not usable yet."""
    history: str
    """The name of the history that its data is part of; each promotion begins a new one."""
    length: int
    """How much of that history it has; more is newer."""


@attrs.frozen
class Frozen:
    """The report of a data server when it was frozen, and the newest report since then."""

    before: Report
    after: Report


def needed(duty: Duty, state: State, kept: Duty, doing: Task | None) -> Task | None:
    """The next task for the server to do its duty, or None.

    `kept` is the last duty of following or taking writes that the server completed. `doing` is the
    task in progress.
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
    """How the server differs from its state after the last command: compared with its `last`
    report, and with that of the time when it was `frozen`. Empty if it does not differ."""
    if last is not None and report.run != last.run:
        return "was restarted"
    if report.takes_writes != (state is State.PRIMARY):
        takes = "takes writes" if report.takes_writes else "takes no writes"
        return f"{takes}, without a command of this node"
    if last is not None and report.source != last.source:
        return f"replicates from {report.source or 'no server'}, without a command of this node"
    if state is State.FROZEN and report != frozen:
        return "was frozen, and has changed since then"
    return ""


def is_unseen(state: State, kept: Duty, looked_at: float, now: float, longest: float) -> bool:
    """Whether the server's source may have been promoted again, in a later epoch, unnoticed: the
    member did not look at the server, or did not hear the source's member, for more than `longest`
    seconds."""
    heard_at = math.inf if state is State.FROZEN else kept.heard_at
    return now - min(looked_at, heard_at) > longest


def first_in_sync(first: Report | None, report: Report) -> Report | None:
    """The first report in sync with the history that this run of the server has now: the `first`
    one so far, or this `report`; None if neither is."""
    if first is not None and (first.history, first.run) == (report.history, report.run):
        return first
    return report if report.in_sync else None


def is_proven(kept: Duty, duty: Duty, first: Report | None) -> bool:
    """Whether the primary has stated more data of the data epoch of `kept` than the server had when
    it was `first` in sync. Any other heartbeat may have been sent before the primary was elected
    again."""
    data_epoch, length = split_offset(duty.said)
    return first is not None and data_epoch == kept.data_epoch and length > first.length


def is_of(kept: Duty, report: Report, state: State, duty: Duty, *, unseen: bool) -> bool:
    """Whether the server's data is of the data epoch of `kept`. A follower's data may be of a later
    epoch of the same member if its `duty` has changed, or if its source was `unseen`."""
    if state is State.FOLLOWING:
        is_fed = report.in_sync and report.source == kept.address
        knows = is_fed and duty == kept and not unseen
    else:
        knows = state is State.PRIMARY and report.takes_writes
    return knows and report.length >= kept.begins_at


def learned(
    histories: Histories,
    report: Report,
    state: State,
    kept: Duty,
    duty: Duty,
    first: Report | None,
    *,
    unseen: bool,
) -> Histories:
    """What is known of the server's histories after this report. A follower's history gets another
    name when its source is promoted, and a primary's also when its first replica connects."""
    if unseen:
        histories = histories.take(UNSEEN, report.run)
    if state is State.FOLLOWING:
        histories = histories.take(report.history, report.run)
    knows = is_of(kept, report, state, duty, unseen=unseen)
    if state is State.FOLLOWING and histories.is_unexplained(report.history, report.run):
        knows = knows and is_proven(kept, duty, first)
    if knows and not histories.is_of(report.history, report.run, report.length, kept.data_epoch):
        histories = histories.note(report.history, report.run, kept.data_epoch)
    return histories


def assignment_of(report: Report, duty: Duty, last: Assignment | None) -> Assignment:
    """What to record of a frozen server before it is commanded to do this duty. If the `last`
    assignment was of the same data epoch, its member may since have been elected again."""
    had = report.history, report.run, report.length
    again = last is not None and last.data_epoch == duty.data_epoch
    taken = OWN if duty.task is Task.PROMOTE else UNSEEN if again else ""
    return Assignment(*had, duty.data_epoch, duty.begins_at, taken)
