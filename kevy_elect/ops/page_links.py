"""Each direction of each link, by the reports of the nodes at both ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from kevy_elect.ops.page_model import LONGEST, Known, quiet_after
from kevy_elect.status import PeerStatus, Status

SAME_WITHIN: Final = 1.5
"""Seconds by which the time of one event may differ between two answers."""


class State(StrEnum):
    """The state of one direction of a link."""

    HEARD = "heard"
    SILENT = "silent"
    """There is a connection, and nothing arrives."""
    DOWN = "down"
    """There is no connection."""
    UNKNOWN = "unknown"


@attrs.frozen
class Link:
    """One direction of a link, which is a connection of its own that the sender dials.

    Times are seconds of this node's clock. They are None if they do not apply or are not known.
    """

    sender: str
    receiver: str
    state: State
    heard_at: float | None = None
    """The time when the receiver last heard the sender; only while it hears nothing."""
    dialled_at: float | None = None
    accepted_at: float | None = None
    confirms: bool | None = None
    """Whether the receiver confirms the sender's lease; only while it hears the sender."""
    security: str = ""
    """The kind of authentication of the receiver."""
    key: str = ""

    @property
    def is_broken(self) -> bool:
        return self.state in (State.SILENT, State.DOWN)

    def is_like(self, other: Link) -> bool:
        """Whether nothing has changed, except small shifts of times between two answers."""
        return (
            self._is() == other._is()
            and _is_near(self.heard_at, other.heard_at)
            and _is_near(self.dialled_at, other.dialled_at)
            and _is_near(self.accepted_at, other.accepted_at)
        )

    def _is(self) -> tuple[object, ...]:
        """All values except times."""
        return self.sender, self.receiver, self.state, self.confirms, self.security, self.key

    def told(self, now: float) -> dict[str, Any]:
        """The values for the page, as an object for JSON."""
        return {
            "from": self.sender,
            "to": self.receiver,
            "state": self.state,
            "heard_ago": _ago(self.heard_at, now),
            "dialled_ago": _ago(self.dialled_at, now),
            "accepted_ago": _ago(self.accepted_at, now),
            "confirms": self.confirms,
            "security": self.security,
            "key": self.key,
        }


def _is_near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < SAME_WITHIN


def _ago(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - at)


def links(everyone: Iterable[Known], now: float) -> list[Link]:
    """All directions of all links, by sender and receiver."""
    known = {each.node_id: each for each in everyone}
    ends = {node_id: _peers(each, now) for node_id, each in known.items()}
    return [
        _link(known, sender, receiver, ends[sender].get(receiver), ends[receiver].get(sender))
        for sender in known
        for receiver in known
        if sender != receiver
    ]


def _peers(known: Known, now: float) -> dict[str, PeerStatus]:
    """The peers in the node's answer, if the answer is current."""
    status = known.status
    return {peer.node_id: peer for peer in status.peers} if status and known.is_fresh(now) else {}


def _link(
    known: Mapping[str, Known],
    sender: str,
    receiver: str,
    at_sender: PeerStatus | None,
    at_receiver: PeerStatus | None,
) -> Link:
    at_sender = _unless_outdated(at_sender, known[sender], known[receiver])
    at_receiver = _unless_outdated(at_receiver, known[receiver], known[sender])
    state, heard_at = _state(known[receiver], at_sender, at_receiver)
    connected = at_sender is not None and at_sender.link == "connected"
    dialled_at = accepted_at = None
    if at_sender is not None and connected:
        dialled_at = _before(known[sender], at_sender.link_age)
    if at_receiver is not None:
        accepted_at = _before(known[receiver], at_receiver.incoming_age)
    return Link(
        sender,
        receiver,
        state,
        heard_at,
        dialled_at,
        accepted_at,
        at_sender.acknowledging if at_sender and state is State.HEARD else None,
        at_sender.security[:LONGEST] if at_sender and connected else "",
        at_sender.key[:LONGEST] if at_sender and connected else "",
    )


def _unless_outdated(peer: PeerStatus | None, teller: Known, other: Known) -> PeerStatus | None:
    """The report, unless it may be older than the silence of the other node."""
    outdated = other.lost_at is not None and (teller.at or 0.0) < other.lost_at
    return None if outdated else peer


def _state(
    receiver: Known, at_sender: PeerStatus | None, at_receiver: PeerStatus | None
) -> tuple[State, float | None]:
    """The state of the link, and the time when it was last heard if it is silent."""
    if at_receiver is not None:
        assert isinstance(receiver.status, Status)
        heard_at = _before(receiver, at_receiver.heard_ago)
        if at_receiver.incoming_age is None:
            return State.DOWN, heard_at
        ago = at_receiver.heard_ago
        if ago is not None and ago < quiet_after(receiver.status):
            return State.HEARD, None
        return State.SILENT, heard_at
    if at_sender is not None and at_sender.link != "connected":
        return State.DOWN, None
    return State.UNKNOWN, None


def _before(known: Known, ago: float | None) -> float | None:
    return None if ago is None or known.at is None else known.at - ago
