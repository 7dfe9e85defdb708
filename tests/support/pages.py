"""What a reader of a page types and saves, done as the page says."""

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

from tests.soak.operating.page import ANYTHING, Command, commands
from tests.support import ROOT
from tests.support.waiting import DEADLINE, wait_for

LOOKS = ("tail ", "kevy-elect status ")
"""How commands begin that only look, and are repeated until they show what the page shows."""
NAMES = "abc"
NAME = re.compile(r"\b[abc]\b")
FILE = re.compile(r"\bas\s`([\w.-]+)`:\n\n```\w+\n(.*?)^```", re.M | re.S)
OWN = re.compile(r"(--node-id |\.py |beat-)a\b")
"""Where a command has the name of its own node."""
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


class Reader:
    """Follows a page in an empty directory.

    A block after "as `NAME`:" is a file. In a block of the language `console`, what follows `$ `
    is a command, and the lines after it are its output, in which numbers may be others. The nodes
    a, b and c of the page may have each other's names: who is elected is nobody's choice.
    """

    def __init__(self, page: str, directory: Path, instead: Mapping[str, str]) -> None:
        """`instead` replaces parts of the page, each of which must be there: ports, times."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for old, new in instead.items():
            assert old in text, f"{page} has no {old!r}"
            text = text.replace(old, new)
        self.page, self.text, self.directory = page, text, directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        """Those that `start` has started."""
        self._names = dict(zip(NAMES, NAMES, strict=True))
        """Which node here each node of the page is."""
        self._known: dict[str, str] = {}
        """Those of which it is certain: an output has told, and no failure has decided anew."""

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
        """Type it, again and again if it only looks, until the output is as on the page."""
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
        """A text of the page with the names that the nodes have here."""
        return NAME.sub(lambda found: self._names[found[0]], text)

    def _learn(self, command: Command, told: str) -> bool:
        """Whether the output agrees with the page, if names that are not known yet are others."""
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
        """A person types so slowly that the process before has ended, and has been buried."""
        for path in (self.directory / name for name in pidfiles):
            if path.exists():
                pid = int(path.read_text())
                wait_for(lambda: not is_running(pid))  # noqa: B023
                path.unlink(missing_ok=True)

    def start(self, node_id: str, command: str, *before: str, **environment: str) -> None:
        """Start what the page has for a, as this node, in the background."""
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
        """Kill what still runs, and print the logs."""
        for node_id in self.processes:
            self.kill(node_id)
        for path in self.directory.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
        for path in self.directory.glob("*.log"):
            print(f"== {path.name}\n{path.read_text()}")


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, even if nobody has waited for it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _any_numbers(line: str) -> str:
    return line if line == ANYTHING else re.sub(r" *\d+(\.\d+)?( m?s)? *", ANYTHING, line)
