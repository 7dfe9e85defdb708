"""Runs a program's own services only while this node may write: fence first, promote last."""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.application.internet import TimerService
from twisted.application.service import IService, IServiceCollection, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.grace import LEAST_LEASE, longest_grace
from kevy_elect.messages import Role
from kevy_elect.service.election import ElectionService
from kevy_elect.service.reactor import exit_now
from kevy_elect.service.timers import timers
from kevy_elect.status import ChildStatus


class PrimaryOnly(Service):
    """Runs `children` only while `election` is primary with its lease.

    It starts them one after the other when the lease is safe, that is, when it lasts
    longer than `stop_grace` seconds. It stops them, the last one first, when the rest
    of the lease falls below that. So they are down before another node can be primary,
    even if this node is cut off from all others. It starts them again when the lease is
    safe again. A step-down or handover waits for them.

    A child that cannot be started, or stops running by itself, makes the node give
    up its role, once all are down, and not run again for `rest` seconds. If
    children still run when their grace or the lease is over, this is logged as critical,
    and `on_overrun` is called, which by default ends the process at once: a dead
    process writes nothing. A process that was paused for longer than its lease ends in
    the same way. A supervisor should restart it.

    A process that was paused may take one more turn of a child before it notices
    the pause. A child must therefore ask `can_write` in each turn, or send the epoch
    in which it was started to a store that checks it.

    Put the election and this service into one application; their order does not matter.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        *children: IService | Service,  # the latter for checkers without zope.interface
        stop_grace: float,
        rest: float = 30.0,
        on_overrun: Callable[[], object] | None = None,
    ) -> None:
        """Raises ConfigError without children, for a negative `rest`, and for a `stop_grace`
        that is not above 0 or leaves less than ten heartbeats of lease."""
        if not children:
            raise ConfigError("there is no child to run")
        if not rest >= 0:
            raise ConfigError(f"rest ({rest:g} s) must not be below 0")
        _check_grace(stop_grace, election.config)
        self.election = election
        self.children = children
        self.stop_grace = stop_grace
        self._rest = rest
        self._on_overrun = on_overrun or end_at_once
        self._interval = election.config.hb_interval / 2
        self._up: list[IService] = []  # started and not yet down
        self._starting: IService | None = None
        self._stopping = False
        self._stop_waiters: list[Deferred[None]] = []
        self._lease_end = -math.inf
        self._stop_by = math.inf
        self._overran = False
        self._awaited: tuple[Callable[[], bool], Deferred[None]] | None = None
        self._ended: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to watch the election. The children start once the lease is safe."""
        super().startService()
        self._ended = Deferred()
        self._forget = self.election.add_observer(lambda snapshot, reason: self._watch())
        self._leave_fence = self.election.fence.add(self)
        self._loop = LoopingCall(self._watch)
        self._loop.clock = timers(self.election.reactor)
        self._loop.start(self._interval).addErrback(self._broken)
        Deferred.fromCoroutine(self._live()).addErrback(self._broken).addBoth(self._finish)

    def stopService(self) -> Deferred[None]:
        """Stop the children; fires when they are down."""
        super().stopService()
        waiting: Deferred[None] = Deferred()
        if self._ended is None:
            waiting.callback(None)
        else:
            self._ended.addCallback(waiting.callback)
            self._watch()
        return waiting

    def when_stopped(self) -> Deferred[None]:
        """Fires when no child runs."""
        if not self._up:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._stop_waiters.append(waiting)
        return waiting

    def describe(self) -> list[ChildStatus]:
        """The present state of the children."""
        return [
            ChildStatus(
                _name(child),
                self._state(child),
                restarts=getattr(child, "restarts", 0),
                pid=getattr(child, "pid", None),
            )
            for child in self.children
        ]

    def _state(self, child: IService) -> str:
        if child not in self._up:
            return "stopped"
        if self._stopping:
            return "stopping"
        return "starting" if child is self._starting else "running"

    def is_safe(self) -> bool:
        """Whether the children may run: this node is primary, and its lease lasts longer than the
        grace."""
        left = self._lease_end - self.election.now() - self._interval
        return self.election.can_write() and left >= self.stop_grace

    # Start and stop of the children

    async def _live(self) -> None:
        while self.running:
            await self._until(lambda: self.is_safe() or not self.running)
            problem = await self._bring_up()
            if problem is None:
                await self._until(self._is_over)
                problem = self._died()
            await self._take_down()
            if problem is not None:
                self.log.critical(
                    "{why}: giving up the role for {rest} s", why=problem, rest=self._rest
                )
                self.election.step_down(self._rest, problem)

    async def _bring_up(self) -> str | None:
        """Start the children, as long as that is safe; returns the obstacle, if any."""
        for child in self.children:
            if not (self.running and self.is_safe()):
                return None
            self._up.append(child)
            self._starting = child
            try:
                await maybeDeferred(_start, child)
            except Exception:
                self.log.failure("{child} could not be started", child=_name(child))
                return f"{_name(child)} could not be started"
            finally:
                self._starting = None
        return None

    def _is_over(self) -> bool:
        return not self.running or not self.is_safe() or self._died() is not None

    def _died(self) -> str | None:
        """A child that no longer runs although it was not stopped."""
        return next(
            (f"{_name(child)} no longer runs" for child in self._up if not _runs(child)), None
        )

    async def _take_down(self) -> None:
        """Stop the children, the last one first."""
        self._stopping = True
        while self._up:
            try:
                await maybeDeferred(self._up[-1].stopService)
            except Exception:
                self.log.failure("{child} failed to stop", child=_name(self._up[-1]))
                self._on_overrun()  # it may still write
            self._up.pop()
        self._stopping = False
        self._stop_by = math.inf
        self._overran = False
        waiters, self._stop_waiters = self._stop_waiters, []
        for waiting in waiters:
            waiting.callback(None)

    # The lease

    def _watch(self) -> None:
        """Check how long the lease lasts, twice a heartbeat and at each change."""
        now = self.election.now()
        snapshot = self.election.state_snapshot()
        if snapshot.can_write:
            self._lease_end = now + snapshot.lease_expires_in
        if self._up and not self.is_safe():
            # A node that leaves the role with its lease has time until the end of the lease.
            held = snapshot.role is Role.PRIMARY and snapshot.has_quorum
            grace = math.inf if held else self.stop_grace
            self._stop_by = min(self._stop_by, now + grace, self._lease_end)
        if now >= self._stop_by and not self._overran:
            self._overrun()
        if self._awaited is not None and self._awaited[0]():
            (_, waiting), self._awaited = self._awaited, None
            waiting.callback(None)

    async def _until(self, state: Callable[[], bool]) -> None:
        if not state():
            waiting: Deferred[None] = Deferred()
            self._awaited = state, waiting
            await waiting

    def _overrun(self) -> None:
        self._overran = True
        self.log.critical(
            "it is not known that {up} stopped in time, and others may be primary from now on",
            up=", ".join(map(_name, self._up)),
        )
        self._on_overrun()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the check of the lease failed", failure)
        self._on_overrun()

    def _finish(self, _: object) -> None:
        self._forget()
        self._leave_fence()
        if self._loop.running:
            self._loop.stop()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.callback(None)


def end_at_once() -> None:
    """End the process with status 1 without waiting for anything."""
    PrimaryOnly.log.critical("ending this process, so that nothing in it can write")
    exit_now(1)


def _start(child: IService) -> object:
    child.privilegedStartService()
    return child.startService()


def _runs(child: IService) -> bool:
    """Whether a child works. A TimerService says so even after its call has failed."""
    if IServiceCollection.providedBy(child) and not all(map(_runs, child)):
        return False
    if isinstance(child, TimerService) and not getattr(child, "_loop", child).running:
        return False
    return bool(getattr(child, "running", True))


def _name(child: IService) -> str:
    return child.name or type(child).__name__


def _check_grace(stop_grace: float, config: ElectConfig) -> None:
    longest = longest_grace(config)
    if longest <= 0:
        raise ConfigError(
            "these timings leave no time to stop children before the lease ends: raise down_after "
            "or lower hb_interval"
        )
    if not 0 < stop_grace <= longest:
        raise ConfigError(
            f"stop_grace ({stop_grace:g} s) must be above 0 and leave {LEAST_LEASE} heartbeats "
            f"of lease, so it must be at most {longest:g} s: lower stop_grace or "
            "hb_interval, or raise down_after"
        )
