"""What the members of a measured cluster prove themselves by."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from kevy_elect.settings.links import Links, NoiseKeys, make_private_key, public_key, read_identity
from kevy_elect.transport.channel import Security
from kevy_elect.transport.security import security_of

_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """One that openssl makes, and the certificates that it signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._openssl("req", "-x509", *_CURVE, "-days", "2", "-subj", "/CN=ca", "-keyout",
                      "ca.key", "-out", "ca.pem")  # fmt: skip

    def member(self, name: str) -> list[str]:
        """The paths of its certificate and key, and of the authority."""
        (self._directory / "san").write_text(f"subjectAltName=URI:kevy-elect:{name}")
        self._openssl("req", *_CURVE, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out",
                      "csr")  # fmt: skip
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "san")
        self._openssl("x509", "-req", "-in", "csr", *signing, "-out", f"{name}.pem")
        return [str(self._directory / file) for file in (f"{name}.pem", f"{name}.key", "ca.pem")]

    def _openssl(self, *arguments: str) -> None:
        command = ("openssl", *arguments)
        subprocess.run(command, cwd=self._directory, check=True, capture_output=True, umask=0o077)


def make(kind: str, names: Collection[str], directory: Path) -> dict[str, Any]:
    """For each member, in JSON, what `security` reads."""
    if kind == "plain":
        return dict.fromkeys(names)
    if kind == "tls":
        authority = Authority(directory)
        return {name: {"tls": authority.member(name)} for name in names}
    private = {name: make_private_key(str(directory / f"{name}.noise")) for name in names}
    public = {name: public_key(key).hex() for name, key in private.items()}
    return {name: {"noise": private[name].hex(), "peers": public} for name in names}


def security(name: str, peers: Collection[str], made: dict[str, Any] | None) -> Security:
    """What the member `name` proves itself by to the others."""
    return security_of(_links(name, made), peers)


def _links(name: str, made: dict[str, Any] | None) -> Links:
    if made is None:
        return None
    if "tls" in made:
        return read_identity(name, *made["tls"])
    keys = {peer: (bytes.fromhex(key),) for peer, key in made["peers"].items() if peer != name}
    return NoiseKeys(bytes.fromhex(made["noise"]), keys)
