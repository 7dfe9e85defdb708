"""The data server beside a member, as the rules see it: D1 to D6 of docs/protocol.md.

Pure. The elector requires a `Duty` of the server, and the driver of the server reports its state.
Only the offset is visible on the wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from kevy_elect.messages import Offer

LENGTH_BITS: Final = 44
"""The bits of an offset that hold the length; the others hold the data epoch (D6)."""
LONGEST: Final = 2**LENGTH_BITS - 1
NEWEST: Final = 2 ** (64 - LENGTH_BITS) - 1
UNKNOWN: Final = NEWEST + 1
"""The newest data epoch of a server whose data may be of any epoch."""


def join_offset(data_epoch: int, length: int) -> int:
    """The offset of this length of the history of `data_epoch` (D6).

    A newer history exceeds any length of an older one. Both parts stay at their greatest value,
    2**20 - 1 and 2**44 - 1, once they reach it.
    """
    return min(data_epoch, NEWEST) << LENGTH_BITS | min(length, LONGEST)


def split_offset(offset: int) -> tuple[int, int]:
    """The data epoch and the length in an offset."""
    return offset >> LENGTH_BITS, offset & LONGEST


OWN: Final = "*"
UNSEEN: Final = "?"


@attrs.frozen
class Assignment:
    """What a data server had when it was commanded to follow, or to become, a primary of
    `data_epoch`. All data that this run receives afterwards is of that epoch."""

    history: str
    run: str
    length: int
    data_epoch: int
    begins_at: int = 0
    """A follower with less than this length has no data of that epoch yet: it may use the name of
    the new history while it still receives the end of the one before."""
    taken: str = ""
    """The history that a follower had afterwards. OWN for a primary, whose history no other server
    changes. UNSEEN if the member did not look at the server, or did not hear its primary, for too
    long."""


@attrs.frozen
class Histories:
    """The data epochs of the histories that a data server had, in each of its runs. A later run may
    have lost data of an earlier one (D6).

    A follower may confirm writes as soon as it follows. The last assignment therefore counts, and
    not only the histories that were seen since.
    """

    epochs: Mapping[tuple[str, str], int] = attrs.field(factory=dict)
    """The data epoch of each history and run, the latest noted last. It is negative if the data may
    be of a later epoch."""
    assignment: Assignment | None = None

    def epoch_of(self, history: str, run: str, length: int) -> int:
        """The data epoch of this length of this history in this run; 0 if it is not known. If there
        are several possible epochs it is the earliest, and `newest` is the latest."""
        known = abs(self.epochs.get((history, run), 0))
        last = self.assignment
        if known or last is None or last.run != run:
            return known
        if length < max(last.length, last.begins_at):
            return abs(self.epochs.get((last.history, run), 0)) if length >= last.length else 0
        is_same = (last.history, last.length) == (history, length)
        return 0 if is_same else last.data_epoch

    def is_unexplained(self, history: str, run: str) -> bool:
        """Whether this history differs from the one taken over: the source was promoted again,
        perhaps in a later epoch, and the member did not see it."""
        last, known = self.assignment, self.epochs.get((history, run))
        if last is None or run != last.run or known is not None:
            return known is not None and known < 0
        if last.taken in ("", OWN):
            return False
        return history not in (last.history, last.taken)

    def newest(self, history: str, run: str, length: int) -> int:
        """The newest data epoch of all data that the server ever had, if it has this data now."""
        if self.is_unexplained(history, run):
            return UNKNOWN
        newest = max(map(abs, self.epochs.values()), default=0)
        last = self.assignment
        if last is None or (last.history, last.run, last.length) == (history, run, length):
            return newest  # it has taken over no data since
        return max(newest, last.data_epoch)

    def is_of(self, history: str, run: str, length: int, data_epoch: int) -> bool:
        """Whether this data is known to be of that data epoch, or of a later one."""
        known = self.epoch_of(history, run, length) >= data_epoch
        return known and not self.is_unexplained(history, run)

    def covers(self, run: str, data_epoch: int) -> bool:
        """Whether the data that this run takes over from now on counts as of this data epoch."""
        last = self.assignment
        return last is not None and (last.run, last.data_epoch) == (run, data_epoch)

    def knows_run(self, run: str) -> bool:
        """Whether this run of the server was ever commanded, or its data noted."""
        last = self.assignment
        noted = any(run == each for _, each in self.epochs)
        return noted or (last is not None and last.run == run)

    def assign(self, assignment: Assignment) -> Histories:
        """Record this assignment of the frozen server, before it is commanded."""
        noted, last = self, self.assignment
        if last is not None and last.run != assignment.run:  # its data may be lost
            noted = noted.note(last.history, last.run, last.data_epoch)
        if epoch := self.epoch_of(assignment.history, assignment.run, assignment.length):
            sure = not self.is_unexplained(assignment.history, assignment.run)
            noted = noted.note(assignment.history, assignment.run, epoch if sure else -epoch)
        return attrs.evolve(noted, assignment=assignment)

    def take(self, history: str, run: str) -> Histories:
        """Record that a follower has this history, the first one since its assignment."""
        last = self.assignment
        if last is None or last.taken or run != last.run or history == last.history:
            return self
        return attrs.evolve(self, assignment=attrs.evolve(last, taken=history))

    def repeats(self, assignment: Assignment) -> bool:
        """Whether this is the last assignment again, and the history taken over since is known."""
        last = self.assignment
        if last is None or last.taken == UNSEEN or (assignment.taken, last.taken) == (UNSEEN, ""):
            return False
        return attrs.evolve(last, taken=assignment.taken) == assignment

    def note(self, history: str, run: str, data_epoch: int) -> Histories:
        """Record that this history of this run is of that data epoch."""
        epochs = {each: epoch for each, epoch in self.epochs.items() if each != (history, run)}
        return attrs.evolve(self, epochs={**epochs, (history, run): data_epoch})


class Task(StrEnum):
    """A task of a data server."""

    STAY = "stay"
    """Stay as it is if it follows a server or is frozen; otherwise freeze."""
    FREEZE = "freeze"
    """Take no writes, neither of clients nor of a primary, until the next duty."""
    FOLLOW = "follow"
    """Replicate from the primary's server."""
    PROMOTE = "promote"
    """Take the clients' writes."""


