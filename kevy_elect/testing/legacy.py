"""A model of the existing implementation's node, for clusters that mix it with ours.

It is not a node to run: its rules allow two primaries. It reproduces all recorded traces of the
existing implementation, which the tests replay. It is only the state machine; the network of the
simulation behaves like that implementation's transport.

It is pure, as the Elector is, and called in the same way. Times may be in any unit, which clock and
configuration share.
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from kevy_elect.ballot import Ballot
from kevy_elect.config import quorum
from kevy_elect.messages import (
    U64_MAX,
    Accept,
    Announce,
    Heartbeat,
    Message,
    Offer,
    Outbound,
    Role,
)

_HASH_START: Final = 1469598103934665603
_HASH_PRIME: Final = 1099511628211


class Timings(Protocol):
    """The durations that the node uses; an ElectConfig has them all."""

    @property
    def hb_interval(self) -> float: ...
    @property
    def down_after(self) -> float: ...
    @property
    def election_timeout(self) -> float: ...
    @property
    def election_backoff(self) -> float: ...


def constant_jitter(node_id: str, maximum: int) -> int:
    """The node's addition to its backoff: a constant of its id, at most `maximum` nanoseconds."""
    mixed = _HASH_START
    for byte in node_id.encode():
        mixed = (mixed * _HASH_PRIME & U64_MAX) ^ byte
    return mixed % max(1, maximum)


@attrs.frozen
class _Seen:
    """The latest heartbeat of an id: its time and its offset."""

    at: float
    repl_offset: int


