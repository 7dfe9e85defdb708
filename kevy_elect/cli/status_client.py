"""The status pages of nodes, read over HTTP.

The size of a page is bounded, and a part of a page is never used.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from kevy_elect.cli.responses import Response
from kevy_elect.errors import StatusError
from kevy_elect.status import MAX_BYTES, read


def ask_all(urls: Sequence[str], timeout: float, token: str | None = None) -> list[Response]:
    """Ask all pages at once. This ends after `timeout` seconds in any case."""
    responses: dict[str, Response] = {}

    def run(url: str) -> None:
        responses[url] = ask(url, timeout, token)

    # A socket's timeout restarts with every byte. A slow page therefore needs a thread that can be
    # left behind; a pool would wait for it at exit.
    threads = [threading.Thread(target=run, args=(url,), daemon=True) for url in urls]
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {timeout:g} s"
    return [responses.get(url) or Response(url, error=late) for url in urls]


def ask(url: str, timeout: float, token: str | None = None) -> Response:
    """Ask one page, with the token if there is one. Any problem becomes part of the response."""
    try:
        return Response(url, read(_get(url, timeout, token)))
    except (OSError, http.client.HTTPException, StatusError) as error:
        return Response(url, error=_reason(error))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Refuse all redirects: a node's page is at the address that the operator gave."""


# Nodes are asked directly, without the proxies of the environment.
_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _get(url: str, timeout: float, token: str | None) -> bytes:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with _opener.open(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
        document: bytes = response.read(MAX_BYTES + 1)
    return document


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        if error.code == HTTPStatus.MISDIRECTED_REQUEST:
            return "it does not answer to this host name: use its address, or give it --http-host"
        if error.code == HTTPStatus.UNAUTHORIZED:
            return "it requires a token: give --token-file"
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        if not isinstance(error.reason, Exception):
            return str(error.reason)
        error = error.reason
    if isinstance(error, http.client.HTTPException):
        return "the answer is no HTTP"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
