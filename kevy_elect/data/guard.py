"""The program beside a node that freezes its data server when the node cannot.

    guard.py

reads lines of JSON on stdin. Each has some of these keys; a missing one keeps its value:

- `until`: the time until which the server may take writes, in seconds of the node's clock; null
  if it takes none;
- `margin`: it is frozen this many seconds before that, unless a later `until` has come;
- `at_once`: true to freeze it immediately.

It is also frozen immediately when stdin ends, because the node has ended. The guard is then idle
up to the next `until`. A Redis is frozen over a connection:

- `server`: host, port and, if it needs them, the words after AUTH;
- `tls`: none, or the files of the authority, and of the node's certificate and key or twice null;
- `process`: its process id, 0 if it may not be killed. It is killed if it does not answer by
  `until`, or within `margin` if that is later.

Any other store is frozen by a command, which is repeated until it succeeds:

- `command`: its words below a supervisor; the first empty one stands for the time of its end;
- `environment`: its variables;
- `limit`: the seconds that it has, with all repetitions. It also ends when `until` becomes null.

The guard writes a line on descriptor 3 when it freezes the server because of the time. It is run
by its path, imports little, and ends with its stdin.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any

COMMANDS = (
    ("REPLICAOF", "127.0.0.1", "1"),
    ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
    ("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"),
)
_LISTENING = "0A"
_CONTROL = 0
REPORT = 3
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LONGEST = 3600.0
"""The longest wait, in seconds."""
_LOOK = 0.01
"""Seconds between two looks at a command."""
_RETRY = 1.0
"""Seconds from the failure of a command to its next start."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What the guard ignores, because it ends after its node."""


class Guard:
    """The last commands of the node, and the resulting times."""

    def __init__(self) -> None:
        self.server: list[Any] = []
        self.tls: list[Any] = []
        self.process = 0
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        self.limit = 0.0
        self.until: float | None = None
        self.margin = 0.05
        self._freezing: Freezing | None = None

    def hear(self, line: bytes) -> None:
        """Take a command of the node."""
        command = json.loads(line)
        for name in ("server", "tls", "process", "command", "environment", "limit", "margin"):
            setattr(self, name, command.get(name, getattr(self, name)))
        if self.tls:
            import ssl  # noqa: F401  # now, because it takes time
        self.until = command.get("until", self.until)
        if self.until is None:
            self._end_command()
        if command.get("at_once"):
            self.freeze()

    @property
    def is_freezing(self) -> bool:
        """Whether a command runs, or is to be repeated."""
        return self._freezing is not None

    def due_in(self) -> float:
        """Seconds until `act` has something to do."""
        wait = _LONGEST if self.until is None else max(0.0, self.until - self.margin - _now())
        return min(wait, _LOOK if self._freezing else _LONGEST)

    def act(self) -> None:
        """Freeze the server if its time is over, and look at the command that does so."""
        if self._freezing is not None and self._freezing.is_over():
            self._freezing = None
        if self.until is not None and _now() >= self.until - self.margin:
            _report()
            self.freeze()

    def freeze(self) -> None:
        """Make the server take no writes, or kill it. Does nothing if it takes none."""
        if self.until is None:
            return
        deadline = max(self.until, _now() + self.margin)
        self.until = None
        if self.command:
            self._end_command()
            self._freezing = Freezing(self.command, self.environment, _now() + self.limit)
        elif not freeze(self.server, deadline, self.tls):
            kill(self.process, int(self.server[1]))

    def _end_command(self) -> None:
        if self._freezing is not None:
            self._freezing.end()
            self._freezing = None


