"""Links authenticated by a certificate of the cluster's authority: TLS 1.3.

The standard library's TLS works on buffers in memory, above an unchanged TCP transport.
Twisted's TLS transport would hide the options and limits of TCP.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Collection, Mapping
from typing import Any, Final

from kevy_elect.settings.links import ALPN, TlsIdentity, member_names
from kevy_elect.transport.channel import Channel, ChannelError, Fault, Kind

_AT_ONCE: Final = 16 * 1024
_MAX_UNREAD: Final = 64 * 1024
"""Bytes that may wait for the rest of their record, which has at most 16 KiB."""


class TlsChannel:
    """One end of a TLS connection whose other end must be one of `peers`."""

    kind: Kind = "tls"
    names: frozenset[str] | None = frozenset()
    key = ""

    def __init__(
        self,
        context: ssl.SSLContext,
        peers: Collection[str],
        authorities: frozenset[bytes],
        *,
        accepted: bool,
    ) -> None:
        self.established = False
        self.authorities = authorities
        self._peers = peers
        self._accepted = accepted
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=accepted)

    def start(self) -> bytes:
        if not self._accepted:
            self._shake()
        return self._outgoing.read()

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        self._incoming.write(data)
        try:
            if not self.established:
                self._shake()
            plain = self._read() if self.established else b""
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "no TLS"
            kind: Fault = "bad_seal" if self.established else "bad_handshake"
            raise ChannelError(kind, reason.lower().replace("_", " ")) from None
        if self._incoming.pending > _MAX_UNREAD:
            raise ChannelError("bad_frame", f"more than {_MAX_UNREAD} bytes without a record")
        return plain, self._outgoing.read()

    def seal(self, plain: bytes) -> bytes:
        self._tls.write(plain)
        return self._outgoing.read()

    def _read(self) -> bytes:
        plain = bytearray()
        try:
            # A read takes a whole record. One more would raise, which takes as long again.
            while self._incoming.pending and (part := self._tls.read(_AT_ONCE)):
                plain += part
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # no more for now, or for ever: then the connection ends by itself
        return bytes(plain)

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        if self._tls.selected_alpn_protocol() != ALPN:
            raise ChannelError("bad_handshake", "it does not speak of elections")
        proven = member_names(self._tls.getpeercert() or {})
        self.names = proven.intersection(self._peers)
        self.key = hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest()[:8]
        if not self.names:
            whose = ", ".join(sorted(proven)) or "nobody"
            wanted = " or ".join(sorted(self._peers))
            raise ChannelError("unknown_key", f"a certificate of {whose}, not of {wanted}")
        self.established = True


class TlsSecurity:
    """The node's own certificate, and the authority that signed those of its peers."""

    kind: Kind = "tls"

    def __init__(self, identity: TlsIdentity, peers: Collection[str]) -> None:
        self._identity = identity
        self._peers = frozenset(peers)
        self._authorities = frozenset(identity.dialling.get_ca_certs(binary_form=True))

    @property
    def ends(self) -> float:
        """When this node's certificate expires, in seconds since 1970."""
        return self._identity.ends

    def dials(self, peer: str) -> Channel:
        context = self._identity.dialling
        return TlsChannel(context, frozenset({peer}), self._authorities, accepted=False)

    def accepts(self) -> Channel:
        return TlsChannel(self._identity.accepting, self._peers, self._authorities, accepted=True)

    def trusts(self, channel: Channel) -> bool:
        """Whether all authorities that may have signed its certificate are still trusted."""
        return isinstance(channel, TlsChannel) and channel.authorities <= self._authorities

    def credentials(self, channels: Mapping[str, Channel]) -> dict[str, Any]:
        identity = self._identity
        return {
            "node_id": identity.node_id,
            "files": [file.decode("latin-1") for file in identity.files],
        }
