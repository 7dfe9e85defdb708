"""The messages that wait for a peer that is not connected or does not read."""

from __future__ import annotations

from typing import Final

from kevy_elect.messages import Announce, Heartbeat, Message


class Outbox:
    """A queue that keeps only the newest message of each kind.

    A peer that was away needs the present state and no history. A newer message therefore replaces
    an older one of its kind, and takes the last place. A heartbeat goes before all others (R2): a
    node of the existing implementation that receives an ANNOUNCE before any heartbeat of its sender
    considers the sender DOWN.

    Beyond `limit` messages, the oldest is dropped. `dropped` counts all messages that were never
    sent.
    """

    LIMIT: Final = 256

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.dropped = 0
        self._waiting: dict[type[Message], Message] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> None:
        """Add a message. It replaces an older one of its kind."""
        kind = type(message)
        if self._waiting.pop(kind, None) is not None:
            self.dropped += 1
        self._waiting[kind] = message
        if len(self._waiting) > self.limit:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def take(self, *, beaten: bool = True) -> Message | None:
        """Remove and return the message to send next; None if there is none.

        It is a heartbeat, or else the oldest message. If no heartbeat was sent on this connection
        (`beaten` is false), an ANNOUNCE waits for one.
        """
        if Heartbeat in self._waiting:
            return self._waiting.pop(Heartbeat)
        for kind in self._waiting:
            if beaten or kind is not Announce:
                return self._waiting.pop(kind)
        return None
