"""The writer of the demo, which writes numbers to the server that takes them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from typing import Final

import attrs
import hiredis

from kevy_elect.cli.demo.ports import HOST
from kevy_elect.cli.demo.redis.client import Client
from kevy_elect.cli.demo.redis.numbers import Ledger

KEY: Final = "written"
"""The key whose bits are the written numbers."""
PACE: Final = 0.005
"""Seconds between two writes."""
RETRY: Final = 0.001
"""Seconds to the next attempt after a write that was not taken."""
WAIT_MS: Final = 1000
"""Milliseconds within which WAIT must confirm a write."""
STOP_TIMEOUT: Final = 3.0


@attrs.define
class Turn:
    """The time during which one server took the writes: its first and last acknowledgement."""

    server: str
    first_at: float
    last_at: float


class Writer:
    """Writes in a thread of its own until stopped.

    It tries one server after another, stays with the one that takes its writes, and sends WAIT to
    it. It sends a refused number again, but not one that a server may have.
    """

    def __init__(self, ports: Mapping[str, int], replicas: int) -> None:
        """`ports` are those of the servers; `replicas` of them must confirm a write."""
        self.ledger = Ledger()
        self.turns: list[Turn] = []
        """The earliest first."""
        self._ports = ports
        self._replicas = replicas
        self._servers = itertools.cycle(ports)
        self._numbers = itertools.count()
        self._number = next(self._numbers)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT)

    def turn_after(self, moment: float, other: str) -> Turn | None:
        """The first turn of another server that began after this moment."""
        return next(
            (turn for turn in self.turns if turn.first_at > moment and turn.server != other), None
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            server = next(self._servers)
            try:
                client = Client(HOST, self._ports[server])
            except OSError:
                client = None
            while client is not None and not self._stopped.is_set() and self._write(server, client):
                self._stopped.wait(PACE)
            if client is not None:
                client.close()
            self._stopped.wait(RETRY)

    def _write(self, server: str, client: Client) -> bool:
        """Send the next number. Return whether the server took it and can be asked again."""
        if client.has_ended():
            return False
        number, confirmed = self._number, False
        try:
            client.send(("SETBIT", KEY, number, 1), ("WAIT", self._replicas, WAIT_MS))
            if isinstance(client.read(), hiredis.ReplyError):
                return False
            self._note(server, number)
            copies = client.read()
            confirmed = isinstance(copies, int) and copies >= self._replicas
            taken = isinstance(copies, int)
        except OSError:
            taken = False
        self.ledger.settle(number, confirmed=confirmed)
        self._number = next(self._numbers)
        return taken

    def _note(self, server: str, number: int) -> None:
        """Record that the server has acknowledged the number."""
        now = time.monotonic()
        self.ledger.acknowledge(number)
        if self.turns and self.turns[-1].server == server:
            self.turns[-1].last_at = now
        else:
            self.turns.append(Turn(server, now, now))
