"""The credentials of a node for its links, read from its files."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from kevy_elect.errors import ConfigError
from kevy_elect.settings.files import read_private, read_regular
from kevy_elect.settings.pem import load_pair, readable, reason

if TYPE_CHECKING:
    # Imported at their use, because a client that only names settings needs none of it.
    import ssl

KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
MAX_PASSWORD: Final = 512
"""The most bytes of a password, so that it fits into a request."""
ALPN: Final = "kevy-elect"
"""The protocol that members name within TLS."""
_URI: Final = "kevy-elect:"


@attrs.frozen
class NoiseKeys:
    """This node's private key, and the public keys of its peers by id, 32 bytes each."""

    private: bytes = attrs.field(repr=False)
    peers: Mapping[str, tuple[bytes, ...]]


@attrs.frozen(kw_only=True)
class TlsIdentity:
    """This node's certificate and the authority of its cluster, ready to dial and to accept."""

    dialling: ssl.SSLContext = attrs.field(eq=False, repr=False)
    accepting: ssl.SSLContext = attrs.field(eq=False, repr=False)
    node_id: str
    ends: float
    """The time at which the certificate expires, in seconds since 1970."""
    files: tuple[bytes, ...] = attrs.field(repr=False)
    """The contents of the files of the certificate, its key and the authority."""


Links = NoiseKeys | TlsIdentity | None
"""The credentials of a node's links; None if they are plain."""


def parse_key(text: str) -> bytes:
    """A public key: 64 hexadecimal digits. Raises ConfigError."""
    if not _KEY.fullmatch(text):
        raise ConfigError(
            f"{text[:80]!r} is no public key: write the 64 hexadecimal digits "
            "that kevy-elect pubkey prints"
        )
    return bytes.fromhex(text)


def read_private_key(path: str) -> bytes:
    """The private key in a file of 64 hexadecimal digits.

    Raises ConfigError if it cannot be read, holds no key, or others may use it.
    """
    content = read_private(path, "kevy-elect keygen FILE makes a key")
    text = content.decode("ascii", "replace").strip()
    if not _KEY.fullmatch(text):
        raise ConfigError(
            "holds no private key, which is 64 hexadecimal digits; kevy-elect keygen FILE makes one"
        )
    return bytes.fromhex(text)


def read_password(path: str) -> bytes:
    """The password in a file, without the end of its line.

    Raises ConfigError if the file cannot be read, has no password that a client could send, or
    others may use it.
    """
    remedy = "write the password into it"
    password = read_private(path, remedy).rstrip(b"\r\n")
    if not 1 <= len(password) <= MAX_PASSWORD or b"\n" in password:
        raise ConfigError(f"holds no password, a line of 1 to {MAX_PASSWORD} bytes; {remedy}")
    return password


def make_private_key(path: str) -> bytes:
    """Make a private key in a new file that only its owner may read, and return the key.

    Raises ConfigError if the file exists or cannot be made.
    """
    private = secrets.token_bytes(KEY_BYTES)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(private.hex().encode() + b"\n")
            file.flush()
            os.fsync(fd)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already, and a key that is in use must not be lost; "
            "name another file, or remove it first"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from None
    return private


def public_key(private: bytes) -> bytes:
    """The public half of a private key. Raises ConfigError if the library for it is missing."""
    # Imported here, because only nodes with secure links need it.
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    except ImportError:
        raise ConfigError(
            "needs the package cryptography: pip install 'kevy-elect[noise]'"
        ) from None
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def read_identity(node_id: str, certificate: str, key: str, authority: str) -> TlsIdentity:
    """The TLS identity in these PEM files. Raises ConfigError unless they fit together:
    the certificate is valid now, of this node, and signed by the authority."""
    import ssl

    files = (
        readable(certificate, read_regular),
        readable(key, read_private),
        readable(authority, read_regular),
    )
    dialling = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, authority)
    accepting = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, authority)
    accepting.num_tickets = 0  # sessions are not resumed
    own = _own_certificate(dialling, accepting, certificate)
    names = member_names(own)
    if node_id not in names:
        whose = f"of {', '.join(sorted(names))}" if names else "of no member"
        raise ConfigError(
            f"{certificate} is {whose}: it needs the alternative name URI:kevy-elect:{node_id} "
            f"or DNS:{node_id}"
        )
    return TlsIdentity(
        dialling=dialling,
        accepting=accepting,
        node_id=node_id,
        ends=ssl.cert_time_to_seconds(own["notAfter"]),
        files=files,
    )


def member_names(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The ids for which a certificate, as returned by `getpeercert`, is valid."""
    names = set()
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "URI" and value.startswith(_URI):
            names.add(value.removeprefix(_URI))
        elif kind == "DNS":
            names.add(value)
    return frozenset(names)


def _context(purpose: int, certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """A context with these files. Raises ConfigError, naming the files, if OpenSSL cannot use
    them."""
    import ssl

    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # members are known by their ids
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN])
    load_pair(context, certificate, key)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise ConfigError(
            f"{authority} holds no certificate of an authority in PEM ({reason(error)})"
        ) from None
    return context


def _own_certificate(
    dialling: ssl.SSLContext, accepting: ssl.SSLContext, path: str
) -> dict[str, Any]:
    """The content of this node's certificate. A handshake with itself returns it, and tests whether
    the other members would accept it. Raises ConfigError if they would not."""
    import ssl

    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dialling.wrap_bio(back, there)
    server = accepting.wrap_bio(there, back, server_side=True)
    try:
        for end in (client, server, client, server):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError as error:
        raise ConfigError(f"{path} would be refused by all members: {reason(error)}") from None
    own: dict[str, Any] = server.getpeercert() or {}
    return own