class LegacyNode:
    """One node of the existing implementation.

    `ballot` is its store, or None for a node without one. A new node with the same ballot is the
    same node after a restart. `jitter` is added to the backoff after every failed candidacy.
    """

    def __init__(
        self,
        node_id: str,
        members: tuple[str, ...],
        timings: Timings,
        *,
        address: str,
        ballot: Ballot | None = None,
        role: Role = Role.REPLICA,
        jitter: float = 0,
    ) -> None:
        self.node_id = node_id
        self.members = members
        self.role = role
        self.epoch = 1
        self.current_primary: str | None = None
        self.repl_offset = 0
        self._timings = timings
        self._address = address
        self._ballot = ballot
        self._jitter = jitter
        self._first_tick: float | None = None
        self._backoff_until: float | None = None
        self._offer_at: float | None = None
        self._hb_sent: dict[str, float] = {}
        self._seen: dict[str, _Seen] = {}
        self._votes: set[str] = set()
        if ballot is not None:
            self.epoch = max(1, ballot.load()[0])

    @property
    def peers(self) -> list[str]:
        """All other members, in the order of the configured list."""
        return [member for member in self.members if member != self.node_id]

    def set_repl_offset(self, offset: int) -> None:
        """Set how much data this node has. This sends no message."""
        self.repl_offset = offset

    def is_down(self, node_id: str, now: float) -> bool:
        """Whether no heartbeat of this id arrived within down_after."""
        seen = self._seen.get(node_id)
        return seen is None or now - seen.at >= self._timings.down_after

    def down(self, now: float) -> list[str]:
        """The peers that are down, in the order of the configured list."""
        return [peer for peer in self.peers if self.is_down(peer, now)]

    def has_quorum(self, now: float) -> bool:
        """Whether enough ids are alive. Ids that are not members count too."""
        alive = sum(not self.is_down(node_id, now) for node_id in self._seen)
        return (alive + 1) * 2 > max(len(self.members), 1)

    def can_write(self, now: float) -> bool:
        """Whether the store beside it takes writes: the role is enough, because it has no lease."""
        return self.role is Role.PRIMARY

    # T1 to T4: the effects of time

    def tick(self, now: float) -> list[Outbound]:
        """Apply the rules of time. Return the messages to send, heartbeats first."""
        if self._first_tick is None:
            self._first_tick = now
        out = self._heartbeats(now)
        if self._should_run(now):
            out += self._run(now)
        if self.role is Role.CANDIDATE and self._offer_at is not None:
            out += self._count(now, self._offer_at)
        return out

    def _heartbeats(self, now: float) -> list[Outbound]:
        sent, interval = self._hb_sent, self._timings.hb_interval
        due = [peer for peer in self.peers if peer not in sent or now - sent[peer] >= interval]
        sent.update(dict.fromkeys(due, now))
        heartbeat = Heartbeat(self.epoch, self.node_id, self.role, self.repl_offset)
        return [Outbound(peer, heartbeat) for peer in due]

    def _should_run(self, now: float) -> bool:
        if self.role is not Role.REPLICA:
            return False
        if self._backoff_until is not None and now < self._backoff_until:
            return False
        return self._is_leaderless(now) and self._is_best(now)

    def _is_leaderless(self, now: float) -> bool:
        if self.current_primary is not None:
            return self.is_down(self.current_primary, now)
        return self._first_tick is not None and now - self._first_tick >= self._timings.down_after

    def _is_best(self, now: float) -> bool:
        own = (-self.repl_offset, self.node_id)
        return not any(
            (-self._seen[peer].repl_offset, peer) < own
            for peer in self.peers
            if not self.is_down(peer, now)
        )

    def _run(self, now: float) -> list[Outbound]:
        self._save(min(self.epoch + 1, U64_MAX), self.node_id)
        self.role = Role.CANDIDATE
        self._votes = {self.node_id}
        self._offer_at = now
        offer = Offer(self.epoch, self.node_id, self.repl_offset)
        return [Outbound(Outbound.BROADCAST, offer)]

    def _count(self, now: float, offer_at: float) -> list[Outbound]:
        if len(self._votes) >= quorum(len(self.members)):
            self._end_candidacy(Role.PRIMARY)
            self.current_primary = self.node_id
            announce = Announce(self.epoch, self.node_id, self._address)
            return [Outbound(Outbound.BROADCAST, announce)]
        if now - offer_at >= self._timings.election_timeout:
            self._end_candidacy(Role.REPLICA)
            self._backoff_until = now + self._timings.election_backoff + self._jitter
        return []

    # H, O and A: the effects of messages

    def on_message(self, sender: str, message: Message, now: float) -> list[Outbound]:
        """Handle a message. Only the id inside the message counts, and not `sender`."""
        match message:
            case Heartbeat():
                self._on_heartbeat(message, now)
            case Offer():
                return self._on_offer(message)
            case Accept():
                if self.role is Role.CANDIDATE and message.epoch == self.epoch:
                    self._votes.add(message.accepter_id)
            case Announce():
                self._on_announce(message)
        return []

    def _on_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        self._seen[heartbeat.node_id] = _Seen(now, heartbeat.repl_offset)
        if heartbeat.role is not Role.PRIMARY or heartbeat.epoch < self.epoch:
            return
        if heartbeat.epoch > self.epoch:
            self._save(heartbeat.epoch, None)
        elif self.current_primary is not None or self.role is not Role.REPLICA:
            return
        self.current_primary = heartbeat.node_id
        if self.role is Role.CANDIDATE or heartbeat.node_id != self.node_id:
            self._end_candidacy(Role.REPLICA)

    def _on_offer(self, offer: Offer) -> list[Outbound]:
        """Vote, in any role, and even if a primary is alive."""
        own = (-self.repl_offset, self.node_id)
        if offer.epoch <= self.epoch or own < (-offer.repl_offset, offer.candidate_id):
            return []
        self._save(offer.epoch, offer.candidate_id)
        return [Outbound(offer.candidate_id, Accept(self.epoch, self.node_id))]

    def _on_announce(self, announce: Announce) -> None:
        elected = announce.new_primary_id
        if announce.epoch < self.epoch:
            return
        if announce.epoch == self.epoch and elected == self.current_primary:
            return
        self._save(announce.epoch, elected)
        self.current_primary = elected
        self._end_candidacy(Role.PRIMARY if elected == self.node_id else Role.REPLICA)

    def _end_candidacy(self, role: Role) -> None:
        self.role = role
        self._votes = set()
        self._offer_at = None

    def _save(self, epoch: int, voted_for: str | None) -> None:
        if self._ballot is not None:
            self._ballot.save(epoch, voted_for)
        self.epoch = epoch
