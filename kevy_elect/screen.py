"""Where the demo is watched: a live table on a terminal, else one line per change."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final, Protocol

from kevy_elect.messages import Role
from kevy_elect.page import HEADER, cells, printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from kevy_elect.demo import Node

STARTING: Final = ("starting", "")


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
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        yield Lines(sys.stdout)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield LiveTable(live)


def state(node: Node) -> tuple[str, str]:
    """What a node is, in one word, and the rest of what there is to say of it."""
    if node.process is None or node.has_ended():
        return "dead", ""
    status = node.status
    if status is None:
        error = node.answer.error if node.answer else None
        return ("silent", printable(error or "")) if node.ready else STARTING
    rest = f"epoch {status.epoch}"
    if status.role is Role.PRIMARY:
        rest += ", can write" if status.can_write else ", without the lease"
    elif status.role is Role.REPLICA:
        primary = status.current_primary
        rest += f", follows {printable(primary)}" if primary else ", knows no primary"
    return status.role.value, rest


def change(before: tuple[str, str] | None, now: tuple[str, str]) -> str:
    """The step from one state of a node to the next, in a few words."""
    word, rest = now
    if before is not None and before[0] != word:
        word = f"{before[0]} -> {word}"
    return f"{word}, {rest}" if rest else word


class Lines:
    """One line per change."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._started = time.monotonic()
        self._shown: dict[str, tuple[str, str]] = {}

    def show(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            before, now = self._shown.get(node.node_id), state(node)
            if now != before:
                self._shown[node.node_id] = now
                if now != STARTING:  # a step has just said so
                    self._at(f"{node.node_id}: {change(before, now)}")

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
        self._live.update(_drawn(nodes), refresh=True)

    def step(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._started:7.2f} s  {text}")

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _drawn(nodes: Sequence[Node]) -> Table:
    from rich.table import Table
    from rich.text import Text

    styles = {"primary": "bold green", "candidate": "yellow", "dead": "red", "silent": "red"}
    table = Table(*HEADER, "PROCESS")
    for node in nodes:
        word, _ = state(node)
        row = [node.node_id, word] + ["-"] * (len(HEADER) - 2)
        if node.answer is not None and node.status is not None and word != "dead":
            row = list(cells(node.answer))
        row.append(str(node.pid or "-"))
        table.add_row(*map(Text, row), style=styles.get(word))
    return table
