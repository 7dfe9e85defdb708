"""How the pages of a node are protected: by TLS, and by a token that whoever reads them sends."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from kevy_elect.config import is_loopback, parse_host
from kevy_elect.errors import ConfigError
from kevy_elect.settings.admin import parts
from kevy_elect.settings.files import read_private, read_regular
from kevy_elect.settings.pem import load_pair, readable, trusting

if TYPE_CHECKING:
    # Imported where it is used: most nodes, and clients that only name settings, need none of it.
    import ssl

MIN_TOKEN: Final = 16
MAX_TOKEN: Final = 256
_TOKEN: Final = re.compile(rb"[!-~]{%d,%d}" % (MIN_TOKEN, MAX_TOKEN))


@attrs.frozen(kw_only=True)
class PageSecurity:
    """What a node serves its pages by, and reads those of the others by."""

    token: bytes | None = attrs.field(default=None, repr=False)
    """What a reader has to send; None if anybody may read."""
    serving: ssl.SSLContext | None = attrs.field(default=None, eq=False, repr=False)
    """None if pages are served without TLS, and so are those of the others."""
    asking: ssl.SSLContext | None = attrs.field(default=None, eq=False, repr=False)
    content: str = ""
    """A digest of the files of TLS, by which two readings of them are compared."""


OPEN: Final = PageSecurity()
"""Pages that anybody may read who reaches them, without TLS."""


def read_token(path: str) -> bytes:
    """The token in a file, without the end of its line.

    Raises ConfigError if it cannot be read, holds none that can be sent, or others may use it.
    """
    remedy = "openssl rand -hex 32 prints one"
    token = read_private(path, remedy).rstrip(b"\r\n")
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"holds no token, a line of {MIN_TOKEN} to {MAX_TOKEN} printable ASCII characters "
            f"without spaces; {remedy}"
        )
    return token


def read_contexts(
    certificate: str, key: str, authority: str | None
) -> tuple[ssl.SSLContext, ssl.SSLContext, str]:
    """How pages are served and asked by TLS with these PEM files, and a digest of them. The
    system's authorities are trusted if no file names others.

    Raises ConfigError, naming the file, if one cannot be used.
    """
    import ssl

    digest = hashlib.sha256()
    read = {certificate: read_regular, key: read_private}
    if authority is not None:
        read[authority] = read_regular
    for path, reader in read.items():
        digest.update(readable(path, reader))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.options |= ssl.OP_NO_RENEGOTIATION
    serving.set_alpn_protocols(["http/1.1"])
    load_pair(serving, certificate, key)
    return serving, trusting(authority), digest.hexdigest()


def token_warning(values: Mapping[str, Any]) -> str | None:
    """What is to be said of these settings, if their token crosses a network in the clear."""
    if values["http-token-file"] is None or values["http-cert"] is not None:
        return None
    if not _reaches_beyond(values["http"]):
        return None
    return (
        "the token of --http-token-file crosses the network in plain text, and anyone who reads "
        "it can use it: give --http-cert and --http-key, or serve --http on 127.0.0.1 only"
    )


def is_in_the_clear(url: str) -> bool:
    """Whether what is sent to this page, `host:port` or a URL, can be read on the way."""
    scheme, found, rest = url.partition("://")
    host = parse_host((rest if found else url).partition("/")[0])
    return scheme != "https" and not is_loopback(host)


def _reaches_beyond(endpoint: str) -> bool:
    """Whether other machines may reach what is served on this endpoint."""
    kind, *rest = parts(endpoint)
    if kind == "unix":
        return False
    named = [each.removeprefix("interface=") for each in rest if each.startswith("interface=")]
    return not (named and is_loopback(named[0]))