@attrs.frozen
class Duty:
    """The task of the server beside a member at present, and its parameters."""

    task: Task
    data_epoch: int = 0
    """The data epoch of the history to write or to follow; 0 if it is not known (D6)."""
    primary: str = ""
    """The member to follow."""
    address: str = ""
    """The `host:port` at which clients find the server of that primary."""
    begins_at: int = attrs.field(default=0, eq=False)
    """The length from which on the primary's data is of that data epoch."""
    heard_at: float = attrs.field(default=math.inf, eq=False)
    """The time when the primary was last heard: later it may be primary of a later epoch."""
    said: int = attrs.field(default=0, eq=False)
    """The offset that the primary last stated."""


STAY: Final = Duty(Task.STAY)
FREEZE: Final = Duty(Task.FREEZE)


@attrs.define
class LocalServer:
    """The elector's record of the server that its member drives."""

    is_frozen: bool = False
    """Whether it takes no writes, and the member's offset states its data (D1)."""
    is_promoted: bool = False
    """Whether it takes the clients' writes."""
    is_wanted_frozen: bool = False
    """Whether a vote or a candidacy waits for it to be frozen (D1, D2)."""
    waiting: Offer | None = None
    """The OFFER to answer once the server is frozen (D1)."""
    asked_at: float = 0.0
    """The time when that OFFER last arrived."""
    newest: int = 0
    """The newest data epoch of its data ever, as far as its member remembers."""
    may_have: int = 0
    """The data epoch that it was commanded to take over, if this may exceed the known one."""
    lost_at: float | None = None
    """The time at which its loss of data was detected; None without a loss (D5)."""
    data_epoch: int = 0
    """The epoch in which this member was elected: the data epoch of its server's writes (D6)."""

    def release(self) -> None:
        """Record that it may take writes from now on, of clients or of a primary."""
        self.is_frozen = self.is_promoted = False