class Freezing:
    """A command that freezes a store, repeated until it succeeds."""

    def __init__(self, words: list[str], environment: dict[str, str], until: float) -> None:
        self._words = words.copy()
        self._words[words.index("")] = str(until)
        self._environment = environment
        self._until = until
        self._again_at = 0.0
        self._pid = self._control = 0
        self._start()

    def is_over(self) -> bool:
        """Whether it succeeded, or its time is over. Starts it again if it failed."""
        if not self._pid:
            if _now() >= self._again_at:
                self._start()
            return False
        ended, status = os.waitpid(self._pid, os.WNOHANG)
        if not ended:
            return False
        self._pid = 0
        os.close(self._control)
        self._again_at = _now() + _RETRY
        return not status or self._again_at >= self._until

    def end(self) -> None:
        """Kill all that it has started."""
        if self._pid:
            os.close(self._control)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _start(self) -> None:
        control, self._control = os.pipe()
        self._pid = os.posix_spawn(
            self._words[0],
            self._words,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, control, _CONTROL),
                (os.POSIX_SPAWN_OPEN, REPORT, os.devnull, os.O_WRONLY, 0),
            ],
            setsigdef=_SIGNALS,
        )
        os.close(control)


def freeze(server: list[Any], deadline: float, tls: list[Any]) -> bool:
    """Make the server take no writes. Return whether it confirmed this before `deadline`."""
    host, port, *credentials = server
    commands = [("AUTH", *credentials), *COMMANDS] if credentials else list(COMMANDS)
    frozen = 1 + bool(credentials)  # the number of lines; the last is REPLICAOF's
    with suppress(OSError), _connect(host, port, deadline, tls) as connection:
        connection.sendall(b"".join(map(_encode, commands)))
        heard = b""
        while heard.count(b"\n") < frozen:
            connection.settimeout(max(0.001, deadline - _now()))
            more = connection.recv(4096)
            if not more:
                return False
            heard += more
        return heard.split(b"\r\n")[frozen - 1].startswith(b"+OK")
    return False


def _connect(host: str, port: int, deadline: float, tls: list[Any]) -> socket.socket:
    connection = socket.create_connection((host, port), max(0.001, deadline - _now()))
    if not tls:
        return connection
    import ssl

    with connection:  # which is detached once it is within TLS
        authority, certificate, key = tls
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, key, password="")
        connection.settimeout(max(0.001, deadline - _now()))
        return context.wrap_socket(connection, server_hostname=host)


def kill(process: int, port: int) -> None:
    """Kill the process that listens on the port, if it is this one and permitted."""
    if not process:
        return
    with suppress(OSError, AttributeError):  # the second without pidfd
        handle = os.pidfd_open(process)
        if listens(process, port):
            signal.pidfd_send_signal(handle, signal.SIGKILL)


def listens(process: int, port: int) -> bool:
    """Whether the process has a socket that listens on this port: the process id that a server
    reports is valid in its own container only. Raises OSError if this cannot be determined."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), open(f"/proc/net/{table}") as lines:
            for line in list(lines)[1:]:
                _, address, _, state, *rest = line.split()
                if state == _LISTENING and int(address.rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{rest[5]}]")
    descriptors = f"/proc/{process}/fd"
    for descriptor in os.listdir(descriptors):
        with suppress(OSError):
            if os.readlink(f"{descriptors}/{descriptor}") in sockets:
                return True
    return False


def _encode(words: tuple[str, ...]) -> bytes:
    parts = [word.encode("utf-8", "surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def _report() -> None:
    with suppress(OSError):  # the node is dead
        os.write(REPORT, b"frozen\n")


def _now() -> float:
    return time.clock_gettime(_CLOCK)


def main() -> None:
    """Guard until stdin ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    guard, heard, listens = Guard(), b"", True
    while listens or guard.is_freezing:
        ready, _, _ = select.select([_CONTROL] if listens else [], [], [], guard.due_in())
        if not ready:
            guard.act()
            continue
        more = os.read(_CONTROL, 65536)
        if more:
            *lines, heard = (heard + more).split(b"\n")
            for line in lines:
                guard.hear(line)
        else:
            listens = False
            guard.freeze()


if __name__ == "__main__":
    main()
