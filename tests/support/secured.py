"""Keys and certificates of the members of clusters in tests and benchmarks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from kevy_elect.settings.links import (
    Links,
    NoiseKeys,
    make_private_key,
    public_key,
    read_identity,
    read_private_key,
)
from kevy_elect.transport.channel import Security
from kevy_elect.transport.security import security_of

KINDS: Final = ("plain", "noise", "tls")
IN_TURN: Final = {"mixed": ("plain", "noise"), **{kind: (kind,) for kind in KINDS}}
"""The kinds of links that a campaign uses one after another, each for the same time."""


def options(kind: str, ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    """The options of each member for links of this kind. The files are made in `directory`."""
    if kind == "noise":
        return _noise(ids, directory)
    if kind == "tls":
        return _tls(ids, directory)
    return {node_id: [] for node_id in ids}


def security(node_id: str, peers: Collection[str], given: Iterable[str]) -> Security:
    """The security of the member with these options, which `options` returned."""
    return security_of(_links(node_id, peers, given), peers)


def _links(node_id: str, peers: Collection[str], given: Iterable[str]) -> Links:
    named = dict(option.removeprefix("--").split("=", 1) for option in given)
    kind = named.get("links", "plain")
    if kind == "noise":
        listed = dict(entry.split("=") for entry in named["peer-keys"].split(","))
        keys = {peer: (bytes.fromhex(listed[peer]),) for peer in peers}
        return NoiseKeys(read_private_key(named["noise-key"]), keys)
    if kind == "tls":
        return read_identity(node_id, named["tls-cert"], named["tls-key"], named["tls-ca"])
    return None


def _noise(ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    private = {node_id: str(directory / f"{node_id}.noise") for node_id in ids}
    public = {node_id: public_key(make_private_key(path)) for node_id, path in private.items()}
    peers = ",".join(f"{node_id}={key.hex()}" for node_id, key in public.items())
    shared = ["--links=noise", f"--peer-keys={peers}"]
    return {node_id: [*shared, f"--noise-key={private[node_id]}"] for node_id in ids}


def _tls(ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    from tests.support.certificates import Authority  # imported at its use, because it loads much

    authority = Authority(directory)
    shared = ["--links=tls", f"--tls-ca={authority.path}"]
    found = {}
    for node_id in ids:
        certificate, key = authority.member(node_id)
        found[node_id] = [*shared, f"--tls-cert={certificate}", f"--tls-key={key}"]
    return found
