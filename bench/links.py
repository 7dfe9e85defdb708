"""Handshakes and heartbeats per second of CPU by noise and tls, beside plain links.

Both ends of a connection in one process, without sockets: what a channel costs beyond TCP.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench.report import Table, parser, publish
from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.settings.links import read_identity
from kevy_elect.transport.channel import PLAIN_SECURITY, Channel, Security
from kevy_elect.transport.noise import NoiseSecurity, public_bytes
from kevy_elect.transport.tls import TlsSecurity

FRAME: Final = wire.encode(Heartbeat(3, "a", Role.REPLICA, 42))
CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
Ends = tuple[Security, Security]


def noise_ends() -> Ends:
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    return NoiseSecurity(a, {"b": [public_bytes(b)]}), NoiseSecurity(b, {"a": [public_bytes(a)]})


def tls_ends(directory: Path) -> Ends:
    """Two members with certificates of an authority that openssl makes."""

    def openssl(*arguments: str) -> None:
        command = ("openssl", *arguments)
        subprocess.run(command, cwd=directory, check=True, capture_output=True, umask=0o077)

    def member(name: str) -> tuple[str, str, str]:
        (directory / "san").write_text(f"subjectAltName=URI:kevy-elect:{name}")
        openssl("req", *CURVE, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "csr")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", "csr", *signing, "-out", f"{name}.pem")
        return tuple(str(directory / file) for file in (f"{name}.pem", f"{name}.key", "ca.pem"))  # type: ignore[return-value]

    openssl("req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out",
            "ca.pem")  # fmt: skip
    a, b = read_identity("a", *member("a")), read_identity("b", *member("b"))
    return TlsSecurity(a, ["b"]), TlsSecurity(b, ["a"])


def connect(ends: Ends) -> tuple[Channel, Channel]:
    """A connection of a to b, established at both ends."""
    dialled, accepted = ends[0].dials("b"), ends[1].accepts()
    there = dialled.start()
    while there:
        _, back = accepted.receive(there)
        _, there = dialled.receive(back) if back else (b"", b"")
    assert dialled.established
    assert accepted.established
    return dialled, accepted


def shake(ends: Ends, times: int) -> None:
    for _ in range(times):
        connect(ends)


def beat(ends: Ends, times: int) -> None:
    """Heartbeats that are sealed, opened and decoded one by one."""
    dialled, accepted = connect(ends)
    decoder = wire.Decoder(wire.MESSAGES)
    for _ in range(times):
        plain, _ = accepted.receive(dialled.seal(FRAME))
        decoder.feed(plain)
        assert decoder.next_message() is not None


def cost(work: Callable[[Ends, int], None], ends: Ends, times: int) -> float:
    """Microseconds of CPU each."""
    started = time.process_time()
    work(ends, times)
    return (time.process_time() - started) / times * 1e6


def measure(kinds: Mapping[str, Ends], beats: int, repetitions: int) -> list[Table]:
    tables = []
    for what, work, times, floor in (
        ("handshake", shake, max(1, beats // 100), "noise"),
        ("heartbeat", beat, beats, "plain"),
    ):
        table = Table(f"links: CPU of one {what}, both ends")
        chosen = {kind: ends for kind, ends in kinds.items() if kind != "plain" or floor == kind}
        samples = [
            {kind: cost(work, ends, times) for kind, ends in chosen.items()}
            for _ in range(repetitions)
        ]
        beside = table.add(floor, "µs CPU", [each[floor] for each in samples])
        for kind in chosen:
            if kind != floor:
                table.compare(kind, "µs CPU", [each[kind] for each in samples], beside)
        tables.append(table)
    return tables


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--beats", type=int, default=20_000, help="and a hundredth in handshakes")
    made.add_argument("--repetitions", type=int, default=7)
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        kinds = {"plain": (PLAIN_SECURITY, PLAIN_SECURITY), "noise": noise_ends()}
        kinds["tls"] = tls_ends(Path(directory))
        publish(options, lambda: measure(kinds, options.beats, options.repetitions))


if __name__ == "__main__":
    main()
