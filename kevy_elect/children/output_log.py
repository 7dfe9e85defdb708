"""The output of commands in the log: a bounded amount of each stream, and a count of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from twisted.logger import Logger

from kevy_elect.children.processes import now
from kevy_elect.children.supervised import STDERR, STDOUT, printable
from kevy_elect.transport.log_limit import WINDOW

LOGGED: Final = 1_000_000
"""Bytes of one stream that are logged in WINDOW seconds."""
OVERHEAD: Final = 100
"""Approximate bytes that a log adds to each line, so that empty lines count too."""
_NAMES: Final = {STDOUT: "standard output", STDERR: "standard error"}


@attrs.define
class _Stream:
    began: float = float("-inf")
    logged: int = 0
    left_out: int = 0


class OutputLog:
    """Logs the output of one command, over all of its runs."""

    def __init__(self, log: Logger, clock: Callable[[], float] = now) -> None:
        self._log = log
        self._clock = clock
        self._streams = {descriptor: _Stream() for descriptor in _NAMES}

    def line(self, program: str, descriptor: int, line: bytes) -> None:
        """Log a line that `program` printed, unless it has printed too much recently."""
        stream, time = self._streams[descriptor], self._clock()
        if time - stream.began >= WINDOW:
            self._tell(program, descriptor)
            stream.began, stream.logged = time, 0
        if stream.logged >= LOGGED:
            stream.left_out += 1
            return
        stream.logged += len(line) + OVERHEAD
        log = self._log.warn if descriptor == STDERR else self._log.info
        log("{program}: {line}", program=program, line=printable(line))

    def tell_left_out(self, program: str) -> None:
        """Log the number of lines that were left out since the last such report, if any."""
        for descriptor in self._streams:
            self._tell(program, descriptor)

    def _tell(self, program: str, descriptor: int) -> None:
        stream = self._streams[descriptor]
        count, stream.left_out = stream.left_out, 0
        if count:
            self._log.warn(
                "{program}: {count} more lines of its {stream} were left out: more than "
                "{limit:,} bytes in {window:g} s are not logged",
                program=program,
                count=count,
                stream=_NAMES[descriptor],
                limit=LOGGED,
                window=WINDOW,
            )
