"""The data server beside a member, as the rules see it: D1 to D6 of docs/protocol.md.

Pure. The elector says what the server has to be (its `Duty`); whoever drives the server
reports what it is. Nothing of this is visible on the wire but the offset.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from kevy_elect.messages import Offer

LENGTH_BITS: Final = 44
"""Of an offset; the rest is the data epoch (D6)."""
LONGEST: Final = 2**LENGTH_BITS - 1
NEWEST: Final = 2 ** (64 - LENGTH_BITS) - 1


def join_offset(data_epoch: int, length: int) -> int:
    """The offset of so much data of the history of `data_epoch` (D6).

    The newer history is more than any length of an older one. Both parts stay at their
    greatest value, 2**20 - 1 and 2**44 - 1, once they reach it.
    """
    return min(data_epoch, NEWEST) << LENGTH_BITS | min(length, LONGEST)


def split_offset(offset: int) -> tuple[int, int]:
    """The data epoch and the length in an offset."""
    return offset >> LENGTH_BITS, offset & LONGEST


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
    data_epoch: int = 0
    """The epoch in which this member's reign began: of the history that its server writes."""

    def release(self) -> None:
        """It may take writes from now on, of clients or of a primary."""
        self.is_frozen = self.is_promoted = False
