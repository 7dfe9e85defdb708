"""The nodes of the demo: each is a twistd process of its own.

The demo starts them, kills them and asks for their status, as an operator would. It shares nothing
else with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.cli.admin_client import UnreachableError, ask_status
from kevy_elect.cli.demo.child import Child
from kevy_elect.cli.demo.ports import HOST, free_ports
from kevy_elect.cli.responses import Response
from kevy_elect.cli.supervise import wrapped
from kevy_elect.config import PeerAddr
from kevy_elect.settings.admin import SOCKET
from kevy_elect.status import Status

STOP_TIMEOUT: Final = 3.0


@attrs.define
class Node(Child):
    """One node: its process and its last status.

    With a last will, the process is its wrapper.
    """

    url: str = ""
    address: str = ""
    """The `host:port` for clients of the elected primary."""
    response: Response | None = None
    ready_at: float | None = None
    """The time of the first answer of this process."""
    _ending: subprocess.Popen[bytes] | None = None
    """The wrapper of a killed node, which notifies the others and then ends."""

    @property
    def node_id(self) -> str:
        return self.name

    @property
    def admin(self) -> str:
        """The endpoint for the operator's commands."""
        return f"unix:{self.directory / SOCKET}"

    @property
    def status(self) -> Status | None:
        return None if self.response is None else self.response.status

    def start(self) -> None:
        self._reap()
        self.ready_at = None
        super().start()

    def ask(self, timeout: float) -> None:
        """Ask for the present status; that of the page may be 0.1 s old."""
        try:
            status, _ = ask_status(self.admin, timeout)
            self.hear(Response(self.url, status))
        except UnreachableError as error:
            self.hear(Response(self.url, error=str(error)))

    def hear(self, response: Response) -> None:
        self.response = response
        if self.ready_at is None and response.status is not None:
            self.ready_at = time.monotonic()

    def crash(self) -> None:
        """Kill the node, and not its wrapper, without waiting for it."""
        if self.process is not None and self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            self._ending = self.process
            self._forget()

    def kill(self) -> None:
        super().kill()
        self._reap()

    def _forget(self) -> None:
        self.response = None
        super()._forget()

    def _reap(self) -> None:
        if self._ending is not None:
            self._ending.communicate()
            self._ending = None


def plan(
    names: Sequence[str], directory: Path, options: Sequence[str], *, with_wills: bool = False
) -> list[Node]:
    """Nodes of these ids and options, each with a directory below `directory`."""
    ports = iter(free_ports(3 * len(names)))
    members = [PeerAddr(name, HOST, next(ports), next(ports)) for name in names]
    nodes = [_node(member, next(ports), members, directory, options) for member in members]
    if with_wills:  # as with --last-will, but for one start of Python less
        for node in nodes:
            node.command, node.wrapped = wrapped(node.command), True
    return nodes


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
    return Node(
        me.node_id,
        directory,
        command,
        url=f"http://{HOST}:{http_port}/status",
        address=f"{HOST}:{me.client_port}",
    )


def run_node() -> None:
    """Run twistd with this process's arguments until stdin ends."""
    from twisted.scripts import twistd

    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    twistd.run()


def _exit_at_end_of_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def stop(nodes: Sequence[Node]) -> None:
    """End all running nodes with a signal, and kill those that take too long."""
    processes = [node.process for node in nodes if node.process is not None]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for node in nodes:
        node.kill()
