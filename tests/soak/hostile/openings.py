"""The first bytes of a stranger's connection to members with secure links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kevy_elect.transport.channel import PLAIN_SECURITY, Security
from kevy_elect.transport.noise import NoiseSecurity
from tests.support.certificates import Authority
from tests.support.secured import security


class Stranger:
    """Knows the public keys of all members, and has recorded their first messages."""

    def __init__(self, links: str, members: Mapping[str, Sequence[str]], directory: Path) -> None:
        """`members` are the options of each member."""
        self._security = _own(links, members, directory)
        self.recorded = {
            member: security(other, [member], given).dials(member).start()
            for member in members
            for other, given in [next(each for each in members.items() if each[0] != member)]
        }

    def opening(self, member: str) -> bytes:
        """New first bytes for this member; none on plain links."""
        return self._security.dials(member).start()


def _own(links: str, members: Mapping[str, Sequence[str]], directory: Path) -> Security:
    if links == "noise":
        (given, *_) = (dict(_named(options)) for options in members.values())
        listed = [entry.split("=") for entry in given["peer-keys"].split(",")]
        keys = {member: [bytes.fromhex(key)] for member, key in listed}
        return NoiseSecurity(X25519PrivateKey.generate(), keys)
    if links == "tls":
        return Authority(directory, "strangers").security("a", *members)
    return PLAIN_SECURITY


def _named(options: Sequence[str]) -> list[list[str]]:
    return [option.removeprefix("--").split("=", 1) for option in options]
