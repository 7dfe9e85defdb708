"""The messages between nodes.

Four messages cross the wire. `sender` of each is its first id field, whatever the name of that
field.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final

import attrs

U64_MAX: Final = 2**64 - 1


class Role(enum.StrEnum):
    """The role of a node. The value is the word used on the wire."""

    PRIMARY = "primary"
    REPLICA = "replica"
    CANDIDATE = "candidate"


@attrs.frozen
class Heartbeat:
    """The sender is alive, in this epoch and role, with this offset (R2)."""

    epoch: int
    node_id: str
    role: Role
    repl_offset: int

    @property
    def sender(self) -> str:
        """The id of the sending node."""
        return self.node_id


@attrs.frozen
class Offer:
    """The sender runs for primary in `new_epoch` and asks for votes (R3, R5)."""

    new_epoch: int
    candidate_id: str
    repl_offset: int

    @property
    def sender(self) -> str:
        """The id of the sending node."""
        return self.candidate_id

    @property
    def epoch(self) -> int:
        """The same as `new_epoch`."""
        return self.new_epoch


@attrs.frozen
class Accept:
    """The sender votes for the receiver in this epoch (R3.6, R6)."""

    epoch: int
    accepter_id: str

    @property
    def sender(self) -> str:
        """The id of the sending node."""
        return self.accepter_id


@attrs.frozen
class Announce:
    """The sender was elected in this epoch; clients reach it at this `host:port` (R6)."""

    epoch: int
    new_primary_id: str
    new_primary_addr: str

    @property
    def sender(self) -> str:
        """The id of the sending node."""
        return self.new_primary_id


@attrs.frozen
class Ack:
    """The receiver of heartbeats backs their sender as primary of this epoch. `count` is the number
    of heartbeats that it has read on this connection, including this one (section 4)."""

    epoch: int
    count: int


Message = Heartbeat | Offer | Accept | Announce


@attrs.frozen
class Outbound:
    """A message to send: `to` the member of this id, or to every peer if `to` is BROADCAST."""

    BROADCAST: ClassVar[str] = "*"

    to: str
    message: Message


def is_node_id(text: str) -> bool:
    """Whether `text` is a node id for the wire: 1 to 32 printable ASCII characters, no space."""
    return 1 <= len(text) <= 32 and is_printable(text)


def is_printable(text: str) -> bool:
    """Whether `text` is ASCII without spaces and control characters."""
    return all("!" <= character <= "~" for character in text)
