"""What members prove themselves by, for clusters of a test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from kevy_elect.settings.links import make_private_key, public_key
from tests.support.certificates import Authority

KINDS: Final = ("plain", "noise", "tls")


def options(kind: str, ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    """The options of each member, whose links are of this kind. Their files are made in
    `directory`."""
    if kind == "noise":
        return _noise(ids, directory)
    if kind == "tls":
        return _tls(ids, directory)
    return {node_id: [] for node_id in ids}


def _noise(ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    private = {node_id: str(directory / f"{node_id}.noise") for node_id in ids}
    public = {node_id: public_key(make_private_key(path)) for node_id, path in private.items()}
    peers = ",".join(f"{node_id}={key.hex()}" for node_id, key in public.items())
    shared = ["--links=noise", f"--peer-keys={peers}"]
    return {node_id: [*shared, f"--noise-key={private[node_id]}"] for node_id in ids}


def _tls(ids: Collection[str], directory: Path) -> Mapping[str, list[str]]:
    authority = Authority(directory)
    shared = ["--links=tls", f"--tls-ca={authority.path}"]
    found = {}
    for node_id in ids:
        certificate, key = authority.member(node_id)
        found[node_id] = [*shared, f"--tls-cert={certificate}", f"--tls-key={key}"]
    return found
