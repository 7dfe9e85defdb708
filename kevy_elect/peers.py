"""The views of all peers: which of them are alive, and which back a lease."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import attrs

from kevy_elect.config import ElectConfig, quorum
from kevy_elect.local_server import split_offset
from kevy_elect.messages import Heartbeat, Role

NEVER = -math.inf


@attrs.define
class View:
    """The last messages of one peer. Times are seconds of this node's clock.

    `confirmed` is the sending time of this node's latest message that an `acknowledging` peer
    answered with a promise to back no other node for down_after. `granted` is the
    epoch in which it accepted this node's renewal. `far_ahead_at` is the time of its latest
    message if that was too far ahead (R1). `ahead_since` is the time since which it has been in
    a higher epoch without interruption, alive and `connected`, and `wait` how many down_after it
    may stay there before this node renews (R8). `led_epoch` is the data epoch of a primary's
    server, 0 if it has not stated it yet or has none, and `led_from` the length that it first
    stated with it (D6).
    """

    node_id: str
    heard: float = NEVER
    epoch: int = 0
    role: Role = Role.REPLICA
    offset: int = 0
    acknowledging: bool = False
    confirmed: float = NEVER
    granted: int = 0
    far_ahead_at: float = NEVER
    connected: bool = False
    ahead_since: float | None = None
    wait: int = 1
    led_epoch: int = 0
    led_from: int = 0

    def update(self, heartbeat: Heartbeat) -> None:
        self.epoch = heartbeat.epoch
        self.role = heartbeat.role
        self.offset = heartbeat.repl_offset
        led_epoch, length = split_offset(self.offset) if self.role is Role.PRIMARY else (0, 0)
        if led_epoch != self.led_epoch:
            self.led_epoch, self.led_from = led_epoch, length

    def claims(self, role: Role, epoch: int) -> None:
        """Record the role and epoch of a peer that a message other than a heartbeat shows."""
        if epoch > self.epoch:
            self.led_epoch = 0
        self.role = role
        self.epoch = epoch


def is_better(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether candidate `one` is better than `other`, each an id and a replication offset."""
    return (-one[1], one[0]) < (-other[1], other[0])


@attrs.define
class Lease:
    """The backing of a primary by a quorum (R8)."""

    until: float = NEVER
    """The time of its end if no message arrives and this process does not run again."""
    is_measured: bool = True
    """Whether `until` includes all messages and changes so far."""
    counts_from: float = NEVER
    """Only messages from this time on count."""
    lost_since: float | None = None
    """The time since which a primary has had no backing."""


class Peers:
    """The views of all other members."""

    def __init__(self, ids: Iterable[str], config: ElectConfig) -> None:
        self._views = {node_id: View(node_id) for node_id in ids}
        self._config = config
        self.quorum = quorum(len(self._views) + 1)

    def __len__(self) -> int:
        return len(self._views)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._views

    def __getitem__(self, node_id: str) -> View:
        return self._views[node_id]

    def __iter__(self) -> Iterator[View]:
        return iter(self._views.values())

    def use_timings(self, config: ElectConfig) -> None:
        self._config = config

    def is_down(self, node_id: str, now: float) -> bool:
        """Whether this peer was silent for down_after, or was never heard."""
        return now - self._views[node_id].heard >= self._config.down_after

    def alive(self, now: float) -> list[View]:
        """The views of peers that were heard less than down_after ago."""
        down_after = self._config.down_after
        return [view for view in self if now - view.heard < down_after]

    def down(self, now: float) -> list[str]:
        return [view.node_id for view in self if self.is_down(view.node_id, now)]

    def quorum_alive(self, now: float) -> bool:
        return len(self.alive(now)) + 1 >= self.quorum

    def quorum_far_ahead(self, now: float) -> bool:
        """Whether the latest messages of a quorum of these peers, or of all if they are fewer, came
        less than down_after ago and were too far ahead (R1)."""
        far = sum(now - view.far_ahead_at < self._config.down_after for view in self)
        return far >= min(self.quorum, len(self))

    def claims_primary(self, now: float) -> list[View]:
        """The views of live peers whose role is primary."""
        return [view for view in self.alive(now) if view.role is Role.PRIMARY]

    def highest_epoch(self) -> int:
        return max((view.epoch for view in self), default=0)

    def forget_confirmations(self) -> None:
        """Forget all acknowledgements, because those of an earlier epoch do not count."""
        for view in self:
            view.confirmed = NEVER

    def lease_deadline(self, epoch: int, *, since: float, runs_until: float, leads: bool) -> float:
        """The time until which this node and enough peers are a quorum behind a primary of `epoch`.

        Each peer backs the primary until its own deadline. A peer that acknowledges this node, if
        it `leads`, backs it for lease_duration from its confirmation (section 4).

        Any other peer backs it for down_after − lease_margin from when it was last heard, and for
        at most lease_duration. This requires that it was heard at `since` or later, that its epoch
        is not above this node's or is the one that it granted (R8), and that this process runs
        (R9), which is certain up to `runs_until`. If count_unacknowledged is false, it does not
        back a primary.
        """
        needed = self.quorum - 1
        if needed == 0:
            return math.inf
        exact = self._config.lease_duration
        inferred = min(exact, self._config.down_after - self._config.lease_margin)
        deadlines = []
        for view in self._views.values():
            if leads and view.acknowledging:
                deadlines.append(view.confirmed + exact)
            elif leads and not self._config.count_unacknowledged:
                continue
            elif view.heard >= since and (view.epoch <= epoch or view.epoch == view.granted):
                heard_until = view.heard + inferred
                deadlines.append(heard_until if heard_until < runs_until else runs_until)
        if len(deadlines) < needed:
            return NEVER
        deadlines.sort(reverse=True)
        return deadlines[needed - 1]
