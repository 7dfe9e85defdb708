"""Runs the commands of the page one after another, and keeps their output."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from tests.soak.chaos.outages import longest_gap
from tests.soak.counter.judge import Verdict, judge
from tests.soak.operating.hosts import StuckError
from tests.soak.operating.page import FENCE, Command, prompted
from tests.soak.operating.site import Site

TITLE: Final = "# Transcript of the operating manual"


@attrs.frozen
class Typed:
    """One command on one host, and its result."""

    section: str
    host: str
    text: str
    output: str
    begun: float
    """Seconds of the monotonic clock, as for `ended`."""
    ended: float


@attrs.frozen
class Stretch:
    """The increments during one section."""

    section: str
    took: float
    count: int
    gap: float | None
    """The longest time without an increment; None without increments."""


class Trial:
    def __init__(self, site: Site, tell: Callable[[str], object]) -> None:
        self._site = site
        self._tell = tell
        self.typed: list[Typed] = []
        self.problems: list[str] = []
        self._failed = False

    def run(self, commands: Sequence[Command]) -> None:
        """Run them until one fails. An output that differs from the page is noted."""
        for command in commands:
            for host in command.hosts:
                if not self._failed:
                    self._type(command, host)

    def judge(self) -> Verdict:
        """The verdict about the program that ran all the time. Call it when nothing runs any
        more."""
        return judge(self._site.lines(), self._site.counter.read(), asks=False)

    def transcript(self, verdict: Verdict) -> str:
        return "\n".join([*_introduction(), *self._sections(), *self._end(verdict)]) + "\n"

    def _type(self, command: Command, host: str) -> None:
        begun = time.monotonic()
        self._tell(prompted(host, command.text))
        try:
            told = self._site.run(host, command.text)
        except StuckError as error:
            self._note(command, host, f"it does not end: {error}", failed=True)
            return
        output = "".join(f"{line.rstrip()}\n" for line in told.output.splitlines())
        ended = time.monotonic()
        self.typed.append(Typed(command.section, host, command.text, output, begun, ended))
        self._tell(output.rstrip())
        if told.status != 0:
            self._note(command, host, f"it ends with status {told.status}", failed=True)
        elif not command.agrees(output):
            shown = "\n".join(command.output)
            self._note(command, host, f"it prints\n\n{output}\nwhere the page has\n\n{shown}\n")

    def _note(self, command: Command, host: str, what: str, *, failed: bool = False) -> None:
        self.problems.append(f"line {command.line}, on {host}: {what}")
        self._failed = failed

    def _sections(self) -> Iterator[str]:
        section = None
        for typed in self.typed:
            if typed.section != section:
                section = typed.section
                yield f"\n## {section}\n"
            yield f"{FENCE}console\n{prompted(typed.host, typed.text)}\n{typed.output}{FENCE}"

    def _end(self, verdict: Verdict) -> Iterator[str]:
        yield "\n## What became of the counter\n"
        yield f"- {len(verdict.acknowledged)} increments were acknowledged."
        yield f"- The number in the file was {verdict.final.number} at the end."
        yield f"- {verdict.lives} runs of the program made them, in {verdict.epochs} epochs."
        if verdict.closest is not None:
            yield f"- Between two runs were {verdict.closest:.3f} s at the least."
        yield f"- Violations: {len(verdict.violations)}."
        yield from (f"  - {violation}" for violation in verdict.violations)
        yield "\n| section | took, s | increments | longest time without one, s |"
        yield "|---|---|---|---|"
        for each in self.stretches(verdict.acknowledged):
            gap = "-" if each.gap is None else f"{each.gap:.2f}"
            yield f"| {each.section} | {each.took:.0f} | {each.count} | {gap} |"

    def stretches(self, acknowledged: Sequence[float]) -> list[Stretch]:
        """The increments during each section."""
        found = []
        for section in dict.fromkeys(typed.section for typed in self.typed):
            those = [typed for typed in self.typed if typed.section == section]
            begun, ended = those[0].begun, those[-1].ended
            count = sum(begun <= each < ended for each in acknowledged)
            gap = longest_gap(acknowledged, begun, ended) if count else None
            found.append(Stretch(section, ended - begun, count, gap))
        return found

    def idle(self, acknowledged: Sequence[float]) -> list[str]:
        """The sections without increments after the first increment, which prove nothing."""
        stretches = self.stretches(acknowledged)
        counting = itertools.dropwhile(lambda each: each.count == 0, stretches)
        idle = [each.section for each in counting if each.count == 0]
        if not acknowledged:
            return ["nobody counted"]
        return [f"nobody counted during {section!r}" for section in idle]


def _introduction() -> Iterator[str]:
    yield TITLE
    yield ""
    yield "What came of the commands of [operating.md](operating.md)."
    yield "`python -m tests.soak.operating` typed them one after another; the top of that page says"
    yield "how. Meanwhile the cluster ran a program that increments a number in a file, which all"
    yield "hosts share, and checks nothing; the end of this page tells what became of it."
