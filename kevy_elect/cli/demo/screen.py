"""The display of the demo: a live table on a terminal, or a line for each change."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Protocol

from kevy_elect.cli.demo.nodes import Node
from kevy_elect.cli.responses import (
    HEADER,
    SERVER_HEADER,
    STARTING,
    Changes,
    State,
    cells,
    server_cells,
    state_of,
)
from kevy_elect.cli.tables import Grid, can_draw, drawn

if TYPE_CHECKING:
    from rich.live import Live


class Screen(Protocol):
    """The display of the demo."""

    def show(self, nodes: Sequence[Node], footer: Sequence[str] = ()) -> None:
        """Show the states of all nodes, as far as they are new. `footer` are lines that change all
        the time, for a display that can redraw them."""

    def step(self, text: str) -> None:
        """Show, with the time, what the demo does or has found."""

    def say(self, text: str) -> None:
        """Print the text unchanged."""


@contextlib.contextmanager
def open_screen() -> Iterator[Screen]:
    """A live table on a terminal if rich is installed, else a line for each change."""
    if not can_draw():
        yield Lines(sys.stdout)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield LiveTable(live)


def state(node: Node) -> State:
    """The state of a node of the demo."""
    if node.process is None or node.has_ended():
        return "dead", ""
    if node.response is None or (node.response.status is None and node.ready_at is None):
        return STARTING
    return state_of(node.response)


class Lines:
    """One line per change."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._started = time.monotonic()
        self._changes = Changes()

    def show(self, nodes: Sequence[Node], footer: Sequence[str] = ()) -> None:
        for node in nodes:
            now = state(node)
            news = self._changes.note(node.node_id, now)
            if news is not None and now != STARTING:  # a step has just shown it
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

    def show(self, nodes: Sequence[Node], footer: Sequence[str] = ()) -> None:
        self._live.update(drawn([*grids(nodes), *footer]), refresh=True)

    def step(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._started:7.2f} s  {text}")

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def grids(nodes: Sequence[Node]) -> list[Grid]:
    """The table of the nodes, and the table of their data servers if they drive any."""
    grids = [Grid((*HEADER, "PROCESS"), [_row(node) for node in nodes])]
    if any(node.status and node.status.data for node in nodes):
        grids.append(Grid(SERVER_HEADER, [_server_row(node) for node in nodes]))
    return grids


def _row(node: Node) -> tuple[str, ...]:
    word, _ = state(node)
    row: tuple[str, ...] = (node.node_id, word, *["-"] * (len(HEADER) - 2))
    if node.response is not None and node.status is not None and word != "dead":
        row = cells(node.response)
    return (*row, str(node.pid or "-"))


def _server_row(node: Node) -> tuple[str, ...]:
    if state(node)[0] == "dead" or node.status is None or node.status.data is None:
        return (node.node_id, *["-"] * (len(SERVER_HEADER) - 1))
    return server_cells(node.status, node.status.data)
