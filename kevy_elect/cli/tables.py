"""Tables that are redrawn in place on a terminal, or printed as plain text."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES: Final = {
    "primary": "bold green",
    "candidate": "yellow",
    **dict.fromkeys(("dead", "silent", "down"), "red"),
}
"""The style of a node's row by its ROLE."""


@attrs.frozen
class Grid:
    """A table with cells of printable text. A row of two cells is an error: a place and its
    text."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    spare: tuple[str, ...] = ()
    """Columns that may be left out if there is no room, beginning with the first."""
    grows: bool = False
    """Whether it is a history, of which only the newest rows are shown if there is no room."""

    def __str__(self) -> str:
        """The table as aligned text, with a line for each row."""
        lines = [self.header, *self.rows]
        # An error spans the columns and does not widen them.
        measured = [line for line in lines if len(line) == len(self.header)]
        widths = [max(map(len, column)) for column in zip(*measured, strict=True)]
        widths[0] = max(len(line[0]) for line in lines)
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
            for line in lines
        )


Page = Sequence[Grid | str]


def drawn(page: Page) -> RenderableType:
    """The page for a terminal. It does not interpret any text as markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for each in page:
        if isinstance(each, str):
            parts.append(Text(each))
            continue
        table, errors = Table(*each.header), []
        for row in each.rows:
            if len(row) < len(each.header):
                errors.append(Text(": ".join(row), style="red"))
                row = (row[0], "silent", *["-"] * (len(each.header) - 2))
            role = dict(zip(each.header, row, strict=True)).get("ROLE", "")
            table.add_row(*map(Text, row), style=STYLES.get(role))
        parts += [table, *errors]
    return Group(*parts)


def can_draw() -> bool:
    """Whether tables can be redrawn in place: on a terminal, with rich."""
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None
