"""What lies between framing and transport: bytes of the wire here, bytes of messages there.

A channel does no I/O and knows no time. It is given what arrives and answers with what
to hand on and what to send; whoever holds it owns the connection and its time limits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, Protocol

from kevy_elect.errors import ElectError

Kind = Literal["plain", "noise", "tls"]
Fault = Literal["bad_frame", "bad_handshake", "bad_seal", "unknown_key", "exhausted", "flood"]

HANDSHAKE_TIMEOUT: Final = 2.0
"""Seconds that a handshake may take from the connection on."""
MAX_PLAIN: Final = 16 * 1024
"""Bytes of plain text that one sealed frame may hold."""


class ChannelError(ElectError):
    """The other end of a channel did not prove who it is, or broke the framing.

    `kind` is one word for logs and counters. The connection is to be closed without a
    word: a stranger learns nothing from the way in which it failed.
    """

    def __init__(self, kind: Fault, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Channel(Protocol):
    """One end of one connection."""

    @property
    def kind(self) -> Kind: ...

    @property
    def names(self) -> Collection[str] | None:
        """The members that the other end has proven to be, once the channel is established.

        None on a plain link, where nothing is proven.
        """

    @property
    def key(self) -> str:
        """The first eight digits of the other end's key or certificate, once it is known."""

    @property
    def established(self) -> bool:
        """Whether plain text may be sent."""

    def start(self) -> bytes:
        """What a dialler sends first; nothing for an acceptor. To be called once."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what arrived. Returns the plain text in it, and what to send back at once.

        Raises ChannelError, after which this channel is of no more use.
        """

    def seal(self, plain: bytes) -> bytes:
        """What to send for this plain text, MAX_PLAIN bytes at most, once established."""


class Security(Protocol):
    """Makes the channels of one node: all of one kind, with one set of keys."""

    @property
    def kind(self) -> Kind: ...

    @property
    def ends(self) -> float | None:
        """When what this node proves itself by ends, in seconds since 1970; None if never."""

    def dials(self, peer: str) -> Channel:
        """The channel of a connection that this node dials to `peer`."""

    def accepts(self) -> Channel:
        """The channel of a connection that this node accepts."""

    def trusts(self, channel: Channel) -> bool:
        """Whether the other end of an established channel would still be let in."""

    def credentials(self, channels: Mapping[str, Channel]) -> dict[str, Any]:
        """What another process needs to dial these peers as this node does, as JSON has it: each
        has proven by its established channel who it is. Whoever reads it can speak as this
        node."""


class Plain:
    """No channel at all: whoever reaches the port is believed."""

    kind: Kind = "plain"
    names = None
    key = ""
    established = True

    def start(self) -> bytes:
        return b""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def seal(self, plain: bytes) -> bytes:
        return plain


PLAIN: Final = Plain()


class PlainSecurity:
    """Makes plain channels."""

    kind: Kind = "plain"
    ends = None

    def dials(self, peer: str) -> Channel:
        return PLAIN

    def accepts(self) -> Channel:
        return PLAIN

    def trusts(self, channel: Channel) -> bool:
        return channel.kind == self.kind

    def credentials(self, channels: Mapping[str, Channel]) -> dict[str, Any]:
        return {}


PLAIN_SECURITY: Final = PlainSecurity()
