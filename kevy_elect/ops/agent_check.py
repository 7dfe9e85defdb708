"""The agent of HAProxy's `agent-check`: it reports whether this node is primary.

It sends one line, `up` or `down` with the reason, and ends the connection. The line has only
the operating state: `ready`, `drain` and `maint` belong to the administrator, and an
agent that said `ready` would end the maintenance that an administrator began.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import LimitTotalConnectionsFactory, TimeoutMixin
from twisted.python.failure import Failure

from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers

MAX_CHECKERS: Final = 16
"""The most connections at a time. A further one is closed without an answer."""
TIMEOUT: Final = 10.0
"""Seconds within which a client must read the line."""


def answer(election: ElectionService) -> bytes:
    """The line for HAProxy at this moment."""
    if election.can_write():
        return b"up\n"
    primary = election.state_snapshot().current_primary
    if primary is None:
        return b"down #no primary is known\n"
    if primary == election.cluster.node_id:
        return b"down #primary, but may not write now\n"
    return f"down #{primary} is primary\n".encode()


class AgentCheck(Protocol, TimeoutMixin):
    """Sends the line, and closes. It ignores what HAProxy's `agent-send` sends."""

    transport: ITCPTransport

    def __init__(self, election: ElectionService) -> None:
        self._election = election

    def connectionMade(self) -> None:
        self.setTimeout(TIMEOUT)
        self.transport.write(answer(self._election))
        self.transport.loseConnection()

    def timeoutConnection(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)

    def callLater(self, delay: float, function: Callable[[], object]) -> Any:
        return timers(self._election.reactor).callLater(delay, function)


class AgentCheckFactory(LimitTotalConnectionsFactory):
    """For a listening port: `strports.service(endpoint, AgentCheckFactory(election))`."""

    noisy = False
    connectionLimit = MAX_CHECKERS  # type: ignore[assignment]

    def __init__(self, election: ElectionService) -> None:
        self._election = election

    def protocol(self) -> AgentCheck:
        return AgentCheck(self._election)
