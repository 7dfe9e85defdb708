"""The program between a node and a command, which ends the command in time.

It is a process of its own, so it measures time also while the node is stopped, and it survives the
node's SIGKILL until it has killed the command. It imports little, because it is started often and a
takeover waits for it.

    supervisor GRACE STOP_AT HOW COMMAND [ARGUMENT...]

runs the command in a session of its own. STOP_AT is in seconds of `processes.now()`, which all
processes of a machine share. Each line on stdin is a new STOP_AT and GRACE. The process group gets
SIGTERM at STOP_AT, or when the command exits and leaves processes behind. All processes get SIGKILL
GRACE seconds after STOP_AT, or at once when stdin ends, because the node has ended then.

HOW is a list of words, separated by commas. `leased`: the command writes under a lease. It runs in
a control group if the node may make one, and at a lower priority than its supervisor. The
supervisor acts earlier if it was woken late during the last seconds. `privileged`: the command of a
node that is not root may run processes as root (sudo, setuid files), which cannot be killed.

On descriptor 3 it writes lines: first `supervisor PID CGROUP` (`-` for none); then `started PID`,
`failed ERRNO`, or `late` if STOP_AT was over before the start; and `stopping` when it ends a
command because of its time. It exits with the command's status, or with 128 and the signal's
number, when all processes that the command started are dead and collected; on Linux these include
processes that left the process group. It names on stderr the processes that it may not kill, and
waits for them.

It consists of two processes, so that nothing escapes if one of them is killed or stopped. One does
all of this. The other, its guard, kills the first if it is late, and all that it left behind. The
first ends everything if its guard is killed.
"""

from __future__ import annotations

import math
import mmap
import os
import select
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from kevy_elect.children.cgroup import Cgroup
from kevy_elect.children.processes import (
    adopt_orphans,
    children,
    collect_dead,
    die_with_parent,
    gain_no_privileges,
    is_running,
    kill_descendants,
    now,
    peek_status,
)

CONTROL: Final = 0
REPORT: Final = 3
LEASED: Final = "leased"
PRIVILEGED: Final = "privileged"
LATE_STATUS: Final = 128 + signal.SIGTERM
"""The exit status if the command was never started, because its time was over."""

_BETWEEN_LOOKS: Final = 5
"""Milliseconds between two checks for processes that should be dead."""
_LONGEST_WAIT: Final = 60_000
_BEAT: Final = 0.05
"""Seconds between two measurements of how late a supervisor under a lease wakes up."""
_LATENESS_KEPT: Final = 10.0
"""Seconds for which the greatest lateness counts."""
_PATIENCE: Final = 0.03
"""Seconds after the time of SIGKILL at which the guard kills a supervisor that is not done."""
_NICER: Final = 5
"""The number by which the nice value of a leased command exceeds its node's."""


