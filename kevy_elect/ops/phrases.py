"""Names of members in a sentence."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def either(names: Sequence[str], one: str, many: str) -> str:
    """The form of a word for so many names."""
    return one if len(names) == 1 else many


def do(names: Sequence[str]) -> str:
    """The auxiliary verb for these names."""
    return either(names, "does", "do")
