"""The nodes of the demo: each a twistd process of its own.

They are started, killed and asked for their status, as an operator would; nothing else is
shared with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.cli.admin_client import UnreachableError, ask_status
from kevy_elect.cli.printable import printable
from kevy_elect.cli.responses import Response
from kevy_elect.config import PeerAddr
from kevy_elect.settings.admin import SOCKET
from kevy_elect.status import Status

HOST: Final = "127.0.0.1"
CHILDREN: Final = "/proc/{0}/task/{0}/children"
"""Where Linux says which processes another has started."""
STOP_TIMEOUT: Final = 3.0


@attrs.define
class Node:
    """One node: how it is started, its process, and what it last said of itself.

    With a last will `process` is the wrapper, and the node itself a child of that.
    """

    node_id: str
    url: str
    directory: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    response: Response | None = None
    ready_at: float | None = None
    """When this process first answered."""
    ended_at: float = 0.0
    _ending: subprocess.Popen[bytes] | None = None
    """The wrapper of a node that was killed, which tells the others and ends then."""

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int | None:
        """Of the node itself, not of its wrapper."""
        if self.process is None:
            return None
        outer = self.process.pid
        with contextlib.suppress(OSError, ValueError):
            (inner,) = Path(CHILDREN.format(outer)).read_text().split()
            return int(inner)
        return outer

    @property
    def status(self) -> Status | None:
        return None if self.response is None else self.response.status

    def start(self) -> None:
        """Start the process, which ends when this one does, however that comes about.

        It waits for the end of its stdin (`run_node`), and only this process holds
        the other end. In a group of its own a Ctrl-C does not reach it.
        """
        self._reap()
        self.ready_at = None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def ask(self, timeout: float) -> None:
        """Ask for the status as it is now: the page's may be 0.1 s old."""
        try:
            status, _ = ask_status(f"unix:{self.directory / SOCKET}", timeout)
            self.hear(Response(self.url, status))
        except UnreachableError as error:
            self.hear(Response(self.url, error=str(error)))

    def hear(self, response: Response) -> None:
        self.response = response
        if self.ready_at is None and response.status is not None:
            self.ready_at = time.monotonic()

    def has_ended(self) -> bool:
        """Whether the process ended without having been killed from here."""
        return self.process is not None and self.process.poll() is not None

    def crash(self) -> None:
        """End the node at once, and not its wrapper, which is not waited for."""
        if self.process is not None and self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._ending = self.process
            self._forget()

    def kill(self) -> None:
        """End all of it at once, as the death of its machine would."""
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()  # reaps it and closes its stdin
            self._forget()
        self._reap()

    def _forget(self) -> None:
        self.process = self.response = None
        self.ended_at = time.monotonic()

    def _reap(self) -> None:
        if self._ending is not None:
            self._ending.communicate()
            self._ending = None


def plan(names: Sequence[str], directory: Path, options: Sequence[str]) -> list[Node]:
    """Nodes of these ids, each with a directory below `directory`, and with these options."""
    ports = iter(_free_ports(3 * len(names)))
    members = [PeerAddr(name, HOST, next(ports), next(ports)) for name in names]
    return [_node(member, next(ports), members, directory, options) for member in members]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _node(
    me: PeerAddr, http_port: int, members: Sequence[PeerAddr], top: Path, options: Sequence[str]
) -> Node:
    directory = top / me.node_id
    directory.mkdir()
    command = [
        *(sys.executable, "-c", "from kevy_elect.cli.demo.nodes import run_node; run_node()"),
        *("--nodaemon", "--pidfile=", "kevy-elect"),
        *("--node-id", me.node_id, "--peers", ",".join(map(str, members))),
        *("--http", f"tcp:{http_port}:interface={HOST}", "--data-dir", str(directory)),
        *options,
    ]
    return Node(me.node_id, f"http://{HOST}:{http_port}/status", directory, command)


def run_node() -> None:
    """Be a twistd, with this process's arguments, until stdin ends."""
    from twisted.scripts import twistd

    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    twistd.run()


def _exit_at_end_of_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def stop(nodes: Sequence[Node]) -> None:
    """End all that still run: asked first, killed if that takes too long."""
    processes = [node.process for node in nodes if node.process is not None]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for node in nodes:
        node.kill()


def why_ended(node: Node) -> str:
    """What to say of a process that ended by itself, by its exit status and log."""
    code = node.process.returncode if node.process else 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    log = node.log.read_text("utf-8", "replace")
    if "Address already in use" in log:
        how += ", because a port that was free has been taken meanwhile; try again"
    elif code >= 0:
        how += f"; its log ends: {printable(log.strip().rpartition(chr(10))[2])}"
    return f"the process of {node.node_id} {how}"
