"""The commands in a page of Markdown, and their expected output.

They are in blocks that are fenced as `console`. A line that begins with the names of hosts and `#
`, as in `a# ` or `abc# `, is a command for each of them, one after another; `w$ ` is for the
workstation; `> ` continues the command. The lines after it are its complete output: `…` stands for
any text within a line, and a line with nothing else for any lines. Without such lines the output is
not checked. Every command must succeed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

WORKSTATION: Final = "w"
ANYTHING: Final = "…"
FENCE: Final = "```"
_PROMPT: Final = re.compile(rf"([a-em]+(?=#)|{WORKSTATION}(?=\$))[#$] (.*)")
_CONTINUED: Final = re.compile(r"> ?(.*)")


@attrs.frozen
class Command:
    """One command, at this line of the page."""

    line: int
    section: str
    """The heading of the second level above it."""
    hosts: str
    text: str
    output: tuple[str, ...] = ()

    def agrees(self, told: str) -> bool:
        """Whether the output of a host agrees with the page."""
        return not self.output or _pattern(self.output).fullmatch(told) is not None


def commands(page: str) -> list[Command]:
    """All commands of a page, in their order. Raises ValueError for output without a command."""
    found: list[Command] = []
    for number, section, line, first in _console_lines(page):
        prompt = _PROMPT.fullmatch(line)
        going_on = None if first else _CONTINUED.fullmatch(line)
        if prompt is not None:
            found.append(Command(number, section, prompt[1], prompt[2]))
        elif first:
            raise ValueError(f"line {number}: a block begins with a command, not with {line!r}")
        elif going_on is not None and not found[-1].output:
            found[-1] = attrs.evolve(found[-1], text=f"{found[-1].text}\n{going_on[1]}")
        else:
            found[-1] = attrs.evolve(found[-1], output=(*found[-1].output, line.rstrip()))
    return found


def typed(commands: Iterable[Command]) -> list[tuple[str, str]]:
    """The commands as typed, each with its host."""
    return [(host, command.text) for command in commands for host in command.hosts]


def prompted(host: str, text: str) -> str:
    """A command with its prompt, as in a block."""
    sign = "$" if host == WORKSTATION else "#"
    return "\n> ".join(f"{host}{sign} {text}".split("\n"))


def _console_lines(page: str) -> Iterator[tuple[int, str, str, bool]]:
    """The lines of all blocks: number, section, the line, and whether it begins a block."""
    section, kind, first = "", None, False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith(FENCE):
            kind, first = (line.removeprefix(FENCE), True) if kind is None else (None, False)
        elif kind == "console":
            yield number, section, line, first
            first = False
        elif kind is None and line.startswith("## "):
            section = line.removeprefix("## ")


def _pattern(lines: Sequence[str]) -> re.Pattern[str]:
    parts = [
        r"(?:[^\n]*\n)*"
        if line == ANYTHING
        else r"[^\n]*".join(map(re.escape, line.split(ANYTHING))) + "\n"
        for line in lines
    ]
    return re.compile("".join(parts))
