"""The credentials with which another process dials the peers of a node in its name."""

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
    """The credentials of a node with these established channels to its peers. A reader of
    them can speak as the node."""
    fields = {"kind": security.kind, **security.credentials(channels)}
    return json.dumps(fields).encode()


def read(credentials: bytes) -> Security:
    """The security that dials these peers as the node did. Raises ConfigError if the credentials
    are no longer valid, for instance after a certificate has expired."""
    fields = json.loads(credentials)
    kind = fields["kind"]
    return security_of(_READERS[kind](fields), ()) if kind in _READERS else security_of(None, ())


def _noise(fields: Mapping[str, Any]) -> Links:
    peers = {peer: (bytes.fromhex(key),) for peer, key in fields["peers"].items()}
    return NoiseKeys(bytes.fromhex(fields["private"]), peers)


def _tls(fields: Mapping[str, Any]) -> Links:
    # OpenSSL reads a certificate and its key from files only.
    with ExitStack() as files:
        paths = [files.enter_context(_in_memory(text)) for text in fields["files"]]
        return read_identity(fields["node_id"], *paths)


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
