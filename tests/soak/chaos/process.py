"""One node's process, seen from outside: started, signalled and asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.soak.chaos.footprint import Footprint, take
from tests.support import ROOT

PRIORITY: Final = -15
REAL_TIME: Final = os.sched_param(1)


def prefer(pid: int, *, real_time: bool = False) -> None:
    """Give a process priority, where this is allowed, as if it had a machine of its own."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)
        if real_time:
            os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, REAL_TIME)


class Process:
    """A program in the network namespace of its name, which serves its status on a socket."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        status: Path,
        log: Path,
    ) -> None:
        """It runs in the directory of its `status` socket, with `environment` added to this
        one's."""
        self.name = name
        self.log = log
        self.starts = 0
        self.deaths: list[int] = []
        """Exit statuses, -9 after SIGKILL."""
        self._command = ("nsenter", f"--net=/run/netns/{name}", *command)
        self._environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._status = status
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None if it does not run."""
        return self._process.pid if self._process is not None and self.runs() else None

    @property
    def node_pid(self) -> int | None:
        """The process id of the node itself, if the process is its wrapper."""
        return self.pid

    def footprint(self) -> Footprint:
        return take(self.node_pid, self.log)

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run another command from the next start on, with this environment added."""
        self._command = ("nsenter", f"--net=/run/netns/{self.name}", *command)
        self._environment.update(environment)

    def start(self) -> None:
        """Start it if it does not run."""
        if self.runs():
            return
        self._status.unlink(missing_ok=True)
        self.starts += 1
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._status.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        prefer(self._process.pid)

    def runs(self) -> bool:
        """Whether the process exists, stopped or not."""
        if self._process is None:
            return False
        status = self._process.poll()
        if status is None:
            return True
        self.deaths.append(status)
        self._process = None
        return False

    def signal(self, number: signal.Signals) -> None:
        if self.runs():
            assert self._process is not None
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self.runs()

    def relink(self, links: list[str]) -> None:
        """Use these options for its links from the next start on."""
        raise NotImplementedError

    def heal(self) -> None:
        """Make the process run."""
        self.wake()

    def wake(self) -> None:
        """Continue or start the process. Repeat this, because an order that was just taken is still
        carried out after its withdrawal."""
        self.signal(signal.SIGCONT)
        self.start()

    def status(self) -> dict[str, Any] | None:
        """Its status document; None if it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self._status))
                connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                told: dict[str, Any] = json.load(answer)
                return told
        except (OSError, ValueError, http.client.HTTPException):
            return None