class Supervisor:
    """One command and its descendants. Times are seconds of `now()`."""

    def __init__(
        self, grace: float, stop_at: float, deadline: SharedTime, guard: int, cgroup: Cgroup | None
    ) -> None:
        """`deadline` is the time of SIGKILL as shared with the guard, `guard` a pipe that ends
        with it."""
        self.grace = grace
        self.stop_at = stop_at
        self._deadline = deadline
        self.kill_at = math.inf
        self.stopping = False
        self.status: int | None = None
        self.pid = 0
        self._cgroup = cgroup
        self._due = self.stop_at
        self._awake = True  # there may be children to collect
        self._collected = False  # whether the command was; until then its id is not reused
        self._sweep = Sweep(cgroup)
        self._heard = b""
        self._guard = guard
        self._lateness = Lateness()
        self._poll = select.poll()

    def run(self, command: Sequence[str], how: Sequence[str]) -> int:
        """Run the command until all processes that it started are dead. Return the exit status."""
        self._poll.register(_wake_for_signals(), select.POLLIN)
        self._poll.register(CONTROL, select.POLLIN)
        self._poll.register(self._guard, select.POLLIN)
        self._listen(0)  # on a busy machine, lines may have arrived since the start
        self._deadline.set(self.stop_at + self.grace)
        if now() >= self.stop_at:
            _report("late")
            return LATE_STATUS
        self.pid, problem = _spawn(command, how, self._cgroup)
        if problem:
            _report(f"failed {problem}")
            return 127
        _report(f"started {self.pid}")
        while not (self._awake and self._collect()):
            self._act(now())
            self._wait(leased=LEASED in how)
        return self.status or 0

    def _collect(self) -> bool:
        """Collect some dead children, the command last. Return whether no child is left."""
        try:
            if self.status is None:
                self.status = peek_status(self.pid)
            collect_dead(0 if self._collected else self.pid)
            if self.status is None or children() not in ([], [self.pid]):
                return False
            if not self._collected:
                os.waitpid(self.pid, 0)
                self._collected = True
            collect_dead()
        except ChildProcessError:
            return self._cgroup is None or not self._cgroup.is_populated()
        return False

    def _act(self, at: float) -> None:
        if not self.stopping and (at >= self._due or self.status is not None):
            self.stopping = True
            if self.status is None:
                _report("stopping")
            # The grace begins at its due time, even if this runs late.
            self.kill_at = min(self.kill_at, min(at, self.stop_at) + self.grace)
            if at < self.kill_at:
                self._terminate()
        if at >= self.kill_at:
            self._kill()

    def _terminate(self) -> None:
        self._signal_group(signal.SIGTERM)
        for pid in children():
            with suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) != self.pid:
                    os.kill(pid, signal.SIGTERM)

    def _kill(self) -> None:
        self._signal_group(signal.SIGKILL)
        if self.status is not None:
            _leave_collecting()
        self._sweep()

    def _signal_group(self, number: int) -> None:
        if not self._collected:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _wait(self, *, leased: bool) -> None:
        began = now()
        wait: float = _BETWEEN_LOOKS
        if not self.stopping:
            longest = _BEAT * 1000 if leased else _LONGEST_WAIT
            wait = min(max(0.0, self._due - began) * 1000 + 1, longest)
        self._awake = self.stopping
        self._listen(wait, began + wait / 1000 if leased else None)

    def _listen(self, wait: float, due: float | None = None) -> None:
        """Wait for so many milliseconds, until `due`, or for an event."""
        ready = self._poll.poll(wait)
        if due is not None:
            self._lateness.note(now(), due)
        for descriptor, _ in ready:
            if descriptor == CONTROL:
                self._hear(os.read(CONTROL, 4096))
            elif descriptor == self._guard:
                self._end_at_once(self._guard)
            else:
                self._awake = True
                os.read(descriptor, 4096)

    def _hear(self, data: bytes) -> None:
        if not data:
            self._end_at_once(CONTROL)
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        if lines:
            before = self._deadline.get()
            self.stop_at, self.grace = map(float, lines[-1].split())
            self._deadline.set(self.stop_at + self.grace)
            if self._deadline.get() < before:  # for which the guard may not wake up
                with suppress(PermissionError, ProcessLookupError):
                    os.kill(os.getppid(), signal.SIGCHLD)
            self._due = self.stop_at - self._lateness.lately(self.stop_at - now())

    def _end_at_once(self, ended: int) -> None:
        """End everything, because this descriptor has ended."""
        self._poll.unregister(ended)
        self.stop_at = self._due = self.kill_at = -math.inf


class Sweep:
    """Kills all present descendants. Repeat it until nothing is left."""

    def __init__(self, cgroup: Cgroup | None) -> None:
        self._cgroup = cgroup
        self._immune: list[int] = []

    def __call__(self) -> None:
        if self._cgroup is not None:
            self._cgroup.kill()
        immune = [pid for pid in kill_descendants() if is_running(pid)]
        if immune and immune != self._immune:
            self._immune = immune
            _say(f"cannot kill {', '.join(map(str, immune))}, which run as another user: waiting")


class Lateness:
    """The greatest recent delay between a process's due time and its run."""

    def __init__(self) -> None:
        self._greatest = 0.0
        self._at = -math.inf

    def note(self, at: float, due: float) -> None:
        """Record that the process runs at `at`, and was due at `due` or earlier."""
        late = at - due
        if late >= self._greatest or at - self._at > _LATENESS_KEPT:
            self._greatest, self._at = max(0.0, late), at

    def lately(self, left: float) -> float:
        """The seconds by which to act before an event in `left` seconds. They are at most half of
        `left`, because a process that was stopped once is not always late."""
        return min(self._greatest, max(0.0, left) / 2)


