"""The protection of a node's pages: TLS, and a token that readers must send."""

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
    """The TLS contexts and the token of a node's pages, also for reading the pages of other
    members."""

    token: bytes | None = attrs.field(default=None, repr=False)
    """The token that a reader must send; None if anybody may read."""
    serving: ssl.SSLContext | None = attrs.field(default=None, eq=False, repr=False)
    """The context for serving; None without TLS. Then the other members' pages have no TLS
    either."""
    asking: ssl.SSLContext | None = attrs.field(default=None, eq=False, repr=False)
    content: str = ""
    """A digest of the TLS files, by which a change of them is detected."""
    sentinel: ssl.SSLContext | None = attrs.field(default=None, eq=False, repr=False)
    """The context for serving clients of Redis Sentinel; None without TLS."""
    sentinel_content: str = ""
    """A digest of the files of that."""


OPEN: Final = PageSecurity()
"""No protection: anybody who reaches the pages may read them, without TLS."""


def read_token(path: str) -> bytes:
    """The token in a file, without the end of its line.

    Raises ConfigError if the file cannot be read, has no token that can be sent, or others may use
    it.
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
    """The contexts for serving pages and for asking other pages with these PEM files, and a digest
    of the files. Without a file of authorities, those of the system are trusted.

    Raises ConfigError, naming the file, if one cannot be used.
    """
    serving, content = read_serving(certificate, key)
    serving.set_alpn_protocols(["http/1.1"])
    if authority is not None:
        content += hashlib.sha256(readable(authority, read_regular)).hexdigest()
    return serving, trusting(authority), content


def read_serving(certificate: str, key: str) -> tuple[ssl.SSLContext, str]:
    """The context for serving with these PEM files, and a digest of the files.

    Raises ConfigError, naming the file, if one cannot be used.
    """
    import ssl

    digest = hashlib.sha256()
    for path, reader in ((certificate, read_regular), (key, read_private)):
        digest.update(readable(path, reader))
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.options |= ssl.OP_NO_RENEGOTIATION
    load_pair(serving, certificate, key)
    return serving, digest.hexdigest()


def token_warning(values: Mapping[str, Any]) -> str | None:
    """A warning if the token of these settings crosses a network without encryption, or None."""
    if values["http-token-file"] is None or values["http-cert"] is not None:
        return None
    if not _reaches_beyond(values["http"]):
        return None
    return (
        "the token of --http-token-file crosses the network in plain text, and anyone who reads "
        "it can use it: give --http-cert and --http-key, or serve --http on 127.0.0.1 only"
    )


def is_in_the_clear(url: str) -> bool:
    """Whether data for this page, `host:port` or a URL, crosses a network without encryption."""
    scheme, found, rest = url.partition("://")
    host = parse_host((rest if found else url).partition("/")[0])
    return scheme != "https" and not is_loopback(host)


def _reaches_beyond(endpoint: str) -> bool:
    """Whether other machines may reach this endpoint."""
    kind, *rest = parts(endpoint)
    if kind == "unix":
        return False
    named = [each.removeprefix("interface=") for each in rest if each.startswith("interface=")]
    return not (named and is_loopback(named[0]))
