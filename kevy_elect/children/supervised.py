"""One run of a command as a process: under a keeper, with a time to stop and a voice in the log."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kevy_elect.children import supervisor as keeper
from kevy_elect.errors import ElectError
from kevy_elect.service.observers import ElectorSnapshot

MAX_LINE: Final = 4096
"""Bytes of output in one line of the log; a longer line is broken."""
LINES_PER_TURN: Final = 32
"""Lines logged before the reactor may do something else: a command that floods the log
waits, the election does not."""
DRAIN: Final = 0.05
"""Seconds in which the last output is read once all processes are dead."""

STDOUT, STDERR = 1, 2
NOT_STARTED: Final = 127
"""The status of a command that was never executed, as a shell has it."""


class CommandError(ElectError):
    """A command that cannot be executed."""


def election_environment(node_id: str, snapshot: ElectorSnapshot) -> dict[str, str]:
    """What a command learns of the election; empty where nobody is known to be primary."""
    return {
        "KEVY_NODE_ID": node_id,
        "KEVY_EPOCH": str(snapshot.epoch),
        "KEVY_ROLE": snapshot.role.value,
        "KEVY_PRIMARY_ID": snapshot.current_primary or "",
        "KEVY_PRIMARY_ADDR": snapshot.primary_addr or "",
    }


def program(command: Sequence[str]) -> str:
    """The name that others are told: arguments may be passwords."""
    return os.path.basename(command[0])


def describe_status(status: int) -> str:
    """In words how a process ended, from its status as a shell would tell it."""
    try:
        return f"ended by {signal.Signals(status - 128).name}"
    except ValueError:
        return f"exited with status {status}"


class Run(ProcessProtocol):
    """A command in a session of its own, from its start to the death of all that it started.

    `started` fires when it executes, or fails with CommandError. `gone` fires with its
    status, 128 and the number of the signal that ended it, once none of its processes is
    left; also if it never started. Neither needs to be waited for.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], object],
        *,
        reactor: Any,
        stop_at: float,
        grace: float,
    ) -> None:
        """Start it. Its group gets SIGTERM at `stop_at` (seconds of `time.monotonic()`) and
        SIGKILL `grace` seconds later. `on_output(descriptor, line)` gets its output."""
        self.command = command
        self.started: Deferred[None] = Deferred()
        self.gone: Deferred[int] = Deferred()
        self.pid: int | None = None
        self._keeper: int | None = None
        self._reactor = reactor
        self._output = Output(on_output, self._pause, reactor)
        self._report = b""
        self._status: int | None = None
        self._orphaned = False
        self._drain: Any = None
        self._stop_at = stop_at
        self.transport: Any = None
        arguments = [sys.executable, "-I", "-S", keeper.__file__, str(grace), str(stop_at)]
        try:
            reactor.spawnProcess(
                self,
                sys.executable,
                [*arguments, *command],
                env={**os.environ, **environment},
                childFDs={keeper.CONTROL: "w", STDOUT: "r", STDERR: "r", keeper.REPORT: "r"},
            )
        except OSError as error:  # no process or no descriptor is free
            reactor.callLater(0, self._fail, error)

    def stop_at(self, when: float) -> None:
        """Let it run until `when`, in seconds of `time.monotonic()`, instead."""
        if self.transport is None or keeper.CONTROL not in self.transport.pipes:
            return
        if when != self._stop_at:
            self._stop_at = when
            self.transport.writeToChild(keeper.CONTROL, f"{when}\n".encode())

    def kill(self) -> None:
        """Kill its keeper, whose guard kills all the rest: the last resort if it stands still."""
        if self._keeper is not None and not self.gone.called:
            with suppress(ProcessLookupError):
                os.kill(self._keeper, signal.SIGKILL)
        self._kill_group()

    # What the process does

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != keeper.REPORT:
            self._output.receive(childFD, data)
            return
        self._report += data
        if self._report.endswith(b"\n"):
            self._take_report(*self._report.decode().split())

    def _take_report(self, word: str, number: str = "", keeper: str = "") -> None:
        if word == "failed":
            problem = f"{self.command[0]}: {os.strerror(int(number))}"
            self.started.errback(CommandError(problem))
            return
        if word == "started":
            self.pid, self._keeper = int(number), int(keeper)
        self.started.callback(None)

    def processExited(self, reason: Failure) -> None:
        ended = reason.value
        if isinstance(ended, ProcessTerminated) and ended.signal is not None:
            # Somebody killed the keeper; where there are no subreapers, grandchildren live.
            self._status = 128 + ended.signal
            self._orphaned = self._kill_group()
        else:
            self._status = getattr(ended, "exitCode", None) or 0
        self._drain = self._reactor.callLater(DRAIN, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._drain is not None and self._drain.active():
            self._drain.cancel()
        self._output.finish()
        self._finish()

    def _fail(self, error: OSError) -> None:
        self._status = NOT_STARTED
        self.started.errback(CommandError(f"{self.command[0]}: {error.strerror}"))
        self._finish()

    def _finish(self) -> None:
        if self._orphaned and self._kill_group():
            self._reactor.callLater(0.01, self._finish)
            return
        assert self._status is not None
        if not self.started.called:
            self.started.errback(CommandError(f"{self.command[0]}: its keeper did not start it"))
        self.started.addErrback(lambda _: None)  # whoever cares has heard it
        self.gone.callback(self._status)

    def _kill_group(self) -> bool:
        """Kill what a killed keeper left behind; whether there was anything."""
        if self.pid is None:
            return False
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _pause(self, paused: bool) -> None:
        for descriptor in (STDOUT, STDERR):
            reader = self.transport.pipes.get(descriptor)
            if reader is not None and not reader.disconnecting:
                if paused:
                    reader.stopReading()
                else:
                    reader.startReading()


class Output:
    """The output of one process, line by line, a few lines at a time."""

    def __init__(
        self,
        on_line: Callable[[int, bytes], object],
        pause: Callable[[bool], object],
        reactor: Any,
    ) -> None:
        """`on_line(descriptor, line)` gets each line; `pause(whether)` pauses the reading."""
        self._on_line = on_line
        self._pause = pause
        self._reactor = reactor
        self._begun: dict[int, bytes] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._next: Any = None

    def receive(self, descriptor: int, data: bytes) -> None:
        """Take what was read from `descriptor`."""
        *lines, rest = (self._begun.pop(descriptor, b"") + data).split(b"\n")
        for line in lines:
            self._queue(descriptor, line)
        while len(rest) > MAX_LINE:
            self._waiting.append((descriptor, rest[:MAX_LINE]))
            rest = rest[MAX_LINE:]
        self._begun[descriptor] = rest
        if self._next is None:
            self._turn()

    def finish(self) -> None:
        """Pass on what is left: no more comes."""
        for descriptor, rest in self._begun.items():
            if rest:
                self._queue(descriptor, rest)
        if self._next is None:
            self._turn()

    def _queue(self, descriptor: int, line: bytes) -> None:
        for start in range(0, max(len(line), 1), MAX_LINE):
            self._waiting.append((descriptor, line[start : start + MAX_LINE]))

    def _turn(self) -> None:
        was_paused, self._next = self._next is not None, None
        for _ in range(min(LINES_PER_TURN, len(self._waiting))):
            self._on_line(*self._waiting.popleft())
        if self._waiting:
            self._next = self._reactor.callLater(0, self._turn)
        if bool(self._waiting) != was_paused:
            self._pause(bool(self._waiting))


def printable(line: bytes) -> str:
    """A line of output, on one line and with nothing left that a terminal obeys.

    >>> printable(b"caf\\xc3\\xa9 \\xff \\x1b[2J")
    'café \\\\xff \\\\x1b[2J'
    """
    text = line.rstrip(b"\r").decode("utf-8", "backslashreplace")
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode()
        for each in text
    )
