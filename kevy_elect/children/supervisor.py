"""The program between a node and a command: nothing of the command outlives its time.

It is a process of its own, so that it keeps time even while the node stands still, and
survives the node's SIGKILL for as long as it takes to kill the command. It is run by its
path and imports little, because it is started often and a takeover waits for it.

    keeper.py GRACE STOP_AT COMMAND [ARGUMENT...]

runs the command in a session of its own. On stdin it reads lines, each another STOP_AT
(seconds of `time.monotonic()`, which all processes of a machine share). At STOP_AT, or when
the command exits and leaves others behind, the process group gets SIGTERM, and GRACE seconds
after STOP_AT SIGKILL. When stdin ends, because the node did, SIGKILL follows at once.

On descriptor 3 it writes one line: `started PID KEEPER`, `failed ERRNO`, or `late` if STOP_AT was
over before the start. It ends when all that the command started is dead and collected, on Linux
also what left the process group, with the command's status, or 128 and the signal's number.

It is two processes, so that nothing escapes if one of them is killed or stands still: KEEPER does
all this; the other, its guard, kills a KEEPER that is too late and what it leaves behind. KEEPER
ends everything if its guard is killed.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

CONTROL: Final = 0
REPORT: Final = 3
LATE_STATUS: Final = 128 + signal.SIGTERM
"""How it ends if the command was never started, because its time was over."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_BETWEEN_LOOKS: Final = 5
"""Milliseconds between two looks at what is still alive, while it should die."""
_LONGEST_WAIT: Final = 60_000
_PATIENCE: Final = 0.03
"""Seconds from SIGKILL's time to that of a keeper that is not done."""


class Keeper:
    """One command and its descendants. Times are seconds of `time.monotonic()`."""

    def __init__(self, grace: float, told: SharedTime, guard: int) -> None:
        """`told` is STOP_AT as the guard sees it, `guard` a pipe that ends with it."""
        self.grace = grace
        self.stop_at = told.get()
        self._told = told
        self.kill_at = math.inf
        self.stopping = False
        self.status: int | None = None
        self.pid = 0
        self._heard = b""
        self._guard = guard
        self._poll = select.poll()

    def run(self, command: Sequence[str]) -> int:
        """Run it to the end of all that it starts; the status to end with."""
        if time.monotonic() >= self.stop_at:
            _report("late")
            return LATE_STATUS
        self._poll.register(_wake_for_signals(), select.POLLIN)
        self._poll.register(CONTROL, select.POLLIN)
        self._poll.register(self._guard, select.POLLIN)
        self.pid, problem = _spawn(command)
        if problem:
            _report(f"failed {problem}")
            return 127
        _report(f"started {self.pid} {os.getpid()}")
        while not self._collect():
            self._act(time.monotonic())
            self._wait(time.monotonic())
        return self.status or 0

    def _collect(self) -> bool:
        """Collect the dead; whether nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not _is_alive(self.pid)
            if pid == 0:
                return False
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code

    def _act(self, now: float) -> None:
        if not self.stopping and (now >= self.stop_at or self.status is not None):
            self.stopping = True
            # Late or not, the grace begins when it should have.
            self.kill_at = min(self.kill_at, min(now, self.stop_at) + self.grace)
            if now < self.kill_at:
                self._signal(signal.SIGTERM)
        if now >= self.kill_at:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Signal the group, and orphans that left it."""
        nobody_there = suppress(ProcessLookupError, PermissionError)
        with nobody_there:
            os.killpg(self.pid, number)
        for pid in _children():
            with nobody_there:
                if os.getpgid(pid) != self.pid:
                    os.kill(pid, number)

    def _wait(self, now: float) -> None:
        wait: float = _BETWEEN_LOOKS
        if not self.stopping:
            wait = min(max(0.0, self.stop_at - now) * 1000 + 1, _LONGEST_WAIT)
        for descriptor, _ in self._poll.poll(wait):
            if descriptor == CONTROL:
                self._hear(os.read(CONTROL, 4096))
            elif descriptor == self._guard:
                self._end_at_once(self._guard)
            else:
                os.read(descriptor, 4096)

    def _hear(self, data: bytes) -> None:
        if not data:
            self._end_at_once(CONTROL)
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        if lines:
            self.stop_at = float(lines[-1])
            self._told.set(self.stop_at)

    def _end_at_once(self, ended: int) -> None:
        """Because this descriptor has come to its end."""
        self._poll.unregister(ended)
        self.stop_at = self.kill_at = -math.inf


