"""One run of a command as a process: under a supervisor, with a time to stop, and with its output
in the log."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from kevy_elect.children import supervisor
from kevy_elect.children.cgroup import Cgroup
from kevy_elect.children.processes import command_line, has_living, now
from kevy_elect.errors import ElectError
from kevy_elect.service.observers import ElectorSnapshot
from kevy_elect.service.timers import timers

MAX_LINE: Final = 4096
"""The most bytes of output in one line of the log; a longer line is broken."""
LINES_PER_TURN: Final = 32
"""Lines that are logged in one turn of the reactor, so that a command that floods the log delays
only itself, and not the election."""
DRAIN: Final = 0.05
"""Seconds in which the last output is read once all processes are dead."""
ORPHAN_LOOK: Final = 0.01
"""Seconds between two checks of what a killed guard has left behind."""
_START: Final = """\
import os, sys
sys.path.insert(0, sys.argv.pop(1))
from kevy_elect.children.supervisor import main
os._exit(main(sys.argv[1:]))
"""
_ROOT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

STDOUT, STDERR = 1, 2
NOT_STARTED: Final = 127
"""The status of a command that was never executed, as in a shell."""


class CommandError(ElectError):
    """A command that cannot be executed."""


def election_environment(node_id: str, snapshot: ElectorSnapshot) -> dict[str, str]:
    """The state of the election for a command; empty where it is not known."""
    return {
        "KEVY_NODE_ID": node_id,
        "KEVY_EPOCH": str(snapshot.epoch),
        "KEVY_ROLE": snapshot.role.value,
        "KEVY_PRIMARY_ID": snapshot.current_primary or "",
        "KEVY_PRIMARY_ADDR": snapshot.primary_addr or "",
    }


def program(command: Sequence[str]) -> str:
    """The name of a command for display, without its arguments, which may be passwords."""
    return os.path.basename(command[0])


def describe_status(status: int) -> str:
    """How a process ended, as text, from its status as in a shell."""
    try:
        return f"ended by {signal.Signals(status - 128).name}"
    except ValueError:
        return f"exited with status {status}"


def supervised(
    command: Sequence[str], stop_at: str, *, grace: float, leased: bool, privileged: bool
) -> list[str]:
    """What runs the command under a supervisor; see `supervisor`."""
    words = {supervisor.LEASED: leased, supervisor.PRIVILEGED: privileged}
    how = ",".join(word for word, wanted in words.items() if wanted)
    start = [sys.executable, "-I", "-S", "-c", _START, _ROOT]
    return [*start, str(grace), stop_at, how, *command]


class Run(ProcessProtocol):
    """A command in a session of its own, from its start to the death of all that it started.

    `started` fires when it executes, or fails with CommandError, also if its time was over or its
    supervisor was killed before that. `gone` fires with its status (128 and the number of the
    signal that ended it) once none of its processes is left, also if it never started. The caller
    may ignore both.
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
        leased: bool = False,
        privileged: bool = False,
    ) -> None:
        """Start it. Its group gets SIGTERM at `stop_at` (seconds of `processes.now()`) and
        SIGKILL `grace` seconds later. `on_output(descriptor, line)` gets its output. A `leased`
        command writes while this node is primary; a `privileged` command may start processes
        of another user; see `supervisor`."""
        self.command = command
        self.started: Deferred[None] = Deferred()
        self.gone: Deferred[int] = Deferred()
        self.pid: int | None = None
        self.out_of_time = False
        """Whether it got SIGTERM because of its time, before it ended by itself."""
        self._supervisor: int | None = None  # a pidfd
        self._cgroup: Cgroup | None = None
        self._timers = timers(reactor)
        self._output = Output(on_output, self._pause, self._timers)
        self._report = b""
        self._status: int | None = None
        self._orphaned = False
        self._drain: Any = None
        self._stop_at, self._grace = stop_at, grace
        self.transport: Any = None
        self._words = supervised(
            command, str(stop_at), grace=grace, leased=leased, privileged=privileged
        )
        try:
            reactor.spawnProcess(
                self,
                sys.executable,
                self._words,
                env={**os.environ, **environment},
                childFDs={
                    supervisor.CONTROL: "w",
                    STDOUT: "r",
                    STDERR: "r",
                    supervisor.REPORT: "r",
                },
            )
        except OSError as error:  # no process or no descriptor is free
            self._timers.callLater(0, self._fail, error)

    def stop_at(self, when: float, grace: float | None = None) -> None:
        """Let it run until `when`, in seconds of `processes.now()`, instead; and give it `grace`
        seconds from SIGTERM to SIGKILL, by default as many as before."""
        if self.transport is None or supervisor.CONTROL not in self.transport.pipes:
            return
        grace = self._grace if grace is None else grace
        if (when, grace) != (self._stop_at, self._grace):
            self._stop_at, self._grace = when, grace
            self.transport.writeToChild(supervisor.CONTROL, f"{when} {grace}\n".encode())

    def kill(self) -> None:
        """Kill its supervisor, whose guard kills all the rest. This is the last resort if one of
        them is stopped."""
        if self._status is None:
            self._signal_supervisor(signal.SIGKILL)
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(signal.SIGCONT)
        self._kill_all()

    # Events of the process

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != supervisor.REPORT:
            self._output.receive(childFD, data)
            return
        *lines, self._report = (self._report + data).split(b"\n")
        for line in lines:
            self._take_report(*line.decode().split())

    def _take_report(self, word: str, *rest: str) -> None:
        if word == "stopping":
            self.out_of_time = True
            return
        if word == "failed":
            problem = f"{self.command[0]}: {os.strerror(int(rest[0]))}"
            self.started.errback(CommandError(problem))
            return
        if word == "supervisor":
            self._take_supervisor(int(rest[0]), rest[1])
            return
        if word == "started":
            self.pid = int(rest[0])
        else:  # late
            self.out_of_time = True
        self.started.callback(None)

    def _take_supervisor(self, pid: int, cgroup: str) -> None:
        self._cgroup = Cgroup(cgroup) if cgroup != "-" else None
        with suppress(OSError, AttributeError):  # Linux only
            self._supervisor = os.pidfd_open(pid)
            if command_line(pid) != self._words:  # it is dead, and its number reused
                self._forget_supervisor()

    def processExited(self, reason: Failure) -> None:
        ended = reason.value
        if isinstance(ended, ProcessTerminated) and ended.signal is not None:
            # The guard was killed: now the supervisor ends all, unless it is killed, too.
            self._status = 128 + ended.signal
            self._orphaned = True
        else:
            self._status = getattr(ended, "exitCode", None) or 0
        self._drain = self._timers.callLater(DRAIN, self._stop_reading)

    def _stop_reading(self) -> None:
        for descriptor in list(self.transport.pipes):
            self.transport.closeChildFD(descriptor)

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
        if self._orphaned and self._end_orphans():
            self._timers.callLater(ORPHAN_LOOK, self._finish)
            return
        assert self._status is not None
        if not self.started.called:
            if self._orphaned:  # as if the command had been killed just after its start
                self.started.callback(None)
            else:
                problem = f"{self.command[0]}: its supervisor did not start it"
                self.started.errback(CommandError(problem))
        self.started.addErrback(lambda _: None)  # callers that need it have an errback
        self._forget_supervisor()
        if self._cgroup is not None:
            self._cgroup.remove()
        self.gone.callback(self._status)

    # What a killed guard left behind

    def _end_orphans(self) -> bool:
        """End a supervisor without a guard, and all below it; returns whether anything is left."""
        if self._supervisor_runs():
            # It ends everything, unless it is stopped. Killed, it could end nothing.
            self._signal_supervisor(signal.SIGCONT)
            return True
        return self._kill_all()

    def _kill_all(self) -> bool:
        """Kill the command's processes that are known here; returns whether any runs."""
        if self._cgroup is not None:
            self._cgroup.kill()
        populated = self._cgroup is not None and self._cgroup.is_populated()
        if self.pid is None or not has_living(self.pid):
            return populated
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return populated
        except PermissionError:
            return populated or sys.platform == "linux"  # other systems may count zombies
        return True

    def _supervisor_runs(self) -> bool:
        if self._supervisor is None:
            return False
        ended = select.poll()
        ended.register(self._supervisor, select.POLLIN)
        return not ended.poll(0)

    def _signal_supervisor(self, number: int) -> None:
        if self._supervisor is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self._supervisor, number)

    def _forget_supervisor(self) -> None:
        if self._supervisor is not None:
            os.close(self._supervisor)
            self._supervisor = None

    def _pause(self, *, paused: bool) -> None:
        for descriptor in (STDOUT, STDERR):
            reader = self.transport.pipes.get(descriptor)
            if reader is not None and not reader.disconnecting:
                if paused:
                    reader.stopReading()
                else:
                    reader.startReading()


