"""What waits for one peer while it is away or not reading."""

from __future__ import annotations

from typing import Final

from kevy_elect.messages import Message


class Outbox:
    """A queue in which only the newest message of each kind is worth keeping.

    A peer that was away wants to know how things are, not how they came to be: a
    newer message replaces an older one of its kind and takes the last place.
    Beyond `limit` messages the oldest goes, whatever kinds there may be one day.
    `dropped` counts all that will never be sent.
    """

    LIMIT: Final = 256

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.dropped = 0
        self._waiting: dict[type[Message], Message] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> None:
        kind = type(message)
        if self._waiting.pop(kind, None) is not None:
            self.dropped += 1
        self._waiting[kind] = message
        if len(self._waiting) > self.limit:
            self.take()
            self.dropped += 1

    def take(self) -> Message:
        """Remove and return the oldest message. Raises LookupError if there is none."""
        try:
            return self._waiting.pop(next(iter(self._waiting)))
        except StopIteration:
            raise LookupError("the outbox is empty") from None
