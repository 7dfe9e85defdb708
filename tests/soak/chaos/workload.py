"""The workload of a node: it writes, many times a second, while it may."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service

from kevy_elect.service.election import ElectionService
from tests.soak.chaos.journal import Journal
from tests.soak.chaos.orders import STOP_BEFORE_WRITE, Orders

INTERVAL: Final = 0.005


class Writer(Service):
    """Asks and writes every INTERVAL. Each refusal is one byte in a file of its own, so that the
    count survives SIGKILL."""

    def __init__(
        self, election: ElectionService, journal: Journal, refusals: Path, orders: Orders
    ) -> None:
        self._election = election
        self._journal = journal
        self._refusals = os.open(refusals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._orders = orders
        self._last_done = 0
        self._waiting = False

    def startService(self) -> None:
        super().startService()
        # Not a timer of the reactor, which a step of this node's clock may stop for an hour.
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        from twisted.internet import reactor

        loop: Any = reactor
        while self.running:
            time.sleep(INTERVAL)
            if not self._waiting:
                self._waiting = True
                loop.callFromThread(self._write_if_allowed)

    def _write_if_allowed(self) -> None:
        self._waiting = False
        asked = time.monotonic_ns()
        allowed = self._election.can_write()
        answered = time.monotonic_ns()
        if not allowed:
            os.write(self._refusals, b".")
            return
        epoch = self._election.state_snapshot().epoch
        if self._orders.take(STOP_BEFORE_WRITE):
            os.kill(os.getpid(), signal.SIGSTOP)
        self._journal.append(epoch, asked, answered, self._last_done)
        self._last_done = time.monotonic_ns()
