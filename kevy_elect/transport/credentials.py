"""What another process needs to dial the peers of a node in its name: written here, and read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from kevy_elect.settings.links import Links, NoiseKeys, read_identity
from kevy_elect.transport.channel import Channel, Security
from kevy_elect.transport.security import security_of


def write(security: Security, channels: Mapping[str, Channel]) -> bytes:
    """The credentials of a node with these established channels to its peers. Whoever reads
    them can speak as the node."""
    told = {"kind": security.kind, **security.credentials(channels)}
    return json.dumps(told).encode()


def read(credentials: bytes) -> Security:
    """What dials these peers as the node did. Raises ConfigError if it proves nothing by now,
    as with a certificate that has ended."""
    told = json.loads(credentials)
    kind = told["kind"]
    return security_of(_READERS[kind](told), ()) if kind in _READERS else security_of(None, ())


def _noise(told: Mapping[str, Any]) -> Links:
    peers = {peer: (bytes.fromhex(key),) for peer, key in told["peers"].items()}
    return NoiseKeys(bytes.fromhex(told["private"]), peers)


def _tls(told: Mapping[str, Any]) -> Links:
    # OpenSSL takes a certificate and its key from files only.
    with ExitStack() as files:
        paths = [files.enter_context(_in_memory(text)) for text in told["files"]]
        return read_identity(told["node_id"], *paths)


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """The path of a file with this text, which only this process can open."""
    descriptor = os.memfd_create("credentials")
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, text.encode("latin-1"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Links]] = {"noise": _noise, "tls": _tls}
