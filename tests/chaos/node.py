"""One node's process, from outside: started, signalled, asked, and its disk taken away."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.chaos.orders import Orders
from tests.chaos.sandbox import REPOSITORY, run
from tests.chaos.settings import MemberSettings

DISK_SIZE: Final = "64k"
_TWISTD: Final = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
_TAC: Final = Path(__file__).with_name("node.tac")


class Node:
    """The process runs in the network namespace of its name, with a small disk of its own."""

    def __init__(self, settings: MemberSettings, log: Path) -> None:
        self.name = settings.node
        self.settings = settings
        self.log = log
        self.orders = Orders(settings.orders)
        self.clock_steps = 0
        self.starts = 0
        self.deaths: list[int] = []
        """Exit statuses, -9 for one that was killed."""
        self._process: subprocess.Popen[bytes] | None = None
        self._read_only = False
        settings.data.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", self.name, str(settings.data))

    # The process

    def start(self) -> None:
        """Start it if it does not run."""
        if self.runs():
            return
        self.settings.status.unlink(missing_ok=True)
        self.clock_steps = 0
        self.starts += 1
        enter = ("nsenter", f"--net=/run/netns/{self.name}")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*enter, *_TWISTD, "-n", "--pidfile=", "-y", str(_TAC)],
                cwd=self.settings.status.parent,
                env={
                    **os.environ,
                    **self.settings.to_environment(),
                    "PYTHONPATH": str(REPOSITORY),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def runs(self) -> bool:
        """Whether the process lives, be it stopped or not."""
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

    def step_clock(self, hours: int) -> None:
        """One hour forward or back, by the sign."""
        self.signal(signal.SIGUSR1 if hours > 0 else signal.SIGUSR2)
        self.clock_steps += 1 if hours > 0 else -1

    def status(self) -> dict[str, Any] | None:
        """What it tells, None if it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.settings.status))
                connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                told: dict[str, Any] = json.load(answer)
                return told
        except (OSError, ValueError, http.client.HTTPException):
            return None

    # The disk

    def fill_disk(self) -> None:
        if self._read_only:
            return
        with open(self._filler, "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def protect_disk(self) -> None:
        """Read-only from now on for whoever opens something: a mount on top of the mount,
        because the one below has files that are open for writing."""
        run("mount", "-o", "bind,ro", str(self.settings.data), str(self.settings.data))
        self._read_only = True

    def free_disk(self) -> None:
        if self._read_only:
            run("umount", "--lazy", str(self.settings.data))
            self._read_only = False
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.settings.data / "filler"

    # All of it

    def heal(self) -> None:
        """As a machine should be: disk free, process running, clock right."""
        self.orders.withdraw()
        self.free_disk()
        self._set_clock_right()
        self.wake()

    def _set_clock_right(self) -> None:
        """A node whose timers follow the wall clock is restarted rather than set back: what
        it waits for, dialling a peer again above all, would take it another hour."""
        if self.clock_steps > 0 and not self.settings.monotonic:
            self.kill()
        while self.runs() and self.clock_steps:
            self.step_clock(-self.clock_steps)

    def wake(self) -> None:
        """Have it run: go on, or start. To be repeated, because an order that was just taken
        when it was withdrawn is still being carried out."""
        self.signal(signal.SIGCONT)
        self.start()
