"""A control group for one command: the system kills all of it at once, including forks."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

PREFIX: Final = "kevy-elect-"


class Cgroup:
    """A group of cgroup v2 below that of this process. A process that moves itself out of it, which
    root may do, is no longer in it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def make(cls) -> Cgroup | None:
        """A new group, named for this process; None if the system has none (before Linux 5.14), or
        if this user may not make one."""
        try:
            above = _own_directory()
            if above is None:
                return None
            _remove_left_behind(above)
            made = cls(f"{above}/{PREFIX}{os.getpid()}")
            os.mkdir(made.path)
        except OSError:
            return None
        if not os.access(f"{made.path}/cgroup.kill", os.W_OK):
            made.remove()
            return None
        return made

    def join(self) -> None:
        """Move this process and its later children into the group, as far as permitted."""
        with suppress(OSError):
            self._write("cgroup.procs", b"0")

    def kill(self) -> None:
        """Send SIGKILL to all in it."""
        with suppress(OSError):
            self._write("cgroup.kill", b"1")

    def is_populated(self) -> bool:
        """Whether a process in it runs."""
        with suppress(OSError), open(f"{self.path}/cgroup.events") as events:
            return "populated 1" in events.read()
        return False

    def remove(self) -> None:
        """Remove the group. Does nothing if it does not exist, or is still in use."""
        with suppress(OSError):
            os.rmdir(self.path)

    def _write(self, name: str, data: bytes) -> None:
        fd = os.open(f"{self.path}/{name}", os.O_WRONLY)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def _own_directory() -> str | None:
    """The directory of this process's group in the file system."""
    own = mount = root = None
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::/"):
                own = line[3:].rstrip("\n")
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                _, _, _, root, mount = fields.split()[:5]
    if own is None or mount is None or root is None:
        return None
    below = "" if root == "/" else root
    if own != root and not own.startswith(f"{below}/"):
        return None
    return f"{mount}/{own[len(below) :].strip('/')}".rstrip("/")


def _remove_left_behind(above: str) -> None:
    """Remove groups of killed supervisors; the system keeps those that are in use."""
    for name in os.listdir(above):
        pid = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            Cgroup(f"{above}/{name}").remove()
