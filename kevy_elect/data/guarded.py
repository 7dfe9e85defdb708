"""The node's side of the program that freezes a Redis when the node cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.data import guard
from kevy_elect.driving import Fencing
from kevy_elect.service.timers import timers

AGAIN: Final = 1.0
"""Seconds after which a guard that ended is started again."""


class Guarded(Protocol):
    """A data server that a guard can freeze."""

    @property
    def name(self) -> str:
        """Its kind and address, for people."""

    def for_guard(self) -> Mapping[str, object]:
        """How to freeze it, in the words of `guard`; asked at each start of the guard."""


class GuardProcess(ProcessProtocol):
    """The guard of `server`, which this node keeps running.

    It measures time by itself. It freezes the server when the node is dead, or stopped beyond its
    lease.
    """

    log = Logger()
    transport: IProcessTransport

    def __init__(self, server: Guarded, *, reactor: Any) -> None:
        self.acted: Callable[[], object] = lambda: None
        self._server = server
        self._reactor = reactor
        self._process: IProcessTransport | None = None
        self._stopped: Deferred[None] | None = None
        self._sent: dict[str, object] = {}

    @property
    def pid(self) -> int:
        """Its process id, 0 if it does not run."""
        pid = None if self._process is None else self._process.pid
        return int(pid or 0)

    def fencing(self, process: int) -> Fencing:
        return Fencing.GUARD if self.pid else Fencing.NODE

    def start(self) -> None:
        # Without site: the guard runs as long as the node, and should be small.
        self._stopped = None
        self._process = self._reactor.spawnProcess(
            self,
            sys.executable,
            [sys.executable, "-I", "-S", guard.__file__],
            env={},
            childFDs={0: "w", 1: 1, 2: 2, guard.REPORT: "r"},
        )
        self._tell(**self._sent | dict(self._server.for_guard()))

    def stop(self) -> Deferred[None]:
        """End it; fires when it has ended. It first freezes the server, unless the server is known
        to be frozen."""
        if self._process is None:
            return succeed(None)
        self._stopped = stopped = Deferred[None]()
        self._process.closeChildFD(0)
        return stopped

    def keep(self, until: float, margin: float, process: int) -> None:
        self._tell(until=until, margin=margin, process=process)

    def freeze(self) -> None:
        """Freeze the server at once, or kill it at the end of its time."""
        self._tell(at_once=True)
        self._sent.pop("at_once")

    def release(self) -> None:
        self._tell(until=None)

    def _tell(self, **what: object) -> None:
        self._sent |= what
        if self._process is not None:
            self._process.writeToChild(0, json.dumps(what).encode() + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.acted()

    def processEnded(self, reason: Failure) -> None:
        self._process = None
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        self.log.error(
            "the guard of {server} ended: {reason}; it is started again",
            server=self._server.name,
            reason=reason.getErrorMessage(),
        )
        timers(self._reactor).callLater(AGAIN, self._start_again)

    def _start_again(self) -> None:
        if self._process is None and self._stopped is None:
            self.start()


class CommandGuard(GuardProcess):
    """The guard of a store that is driven by commands: it runs the one that ends the writes."""

    def keep(self, until: float, margin: float, process: int) -> None:
        news = self._server.for_guard().items()  # the epoch may be another
        self._tell(
            **{name: value for name, value in news if self._sent.get(name) != value},
            until=until,
            margin=margin,
        )

    def freeze(self) -> None:
        """The node runs the same command itself; the time remains."""
