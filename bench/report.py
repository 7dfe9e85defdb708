"""The results of a measurement: a table for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs


@attrs.frozen
class Spread:
    """Minimum, median and maximum of some samples."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        return cls(min(samples), statistics.median(samples), max(samples))

    def __str__(self) -> str:
        return " / ".join(_short(value) for value in (self.minimum, self.median, self.maximum))


@attrs.frozen
class Row:
    """One quantity, measured several times, and its ratio to another of the same run."""

    what: str
    quantity: str
    samples: list[float]
    beside: str = ""
    ratios: list[float] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        told = attrs.asdict(self)
        told["spread"] = attrs.asdict(Spread.of(self.samples))
        if self.ratios:
            told["ratio"] = attrs.asdict(Spread.of(self.ratios))
        return told


class Table:
    """Rows under one title. Ratios are computed for each repetition, because other work on the
    machine changes between repetitions."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def add(self, what: str, quantity: str, samples: Sequence[float]) -> Row:
        """Add a row without a ratio."""
        row = Row(what, quantity, list(samples))
        self.rows.append(row)
        return row

    def compare(self, what: str, quantity: str, samples: Sequence[float], beside: Row) -> Row:
        """Add a row with its ratio to `beside`, for the repetitions that both have."""
        pairs = zip(samples, beside.samples, strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        row = Row(what, quantity, list(samples), beside.what, ratios)
        self.rows.append(row)
        return row

    def note(self, text: str) -> None:
        """Add a note below the table: the meaning of its numbers, or why some are missing."""
        self.notes.append(text)

    def __str__(self) -> str:
        header = ["", "quantity", "min / median / max", "ratio min / median / max", "to"]
        lines = [header, *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        rule = ["-" * width for width in widths]
        drawn = [_line(line, widths) for line in (header, rule, *lines[1:])]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"### {self.title}", "", *drawn, *(["", *notes] if notes else []), ""])

    @staticmethod
    def _cells(row: Row) -> list[str]:
        ratio = str(Spread.of(row.ratios)) if row.ratios else ""
        return [row.what, row.quantity, str(Spread.of(row.samples)), ratio, row.beside]

    def as_json(self) -> dict[str, Any]:
        rows = [row.as_json() for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the command line with the options that every measurement has."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--json", metavar="FILE", help="also write the numbers there")
    return made


def publish(options: argparse.Namespace, measure: Callable[[], Sequence[Table]]) -> None:
    """Measure, print the tables, and write the JSON file that the options name.

    SIGTERM unwinds the stack as Ctrl-C does, so that all processes are ended.
    """
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    tables = measure()
    for table in tables:
        print(table, flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**_machine(), "tables": [t.as_json() for t in tables]}, file, indent=1)


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
