"""What a node proves itself with on its links: read whole from its files, or refused."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from typing import Final

import attrs

from kevy_elect.errors import ConfigError

KEY_BYTES: Final = 32
_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_FILE_LIMIT: Final = 1024
"""Bytes; more is no key."""


@attrs.frozen
class NoiseKeys:
    """This node's private key, and the public keys of its peers by id, 32 bytes each."""

    private: bytes = attrs.field(repr=False)
    peers: Mapping[str, tuple[bytes, ...]]


Links = NoiseKeys | None
"""What the links of a node prove themselves by; None if they are plain."""


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
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError("is no regular file; name the file that kevy-elect keygen made")
            content = file.read(_FILE_LIMIT)
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror}); kevy-elect keygen FILE makes a key"
        ) from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"group or others may use it (its mode is {mode:o}), and whoever has a private key "
            "can speak as this node; chmod 600 it, or make another key"
        )
    text = content.decode("ascii", "replace").strip()
    if not _KEY.fullmatch(text):
        raise ConfigError(
            "holds no private key, which is 64 hexadecimal digits; kevy-elect keygen FILE makes one"
        )
    return bytes.fromhex(text)


def make_private_key(path: str) -> bytes:
    """Make a private key in a new file that only its owner may read, and return the key.

    Raises ConfigError if the file is there already or cannot be made.
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
            f"{path} is there already, and a key that is in use must not be lost; "
            "name another file, or remove it first"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from None
    return private


def public_key(private: bytes) -> bytes:
    """The public half of a private key. Raises ConfigError if the library for it is missing."""
    # Imported here, since only nodes with secure links need it.
    try:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    except ImportError:
        raise ConfigError(
            "needs the package cryptography: pip install 'kevy-elect[noise]'"
        ) from None
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, but do not wait for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
