"""Text from outside, made safe to print."""

from __future__ import annotations

from typing import Final

MAX_TEXT: Final = 120
"""The most characters of a remote text that are shown."""


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line of ASCII, at most `limit` characters, without terminal control codes.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    escaped = text[: limit + 1].encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."
