"""What makes the channels of a node, from its settings."""

from __future__ import annotations

from kevy_elect.settings.links import Links
from kevy_elect.transport.channel import PLAIN_SECURITY, Security


def security_of(links: Links) -> Security:
    """The security of a node with these keys; plain for None."""
    if links is None:
        return PLAIN_SECURITY
    # Imported here: a node with plain links does without the library.
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from kevy_elect.transport.noise import NoiseSecurity

    return NoiseSecurity(X25519PrivateKey.from_private_bytes(links.private), links.peers)
