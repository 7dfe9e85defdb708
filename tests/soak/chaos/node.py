"""One node of a chaos run, seen from outside: its process, its clock, and its disk."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Final

import attrs

from tests.soak.chaos.orders import Orders
from tests.soak.chaos.process import Process
from tests.soak.chaos.sandbox import run
from tests.soak.chaos.settings import MemberSettings
from tests.support import FOREGROUND

DISK_SIZE: Final = "64k"
_COMMAND: Final = (*FOREGROUND, "-y", str(Path(__file__).with_name("node.tac")))


class Node(Process):
    """A process that takes orders, with a small disk of its own."""

    def __init__(self, settings: MemberSettings, log: Path) -> None:
        super().__init__(
            settings.node,
            _COMMAND,
            environment=settings.to_environment(),
            status=settings.status,
            log=log,
        )
        self.settings = settings
        self.orders = Orders(settings.orders)
        self.clock_steps = 0
        self._read_only = False
        settings.data.mkdir(parents=True)
        options = f"size={DISK_SIZE},mode=0700"
        run("mount", "-t", "tmpfs", "-o", options, self.name, str(settings.data))

    # The process

    def relink(self, links: list[str]) -> None:
        self.settings = attrs.evolve(self.settings, links=links)
        self.use(_COMMAND, self.settings.to_environment())

    def start(self) -> None:
        """Start it if it does not run."""
        if not self.runs():
            self.clock_steps = 0
        super().start()

    def step_clock(self, hours: int) -> None:
        """Step its clock one hour forward or back, by the sign."""
        self.signal(signal.SIGUSR1 if hours > 0 else signal.SIGUSR2)
        self.clock_steps += 1 if hours > 0 else -1

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
        """Make the disk read-only for new files: a mount above the mount, because the lower one has
        files that are open for writing."""
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

    # The whole node

    def heal(self) -> None:
        """Make the node healthy: disk free, process running, clock right."""
        self.orders.withdraw()
        self.free_disk()
        # A node whose timers use the wall clock is restarted, because after a step back its timers,
        # such as that of the next dialling, would take another hour.
        if self.clock_steps > 0 and not self.settings.monotonic:
            self.kill()
        super().heal()
        # At the end, because a stopped process may get the later one of two signals first.
        while self.runs() and self.clock_steps:
            self.step_clock(-self.clock_steps)
