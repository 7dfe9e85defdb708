"""Replies of RESP2 and RESP3, the protocol of Redis: values to bytes, pure.

`None` is the null, in RESP2 the null array; a `dict` is a map or, in RESP2, the array of its
keys and values; `int`, `str` and `list` are their counterparts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Simple:
    """A word of Redis itself, such as OK."""

    text: str


@attrs.frozen
class Error:
    """An error; its first word is a code for programs."""

    text: str


@attrs.frozen
class Push:
    """A message without a request, in RESP2 an array."""

    items: Sequence[Any]


def encode(value: Any, version: int) -> bytes:
    """The encoding of `value` in this version, 2 or 3."""
    match value:
        case None:
            return b"_\r\n" if version == 3 else b"*-1\r\n"
        case Simple(text):
            return b"+%b\r\n" % _line(text)
        case Error(text):
            return b"-%b\r\n" % _line(text)
        case int():
            return b":%d\r\n" % value
        case str():
            return encode(value.encode("latin-1", "replace"), version)
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case Push(items):
            return _array(b">" if version == 3 else b"*", items, len(items), version)
        case Mapping():
            flat = [each for pair in value.items() for each in pair]
            if version == 3:
                return _array(b"%", flat, len(value), version)
            return _array(b"*", flat, len(flat), version)
        case _:
            return _array(b"*", value, len(value), version)


def _array(marker: bytes, items: Iterable[Any], count: int, version: int) -> bytes:
    return b"%b%d\r\n" % (marker, count) + b"".join(encode(each, version) for each in items)


def _line(text: str) -> bytes:
    """The text without characters that would end the line early."""
    return "".join(each if " " <= each <= "~" else "?" for each in text).encode("ascii")
