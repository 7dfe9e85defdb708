"""The page's knowledge of each node, its age, and the node's events. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import attrs

from kevy_elect.status import EventStatus, PeerStatus, Status, read

LONGEST: Final = 300
"""The most characters of any text that is shown."""
FRESH: Final = 3.5
"""Seconds for which an answer counts as current: each node is asked every second, and an answer may
take two seconds."""
OUTAGES: Final = 64
"""The number of times without a connection that are kept for each node."""

SAME_WITHIN: Final = 5.0
"""Seconds by which the time of one event may differ between two answers."""


@attrs.frozen
class Happening:
    """An event of any node; `at` is in seconds of this node's clock."""

    node_id: str
    at: float = attrs.field(eq=False)
    kind: str
    text: str
    critical: bool = False
    epoch: str = ""
    cause: str | None = None
    member: str | None = None
    reason: str = ""


def happenings(node_id: str, events: Iterable[EventStatus], now: float) -> list[Happening]:
    """The events of a status, the oldest first."""
    return [
        Happening(
            node_id,
            now - event.ago,
            event.kind[:LONGEST],
            event.text[:LONGEST],
            event.critical,
            str(event.epoch),
            _short(event.cause),
            _short(event.member),
            event.reason[:LONGEST],
        )
        for event in events
    ]


def _short(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST]


# The knowledge of a node


@attrs.define
class Known:
    """The knowledge of one node. Times are seconds of this node's clock.

    `at` is the latest time at which the last answer may have been composed; None without an answer.
    `error` is the reason why the last request was not answered.
    """

    node_id: str
    url: str | None = None
    status: Status | None = None
    at: float | None = None
    error: str | None = None
    events: list[Happening] = attrs.field(factory=list)
    writes_since: float | None = None
    """The time since which each of its answers has said that it may write, in one epoch."""
    lost_at: float | None = None
    """The time since which this node has not heard it; None while it hears it."""
    outages: deque[tuple[float, float]] = attrs.field(factory=lambda: deque(maxlen=OUTAGES))
    """Earlier times without hearing it, each with begin and end, while a page was shown."""

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer the last request."""
        return self.url is not None and self.error is not None

    def is_fresh(self, now: float) -> bool:
        """Whether its last answer is current."""
        if self.status is None or self.at is None or self.error is not None:
            return False
        return now - self.at < FRESH and (self.lost_at is None or self.at >= self.lost_at)

    def see(self, peer: PeerStatus | None, now: float, quiet: float = float("inf")) -> None:
        """Record how this node hears it at `now`; after `quiet` seconds of silence it counts as
        unheard."""
        if peer is None or is_heard(peer, quiet):
            if self.lost_at is not None:
                self.outages.append((self.lost_at, now))
            self.lost_at = None
        elif self.lost_at is None:
            silent = not peer.alive or (peer.heard_ago or 0.0) >= quiet
            self.lost_at = now - (peer.heard_ago or 0.0) if silent else now

    def take(self, document: bytes, asked: float, now: float) -> None:
        """Process the status that arrived at `now` as the answer to a request of `asked`.

        Raises ValueError for the status of another node, and StatusError for an invalid document.
        """
        status = read(document)
        if status.node_id != self.node_id:
            raise ValueError(f"{status.node_id[:LONGEST]!r} answers there: correct the address")
        self.say(status, asked, now)
        self.note(happenings(self.node_id, status.events, now))

    def say(self, status: Status, asked: float, now: float) -> None:
        """Record a status of this node, composed at some time from `asked` to `now`."""
        before = self.status
        if not status.can_write:
            self.writes_since = None
        elif self.writes_since is None or before is None or before.epoch != status.epoch:
            self.writes_since = now
        self.status, self.at, self.error = status, asked, None

    def note(self, events: list[Happening]) -> None:
        """Record its events. If they are the same as before, they keep their times, which would
        shift a little with each answer."""
        same = events == self.events and all(
            abs(new.at - old.at) < SAME_WITHIN
            for new, old in zip(events[-1:], self.events[-1:], strict=True)
        )
        if not same:
            self.events = events

    def writes(self, now: float) -> bool:
        """Whether it may write, by its last answer and until the end of that lease."""
        status = self.status
        if status is None or self.at is None or not status.can_write:
            return False
        left = status.lease_expires_in
        return left is None or self.at + left > now


def is_heard(peer: PeerStatus, quiet: float = float("inf")) -> bool:
    """Whether the peer was heard less than `quiet` seconds ago, and has a connection."""
    if not peer.alive or (peer.heard_ago is not None and peer.heard_ago >= quiet):
        return False
    return peer.link == "connected" or peer.incoming_age is not None


def quiet_after(status: Status) -> float:
    """The seconds of silence of a peer after which the page mentions it: several heartbeats, at
    least a second, and at most down_after."""
    settings = status.settings
    return min(settings.get("down_after", 5.0), max(1.0, 5 * settings.get("hb_interval", 0.2)))
