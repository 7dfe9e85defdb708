"""The data server beside a member, as the rules see it: D1 to D6 of docs/protocol.md.

Pure. The elector says what the server has to be (its `Duty`); whoever drives the server
reports what it is. Nothing of this is visible on the wire but the offset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import attrs

from kevy_elect.messages import Offer

LENGTH_BITS: Final = 44
"""Of an offset; the rest is the data epoch (D6)."""
LONGEST: Final = 2**LENGTH_BITS - 1
NEWEST: Final = 2 ** (64 - LENGTH_BITS) - 1
UNKNOWN: Final = NEWEST + 1
"""The newest data epoch of a server that may have data of any."""


def join_offset(data_epoch: int, length: int) -> int:
    """The offset of so much data of the history of `data_epoch` (D6).

    The newer history is more than any length of an older one. Both parts stay at their
    greatest value, 2**20 - 1 and 2**44 - 1, once they reach it.
    """
    return min(data_epoch, NEWEST) << LENGTH_BITS | min(length, LONGEST)


def split_offset(offset: int) -> tuple[int, int]:
    """The data epoch and the length in an offset."""
    return offset >> LENGTH_BITS, offset & LONGEST


OWN: Final = "*"
UNSEEN: Final = "?"


@attrs.frozen
class Told:
    """What a data server had when it was told to follow, or to become, a primary of
    `data_epoch`. Whatever else this run has afterwards, it has from that one."""

    history: str
    run: str
    length: int
    data_epoch: int
    begins_at: int = 0
    """With less than this a follower has nothing of that epoch yet: it may be called by the name
    of the new history while the end of the one before is still on its way."""
    taken: str = ""
    """The history that it was seen with afterwards, as a follower; OWN for one that leads, whose
    history nobody else changes; UNSEEN if nobody looked, or its primary was silent, for too long
    to know."""


@attrs.frozen
class Histories:
    """Which data epoch the histories are of that a data server had, in each of its runs: what a
    run had, the next one may have lost, or a part of it (D6).

    A follower may have confirmed something as soon as it follows. So what it was `told` last
    counts, and not only what was seen of it since.
    """

    epochs: Mapping[tuple[str, str], int] = attrs.field(factory=dict)
    """By history and run, those noted last at the end; below 0 for what may be of a later one."""
    told: Told | None = None

    def epoch_of(self, history: str, run: str, length: int) -> int:
        """The data epoch of so much of this history in this run, or an earlier one if it may be
        of several (`newest` says so then); 0 if nothing is known."""
        known = abs(self.epochs.get((history, run), 0))
        told = self.told
        if known or told is None or told.run != run:
            return known
        if length < max(told.length, told.begins_at):
            return abs(self.epochs.get((told.history, run), 0)) if length >= told.length else 0
        is_same = (told.history, told.length) == (history, length)
        return 0 if is_same else told.data_epoch

    def _is_unexplained(self, history: str, run: str) -> bool:
        """Whether this is another history than the one taken over: its source was promoted again,
        perhaps in a later epoch, and nobody looked."""
        told, known = self.told, self.epochs.get((history, run))
        if told is None or run != told.run or known is not None:
            return known is not None and known < 0
        if told.taken in ("", OWN):
            return False
        return history not in (told.history, told.taken)

    def newest(self, history: str, run: str, length: int) -> int:
        """The newest data epoch of what the server ever had, if it has this now."""
        if self._is_unexplained(history, run):
            return UNKNOWN
        newest = max(map(abs, self.epochs.values()), default=0)
        told = self.told
        if told is None or (told.history, told.run, told.length) == (history, run, length):
            return newest  # it has taken over nothing since
        return max(newest, told.data_epoch)

    def is_of(self, history: str, run: str, length: int, data_epoch: int) -> bool:
        """Whether it is known that this is of that data epoch, or of a later one."""
        known = self.epoch_of(history, run, length) >= data_epoch
        return known and not self._is_unexplained(history, run)

    def covers(self, run: str, data_epoch: int) -> bool:
        """Whether what this run takes over from now on counts as of this data epoch."""
        return self.told is not None and (self.told.run, self.told.data_epoch) == (run, data_epoch)

    def tell(self, told: Told) -> Histories:
        """The server, which is frozen, is about to be told this."""
        noted, last = self, self.told
        if last is not None and last.run != told.run:  # what that took over may be lost
            noted = noted.note(last.history, last.run, last.data_epoch)
        if epoch := self.epoch_of(told.history, told.run, told.length):
            sure = not self._is_unexplained(told.history, told.run)
            noted = noted.note(told.history, told.run, epoch if sure else -epoch)
        return attrs.evolve(noted, told=told)

    def take(self, history: str, run: str) -> Histories:
        """A follower was seen with this history, the first since it was told to follow."""
        told = self.told
        if told is None or told.taken or run != told.run or history == told.history:
            return self
        return attrs.evolve(self, told=attrs.evolve(told, taken=history))

    def repeats(self, told: Told) -> bool:
        """Whether the server was told this before, and what it took over is known."""
        last = self.told
        if last is None or last.taken == UNSEEN:
            return False
        return attrs.evolve(last, taken=told.taken) == told

    def note(self, history: str, run: str, data_epoch: int) -> Histories:
        """This run was seen with this history, which is of that data epoch."""
        epochs = {each: epoch for each, epoch in self.epochs.items() if each != (history, run)}
        return attrs.evolve(self, epochs={**epochs, (history, run): data_epoch})


class Task(StrEnum):
    """What a data server has to do."""

    STAY = "stay"
    """Stay as it is, if it follows somebody or is frozen; otherwise be frozen."""
    FREEZE = "freeze"
    """Take no writes, of clients or of a primary, until another duty comes."""
    FOLLOW = "follow"
    """Replicate from the primary's server."""
    PROMOTE = "promote"
    """Take the clients' writes."""


@attrs.frozen
class Duty:
    """What the server beside a member has to be now."""

    task: Task
    data_epoch: int = 0
    """Of the history that it is to write or to follow; 0 if that is not known."""
    primary: str = ""
    """The member to follow."""
    address: str = ""
    """Where clients find that one's server, `host:port`."""
    begins_at: int = attrs.field(default=0, eq=False)
    """With so much, what it has of the primary's is of that data epoch."""
    heard_at: float = attrs.field(default=math.inf, eq=False)
    """When that one was heard last: later on it may be primary of a later epoch."""
    said: int = attrs.field(default=0, eq=False)
    """The offset that it said last."""


STAY: Final = Duty(Task.STAY)
FREEZE: Final = Duty(Task.FREEZE)


@attrs.define
class LocalServer:
    """What the elector keeps of the server that its member drives."""

    is_frozen: bool = False
    """Whether it takes no writes, and the member's offset is what it has (D1)."""
    is_promoted: bool = False
    """Whether it takes the clients' writes."""
    is_wanted_frozen: bool = False
    """Whether a vote or a candidacy waits for it to be frozen (D1, D2)."""
    waiting: Offer | None = None
    """The OFFER that is judged once it is frozen (D1)."""
    asked_at: float = 0.0
    """When that came last."""
    newest: int = 0
    """The newest data epoch that it ever had, as far as its member remembers."""
    may_have: int = 0
    """The data epoch that it was told to take over, if that may be newer than what is known."""
    lost_at: float | None = None
    """When it was found to have lost what it had, None if it has not (D5)."""
    data_epoch: int = 0
    """The epoch in which this member's reign began: of the history that its server writes."""

    def release(self) -> None:
        """It may take writes from now on, of clients or of a primary."""
        self.is_frozen = self.is_promoted = False
