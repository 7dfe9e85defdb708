"""Nodes that are forked from a process with all their modules: to import these takes most of a
node's start, and longer than many a test.

What is forked is a twistd like any other: it has arguments, an environment, a directory, standard
streams and an exit status of its own. Only its command line in /proc is the server's.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from kevy_elect.children.processes import die_with_parent
from tests.support import ROOT, TWISTD

_MODULES: Final = ("twisted.internet.epollreactor", "twisted.scripts.twistd", "kevy_elect.tap")
"""All but a reactor, which each process installs for itself."""
_NUMBER: Final = struct.Struct("=i")


class Forked:
    """What tests use of subprocess.Popen, for a child of the server."""

    def __init__(self, command: Sequence[str], pid: int, end: socket.socket) -> None:
        """`end` is where the server tells the exit status."""
        self.args = command
        self.pid = pid
        self.returncode: int | None = None
        self._end = end

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                told = self._end.recv(_NUMBER.size)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            # Without an answer the server is dead, and with it whatever it has forked.
            self.returncode = _NUMBER.unpack(told)[0] if told else -signal.SIGKILL
            self._end.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    command: Sequence[str], directory: Path, output: IO[bytes], environment: Mapping[str, str]
) -> Forked:
    """Run a command of twistd in `directory`."""
    ours, end = socket.socketpair()
    with end, open(os.devnull, "rb") as nothing:
        streams = [nothing.fileno(), output.fileno(), output.fileno()]
        socket.send_fds(_server(), [b"."], [*streams, end.fileno()])
    order = {"words": command, "directory": str(directory), "environment": dict(environment)}
    ours.sendall(json.dumps(order).encode() + b"\n")
    (pid,) = _NUMBER.unpack(ours.recv(_NUMBER.size))
    return Forked(command, pid, ours)


@functools.cache
def _server() -> socket.socket:
    """The way to a server, which ends with this process, as do all that it has forked."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


class _Server:
    """Forks for each order that comes, and tells whoever ordered how that ended."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._ends: dict[int, tuple[int, socket.socket]] = {}
        """By descriptor of a child: its id, and where its status is told."""
        self._poll = select.poll()
        self._poll.register(orders, select.POLLIN)

    def serve(self) -> None:
        """Returns in the children, which are ready to run."""
        while True:
            for ready, _ in self._poll.poll():
                if ready in self._ends:
                    self._bury(ready)
                elif self._fork():
                    return

    def _fork(self) -> bool:
        """Take an order; whether this is the child."""
        _, descriptors, _, _ = socket.recv_fds(self._orders, 1, 4)
        if not descriptors:
            os._exit(0)
        *streams, end = descriptors
        ordered = socket.socket(fileno=end)
        with ordered.makefile("rb") as lines:
            order = json.loads(lines.readline())
        pid = os.fork()
        if not pid:
            for taken in (self._orders, ordered, *(end for _, end in self._ends.values())):
                taken.detach()
            _become(order, streams)
            return True
        for stream in streams:
            os.close(stream)
        ordered.send(_NUMBER.pack(pid))
        child = os.pidfd_open(pid)
        self._ends[child] = pid, ordered
        self._poll.register(child, select.POLLIN)
        return False

    def _bury(self, child: int) -> None:
        self._poll.unregister(child)
        os.close(child)
        pid, end = self._ends.pop(child)
        _, status = os.waitpid(pid, 0)
        with end, suppress(OSError):
            end.send(_NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _become(order: dict[str, Any], streams: Sequence[int]) -> None:
    """Be the process that was ordered, with no descriptor but its streams."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = ""
    sys.orig_argv[:] = order["words"]
    sys.argv[:] = ["-c", *order["words"][len(TWISTD) :]]


def main(orders: int) -> None:
    from twisted.scripts import twistd

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in _MODULES:
        importlib.import_module(module)
    gc.freeze()
    server = _Server(socket.socket(fileno=orders))
    server.serve()
    twistd.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
