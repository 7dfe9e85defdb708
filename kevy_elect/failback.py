"""When a primary hands its role to a member that the operator prefers.

Pure; times are seconds of one clock. It goes by what the members tell, so it knows no more of
them than their pages do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from kevy_elect.messages import Role
from kevy_elect.replication import is_in_sync
from kevy_elect.status import PeerStatus, Status

REASON: Final = "failback"
"""The reason that the event of such a handover has."""
LONGEST_WAIT: Final = 86400.0
"""Seconds to which the wait after a failed failback grows."""
KEPT: Final = 10
"""The wait is short again after the role stayed elsewhere for so many times as long."""


@attrs.frozen
class Own:
    """What a primary compares a member with."""

    node_id: str
    epoch: int
    offset: int
    """How much data it had a moment ago: what it wrote since then is still on its way."""
    drives_server: bool
    after: float
    """Seconds for which a member must have been fit."""


def obstacle(peer: PeerStatus, told: Status | None, own: Own) -> str | None:
    """Why the member is not to become primary now; None if nothing speaks against it.

    `told` is what its page says, None if that does not answer.
    """
    if not (peer.alive and peer.link == "connected" and peer.acknowledging):
        return "it is not heard, or does not acknowledge"
    if peer.epoch != own.epoch or peer.role is not Role.REPLICA:
        return "it does not follow this primary"
    if peer.offset < own.offset:
        return "it has less data"
    if told is None:
        return "its page does not answer"
    if told.current_primary != own.node_id or told.epoch != own.epoch:
        return "it does not follow this primary"
    if told.witness:
        return "it is a witness"
    if told.maintained_for > 0:
        return "it is in maintenance"
    if told.paused_for > 0:
        return "it is paused"
    if told.check is not None and not told.check.healthy:
        return "its check says that it is unhealthy"
    if told.uptime is None or told.uptime < own.after:
        return "it was started a short time ago"
    return _obstacle_of_server(told) if own.drives_server else None


def _obstacle_of_server(told: Status) -> str | None:
    data = told.data
    if data is None:
        return "it drives no data server"
    if data.problem or not is_in_sync(data):
        return "its data server is not in sync"
    return None


class Failback:
    """Decides to whom a primary hands its role back, and when; it lives as long as the node.

    A member must be fit for `after` seconds without interruption. After a handover that failed,
    or after which the role soon came back, the next one waits: first for `after`, then for twice
    as long each time, up to LONGEST_WAIT.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._wait = after
        self._not_before = -math.inf
        self._gave_at: float | None = None
        self._fit_since: dict[str, float] = {}

    def begin(self, now: float) -> None:
        """A term of this node begins. If it gave the role away a short time ago, that was in
        vain."""
        self._fit_since.clear()
        if self._gave_at is None:
            return
        away, self._gave_at = now - self._gave_at, None
        if away >= KEPT * self._wait:
            self._wait = self._after
        else:
            self.failed(now)

    def choose(self, now: float, fit: Sequence[str]) -> str | None:
        """The first of the members that are `fit` now, the most preferred first, for which it is
        time; None if there is none. To be called about each second during a term."""
        self._fit_since = {member: self._fit_since.get(member, now) for member in fit}
        if now < self._not_before:
            return None
        ready = (each for each in fit if now - self._fit_since[each] >= self._after)
        return next(ready, None)

    def gave(self, now: float) -> None:
        """The handover was done."""
        self._gave_at = now

    def failed(self, now: float) -> float:
        """The handover failed, or the role came back; returns the seconds until the next try."""
        wait = self._wait
        self._not_before = now + wait
        self._wait = min(2 * wait, LONGEST_WAIT)
        return wait