def run_to_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    on_output: Callable[[int, bytes], object],
    *,
    reactor: Any,
    timeout: float,
    privileged: bool,
) -> tuple[Run, Deferred[str]]:
    """Start a command that is killed after `timeout` seconds; see `Run`. The Deferred fires when no
    process of it is left: with the reason of its failure, or with an empty text."""
    began = now()
    run = Run(
        command,
        environment,
        on_output,
        reactor=reactor,
        stop_at=began + timeout,
        grace=0.0,
        privileged=privileged,
    )
    problems: list[str] = []
    run.started.addErrback(lambda failure: problems.append(str(failure.value)))

    def gone(status: int) -> str:
        if now() - began >= timeout:
            problems.append(f"did not end within {timeout:g} s")
        elif status:
            problems.append(describe_status(status))
        return problems[0] if problems else ""

    return run, run.gone.addCallback(gone)


class Output:
    """The output of one process, line by line, a few lines at a time."""

    def __init__(
        self,
        on_line: Callable[[int, bytes], object],
        pause: Callable[..., object],
        reactor: Any,
    ) -> None:
        """`on_line(descriptor, line)` gets each line; `pause(paused=…)` pauses or resumes
        the reading."""
        self._on_line = on_line
        self._pause = pause
        self._reactor = reactor
        self._begun: dict[int, bytes] = {}
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._next: Any = None

    def receive(self, descriptor: int, data: bytes) -> None:
        """Take data that was read from `descriptor`."""
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
        """Pass on the rest: the output has ended."""
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
            self._pause(paused=bool(self._waiting))


def printable(line: bytes) -> str:
    """A line of output, on one line and without terminal control codes.

    >>> printable(b"caf\\xc3\\xa9 \\xff \\x1b[2J")
    'café \\\\xff \\\\x1b[2J'
    """
    text = line.rstrip(b"\r").decode("utf-8", "backslashreplace")
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode()
        for each in text
    )
