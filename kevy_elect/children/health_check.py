"""A command that decides each second whether this node should be primary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.processes import now
from kevy_elect.children.supervised import (
    Run,
    election_environment,
    printable,
    program,
    run_to_end,
)
from kevy_elect.messages import Role
from kevy_elect.peers import NEVER
from kevy_elect.service.election import ElectionService
from kevy_elect.service.observers import ElectorSnapshot
from kevy_elect.service.timers import timers
from kevy_elect.status import CheckStatus

INTERVAL: Final = 1.0
"""Seconds between two runs, unless one takes longer."""
TIMEOUT: Final = 5.0
"""Seconds after which a running command is killed and has failed."""
KEPT_LINES: Final = 2
"""Lines of its output that are logged with a failure."""
REST: Final = 2.0
"""Seconds for which an unhealthy node stands back, renewed each INTERVAL."""
RESPITE: Final = 60.0
"""The least number of seconds between two times that a node steps down, so that a check that fails
on all members does not move the role all the time."""
IN_NEED: Final = 300.0
"""Seconds for which an unhealthy node keeps a role that it took because no healthy member took
it."""


class HealthCheck(Service):
    """Runs `command` each second; exit status 0 is healthy. An empty command does not run.

    After `fall` failures in a row this node is unhealthy, and after `rise` successes healthy
    again. A run of more than `timeout` seconds is a failure. An unhealthy primary steps down if
    another member is connected. An unhealthy replica stands back: it does not run while there is
    a primary, nor until a healthy member has had `patience` seconds to take the role. A primary
    is checked only once all its children run.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        command: Sequence[str],
        *,
        fall: int = 3,
        rise: int = 1,
        timeout: float = TIMEOUT,
        privileged: bool = False,
    ) -> None:
        self.election = election
        self.healthy = True
        self._command = tuple(command)
        self._fall, self._rise = fall, rise
        self._timeout = timeout
        self._privileged = privileged
        self._run: Run | None = None
        self._problem = ""
        self._streak = 0  # results in a row that contradict `healthy`
        self._leads = False
        self._keeps_until = NEVER
        self._none_since: float | None = None  # since when there is no primary, with a quorum
        election.health_check = self

    def __str__(self) -> str:
        return f"the check {program(self._command)!r}"

    @property
    def patience(self) -> float:
        """Seconds in which a healthy member can take the role, including one failed election."""
        config = self.election.config
        return config.down_after + config.election_timeout

    def status(self) -> CheckStatus | None:
        """The result of the last runs; None without a command."""
        return CheckStatus(healthy=self.healthy, problem=self._problem) if self._command else None

    def startService(self) -> None:
        super().startService()
        self._forget = self.election.add_observer(lambda snapshot, reason: self._watch(snapshot))
        self._loop = LoopingCall(self._look)
        self._loop.clock = timers(self.election.reactor)
        self.use(self._command, self._fall, self._rise)

    def stopService(self) -> Deferred[None]:
        """Check no more; fires when no process is left."""
        super().stopService()
        self._forget()
        if self._loop.running:
            self._loop.stop()
        idle: Deferred[None] = Deferred()
        if self._run is None:
            idle.callback(None)
        else:
            self._run.stop_at(now())
            self._run.gone.addCallback(lambda _: idle.callback(None))
        return idle

    def use(self, command: Sequence[str], fall: int, rise: int) -> None:
        """Run another command from now on, or with other limits; start as healthy."""
        self._command, self._fall, self._rise = tuple(command), fall, rise
        self.healthy, self._streak, self._problem = True, 0, ""
        if self.running and self._command and not self._loop.running:
            self._loop.start(INTERVAL).addErrback(self._broken)
        elif self._loop.running and not self._command:
            self._loop.stop()

    # Runs

    def _look(self) -> None:
        snapshot = self.election.state_snapshot()
        self._watch(snapshot)
        if self._run is None and self._has_begun(snapshot):
            self._ask(snapshot)

    def _has_begun(self, snapshot: ElectorSnapshot) -> bool:
        """Whether all children of this node's role run."""
        if snapshot.role is not Role.PRIMARY:
            return True
        running = all(child.state == "running" for child in self.election.children())
        return snapshot.can_write and running

    def _ask(self, snapshot: ElectorSnapshot) -> None:
        complaint: list[bytes] = []

        def keep(descriptor: int, line: bytes) -> None:
            if len(complaint) < KEPT_LINES:
                complaint.append(line)

        asked = self._command, self._leads
        self._run, ended = run_to_end(
            self._command,
            election_environment(self.election.cluster.node_id, snapshot),
            keep,
            reactor=self.election.reactor,
            timeout=self._timeout,
            privileged=self._privileged,
        )

        def gone(problem: str) -> None:
            self._run = None
            if self.running and asked == (self._command, self._leads):
                self._take(problem, " ".join(map(printable, complaint)))

        ended.addCallback(gone)

    def _take(self, problem: str, complaint: str) -> None:
        if problem and problem != self._problem:
            self.log.warn(
                "{check}: {problem}. {complaint}", check=self, problem=problem, complaint=complaint
            )
        self._problem = problem
        self._streak = self._streak + 1 if self.healthy == bool(problem) else 0
        if self._streak >= (self._fall if self.healthy else self._rise):
            self.healthy, self._streak = not self.healthy, 0
            self.log.warn(
                "{node} is {how}, as its check says",
                node=self.election.cluster.node_id,
                how="healthy again" if self.healthy else "unhealthy",
            )
        self._watch(self.election.state_snapshot())

    # Consequences

    def _watch(self, snapshot: ElectorSnapshot) -> None:
        """Act by role and health; called each second and at each change."""
        leads, at = snapshot.role is Role.PRIMARY, self.election.now()
        if leads != self._leads:
            self._leads, self._streak = leads, 0
            if leads and not self.healthy:
                self._keeps_until = max(self._keeps_until, at + IN_NEED)
        primary = snapshot.current_primary
        if not snapshot.has_quorum or not (primary is None or primary in snapshot.down_peers):
            self._none_since = None
        elif self._none_since is None:
            self._none_since = at
        if self.healthy or not self._command:
            return
        if leads:
            self._step_down(snapshot, at)
        else:
            self._stand_back(at)

    def _step_down(self, snapshot: ElectorSnapshot, at: float) -> None:
        if self.election.maintained_for():
            return  # no member would take over
        if snapshot.can_write and at >= self._keeps_until and self._is_anybody_there():
            self._keeps_until = at + RESPITE
            self.election.step_down(REST, f"it is unhealthy: {self} {self._problem}")

    def _is_anybody_there(self) -> bool:
        peers = self.election.peer_status()
        return any(peer.is_there for peer in peers)

    def _stand_back(self, at: float) -> None:
        left = REST
        if self._none_since is not None:
            left = min(REST, self._none_since + self.patience - at)
        if left > 0:
            self.election.stand_back(left, "stands back, being unhealthy")

    def _broken(self, failure: Failure) -> None:
        self.log.failure("{check} is no longer run", failure, check=self)
