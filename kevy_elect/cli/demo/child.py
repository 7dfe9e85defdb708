"""A process that the demo starts and kills, and that ends with the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.cli.printable import printable

CHILDREN: Final = "/proc/{0}/task/{0}/children"
"""The file in which Linux lists the child processes of a process."""


@attrs.define
class Child:
    """The command of a process, and the process while it runs.

    If it is wrapped, `process` is the wrapper, and `pid` is that of the wrapper's child.
    """

    name: str
    """The name for people."""
    directory: Path
    command: Sequence[str]
    wrapped: bool = False
    process: subprocess.Popen[bytes] | None = None
    ended_at: float = 0.0

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int | None:
        """The id of the process itself, not of its wrapper."""
        if self.process is None:
            return None
        outer = self.process.pid
        if self.wrapped:
            with contextlib.suppress(OSError, ValueError):
                (inner,) = Path(CHILDREN.format(outer)).read_text().split()
                return int(inner)
        return outer

    def start(self) -> None:
        """Start the process, in a group of its own, so that Ctrl-C does not reach it.

        The command ends at the end of its stdin. Only this process holds the other end, so the
        command ends with this process in any case.
        """
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def has_ended(self) -> bool:
        """Whether the process ended without a kill by this object."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """Kill all of it at once, as the failure of its machine would."""
        if self.process is not None:
            self.strike()
            self.process.communicate()  # reaps it and closes its stdin
            self._forget()

    def strike(self) -> None:
        """Send the signal that kills all of it, without waiting."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _forget(self) -> None:
        self.process = None
        self.ended_at = time.monotonic()


def why_ended(child: Child) -> str:
    """Describe why a process ended by itself, by its exit status and log."""
    code = child.process.returncode if child.process else 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    log = child.log.read_text("utf-8", "replace")
    if "Address already in use" in log:
        how += ", because a port that was free has been taken meanwhile; try again"
    elif code >= 0:
        how += f"; its log ends: {printable(log.strip().rpartition(chr(10))[2])}"
    return f"the process of {child.name} {how}"
