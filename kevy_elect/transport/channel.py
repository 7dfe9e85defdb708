"""The layer between framing and transport, which encrypts and decrypts the bytes of a link.

A channel does no I/O and has no clock. It receives bytes and returns plain text and bytes to send.
Its owner owns the connection and its time limits.
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
"""The most bytes of plain text in one sealed frame."""


class ChannelError(ElectError):
    """The other end of a channel failed to authenticate, or broke the framing.

    `kind` is one word for logs and counters. The connection must be closed without an
    answer, from which a stranger could learn the cause of the failure.
    """

    def __init__(self, kind: Fault, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Channel(Protocol):
    """One end of one connection."""

    @property
    def kind(self) -> Kind:
        """The kind of authentication."""

    @property
    def names(self) -> Collection[str] | None:
        """The members as which the other end is authenticated, once the channel is established.

        None on a plain link, which has no authentication.
        """

    @property
    def key(self) -> str:
        """The first eight digits of the other end's key or certificate, once it is known."""

    @property
    def established(self) -> bool:
        """Whether plain text may be sent."""

    def start(self) -> bytes:
        """The first bytes of a dialler; none for an acceptor. Call it once."""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Process received bytes. Return the plain text in them, and bytes to send at once.

        Raises ChannelError, after which this channel cannot be used.
        """

    def seal(self, plain: bytes) -> bytes:
        """The bytes to send for this plain text, of at most MAX_PLAIN bytes, once established."""


class Security(Protocol):
    """Makes the channels of one node: all of one kind, with one set of keys."""

    @property
    def kind(self) -> Kind:
        """The kind of the channels."""

    @property
    def ends(self) -> float | None:
        """When this node's credentials expire, in seconds since 1970; None if never."""

    def dials(self, peer: str) -> Channel:
        """The channel of a connection that this node dials to `peer`."""

    def accepts(self) -> Channel:
        """The channel of a connection that this node accepts."""

    def trusts(self, channel: Channel) -> bool:
        """Whether the other end of an established channel would still be accepted."""

    def credentials(self, channels: Mapping[str, Channel]) -> dict[str, Any]:
        """The credentials with which another process can dial these peers as this node, for JSON.
        Each channel is established and its peer authenticated. A reader of them can speak as
        this node."""


class Plain:
    """The channel of a plain link: it changes no bytes and authenticates nothing."""

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
