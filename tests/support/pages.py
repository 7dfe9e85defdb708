"""Performs the commands of a page of the documentation."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path

import attrs

from kevy_elect.children.processes import is_running
from tests.soak.operating.page import ANYTHING, Command, commands
from tests.support import ROOT
from tests.support.waiting import DEADLINE, wait_for

LOOKS = ("tail ", "kevy-elect status ")
"""The beginnings of commands that only look. They are repeated until the output is as on the
page."""
NAMES = "abc"
NAME = re.compile(r"\b[abc]\b")
FILE = re.compile(r"\bas\s`([\w.-]+)`:\n\n```\w+\n(.*?)^```", re.M | re.S)
OWN = re.compile(r"(--node-id |\.py |beat-)a\b")
"""The places where a command contains the name of its own node."""
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


class Reader:
    """Follows a page in an empty directory.

    A block after "as `NAME`:" is a file. In a block of the language `console`, the text after `$ `
    is a command, and the lines after it are its output, in which numbers may differ. The nodes a, b
    and c may have each other's names, because the election decides.
    """

    def __init__(self, page: str, directory: Path, instead: Mapping[str, str]) -> None:
        """`instead` replaces parts of the page, each of which must exist: ports, times."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for old, new in instead.items():
            assert old in text, f"{page} has no {old!r}"
            text = text.replace(old, new)
        self.page, self.text, self.directory = page, text, directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """The processes that `start` has started."""
        self._names = dict(zip(NAMES, NAMES, strict=True))
        """The real node for each node of the page."""
        self._known: dict[str, str] = {}
        """The nodes that are known for certain, by an output since the last failure."""

    def save_files(self) -> None:
        files = FILE.findall(self.text)
        assert files, f"{self.page} has no file to save"
        for name, body in files:
            (self.directory / name).write_text(body, encoding="utf-8")

    def commands(self) -> list[Command]:
        return commands(re.sub(r"^\$ ", "w$ ", self.text, flags=re.M))

    def type_all(self) -> None:
        for command in self.commands():
            self.type(command)

    def type(self, command: Command) -> None:
        """Run a command. One that only looks is repeated until its output is as on the page."""
        self._await_the_end_of(re.findall(r"--pidfile=(\S+)", self.real(command.text)))
        if failed := re.match(r"kill -(?:9|STOP) .*\b([abc])\.pid", command.text):
            self._known = {failed[1]: self._names[failed[1]]}
        told = ""

        def agrees() -> bool:
            nonlocal told
            told = self._run(self.real(command.text))
            return self._learn(command, told)

        try:
            if command.text.startswith(LOOKS):
                wait_for(agrees)
            else:
                assert agrees()
        except AssertionError:
            raise AssertionError(f"{self.page}:{command.line}: {command.text}\n{told}") from None

    def real(self, text: str) -> str:
        """The text of the page with the real names of the nodes."""
        return NAME.sub(lambda found: self._names[found[0]], text)

    def _learn(self, command: Command, told: str) -> bool:
        """Whether the output agrees with the page, if unknown names may be replaced by others."""
        if not command.output:
            return True
        for names in permutations(NAMES):
            found = dict(zip(NAMES, names, strict=True))
            if not self._known.items() <= found.items():
                continue
            lines = (NAME.sub(lambda n: found[n[0]], line) for line in command.output)  # noqa: B023
            if attrs.evolve(command, output=tuple(map(_any_numbers, lines))).agrees(told):
                self._names = self._known = found
                return True
        return False

    def _run(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.directory,
            env=os.environ | {"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.stdout

    def _await_the_end_of(self, pidfiles: Iterable[str]) -> None:
        """Wait until the last process has ended and was collected, as a person would."""
        for path in (self.directory / name for name in pidfiles):
            if path.exists():
                pid = int(path.read_text())
                wait_for(lambda: not is_running(pid))  # noqa: B023
                path.unlink(missing_ok=True)

    def start(self, node_id: str, command: str, *before: str, **environment: str) -> None:
        """Start the command that the page has for a, as this node, in the background."""
        command = OWN.sub(rf"\g<1>{node_id}", command)
        with (self.directory / f"{node_id}.log").open("ab") as log:
            self.processes[node_id] = subprocess.Popen(
                [*before, "bash", "-c", f"exec {command}"],
                cwd=self.directory,
                env=os.environ | {"PATH": PATH} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, node_id: str) -> None:
        self.processes[node_id].kill()
        self.processes[node_id].wait(DEADLINE)

    def end(self) -> None:
        """Kill all running processes, and print the logs."""
        for node_id in self.processes:
            self.kill(node_id)
        for path in self.directory.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
        for path in self.directory.glob("*.log"):
            print(f"== {path.name}\n{path.read_text()}")


def _any_numbers(line: str) -> str:
    return line if line == ANYTHING else re.sub(r" *\d+(\.\d+)?( m?s)? *", ANYTHING, line)
