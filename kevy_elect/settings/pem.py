"""Certificates and private keys in PEM files, loaded into a TLS context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from kevy_elect.errors import ConfigError
from kevy_elect.settings.files import read_private, read_regular
from kevy_elect.settings.text import shown

if TYPE_CHECKING:
    # Imported where it is used: most nodes, and clients that only name settings, need none of it.
    import ssl


@attrs.frozen(kw_only=True)
class ClientTls:
    """The files by which a client authenticates a server, and itself to the server.

    `authority` has the certificates of the authorities that may sign the server's certificate.
    `certificate` and `key` are the client's own, or None if the server requires none.
    """

    authority: str
    certificate: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """A context with the present contents of the files. Raises ConfigError, naming the file."""
        readable(self.authority, read_regular)
        context = trusting(self.authority)
        if self.certificate is not None and self.key is not None:
            readable(self.certificate, read_regular)
            readable(self.key, read_private)
            load_pair(context, self.certificate, self.key)
        return context


def readable(path: str, reader: Any) -> bytes:
    """The content of the file, read by a reader of `settings.files`. Raises ConfigError, naming the
    file."""
    try:
        content: bytes = reader(path, "name a file in PEM")
    except ConfigError as error:
        raise ConfigError(f"{shown(path)} {error}") from None
    return content


def trusting(authority: str | None) -> ssl.SSLContext:
    """A client's context that trusts the authorities in this file, by default those of the system.
    Raises ConfigError, naming the file."""
    import ssl

    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(
            f"{shown(authority)} holds no certificate of an authority in PEM ({reason(error)})"
        ) from None


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Add this certificate and its key to the context. Raises ConfigError, naming the files."""
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except OSError as error:
        raise ConfigError(
            f"{shown(certificate)} and {shown(key)} are no certificate and its private key in PEM "
            f"({reason(error)})"
        ) from None


def reason(error: OSError) -> str:
    """The reason of OpenSSL or the system, as text."""
    said = getattr(error, "verify_message", None) or getattr(error, "reason", None)
    return str(said or error.strerror or error).lower().replace("_", " ")


def _no_password() -> str:
    """Refuse an encrypted key: a node that starts without an operator cannot use it."""
    raise ConfigError("the private key is encrypted, and the node cannot ask for its password")
