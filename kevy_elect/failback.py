"""The decision when a primary hands its role to a member that the operator prefers.

Pure. Times are seconds of one clock. It knows the members only by their links and their pages.
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
"""A stay of the role elsewhere for so many times `after` makes the wait short again."""


@attrs.frozen
class Own:
    """The values of a primary with which a member is compared."""

    node_id: str
    epoch: int
    offset: int
    """The offset of a moment ago, because later writes may still be on their way."""
    drives_server: bool
    after: float
    """Seconds for which a member must have been fit."""


def obstacle(peer: PeerStatus, told: Status | None, own: Own) -> str | None:
    """The reason why the member must not become primary now; None if there is none.

    `told` is the status of its page; None if the page does not answer.
    """
    if not (peer.is_there and peer.acknowledging):
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
    """Decides to which member a primary hands its role, and when. It exists as long as the node.

    A member must be fit for `after` seconds without interruption. After a failed handover, or if
    the role came back soon, the next handover waits: first for `after`, then twice as long each
    time, up to LONGEST_WAIT.
    """

    def __init__(self, after: float) -> None:
        self._after = after
        self._wait = after
        self._not_before = -math.inf
        self._gave_at: float | None = None
        self._fit_since: dict[str, float] = {}

    def begin(self, now: float) -> None:
        """Record that this node has become primary. If it handed over a short time ago, that
        handover counts as failed."""
        self._fit_since.clear()
        if self._gave_at is None:
            return
        away, self._gave_at = now - self._gave_at, None
        if away >= KEPT * self._wait:
            self._wait = self._after
        else:
            self.failed(now)

    def choose(self, now: float, fit: Sequence[str]) -> str | None:
        """The first of the members that are `fit` now, the most preferred first, whose time has
        come; None if there is none. Call it about each second while this node is primary."""
        self._fit_since = {member: self._fit_since.get(member, now) for member in fit}
        if now < self._not_before:
            return None
        ready = (each for each in fit if now - self._fit_since[each] >= self._after)
        return next(ready, None)

    def gave(self, now: float) -> None:
        """Record that the handover succeeded."""
        self._gave_at = now

    def failed(self, now: float) -> float:
        """Record that the handover failed, or that the role came back. Return the seconds until the
        next one."""
        wait = self._wait
        self._not_before = now + wait
        self._wait = min(2 * wait, LONGEST_WAIT)
        return wait
