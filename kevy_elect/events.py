"""What an elector notes of its life, for logs, metrics and pages.

Programs go by kind, cause and member. The text is for people and may be reworded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import attrs

EVENTS_KEPT: Final = 256
"""Events that a log remembers: some days of a quiet cluster, minutes of a bad one."""


class EventKind(StrEnum):
    """What an event is about."""

    ROLE = "role"
    """This node was elected, or its term or candidacy ended."""
    CANDIDACY = "candidacy"
    """It runs, or cannot."""
    RENEWAL = "renewal"
    """As primary it asks for the votes of a later epoch, or no longer (R8)."""
    VOTE = "vote"
    """It voted for `member`."""
    REFUSED = "refused"
    """It refused `member` its vote."""
    PRIMARY = "primary"
    """It follows `member`, or no longer, or learned its address."""
    QUORUM = "quorum"
    """A quorum backs it, for a primary the lease, or no longer."""
    PAUSE = "pause"
    """Its process did not run for more than pause_after (R9)."""
    BALLOT = "ballot"
    """Its ballot cannot be saved."""
    CONFLICT = "conflict"
    """`member` is primary of the same epoch: a ballot was lost (R7)."""
    FENCE = "fence"
    """It writes nothing, whatever its lease, or no longer so."""
    ASIDE = "aside"
    """It does not stand for election for some time, or again."""
    MAINTENANCE = "maintenance"
    """It takes over from nobody by itself for some time, or does so again."""
    SERVER = "server"
    """The data server that it drives takes the clients' writes, or no longer."""


class Cause(StrEnum):
    """Why it happened, or which of the cases that its kind has it is."""

    # A term or candidacy: how it began or ended.
    ELECTED = "elected"
    HANDED_OVER = "handover"
    """To `member`, its target."""
    RESIGNED = "resigned"
    """It gave up the role on command."""
    SUPERSEDED = "superseded"
    """`member` is primary."""
    WITHDRAWN = "withdrawn"
    """It voted for `member`, or stands aside on command."""
    TIMEOUT = "timeout"
    """No quorum voted for it within election_timeout."""
    LEASELESS = "leaseless"
    """It had no lease for down_after."""

    # A candidacy or a renewal: why it runs.
    PRIMARY_DOWN = "primary-down"
    """`member`, its primary, was silent for down_after."""
    PRIMARY_GONE = "primary-gone"
    """`member`, its primary, said that it no longer is, or its last will did: it stepped down, was
    restarted or is dead."""
    NO_PRIMARY = "no-primary"
    OTHERS_AHEAD = "others-ahead"
    """Others are in a higher epoch."""
    EPOCHS_USED_UP = "epochs-used-up"
    """It does not run: there is no higher epoch."""

    # A primary.
    FOLLOWED = "followed"
    FOLLOWED_OLDER = "followed-older"
    """Of an epoch below this node's."""
    ADDRESS = "address"
    NO_ADDRESS = "no-address"
    """It announces no valid address for clients."""

    # What can be had and lost, begun and ended.
    GAINED = "gained"
    LOST = "lost"
    BEGUN = "begun"
    ENDED = "ended"

    # A refused vote: the rule.
    R3_3 = "R3.3"
    R3_5 = "R3.5"
    R3_6 = "R3.6"
    R4_1 = "R4.1"
    R4_2 = "R4.2"
    R4_3 = "R4.3"
    R4_5 = "R4.5"
    R4_6 = "R4.6"
    D1 = "D1"
    D5 = "D5"


@attrs.frozen(kw_only=True)
class Event:
    """Something that an operator may ask about later."""

    at: float
    """Seconds of the clock of its node."""
    kind: EventKind
    epoch: int
    """The node's own when it was noted."""
    text: str
    """For people; no program reads it."""
    cause: Cause | None = None
    member: str | None = None
    """The other member that it is about, if it is about one."""
    reason: str = ""
    """The reason that was given with the command, if any."""
    critical: bool = False


class EventLog:
    """The newest events, EVENTS_KEPT of them, the oldest first."""

    def __init__(self) -> None:
        self.count = 0
        """How many there ever were."""
        self._kept: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def note(self, event: Event) -> None:
        self.count += 1
        self._kept.append(event)

    def since(self, count: int) -> list[Event]:
        """The events that came after the first `count` ones, as far as they are kept."""
        new = min(self.count - count, len(self._kept))
        return list(self._kept)[len(self._kept) - new :] if new else []

    def __iter__(self) -> Iterator[Event]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Event:
        return self._kept[index]
