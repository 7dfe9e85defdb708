"""Access to the pages of a node: for everyone, or for clients that send its token."""

from __future__ import annotations

import base64
import binascii
import hmac

from kevy_elect.settings.pages import OPEN, PageSecurity


class PageAccess:
    """The present security of the pages; `present` may be replaced while they are served."""

    def __init__(self, present: PageSecurity = OPEN) -> None:
        self.present = present

    def admits(self, authorization: bytes | None) -> bool:
        """Whether a request with this header may be answered. The token may be that of a bearer, or
        the password of any user, which a browser can send."""
        wanted = self.present.token
        return wanted is None or hmac.compare_digest(_sent(authorization or b""), wanted)

    @property
    def authorization(self) -> bytes | None:
        """The header for requests to the other members, which have the same token."""
        token = self.present.token
        return None if token is None else b"Bearer " + token


def _sent(authorization: bytes) -> bytes:
    scheme, _, given = authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return given.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            pass
    return b""
