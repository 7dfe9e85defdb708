"""What nodes say of themselves over HTTP, read from outside.

What a page says is never trusted: it is bounded, what is judged is checked field by
field, and everything is escaped before it reaches a terminal.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from kevy_elect.messages import U64_MAX, Role

MAX_PAGE: Final = 1024 * 1024
"""Bytes of a status page; a node's own is a few hundred a member."""
MAX_TEXT: Final = 120
"""Characters of anything remote that are shown."""
HEADER: Final = ("NODE", "ROLE", "EPOCH", "PRIMARY", "LEASE", "QUORUM", "DOWN")


@attrs.frozen(kw_only=True)
class Status:
    """The part of a status page that is shown and judged, every type checked."""

    node_id: str
    role: Role
    epoch: int
    current_primary: str | None
    primary_addr: str | None
    lease_expires_in: float | None
    """Seconds; None for a lease without end, that of a cluster of one."""
    has_quorum: bool
    can_write: bool
    down_peers: tuple[str, ...]

    @classmethod
    def parse(cls, page: bytes) -> Status:
        """Read a status page. Raises ValueError saying what is wrong with it."""
        return cls.of(load(page))

    @classmethod
    def of(cls, found: dict[str, Any]) -> Status:
        """Read what a status page holds. Raises ValueError saying what is wrong with it."""
        return cls(
            node_id=_text(found, "node_id"),
            role=_role(found),
            epoch=_epoch(found),
            current_primary=_optional_text(found, "current_primary"),
            primary_addr=_optional_text(found, "primary_addr"),
            lease_expires_in=_lease(found),
            has_quorum=_flag(found, "has_quorum"),
            can_write=_flag(found, "can_write"),
            down_peers=_texts(found, "down_peers"),
        )


@attrs.frozen
class Answer:
    """What came of asking one node: a status, or the reason why there is none."""

    url: str
    status: Status | None = None
    error: str | None = None
    told: dict[str, Any] | None = None
    """All that it said, unchecked, even if that is no status."""

    @classmethod
    def of(cls, url: str, told: dict[str, Any]) -> Answer:
        """The answer of a node that said this."""
        try:
            return cls(url, status=Status.of(told), told=told)
        except ValueError as error:
            return cls(url, error=str(error), told=told)


def load(page: bytes) -> dict[str, Any]:
    """The object that a page is. Raises ValueError if it is none."""
    try:
        found = json.loads(page)
    except (ValueError, RecursionError):
        raise ValueError("the page is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the page is no JSON object")
    return found


def _wrong(name: str) -> ValueError:
    return ValueError(f"the page has no valid {name}")


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise _wrong(name)
    return value


def _optional_text(found: dict[str, Any], name: str) -> str | None:
    return None if name in found and found[name] is None else _text(found, name)


def _texts(found: dict[str, Any], name: str) -> tuple[str, ...]:
    values = found.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _wrong(name)
    return tuple(values)


def _flag(found: dict[str, Any], name: str) -> bool:
    value = found.get(name)
    if not isinstance(value, bool):
        raise _wrong(name)
    return value


def _role(found: dict[str, Any]) -> Role:
    try:
        return Role(_text(found, "role"))
    except ValueError:
        raise _wrong("role") from None


def _epoch(found: dict[str, Any]) -> int:
    value = found.get("epoch")
    if type(value) is not int or not 0 <= value <= U64_MAX:  # a bool is an int too
        raise _wrong("epoch")
    return value


def _lease(found: dict[str, Any]) -> float | None:
    value = found.get("lease_expires_in", "")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= U64_MAX:
        raise _wrong("lease_expires_in")
    return float(value)


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
        told = load(_get(url, timeout))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(url, error=_reason(error))
    return Answer.of(url, told)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow none: a node's page stands where the operator says."""


# No proxy either, whatever the environment says: nodes are asked directly.
_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _get(url: str, timeout: float) -> bytes:
    with _opener.open(url, timeout=timeout) as response:
        page: bytes = response.read(MAX_PAGE + 1)
    if len(page) > MAX_PAGE:
        raise ValueError(f"the page is longer than {MAX_PAGE} bytes")
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