class Guard:
    """Sees to it that the process `keeper` ends in time, with all that it leaves behind."""

    def __init__(self, keeper: int, grace: float, stop_at: SharedTime) -> None:
        self._keeper = keeper
        self._grace = grace
        self._stop_at = stop_at
        self._began = time.monotonic()
        self._poll = select.poll()

    def run(self) -> int:
        """Wait for the end of everything; the keeper's status."""
        awake = _wake_for_signals()
        self._poll.register(awake, select.POLLIN)
        self._poll.register(CONTROL, 0)  # whose end is told all the same
        while True:
            pid, ended = os.waitpid(self._keeper, os.WNOHANG)
            if pid:
                break
            wait = self._left() * 1000
            if wait <= 0:
                os.kill(self._keeper, signal.SIGKILL)
            for descriptor, _ in self._poll.poll(min(max(wait, _BETWEEN_LOOKS), _LONGEST_WAIT)):
                if descriptor == awake:
                    os.read(awake, 4096)
                else:
                    self._poll.unregister(CONTROL)
                    os.kill(self._keeper, signal.SIGKILL)
        _end_orphans()
        status = os.waitstatus_to_exitcode(ended)
        if status < 0:
            os.kill(os.getpid(), signal.SIGKILL)  # the node should know
        return status

    def _left(self) -> float:
        """Seconds until the keeper is too late."""
        stop_at = max(self._stop_at.get(), self._began)
        return stop_at + self._grace + _PATIENCE - time.monotonic()


class SharedTime:
    """A time that a process and those that it forks have in common."""

    def __init__(self, seconds: float) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))
        self.set(seconds)

    def get(self) -> float:
        return float(struct.unpack("d", self._memory[:])[0])

    def set(self, seconds: float) -> None:
        self._memory[:] = struct.pack("d", seconds)


def _end_orphans() -> None:
    """Kill and collect our children, which are what the keeper has left."""
    with suppress(ChildProcessError):
        while True:
            for orphan in _children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, signal.SIGKILL)
            os.wait()


def _wake_for_signals() -> int:
    """What can be read from when a child has died; or at signals that are meant for the node
    and what it has started, which this process outlives."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda *_: None)
    return awake


def _spawn(command: Sequence[str]) -> tuple[int, int]:
    """The command's process id, and the error number if it cannot be executed, else 0."""
    told, tell = os.pipe()  # closed by the exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), CONTROL)
            os.execvp(command[0], list(command))
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tell)
    problem = os.read(told, 16)
    os.close(told)
    return pid, int(problem or 0)


def _children() -> list[int]:
    """Our own children, where the system tells. Orphans of the command become that."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _report(line: str) -> None:
    os.write(REPORT, f"{line}\n".encode())
    os.close(REPORT)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere the process group has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(arguments: Sequence[str]) -> int:
    """Keep the command of `arguments`; the status to end with."""
    grace, stop_at, *command = arguments
    os.setsid()  # what kills the node's process group should not kill its keeper
    os.set_inheritable(REPORT, False)
    told = SharedTime(float(stop_at))
    guarded, guarding = os.pipe()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.fork()
    if keeper:
        os.close(guarded)
        os.close(REPORT)
        return Guard(keeper, float(grace), told).run()
    os.close(guarding)
    os.setsid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return Keeper(float(grace), told, guarded).run(command)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
