"""The processes of a measurement, and their use of resources."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from kevy_elect.service import wrapper
from tests.support import FOREGROUND, ROOT


class DeadlineError(Exception):
    """An expected event did not happen in time."""


@attrs.frozen
class Usage:
    """The resources that a process has used since its start; a difference is the use since then."""

    cpu: float
    """Seconds."""
    wakeups: float
    resident: float
    """Resident bytes at this moment, not a difference."""

    @classmethod
    def of(cls, pid: int) -> Usage:
        cpu = wakeups = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            # In nanoseconds; /proc/PID/stat counts in hundredths of a second.
            cpu += int((task / "schedstat").read_text().split()[0])
            wakeups += _field(task / "status", "voluntary_ctxt_switches")
        return cls(cpu / 1e9, wakeups, 1024 * _field(Path(f"/proc/{pid}/status"), "VmRSS"))

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu - earlier.cpu, self.wakeups - earlier.wakeups, self.resident)


def _field(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise LookupError(f"{file} has no {name}")


class Child:
    """One process. `log` is the file of its output."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        directory.mkdir(exist_ok=True)
        self.log = directory / "log"
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.started = time.monotonic_ns()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def usage(self) -> Usage:
        return Usage.of(self.pid)

    def stop(self) -> None:
        os.kill(self._target(), signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._target(), signal.SIGCONT)

    def kill(self) -> int:
        """Kill it. Return the time just before, in nanoseconds of the monotonic clock."""
        at = self.strike()
        self.wait()
        return at

    def strike(self) -> int:
        """Kill it without waiting for its end. Return the time just before."""
        target = self._target()
        at = time.monotonic_ns()
        os.kill(target, signal.SIGKILL)
        return at

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()

    def _target(self) -> int:
        """The process that gets signals."""
        return self.pid

    def logged(self, text: str) -> bool:
        return text in self.log.read_text(errors="replace")


class Wrapped(Child):
    """A process below the wrapper of a last will, which gets the signals. The wrapper ends after
    it."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-I", "-S", wrapper.__file__, *command], directory, env)

    def _target(self) -> int:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid


class Fleet:
    """Processes, and their directory, which end with the `with` block in any case."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Fleet:
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            self._show_logs()
        for child in self._children:
            if child.running:
                child.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(
        self, name: str, command: Sequence[str], kind: type[Child] = Child, **env: str
    ) -> Child:
        """Start a process of this name, in a directory of its own."""
        child = kind(command, self.directory / name, env)
        self._children.append(child)
        return child

    def twistd(
        self, name: str, tac: str, setting: Mapping[str, Any], kind: type[Child] = Child
    ) -> Child:
        """Start twistd with one of this package's .tac files and what it is to read."""
        command = [*FOREGROUND, "-y", str(ROOT / "bench" / tac)]
        return self.start(name, command, kind, BENCH=json.dumps(setting), PYTHONPATH=str(ROOT))

    def _show_logs(self) -> None:
        """Print how those ended that ended by themselves, or else what the last one said."""
        ended = [child for child in self._children if not child.running]
        for child in (ended or self._children)[-3:]:
            tail = child.log.read_text(errors="replace")[-1000:]
            print(f"== {child.log.parent.name}\n{tail}", file=sys.stderr)


def wait_for(
    condition: Callable[[], Any], what: str, within: float = 60.0, every: float = 0.02
) -> Any:
    """The first true answer of `condition`. Raises DeadlineError."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise DeadlineError(f"waited {within:g} s in vain: {what}")
        time.sleep(every)
    return answer
