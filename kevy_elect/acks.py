"""The record of sent heartbeats that tells a dialler what an ACK confirms (section 4).

An ACK contains the number of heartbeats that its sender has read on the connection, and no time.
The dialler counts its heartbeats as it sends them, and records their times.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from kevy_elect.messages import Ack, Heartbeat, Role

REMEMBERED: Final = 256
"""The number of heartbeats of a connection that may still be acknowledged."""


class Ledger:
    """The heartbeats that were sent on one connection and are not acknowledged yet.

    Times are seconds of the sender's own monotonic clock. Only heartbeats that were sent as
    primary can be confirmed; the newest 256 of these are kept.
    """

    def __init__(self) -> None:
        self._sent_in_all = 0
        self._open: deque[tuple[int, int, float]] = deque(maxlen=REMEMBERED)

    @property
    def beaten(self) -> bool:
        """Whether any heartbeat was sent."""
        return self._sent_in_all > 0

    def sent(self, heartbeat: Heartbeat, at: float) -> None:
        """Record that the next heartbeat is sent `at` this time."""
        self._sent_in_all += 1
        if heartbeat.role is Role.PRIMARY:
            self._open.append((self._sent_in_all, heartbeat.epoch, at))

    def confirmed_by(self, ack: Ack) -> float | None:
        """The time at which the heartbeat that this ACK answers was sent; None unless it is
        recorded and was sent as primary of the ACK's epoch. Earlier heartbeats are then
        forgotten."""
        confirmed = None
        while self._open and self._open[0][0] <= ack.count:
            count, epoch, at = self._open.popleft()
            if (count, epoch) == (ack.count, ack.epoch):
                confirmed = at
        return confirmed
