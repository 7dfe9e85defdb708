"""How a value of a setting is written for people."""

from __future__ import annotations

import json
from typing import Any


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
