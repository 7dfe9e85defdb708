"""The program beside a node that freezes its Redis when the node cannot.

    guard.py

reads lines of JSON on stdin. Each has some of these keys; a missing one keeps its value:

- `server`: host, port and, if it needs them, the words after AUTH;
- `tls`: none, or the files of the authority, and of the node's certificate and key or twice null;
- `process`: its process id, 0 if it may not be killed;
- `until`: the time until which the Redis may take writes, in seconds of the node's clock; null if
  it takes none;
- `margin`: it is frozen this many seconds before that, unless a later `until` has come;
- `at_once`: true to freeze it immediately.

It is also frozen immediately when stdin ends, because the node has ended. If it does not answer by
`until`, or within `margin` if that is later, it is killed. The guard is then idle up to the next
`until`.

It writes a line on descriptor 3 when it freezes the server because of the time.

It is run by its path, imports little, and ends with its stdin.
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


class Guard:
    """The last commands of the node, and the resulting times."""

    def __init__(self) -> None:
        self.server: list[Any] = []
        self.tls: list[Any] = []
        self.process = 0
        self.until: float | None = None
        self.margin = 0.05

    def hear(self, line: bytes) -> None:
        """Take a command of the node."""
        command = json.loads(line)
        self.server = command.get("server", self.server)
        self.tls = command.get("tls", self.tls)
        if self.tls:
            import ssl  # noqa: F401  # now, because it takes time
        self.process = command.get("process", self.process)
        self.until = command.get("until", self.until)
        self.margin = command.get("margin", self.margin)
        if command.get("at_once"):
            self.freeze()

    def due_in(self) -> float:
        """Seconds until it has to freeze."""
        return _LONGEST if self.until is None else max(0.0, self.until - self.margin - _now())

    def freeze(self) -> None:
        """Make the server take no writes, or kill it. Does nothing if it takes none."""
        if self.until is None:
            return
        deadline = max(self.until, _now() + self.margin)
        self.until = None
        if not freeze(self.server, deadline, self.tls):
            kill(self.process, int(self.server[1]))


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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends after its node, not with it
    guard, heard = Guard(), b""
    while True:
        ready, _, _ = select.select([_CONTROL], [], [], min(guard.due_in(), _LONGEST))
        if not ready:
            if not guard.due_in():
                _report()
                guard.freeze()
            continue
        more = os.read(_CONTROL, 65536)
        if not more:
            break
        *lines, heard = (heard + more).split(b"\n")
        for line in lines:
            guard.hear(line)
    guard.freeze()


if __name__ == "__main__":
    main()
