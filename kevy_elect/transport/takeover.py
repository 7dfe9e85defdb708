"""Which of a member's connections is heard: a node speaks on one at a time."""

from __future__ import annotations

import attrs


@attrs.define
class _Current:
    number: int
    spoke: float
    open: bool = True


class CurrentConnections:
    """The one connection of each member that is heard, by its number in the order of acceptance.

    A newer connection becomes the current one once the one before is gone or was
    silent for `pause_after` seconds. From then on what still comes on older ones
    is old news, which must not undo what was heard since: a heartbeat from before
    an election could unseat the primary that its sender has become. Such a
    connection is to be ended; if a living node was cut off by that, it dials
    again and is the newest. And who claims the id of a member that goes on
    speaking is not heard.
    """

    def __init__(self, pause_after: float) -> None:
        self.pause_after = pause_after
        self._current: dict[str, _Current] = {}

    def hears(self, member: str, number: int, now: float) -> bool:
        """Whether the connection `number` of `member`, which speaks at `now`, is heard."""
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
        """Whether a newer connection was the current one since: this one is never heard again."""
        current = self._current.get(member)
        return current is not None and number < current.number

    def is_current(self, member: str, number: int) -> bool:
        """Whether this is the connection on which `member` is heard."""
        current = self._current.get(member)
        return current is not None and current.number == number

    def closed(self, member: str, number: int) -> None:
        """The connection is gone."""
        current = self._current.get(member)
        if current is not None and current.number == number:
            current.open = False
