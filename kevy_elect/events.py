"""The events that an elector notes, for logs, metrics and pages.

Programs read kind, cause and member. The text is for people, and may be reworded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import attrs

EVENTS_KEPT: Final = 256
"""The number of events in a log: days of a quiet cluster, minutes of an unstable one."""


SERVICE: Final = "service"
"""The kind of an event that is not the elector's: a start or stop of the node."""
STARTED: Final = "started"
STOPPED: Final = "stopped"
"""Its causes."""


class EventKind(StrEnum):
    """What an event is about."""

    ROLE = "role"
    """This node was elected, or its time as primary or candidate ended."""
    CANDIDACY = "candidacy"
    """It runs for election, or cannot run."""
    RENEWAL = "renewal"
    """As primary, it offers a later epoch, or failed to win it (R8)."""
    VOTE = "vote"
    """It voted for `member`."""
    REFUSED = "refused"
    """It refused to vote for `member`."""
    PRIMARY = "primary"
    """It follows `member`, stopped following it, or learned its address."""
    QUORUM = "quorum"
    """It gained or lost the backing of a quorum; for a primary, the lease."""
    PAUSE = "pause"
    """Its process did not run for more than pause_after (R9)."""
    BALLOT = "ballot"
    """Its ballot cannot be saved."""
    CONFLICT = "conflict"
    """`member` is primary of the same epoch: a ballot was lost (R7)."""
    FENCE = "fence"
    """It was fenced, so that it writes nothing, or the fence was lifted."""
    ASIDE = "aside"
    """It began or ceased to stand aside."""
    MAINTENANCE = "maintenance"
    """Its maintenance began or ended (M1 to M3)."""
    SERVER = "server"
    """The data server that it drives began or ceased to take the clients' writes."""


class Cause(StrEnum):
    """Why an event happened, or which case of its kind it is."""

    # How time as primary or a candidacy began or ended
    ELECTED = "elected"
    HANDED_OVER = "handover"
    """It handed over to `member`, the target."""
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

    # Why a candidacy or a renewal began
    PRIMARY_DOWN = "primary-down"
    """`member`, its primary, was silent for down_after."""
    PRIMARY_GONE = "primary-gone"
    """`member`, its primary, gave up the role: it stepped down or was restarted."""
    LAST_WILL = "last-will"
    """`member`, its primary, is dead, and its last will said so."""
    NO_PRIMARY = "no-primary"
    OTHERS_AHEAD = "others-ahead"
    """Others are in a higher epoch."""
    EPOCHS_USED_UP = "epochs-used-up"
    """It does not run: there is no higher epoch."""

    # About a primary
    FOLLOWED = "followed"
    FOLLOWED_OLDER = "followed-older"
    """The primary is of an epoch below this node's."""
    ADDRESS = "address"
    NO_ADDRESS = "no-address"
    """The primary announces no valid address for clients."""

    # What a node gains and loses, begins and ends
    GAINED = "gained"
    LOST = "lost"
    BEGUN = "begun"
    ENDED = "ended"

    # The rule by which a vote was refused
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
    """Seconds, by the clock of its node."""
    kind: EventKind
    epoch: int
    """The epoch of the node at that time."""
    text: str
    """A description for people. No program reads it."""
    cause: Cause | None = None
    member: str | None = None
    """The other member that it is about, if any."""
    reason: str = ""
    """The reason that the command gave, if any."""
    critical: bool = False
    lasted: float = 0.0
    """Seconds of a pause; 0 for all else."""


class EventLog:
    """The newest events, at most EVENTS_KEPT, the oldest first."""

    def __init__(self) -> None:
        self.count = 0
        """The number of events ever noted."""
        self._kept: deque[Event] = deque(maxlen=EVENTS_KEPT)

    def note(self, event: Event) -> None:
        """Add an event; the oldest one beyond EVENTS_KEPT is dropped."""
        self.count += 1
        self._kept.append(event)

    def since(self, count: int) -> list[Event]:
        """The events after the first `count` ones, as far as they are kept."""
        new = min(self.count - count, len(self._kept))
        return list(self._kept)[len(self._kept) - new :] if new else []

    def __iter__(self) -> Iterator[Event]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Event:
        return self._kept[index]
