"""Makes the security of a node from its settings."""

from __future__ import annotations

from collections.abc import Collection

from kevy_elect.settings.links import Links, TlsIdentity
from kevy_elect.transport.channel import PLAIN_SECURITY, Security


def security_of(links: Links, peers: Collection[str]) -> Security:
    """The security of a node with these keys and peers; plain for None."""
    # Imported at their use: a node with plain links needs no libraries.
    if links is None:
        return PLAIN_SECURITY
    if isinstance(links, TlsIdentity):
        from kevy_elect.transport.tls import TlsSecurity

        return TlsSecurity(links, peers)
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from kevy_elect.transport.noise import NoiseSecurity

    return NoiseSecurity(X25519PrivateKey.from_private_bytes(links.private), links.peers)