class Guard:
    """Ends the process `supervisor` in time, with all processes that it leaves behind."""

    def __init__(self, supervisor: int, deadline: SharedTime, cgroup: Cgroup | None) -> None:
        self._supervisor = supervisor
        self._deadline = deadline
        self._cgroup = cgroup
        self._began = now()
        self._poll = select.poll()

    def run(self) -> int:
        """Wait until everything has ended. Return the supervisor's status."""
        awake = _wake_for_signals()
        self._poll.register(awake, select.POLLIN)
        self._poll.register(CONTROL, 0)  # its end is reported in any case
        while True:
            pid, ended = os.waitpid(self._supervisor, os.WNOHANG)
            if pid:
                break
            wait = self._left() * 1000
            if wait <= 0:
                os.kill(self._supervisor, signal.SIGKILL)
            for descriptor, _ in self._poll.poll(min(max(wait, _BETWEEN_LOOKS), _LONGEST_WAIT)):
                if descriptor == awake:
                    os.read(awake, 4096)
                else:
                    self._poll.unregister(CONTROL)
                    os.kill(self._supervisor, signal.SIGKILL)
        self._end_orphans(awake)
        status = os.waitstatus_to_exitcode(ended)
        if status < 0:
            os.kill(os.getpid(), signal.SIGKILL)  # so that the node notices
        return status

    def _left(self) -> float:
        """Seconds until the supervisor is late, or must be checked again."""
        deadline = self._deadline.get()
        if math.isnan(deadline):
            return _BEAT  # nothing runs yet that could be late
        return max(deadline, self._began) + _PATIENCE - now()

    def _end_orphans(self, awake: int) -> None:
        """Kill and collect the children, which are what the supervisor left behind."""
        waiting = select.poll()
        waiting.register(awake, select.POLLIN)
        sweep = Sweep(self._cgroup)
        _leave_collecting()
        with suppress(ChildProcessError):
            while True:
                collect_dead()
                sweep()
                if waiting.poll(_BETWEEN_LOOKS):
                    os.read(awake, 4096)
        if self._cgroup is not None:
            self._cgroup.remove()


class SharedTime:
    """A time that a process shares with its forks. NaN until it is set."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize("d"))
        self.set(math.nan)

    def get(self) -> float:
        return float(struct.unpack("d", self._memory[:])[0])

    def set(self, seconds: float) -> None:
        self._memory[:] = struct.pack("d", seconds)


def _wake_for_signals() -> int:
    """A file that becomes readable when a child has died, or at a signal for the node and its
    processes, which this process ignores."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda *_: None)
    return awake


def _leave_collecting() -> None:
    """Let the system collect children at once: their status is no longer needed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _spawn(command: Sequence[str], how: Sequence[str], cgroup: Cgroup | None) -> tuple[int, int]:
    """The command's process id, and the error number if it cannot be executed, else 0."""
    deadline, tell = os.pipe()  # closed by the exec
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            die_with_parent()
            if cgroup is not None:
                cgroup.join()
            if LEASED in how:
                _yield_to_others()
            if os.geteuid() != 0 and PRIVILEGED not in how:
                gain_no_privileges()
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), CONTROL)
            os.execvp(command[0], list(command))
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tell)
    problem = os.read(deadline, 16)
    os.close(deadline)
    return pid, int(problem or 0)


def _come_first() -> None:
    """Get the processor at once, where this is permitted; forks do not."""
    with suppress(OSError, AttributeError):
        policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))


def _yield_to_others() -> None:
    """Lower the priority, in this session and as a session among others."""
    with suppress(OSError):
        os.nice(_NICER)
    with suppress(OSError), open("/proc/self/autogroup", "w") as autogroup:
        autogroup.write(str(_NICER))


def _report(line: str) -> None:
    with suppress(BrokenPipeError):  # the node is dead, as the end of stdin shows, too
        os.write(REPORT, f"{line}\n".encode())


def _say(text: str) -> None:
    """Write a line to stderr, which the node logs; nothing if the pipe is closed."""
    poll = select.poll()
    poll.register(sys.stderr.fileno(), select.POLLOUT)
    if any(event & select.POLLOUT for _, event in poll.poll(0)):
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"{text}\n".encode())


def main(arguments: Sequence[str]) -> int:
    """Supervise the command of `arguments`; returns the exit status."""
    grace, stop_at, how, *command = arguments
    words = how.split(",")
    os.setsid()  # a kill of the node's process group must not kill its supervisor
    os.set_inheritable(REPORT, False)
    deadline = SharedTime()
    guarded, guarding = os.pipe()
    adopt_orphans()
    cgroup = Cgroup.make() if LEASED in words else None
    supervisor = os.fork()
    if LEASED in words:
        _come_first()
    if supervisor:
        os.close(guarded)
        os.close(REPORT)
        return Guard(supervisor, deadline, cgroup).run()
    _report(f"supervisor {os.getpid()} {cgroup.path if cgroup else '-'}")
    os.close(guarding)
    os.setsid()
    adopt_orphans()
    return Supervisor(float(grace), float(stop_at), deadline, guarded, cgroup).run(command, words)
