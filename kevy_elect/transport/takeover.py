"""The current connection of each member: a node sends on one at a time."""

from __future__ import annotations

import attrs


@attrs.define
class _Current:
    number: int
    spoke: float
    open: bool = True


class CurrentConnections:
    """The current connection of each member, by its number in the order of acceptance.

    A newer connection becomes the current one once the one before is closed or was silent for
    `pause_after` seconds. Messages that then arrive on older connections are outdated: a heartbeat
    from before an election, for example, could unseat the primary that its sender has become. The
    acceptor ends such a connection. If this cuts off a living node, the node dials again, and that
    connection is the newest.

    Another sender with the id of a member that goes on sending is ignored.
    """

    def __init__(self, pause_after: float) -> None:
        self.pause_after = pause_after
        self._current: dict[str, _Current] = {}

    def hears(self, member: str, number: int, now: float) -> bool:
        """Whether the message at `now` on connection `number` of `member` is used."""
        current = self._current.get(member)
        if current is None or number > current.number:
            if current is not None and current.open and now - current.spoke <= self.pause_after:
                return False
            self._current[member] = _Current(number, now)
            return True
        if number < current.number:
            return False
        current.spoke = now
        return True

    def is_replaced(self, member: str, number: int) -> bool:
        """Whether a newer connection has become current since, so that this one is never used
        again."""
        current = self._current.get(member)
        return current is not None and number < current.number

    def is_current(self, member: str, number: int) -> bool:
        """Whether this is the current connection of `member`."""
        current = self._current.get(member)
        return current is not None and current.number == number

    def closed(self, member: str, number: int) -> None:
        """Record that the connection is closed."""
        current = self._current.get(member)
        if current is not None and current.number == number:
            current.open = False
