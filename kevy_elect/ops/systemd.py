"""Notifications to the service manager that started the node: sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.messages import Role
from kevy_elect.service.election import ElectionService
from kevy_elect.service.observers import ElectorSnapshot
from kevy_elect.service.timers import timers

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
RETRY: Final = 5.0
"""Seconds between attempts to resend when no watchdog is set."""
PINGS: Final = 4
"""The number of messages to the watchdog within its limit."""
AFTERWARDS: Final = 10.0
"""Seconds that a stop may take in addition to the handover: the last hook, connections, the log."""


@attrs.frozen
class Manager:
    """The socket of the service manager: a path, or an abstract name with `@` before it."""

    address: str
    limit: float = 0.0
    """Seconds without a message after which it ends the process; 0 without such a limit."""

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Manager | None:
        """The manager that `environment` names; None without one. This removes its variables,
        because processes that this one starts must not send messages for it.

        Raises ConfigError, with all variables removed, for an invalid socket or limit.
        """
        address, limit, pid = (environment.pop(name, "") for name in VARIABLES)
        if not address:
            return None
        if address[0] not in "/@":
            raise ConfigError(f"NOTIFY_SOCKET={address}: neither a path nor an abstract socket")
        if not limit or pid not in ("", str(os.getpid())):
            return cls(address)
        if not (limit.isascii() and limit.isdigit() and len(limit) < 20 and int(limit)):
            raise ConfigError(f"WATCHDOG_USEC={limit}: no number of microseconds above 0")
        return cls(address, int(limit) / 1e6)


class Notifier(Service):
    """Notifies the service manager of the node's start, state, life and stop.

    `READY=1` is sent once all services have started and the reactor runs; it does not wait for a
    primary. `STATUS=` is sent at each change. `WATCHDOG=1` is sent four times within the limit, as
    long as the elector runs: a process that answers and does not elect is as bad as one that
    hangs. `STOPPING=1` is sent before anything else stops, with the time that a handover may take.

    A socket that is missing or full causes a line in the log, and never a wait. The notifier sends
    the newest state later.
    """

    log = Logger()

    def __init__(self, election: ElectionService, manager: Manager) -> None:
        self.election = election
        self.manager = manager
        self._socket: socket.socket | None = None
        self._unsent: dict[str, str] = {}
        self._failing = False
        self._stopping = False

    def startService(self) -> None:
        super().startService()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._stopping = False
        reactor = self.election.reactor
        self._forget = self.election.add_observer(self._note)
        # Registered before the services' own stop, which twistd registers after their start.
        reactor.addSystemEventTrigger("before", "shutdown", self._leave)
        self._loop = LoopingCall(self._beat)
        self._loop.clock = timers(reactor)
        self._first: Any = timers(reactor).callLater(0, self._begin)

    def stopService(self) -> None:
        super().stopService()
        self._leave()
        if self._first.active():
            self._first.cancel()
        if self._loop.running:
            self._loop.stop()
        self._forget()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _begin(self) -> None:
        if self._stopping or not self.election.is_electing:
            return
        self._tell(READY="1", STATUS=self._status(self.election.state_snapshot()))
        self._loop.start(self.manager.limit / PINGS or RETRY).addErrback(self._broken)

    def _note(self, snapshot: ElectorSnapshot, reason: str) -> None:
        self._tell(STATUS=self._status(snapshot))

    def _beat(self) -> None:
        patience = max(self.manager.limit / PINGS, 2 * self.election.config.hb_interval)
        if self.manager.limit and self.election.last_tick_ago() <= patience:
            self._tell(WATCHDOG="1")
        elif self._unsent:
            self._tell()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the node no longer sends messages to the watchdog", failure)

    def _leave(self) -> None:
        if self._socket is not None and not self._stopping:
            self._stopping = True
            time = longest_stop(self.election.config, len(self.election.cluster.peers))
            status = self._status(self.election.state_snapshot())
            self._tell(STOPPING="1", STATUS=status, EXTEND_TIMEOUT_USEC=f"{time * 1e6:.0f}")

    def _status(self, snapshot: ElectorSnapshot) -> str:
        return f"{'stopping: ' * self._stopping}{describe(snapshot)}"

    def _tell(self, **news: str) -> None:
        """Send the news, and the messages that could not be sent before."""
        if self._socket is None:
            return
        unsent = self._unsent | news
        lines = "".join(f"{name}={value}\n" for name, value in unsent.items())
        address = self.manager.address
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        try:
            self._socket.sendto(lines.encode(), address)
        except OSError as error:
            unsent.pop("WATCHDOG", None)  # it is valid only at its moment
            self._unsent = unsent
            if not self._failing:
                self.log.warn(
                    "the service manager does not receive on {address}: {error}",
                    address=self.manager.address,
                    error=error,
                )
            self._failing = True
        else:
            self._unsent = {}
            self._failing = False


def notifiers(
    election: ElectionService, environment: MutableMapping[str, str]
) -> Iterator[Notifier]:
    """The notifiers for the service manager of `environment`, if any; see `Manager.take`."""
    try:
        manager = Manager.take(environment)
    except ConfigError as error:
        Notifier.log.error("{problem}; the service manager gets no messages", problem=error)
        return
    if manager is not None:
        yield Notifier(election, manager)


def describe(snapshot: ElectorSnapshot) -> str:
    """The state of a node in one line for people."""
    parts = [f"{snapshot.role.value} in epoch {snapshot.epoch}"]
    if snapshot.role is Role.PRIMARY:
        parts.append("may write" if snapshot.can_write else "may not write")
    elif snapshot.role is Role.REPLICA:
        primary = snapshot.current_primary
        parts.append(f"follows {primary}" if primary else "knows no primary")
    if not snapshot.has_quorum:
        parts.append("no quorum")
    return ", ".join(parts)


def longest_stop(config: ElectConfig, peers: int) -> float:
    """Seconds that a node with so many peers may take to stop, including a handover."""
    election = peers * config.candidate_step + config.election_timeout
    return 2 * config.down_after + election + AFTERWARDS
