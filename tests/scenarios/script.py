"""Scenario files: a script for a simulated cluster, and what the nodes do at each line of it.

README.md beside this file says how they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.messages import Role
from kevy_elect.testing import SimulatedCluster

HERE: Final = Path(__file__).parent
PROMPT: Final = "> "
SETTLES_WITHIN: Final = 60.0


class ScriptError(Exception):
    """A line that is no command, or one that cannot be done."""


def paths() -> list[Path]:
    """All scenario files, in order of their names."""
    return sorted(HERE.glob("*.txt"))


def replay(text: str) -> str:
    """The same file with the trace that the cluster writes now.

    Raises ScriptError, naming the line, for a command that is none.
    """
    story = Story()
    written: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(PROMPT):
            written.append(line)
            try:
                written += story.obey(line.removeprefix(PROMPT))
            except (ScriptError, ValueError, KeyError) as error:
                raise ScriptError(f"line {number}, {line!r}: {error}") from error
        elif not line.startswith(" "):
            written.append(line)
    return "\n".join(written) + "\n"


@attrs.define
class Story:
    """One cluster and what has been told of it."""

    special: dict[str, list[str]] = attrs.field(factory=dict)
    started: SimulatedCluster | None = None
    told: int = 0
    repeated: set[tuple[str, str]] = attrs.field(factory=set)

    def obey(self, line: str) -> list[str]:
        """Do what this line says; what it led to."""
        for command in COMMANDS:
            words = command.match(line)
            if words is not None:
                answer = command.do(self, *words)
                return [f"    {text}" for text in (*self._news(), *answer)]
        raise ScriptError("there is no such command, see README.md")

    @property
    def cluster(self) -> SimulatedCluster:
        if self.started is None:
            raise ScriptError("the cluster is not started yet")
        return self.started

    def _news(self) -> Iterator[str]:
        """The new lines of the trace: not the script's own, nor what a node repeats."""
        if self.started is None:
            return
        trace = self.started.trace
        fresh, self.told = trace[self.told :], len(trace)
        for line in fresh:
            at, who, text = line.split(maxsplit=2)
            if who == "*":
                continue
            if who == "!" or text.startswith("sends "):
                if (who, text) in self.repeated:
                    continue
                self.repeated.add((who, text))
            yield f"{float(at):6.2f}  {who}  {text}"


Answer = list[str]


@attrs.frozen
class Command:
    """A line as README.md shows it, with its words in capitals, and what it does."""

    form: str
    do: Callable[..., Answer]

    def match(self, line: str) -> list[str] | None:
        """The words of this line in the capitals' places; None if it is another command."""
        pattern = re.sub(r"[A-Z]+", "(.+?)", re.escape(self.form).replace(r"\ ", " "))
        found = re.fullmatch(pattern, line.strip())
        return None if found is None else list(found.groups())


def _declare(kind: str) -> Callable[[Story, str], Answer]:
    def declare(story: Story, names: str) -> Answer:
        if story.started is not None:
            raise ScriptError("the cluster has started already")
        story.special[kind] = names.split()
        return []

    return declare


def _start(story: Story, names: str) -> Answer:
    story.started = SimulatedCluster(names.split(), seed=1, raising=False, **story.special)
    return []


def _settle(story: Story) -> Answer:
    cluster = story.cluster
    took = cluster.advance_until(cluster.leader, SETTLES_WITHIN)
    return [f"{took:.2f} s: all follow {cluster.leader()}"]


def _wait(story: Story, seconds: str) -> Answer:
    story.cluster.advance(float(seconds))
    return []


def _fault(method: str, *others: object) -> Callable[..., Answer]:
    """Let the cluster's method of this name do it, with the words of the line."""

    def do(story: Story, *words: str) -> Answer:
        getattr(story.cluster, method)(*words, *others)
        return []

    return do


def _partition(story: Story, groups: str) -> Answer:
    story.cluster.partition(*(group.split() for group in groups.split("|")))
    return []


def _mute(story: Story, speaker: str) -> Answer:
    for other in story.cluster.nodes:
        if other != speaker:
            story.cluster.cut_one_way(speaker, other)
    return []


def _offset(story: Story, name: str, offset: str) -> Answer:
    story.cluster.set_repl_offset(name, int(offset))
    return []


def _show(story: Story) -> Answer:
    cluster = story.cluster
    return [f"{name}: {_state(cluster, name)}" for name in cluster.nodes]


def _state(cluster: SimulatedCluster, name: str) -> str:
    if not cluster.nodes[name].running:
        return "crashed"
    node = cluster.snapshot(name)
    if node.role is not Role.REPLICA:
        writes = "may write" if node.can_write else "may not write"
        return f"{node.role} of epoch {node.epoch}, {writes}"
    if node.current_primary is None:
        return f"knows no primary, epoch {node.epoch}"
    return f"follows {node.current_primary}, epoch {node.epoch}"


COMMANDS: Final = (
    Command("witness NODES", _declare("witnesses")),
    Command("existing implementation NODES", _declare("legacy")),
    Command("start NODES", _start),
    Command("settle", _settle),
    Command("wait SECONDS s", _wait),
    Command("show", _show),
    Command("crash NODE", _fault("crash")),
    Command("restart NODE", _fault("restart")),
    Command("pause NODE", _fault("pause")),
    Command("resume NODE", _fault("resume")),
    Command("isolate NODE", _fault("isolate")),
    Command("partition NODES", _partition),
    Command("cut NODE -- NODE", _fault("cut")),
    Command("cut NODE -> NODE", _fault("cut_one_way")),
    Command("nobody hears NODE", _mute),
    Command("heal", _fault("heal")),
    Command("disk of NODE is lost", _fault("replace_disk")),
    Command("disk of NODE is full", _fault("fail_disk")),
    Command("disk of NODE works", _fault("mend_disk")),
    Command("offset of NODE is NUMBER", _offset),
    Command("hand over to NODE", _fault("hand_over")),
    Command("step down NODE", _fault("step_down")),
)
"""In the order of README.md."""
