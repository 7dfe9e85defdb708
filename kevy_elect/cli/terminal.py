"""Pages on a terminal: within its size, and with colours unless NO_COLOR is set."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import IO, Final, Protocol

from kevy_elect.cli.tables import Grid, Page

HIDE_CURSOR: Final = "\x1b[?25l"
SHOW_CURSOR: Final = "\x1b[?25h"
_LEAST: Final = 20
"""The fewest columns of the last cell of a row, at the cost of spare columns."""
_COLOURS: Final = {
    "primary": "1;32",
    "candidate": "33",
    **dict.fromkeys(("dead", "silent", "down", "error:"), "31"),
}
"""SGR codes of a row with one of these cells, or of a line with this beginning."""
_BEGINNINGS: Final = {"warning:": "33", "MAINTENANCE": "1;31"}


def is_colourful(out: IO[str]) -> bool:
    """Whether this is a terminal that shows colours, and NO_COLOR is not set."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(page: Page) -> str:
    """A whole page with colours, as wide as it is."""
    lines = [_lines(part, None) for part in page]
    return "\n\n".join("\n".join(_paint(each) for each in part) for part in lines)


def fitted(page: Page, columns: int, lines: int) -> list[str]:
    """The lines of a page that fit. Words are cut only if they are longer than a line. A history is
    reduced to its newest rows. If that is not enough, the end of the page is left out."""
    parts = [(part, _lines(part, columns)) for part in page]
    fixed = sum(len(text) for part, text in parts if not _grows(part))
    growing = [text for part, text in parts if _grows(part) and len(text) > 1]
    left = lines - fixed - sum(isinstance(part, Grid) and not _grows(part) for part, _ in parts[2:])
    shown: list[str] = []
    for part, text in parts:
        if _grows(part):
            if len(text) < 2:
                continue
            share = left // len(growing)
            growing.pop()
            if share < 3:
                continue
            text = [text[0], *_newest(text[1:], share - 2)]
            left -= len(text) + 1
        if shown and isinstance(part, Grid) and len(shown) > 1:
            shown.append("")
        shown += text
    return shown[:lines]


def _grows(part: Grid | str) -> bool:
    return isinstance(part, Grid) and part.grows


def _newest(lines: Sequence[str], room: int) -> Sequence[str]:
    """The last lines that fit, beginning with a whole row."""
    kept = list(lines[max(0, len(lines) - room) :])
    while kept and kept[0].startswith(" ") and len(kept) < len(lines):
        kept.pop(0)
    return kept


def _lines(part: Grid | str, columns: int | None) -> list[str]:
    if isinstance(part, str):
        return part.splitlines() if columns is None else textwrap.wrap(part, columns)
    return str(part).splitlines() if columns is None else list(_rows(part, columns))


def _rows(grid: Grid, columns: int) -> Iterator[str]:
    """The rows of a table, the last cell wrapped. Spare columns are left out if it is narrow."""
    names = list(grid.header)
    spare = [name for name in grid.spare if name in names]
    whole = [row for row in grid.rows if len(row) == len(grid.header)]

    def width(name: str) -> int:
        at = grid.header.index(name)
        return max(len(name), *(len(row[at]) for row in whole), 0)

    def wanted() -> int:
        widths = [width(name) for name in names]
        return sum(widths[:-1]) + 2 * len(widths[:-1]) + min(_LEAST, widths[-1])

    while spare and wanted() > columns:
        names.remove(spare.pop(0))
    places = [grid.header.index(name) for name in names]
    widths = [width(name) for name in names[:-1]]
    start = sum(widths) + 2 * len(widths)
    for row in (grid.header, *grid.rows):
        if len(row) != len(grid.header):
            yield from textwrap.wrap("  ".join(row), columns, subsequent_indent="  ")
            continue
        *cells, last = (row[at] for at in places)
        head = "".join(f"{cell:<{each}}  " for cell, each in zip(cells, widths, strict=True))
        parts = textwrap.wrap(last, max(8, columns - start)) or [""]
        yield (head + parts[0]).rstrip()
        yield from (" " * start + each for each in parts[1:])


def _paint(line: str) -> str:
    words = line.split()
    for word in words[:3]:
        if word in _COLOURS and not line.isupper():
            return f"\x1b[{_COLOURS[word]}m{line}\x1b[0m"
    if words and words[0] in _BEGINNINGS:
        return f"\x1b[{_BEGINNINGS[words[0]]}m{line}\x1b[0m"
    return line


class Board(Protocol):
    """A place where pages are shown."""

    small: bool
    """Whether a page should be short, because it has to fit on a screen."""

    def show(self, page: Page) -> None:
        """Show this page in place of the last one, or after it."""


@contextlib.contextmanager
def open_board() -> Iterator[Board]:
    """Redraw pages in place on a terminal, else print them one by one."""
    if not sys.stdout.isatty():
        yield PlainBoard(sys.stdout)
        return
    sys.stdout.write(HIDE_CURSOR)
    try:
        yield LiveBoard(sys.stdout)
    finally:
        sys.stdout.write(SHOW_CURSOR)
        sys.stdout.flush()


class PlainBoard:
    """Prints one page after another."""

    small = False

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, page: Page) -> None:
        print(*page, "", sep="\n", file=self._out, flush=True)


class LiveBoard:
    """Draws each page in place of the last one."""

    small = True

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._drawn = 0

    def show(self, page: Page) -> None:
        size = shutil.get_terminal_size()
        lines = fitted(page, size.columns, size.lines - 1)
        if is_colourful(self._out):
            lines = [_paint(each) for each in lines]
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._out.write(back + "".join(f"{each}\x1b[K\n" for each in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)
