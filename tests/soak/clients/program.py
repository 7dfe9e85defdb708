"""The running program of a client, and its output."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

LIFE: Final = 600
"""Seconds after which a program is ended in any case."""
ENDED_WITHIN: Final = 10.0


class NotInstalledError(Exception):
    """The language or the client is not installed."""


@attrs.frozen
class Write:
    number: int
    at: float
    """The time at which the program reported it, in monotonic seconds."""


class Program:
    """A thread reads its lines, and records their times."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.version = ""
        self.writes: list[Write] = []
        self.errors: list[str] = []
        self._log = log
        with open(log, "wb") as errors:
            self._process = subprocess.Popen(
                ("timeout", str(LIFE), *command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at = time.monotonic()
            word, _, rest = line.strip().partition(" ")
            if word == "written":
                self.writes.append(Write(int(rest), at))
            elif word == "version":
                self.version = rest
            elif word == "error":
                self.errors.append(rest)

    def begun(self) -> bool:
        """Whether it has written. Raises NotInstalledError if it ended without printing its
        version."""
        if not self.runs() and not self.version:
            self._reader.join(ENDED_WITHIN)
            raise NotInstalledError(self._last_words())
        return bool(self.writes)

    def runs(self) -> bool:
        return self._process.poll() is None

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line]
        telling = [line for line in lines if re.search("rror|annot|can't|ailed", line)]
        return next(iter([*telling, *lines[-1:]]), "it said nothing").strip()

    def end(self) -> None:
        """End it with all that it started: `timeout` passes the signal on."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDED_WITHIN)
        self._process.kill()
        self._process.wait(ENDED_WITHIN)
        self._reader.join(ENDED_WITHIN)
