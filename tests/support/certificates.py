"""A small certificate authority for tests."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kevy_elect.settings.links import read_identity
from kevy_elect.transport.tls import TlsSecurity

DAY = datetime.timedelta(days=1)
HERE: Final = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
"""The name of a server on loopback."""


class Authority:
    """Signs certificates; its own is in `path`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.path = directory / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key.public_key(), 365).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._write(self.path, own.sign(self._key, hashes.SHA256()))

    def sign(
        self, file: str, names: Iterable[x509.GeneralName], days: float = 60
    ) -> tuple[str, str]:
        """The paths of a new certificate with these alternative names, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, file)])
        builder = self._builder(subject, key.public_key(), days)
        names = list(names)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate, secret = self.directory / f"{file}.pem", self.directory / f"{file}.key"
        self._write(certificate, builder.sign(self._key, hashes.SHA256()))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        os.chmod(secret, 0o600)
        return str(certificate), str(secret)

    def member(self, node_id: str, days: float = 60) -> tuple[str, str]:
        """The paths of a member's certificate and key."""
        uri = x509.UniformResourceIdentifier(f"kevy-elect:{node_id}")
        return self.sign(f"{self.path.stem}-{node_id}", [uri], days)

    def security(self, node_id: str, *peers: str) -> TlsSecurity:
        """The security of a member with a new certificate."""
        return TlsSecurity(read_identity(node_id, *self.member(node_id), str(self.path)), peers)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + days * DAY)
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
