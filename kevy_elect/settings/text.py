"""How values of a setting are written for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

V = TypeVar("V")


def shown(value: Any) -> str:
    """A value as it was or could be written, on one line, for a message or a table."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(value, default=str)
    except ValueError:  # a number with more digits than Python writes
        return "which is far too large"
    except RecursionError:
        return "which is nested too deeply"


def sides(values: Mapping[str, V], text: Callable[[V], str]) -> str | None:
    """Which members have which value, each written by `text`; None unless they differ. `values`
    has the value of each member, by its id."""
    found: dict[V, list[str]] = {}
    for node_id, value in values.items():
        found.setdefault(value, []).append(node_id)
    if len(found) < 2:
        return None
    return "; ".join(f"{text(value)} on {', '.join(ids)}" for value, ids in found.items())
