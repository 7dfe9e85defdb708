"""What nodes say of themselves over HTTP, read from outside.

A page is never trusted: its size is bounded, it is taken whole or not at all, and all of
it is escaped before it reaches a terminal.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from kevy_elect.errors import StatusError
from kevy_elect.status import MAX_BYTES, Status, read

MAX_TEXT: Final = 120
"""Characters of anything remote that are shown."""
HEADER: Final = ("NODE", "ROLE", "EPOCH", "PRIMARY", "LEASE", "QUORUM", "DOWN")


@attrs.frozen
class Answer:
    """What came of asking one node: its status, or the reason why there is none."""

    url: str
    status: Status | None = None
    error: str | None = None


# Asking


def ask_all(urls: Sequence[str], timeout: float) -> list[Answer]:
    """Ask all pages at once; done after `timeout` seconds whatever they do."""
    answers: dict[str, Answer] = {}

    def run(url: str) -> None:
        answers[url] = ask(url, timeout)

    # A socket's timeout starts anew with every byte, so a page that trickles needs
    # a thread that can be left behind; a pool would wait for it at exit.
    threads = [threading.Thread(target=run, args=(url,), daemon=True) for url in urls]
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {timeout:g} s"
    return [answers.get(url) or Answer(url, error=late) for url in urls]


def ask(url: str, timeout: float) -> Answer:
    """Ask one page. Whatever is wrong with it ends up in the answer."""
    try:
        return Answer(url, read(_get(url, timeout)))
    except (OSError, http.client.HTTPException, StatusError) as error:
        return Answer(url, error=_reason(error))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow none: a node's page stands where the operator says."""


# No proxy either, whatever the environment says: nodes are asked directly.
_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _get(url: str, timeout: float) -> bytes:
    with _opener.open(url, timeout=timeout) as response:
        page: bytes = response.read(MAX_BYTES + 1)
    return page


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        if not isinstance(error.reason, Exception):
            return str(error.reason)
        error = error.reason
    if isinstance(error, http.client.HTTPException):
        return "the answer is no HTTP"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


# Showing


def cells(answer: Answer) -> tuple[str, ...]:
    """One line of the table: as many cells as HEADER has, or just where and the error."""
    status = answer.status
    if status is None:
        return printable(_place(answer.url)), printable(f"error: {answer.error}")
    return (
        printable(status.node_id),
        status.role.value,
        str(status.epoch),
        _shown(status.current_primary),
        _lease_left(status),
        "yes" if status.has_quorum else "no",
        _shown(",".join(status.down_peers)),
    )


def _place(url: str) -> str:
    """Host and port, or `url` itself: not all who are asked have one."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).netloc or url
    return url


def _lease_left(status: Status) -> str:
    """What is left of a primary's lease."""
    if not status.can_write:
        return "-"
    left = status.lease_expires_in
    return "no end" if left is None else f"{left:.2f} s"


def _shown(text: str | None) -> str:
    return printable(text) if text else "-"


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line of ASCII, at most `limit` characters, nothing left that a terminal obeys.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    escaped = text[: limit + 1].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."
