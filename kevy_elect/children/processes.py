"""The processes below this one: it finds, stops, kills and collects them.

The small programs between a node and its commands use it, so it imports little. Statements about
descendants are valid on Linux; other systems use the process group instead.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LONGEST_LIST: Final = 1 << 20
"""The most bytes of a list of processes that are read: more than a hundred thousand of them."""
_LOOKS: Final = 50
"""The number of searches for new children in a row."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38


def now() -> float:
    """Seconds of a clock that all processes of a machine share and that advances while the
    machine sleeps, if there is one."""
    return time.clock_gettime(_CLOCK)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Let the system send SIGKILL when the parent of this process ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def gain_no_privileges() -> None:
    """Prevent this process and its children from becoming another user, by sudo or a setuid file,
    because they could not be killed then."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def children(parent: int | None = None) -> list[int]:
    """The children of a process, by default this one, including zombies; at most the first hundred
    thousand, and none if the system does not list them."""
    pid = parent or os.getpid()
    found: list[int] = []
    for thread in [pid] if parent is None else _threads(pid):
        with suppress(OSError):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                text = file.read(_LONGEST_LIST)
            found += map(int, text[: text.rfind(b" ") + 1].split())
    return found


def kill_descendants() -> list[int]:
    """Send SIGKILL to all descendants; returns those that this process may not kill.

    It kills its own children first, until there is no new one. It stops deeper descendants, so
    that they cannot fork, until they have become its children. Some may escape: repeat the call
    until nothing is left.
    """
    found: set[int] = set()
    immune: set[int] = set()
    with _zombies_kept():
        for _ in range(_LOOKS):
            new = [pid for pid in reversed(children()) if pid not in found]  # the newest may fork
            if not new:
                break
            for pid in new:
                try:
                    os.kill(pid, signal.SIGKILL)
                except PermissionError:
                    immune.add(pid)
                except ProcessLookupError:  # it ended just before
                    pass
            found.update(new)
    deeper = _below(found)
    family = {os.getpid(), *found, *deeper}
    immune.update(pid for pid in deeper if not _signal(pid, family, signal.SIGSTOP))
    return sorted(immune)


@contextmanager
def _zombies_kept() -> Iterator[None]:
    """Keep the process ids of children that end from being reused until they are collected, even
    if the system would collect them."""
    otherwise = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, otherwise)


def collect_dead(spared: int = 0) -> None:
    """Collect the children that have ended, except `spared`, and except those that end meanwhile.

    Raises ChildProcessError if there are no children.
    """
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    for pid in children() or ([ended.si_pid] if ended else []):
        if pid != spared:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def peek_status(pid: int) -> int | None:
    """The status with which a child has ended, as in a shell; None while it runs. Its
    process id stays in use until it is collected."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status + (0 if ended.si_code == os.CLD_EXITED else 128)


def _below(parents: Iterable[int]) -> list[int]:
    """All descendants of those processes, parents before children."""
    found: list[int] = []
    for parent in parents:
        found += children(parent)
    for parent in found:
        found += children(parent)
    return found


def _signal(pid: int, family: Collection[int], number: int) -> bool:
    """Send a signal to this child of one of the family, and not to another process that has its
    id by now; false if that is not permitted."""
    try:
        fd = os.pidfd_open(pid)
        try:
            if parent_of(pid) in family:
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
    except PermissionError:
        return False
    except OSError:  # it has ended
        pass
    return True


def parent_of(pid: int) -> int | None:
    """The parent of a process, None if there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def command_line(pid: int) -> list[str]:
    """The words that a process was executed with; none if it is gone or the system does not
    provide them."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _stat(pid: int) -> list[str]:
    """State, parent, group and session of a process, and more; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return []


def has_living(session: int) -> bool:
    """Whether a process of a session runs in the group of its leader. A group without a leader does
    not count, because its id may belong to another group by now."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return True
    for name in filter(str.isdigit, names):
        state, _, *group_and_session = _stat(int(name))[:4] or ("X", "")
        if group_and_session == [str(session)] * 2 and state not in "ZX":
            return True
    return False


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _prctl(option: int, value: int) -> None:
    """Linux only; other systems use the process group."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
