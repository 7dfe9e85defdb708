"""Which of a member's connections is heard: a node speaks on one at a time."""

from __future__ import annotations

import attrs


@attrs.define
class _Turn:
    number: int
    spoke: float
    open: bool = True


class Floor:
    """Gives each member's floor to one connection, by its number in the order of acceptance.

    A newer connection takes over once the one that has the floor is gone or was
    silent for `pause_after` seconds. From then on what still comes on older ones
    is old news, which must not undo what was heard since: a heartbeat from before
    an election could unseat the primary that its sender has become. Such a
    connection is to be ended; if a living node was cut off by that, it dials
    again and is the newest. And who claims the id of a member that goes on
    speaking is not heard.
    """

    def __init__(self, pause_after: float) -> None:
        self.pause_after = pause_after
        self._turns: dict[str, _Turn] = {}

    def take(self, member: str, number: int, now: float) -> bool:
        """Whether the connection `number` of `member`, which speaks at `now`, is heard."""
        turn = self._turns.get(member)
        if turn is None or number > turn.number:
            if turn is not None and turn.open and now - turn.spoke <= self.pause_after:
                return False
            self._turns[member] = _Turn(number, now)
            return True
        if number < turn.number:
            return False
        turn.spoke = now
        return True

    def is_old(self, member: str, number: int) -> bool:
        """Whether a newer connection has had the floor since: this one is never heard again."""
        turn = self._turns.get(member)
        return turn is not None and number < turn.number

    def holds(self, member: str, number: int) -> bool:
        """Whether this connection of `member` has the floor."""
        turn = self._turns.get(member)
        return turn is not None and turn.number == number

    def leave(self, member: str, number: int) -> None:
        """The connection is gone."""
        turn = self._turns.get(member)
        if turn is not None and turn.number == number:
            turn.open = False
