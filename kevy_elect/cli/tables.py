"""What people watch: tables that are redrawn in place on a terminal, or plain text."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, Protocol

import attrs

from kevy_elect.cli.status_client import HEADER, Answer, cells, printable
from kevy_elect.messages import Role
from kevy_elect.status import Status

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from kevy_elect.cli.demo import Node

State = tuple[str, str]
"""What a node is, in one word, and the rest of what there is to say of it."""
STARTING: Final = ("starting", "")
STYLES: Final = {
    "primary": "bold green",
    "candidate": "yellow",
    **dict.fromkeys(("dead", "silent", "down"), "red"),
}
"""How the row of a node looks whose ROLE is this."""


# Tables and what they show


@attrs.frozen
class Grid:
    """A table: cells of printable text. A row of two cells is an error: where, and what."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def __str__(self) -> str:
        """Aligned text, one line each."""
        lines = [self.header, *self.rows]
        # An error stands across the columns and does not stretch them.
        measured = [line for line in lines if len(line) == len(self.header)]
        widths = [max(map(len, column)) for column in zip(*measured, strict=True)]
        widths[0] = max(len(line[0]) for line in lines)
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
            for line in lines
        )


Page = Sequence[Grid | str]


def state_of(answer: Answer) -> State:
    """What a node is by its own account, or `silent` and why."""
    status = answer.status
    return ("silent", printable(answer.error or "")) if status is None else _state(status)


def _state(status: Status) -> State:
    rest = f"epoch {status.epoch}"
    if status.role is Role.PRIMARY:
        rest += ", can write" if status.can_write else ", without the lease"
    elif status.role is Role.REPLICA:
        primary = status.current_primary
        rest += f", follows {printable(primary)}" if primary else ", knows no primary"
    return status.role.value, rest


class Changes:
    """The steps of nodes from one state to the next."""

    def __init__(self) -> None:
        self._known: dict[str, State] = {}

    def note(self, node: str, now: State) -> str | None:
        """The step of this node to its state `now` in a few words; None if it is no news."""
        before = self._known.get(node)
        self._known[node] = now
        return None if now == before else change(before, now)


def change(before: State | None, now: State) -> str:
    """The step from one state of a node to the next, in a few words."""
    word, rest = now
    if before is not None and before[0] != word:
        word = f"{before[0]} -> {word}"
    return f"{word}, {rest}" if rest else word


def drawn(page: Page) -> RenderableType:
    """The page for a terminal; nothing in it is taken for markup."""
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


def _can_draw() -> bool:
    return sys.stdout.isatty() and importlib.util.find_spec("rich") is not None


# Where pages are watched


@contextlib.contextmanager
def open_board() -> Iterator[Board]:
    """Redraws pages in place on a terminal if rich is there, else prints them one by one."""
    if not _can_draw():
        if sys.stdout.isatty():
            print(
                "kevy-elect: to see tables redrawn in place, install rich: "
                "pip install 'kevy-elect[rich]'",
                file=sys.stderr,
            )
        yield PlainBoard(sys.stdout)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield LiveBoard(live)


class Board(Protocol):
    """Where pages are watched."""

    def show(self, page: Page) -> None:
        """Show this instead of, or after, the page before."""


class PlainBoard:
    """Pages one after the other."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, page: Page) -> None:
        print(*page, "", sep="\n", file=self._out, flush=True)


class LiveBoard:
    """Each page in the place of the one before."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, page: Page) -> None:
        self._live.update(drawn(page), refresh=True)


# Where the demo is watched


class Screen(Protocol):
    """Where the demo is watched."""

    def show(self, nodes: Sequence[Node]) -> None:
        """Show the state of all nodes, as far as it is news."""

    def step(self, text: str) -> None:
        """Say what the demo does or found, and when."""

    def say(self, text: str) -> None:
        """Print as it is."""


@contextlib.contextmanager
def open_screen() -> Iterator[Screen]:
    """A live table on a terminal if rich is there, else one line per change."""
    if not _can_draw():
        yield Lines(sys.stdout)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield LiveTable(live)


def state(node: Node) -> State:
    """What a node of the demo is."""
    if node.process is None or node.has_ended():
        return "dead", ""
    if node.answer is None or (node.answer.status is None and not node.ready):
        return STARTING
    return state_of(node.answer)


class Lines:
    """One line per change."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._started = time.monotonic()
        self._changes = Changes()

    def show(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            now = state(node)
            news = self._changes.note(node.node_id, now)
            if news is not None and now != STARTING:  # a step has just said so
                self._at(f"{node.node_id}: {news}")

    def step(self, text: str) -> None:
        self._at(f"== {text}")

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _at(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._started:7.2f} s  {text}")


class LiveTable:
    """A table that is redrawn in place, below the steps."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._started = time.monotonic()

    def show(self, nodes: Sequence[Node]) -> None:
        self._live.update(drawn([_grid(nodes)]), refresh=True)

    def step(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._started:7.2f} s  {text}")

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _grid(nodes: Sequence[Node]) -> Grid:
    rows = []
    for node in nodes:
        word, _ = state(node)
        row: tuple[str, ...] = (node.node_id, word, *["-"] * (len(HEADER) - 2))
        if node.answer is not None and node.status is not None and word != "dead":
            row = cells(node.answer)
        rows.append((*row, str(node.pid or "-")))
    return Grid((*HEADER, "PROCESS"), rows)
