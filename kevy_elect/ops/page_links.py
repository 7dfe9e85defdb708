"""Each direction of each link, as the nodes at both its ends tell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from kevy_elect.ops.page_model import LONGEST, Known, quiet_after
from kevy_elect.status import PeerStatus, Status

SAME_WITHIN: Final = 1.5
"""Seconds by which a time may differ from one answer to the next."""


class State(StrEnum):
    """How one direction of a link is."""

    HEARD = "heard"
    SILENT = "silent"
    """There is a connection, and nothing arrives."""
    DOWN = "down"
    """There is no connection."""
    UNKNOWN = "unknown"


@attrs.frozen
class Link:
    """What one node sends to another. It is a connection of its own, which the sender dials.

    Times are seconds of this node's clock, None for what does not apply or nobody told.
    """

    sender: str
    receiver: str
    state: State
    heard_at: float | None = None
    """When the receiver heard it last; only while it does not."""
    dialled_at: float | None = None
    accepted_at: float | None = None
    confirms: bool | None = None
    """Whether the receiver confirms the sender's lease; only while it hears it."""
    security: str = ""
    """What the receiver has proven itself by to the sender."""
    key: str = ""

    @property
    def is_broken(self) -> bool:
        return self.state in (State.SILENT, State.DOWN)

    def is_like(self, other: Link) -> bool:
        """Whether nothing is new but by how much an answer shifts a time."""
        return (
            self._is() == other._is()
            and _is_near(self.heard_at, other.heard_at)
            and _is_near(self.dialled_at, other.dialled_at)
            and _is_near(self.accepted_at, other.accepted_at)
        )

    def _is(self) -> tuple[object, ...]:
        """All but times."""
        return self.sender, self.receiver, self.state, self.confirms, self.security, self.key

    def told(self, now: float) -> dict[str, Any]:
        """For the page, ready for JSON."""
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
    """What the node tells of its peers, if that is how it is now."""
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
    """What is told of a node that is not heard any more may be from before."""
    outdated = other.lost_at is not None and (teller.at or 0.0) < other.lost_at
    return None if outdated else peer


def _state(
    receiver: Known, at_sender: PeerStatus | None, at_receiver: PeerStatus | None
) -> tuple[State, float | None]:
    """How the link is, and when it was heard last if it is not heard."""
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
