"""Drives the data server beside a member to the state that the election requires."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.data.record import HistoryRecord
from kevy_elect.data.server import DataServer, DataServerError, Guard
from kevy_elect.driving import (
    Fencing,
    Frozen,
    Report,
    State,
    assignment_of,
    deviation,
    first_in_sync,
    is_unseen,
    learned,
    needed,
)
from kevy_elect.errors import BallotError, ConfigError
from kevy_elect.local_server import (
    FREEZE,
    STAY,
    Duty,
    Histories,
    Task,
    join_offset,
)
from kevy_elect.service.election import ElectionService
from kevy_elect.service.fence import after
from kevy_elect.service.observers import ElectorSnapshot
from kevy_elect.service.timers import timers
from kevy_elect.status import ChildStatus, DataStatus

MARGIN: Final = 5
"""The guard freezes the server this fraction of a lease before its end, and at most half of what
is left of it."""


class DataService(Service):
    """Drives `server` by the duty of `election`, and reports to it (D1 to D6).

    It executes one command at a time. Only a freeze does not wait, and is repeated once the
    interrupted command has ended. It asks the server for its state each hb_interval, and corrects
    the state if another program changed it. First it freezes the server in any state, unless the
    server already follows the primary. A stop freezes a server that takes writes, and changes no
    other.
    """

    log = Logger()

    def __init__(
        self, election: ElectionService, server: DataServer, guard: Guard | None = None
    ) -> None:
        """`guard` freezes the server if this process cannot."""
        self.election = election
        self.server = server
        self._guard = guard
        self._kept_until = 0.0  # the end of the lease that was last sent to the guard
        self.state = State.UNKNOWN
        self._record: HistoryRecord | None = None
        self._turn = 0  # of the command in progress; results of an earlier one are outdated
        self._doing: Task | None = None
        self._rests = False  # a failed command is repeated at the next look
        self._ended: Deferred[None] = succeed(None)  # fires when the present command has ended
        self._kept = STAY  # the last completed duty of following or taking writes
        self._report: Report | None = None  # the newest one
        self._frozen: Report | None = None  # its report when it was frozen
        self._first: Report | None = None  # the first in sync with its present history
        self._problem = ""
        self._looked_at = -math.inf  # the time of the newest report
        self._looked_for = 0  # the primary's offset at the last request for a report
        self._asking = False
        self._waiting: list[Deferred[None]] = []
        self._loop = LoopingCall(self._look)
        self._loop.clock = timers(election.reactor)
        server.lost = self._look
        if guard is not None:
            guard.acted = self._guard_acted
        election.data = self
        election.fence.add(self)

    def __str__(self) -> str:
        return f"the driver of {self.server.name}"

    # For the election

    def watch(self) -> None:
        """Check whether the duty has changed; called after each run of the elector."""
        self._act()
        if self.state is State.PRIMARY:
            self._keep()
        elif self.state is State.FOLLOWING and self._is_behind():
            self._looked_for = self._kept.said
            self._look()

    def _is_behind(self) -> bool:
        """Whether its primary has just stated more data than the last report had."""
        return not self._asking and self._kept.said > self._looked_for

    @property
    def freezes_within(self) -> float:
        """Seconds that it may take to freeze the server and read its data."""
        return self.server.freezes_within

    def status(self) -> DataStatus:
        """The state of the server, for the status."""
        report = self._report
        return DataStatus(
            server=self.server.name,
            state=self.state.value,
            problem=self._problem,
            data_epoch=self._epoch_of(report) if report is not None else 0,
            length=report.length if report is not None else 0,
            source=report.source if report is not None else "",
            in_sync=report is not None and report.in_sync,
            fencing=self._fencing(report),
        )

    def _fencing(self, report: Report | None) -> Fencing:
        if self._guard is None:
            return Fencing.NODE
        return self._guard.fencing(0 if report is None else report.process)

    def when_stopped(self) -> Deferred[None]:
        """Fires when the server takes no writes of clients, as far as this node can ensure."""
        if self.state is not State.PRIMARY and self._doing is not Task.PROMOTE:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def describe(self) -> list[ChildStatus]:
        """Empty: `status` reports the server."""
        return []

    # Start and stop

    def startService(self) -> None:
        """Read the record and begin. Raises BallotError if it cannot be read.

        The election has to run. Raises ConfigError if it has no data directory, where the
        record is kept.
        """
        if self.election.directory is None:
            raise ConfigError("a node that drives a data server needs a data directory")
        self._record = HistoryRecord(self.election.directory)
        super().startService()
        # The server must not count as lost before its first report.
        self.election.set_repl_offset(join_offset(self._histories.newest("", "", 0), 0))
        self._ignore = self.election.add_observer(self._on_change)
        if self._guard is not None:
            self._guard.start()
        self.server.start()
        self._loop.start(self.election.config.hb_interval).addErrback(self._broken)

    def stopService(self) -> Deferred[None]:
        """Freeze a server that takes writes; fires when that is done or has failed."""
        if not self.running:
            return succeed(None)
        super().stopService()
        self._ignore()
        self._loop.stop()
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        self._turn += 1
        if self.state in (State.PRIMARY, State.UNKNOWN):
            try:
                await self.server.freeze()
                self._release()
            except DataServerError as error:
                self.log.error(
                    "{server} {error}: it may still take writes",
                    server=self.server.name,
                    error=error,
                )
        await self.server.stop()
        if self._guard is not None:
            await self._guard.stop()

    def _keep(self) -> None:
        """Send the guard the end of the lease."""
        guard, config = self._guard, self.election.config
        if guard is None:
            return
        left = self.election.lease_left()
        until = self.election.now() + left
        if until > self._kept_until + config.hb_interval / 4:
            self._kept_until = until
            assert self._frozen is not None  # it is frozen before it is promoted
            # A lease is short until the first acknowledgement, if the votes took long.
            margin = min(config.lease_duration / MARGIN, left / 2)
            guard.keep(until, margin, self._frozen.process)
            self.election.survivor = guard.pid

    def _release(self) -> None:
        """Tell the guard that the server takes no writes, and needs no guard."""
        self._kept_until = 0.0
        self.election.survivor = 0
        if self._guard is not None:
            self._guard.release()

    def _guard_acted(self) -> None:
        """The server was frozen although this process lives."""
        if self.running and self.state is State.PRIMARY:
            self._lose("was frozen by its guard: this node did not renew its lease in time")
            self._act()

    def _on_change(self, snapshot: ElectorSnapshot, reason: str) -> None:
        if not self.election.is_electing:  # then the election does not call `watch`
            self._act()

    # Tasks

    def _act(self) -> None:
        """Begin the task for the duty, unless it is done, or another is in progress."""
        if not self.running or self._rests:
            return
        duty = self.election.duty()
        if duty == self._kept:
            self._kept = duty  # its primary was heard again
        task = needed(duty, self.state, self._kept, self._doing)
        if task is None or task is self._doing:
            return
        if self._doing is not None and task is not Task.FREEZE:
            return
        self._begin(task, duty)

    def _begin(self, task: Task, duty: Duty) -> None:
        self._turn += 1
        self._doing = task
        steps: dict[Task, Callable[[int, Duty, Deferred[None]], Coroutine[Any, Any, None]]] = {
            Task.FREEZE: self._freeze,
            Task.PROMOTE: self._promote,
            Task.FOLLOW: self._follow,
        }
        turn = self._turn
        before, self._ended = self._ended, Deferred()
        doing = Deferred.fromCoroutine(steps[task](turn, duty, before))
        doing.addErrback(self._failed, turn)
        doing.addCallback(self._done, turn, task)
        doing.addErrback(self._broken)
        # After both, because the interrupted command may end later.
        DeferredList([before, doing]).addCallback(
            lambda _, ended: ended.callback(None), self._ended
        )

    def _failed(self, failure: Failure, turn: int) -> None:
        failure.trap(DataServerError, BallotError)
        if turn == self._turn:
            self._lose(str(failure.value))

    def _done(self, result: None, turn: int, task: Task) -> None:
        if turn != self._turn:
            return
        self._doing = None
        if self.state is not State.PRIMARY:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
        if self.state is not State.UNKNOWN:
            self._act()
        elif task is Task.PROMOTE:
            self._begin(Task.FREEZE, FREEZE)  # it may take writes
        else:
            self._rests = True

    async def _freeze(self, turn: int, duty: Duty, before: Deferred[None]) -> None:
        overtakes = not before.called
        frozen = await self.server.freeze()
        self._found(frozen.before)
        if turn == self._turn and overtakes:
            # The command in progress may have reached the server after this.
            await after(before)
            frozen = await self.server.freeze()
        if turn == self._turn:
            self._took_frozen(frozen)

    def _found(self, report: Report) -> None:
        """Warn of a server that started by taking writes; no command of this node made it do so."""
        remedy = self.server.starts_frozen_with
        if remedy and report.takes_writes and not self._histories.knows_run(report.run):
            self.log.warn(
                "{node}: {server} took writes before this node had commanded it, and such writes "
                "may be lost. To start without taking writes, it needs {remedy}",
                node=self.election.cluster.node_id,
                server=self.server.name,
                remedy=remedy,
            )

    def _took_frozen(self, frozen: Frozen) -> None:
        if frozen.after.takes_writes or frozen.after.source:
            raise DataServerError("got the command to freeze, and did not freeze")
        self._learn(frozen.before)
        self._release()
        self.state = State.FROZEN
        self._report = self._frozen = frozen.after
        newest = self._newest(frozen.after)
        if self._epoch_of(frozen.after) < newest:
            self._complain(
                f"{self.server.name} was restarted, or changed unobserved, and may "
                "have lost confirmed data: this node does not vote until the server has followed a "
                "primary, or all members are alive"
            )
        else:
            self._problem = ""
        was_primary = self._kept.task is Task.PROMOTE
        self.election.server_frozen(self._offset(frozen.after), newest)
        if was_primary:
            self.election.say_now()  # so that followers see whether they have it all

    async def _promote(self, turn: int, duty: Duty, before: Deferred[None]) -> None:
        if self.state is not State.FROZEN:
            await self._freeze(turn, duty, before)
        if turn != self._turn:
            return
        report = await self._frozen_still()
        if turn != self._turn or self.election.duty() != duty:
            return
        self._tell(report, duty)
        self.state, self._kept = State.PRIMARY, duty  # from here on it may take writes
        self.election.server_released()
        self._keep()
        report = await self.server.promote()
        if not report.takes_writes:
            raise DataServerError("got the command to take writes, and does not")
        self._remember(report, duty.data_epoch)
        if turn == self._turn and self.election.duty() == duty:
            self._problem = ""
            self._report = report
            self.election.set_repl_offset(self._offset(report))
            self.election.server_promoted()

    async def _follow(self, turn: int, duty: Duty, before: Deferred[None]) -> None:
        goes_on = False
        if self.state is State.UNKNOWN:
            report = await self.server.report()
            covered = self._histories.covers(report.run, duty.data_epoch)
            goes_on = covered and report.source == duty.address
        if not goes_on:
            # Data that it receives from here on must not count as data of the primary before.
            if self.state is not State.FROZEN and turn == self._turn:
                await self._freeze(turn, duty, before)
            if turn == self._turn:
                report = await self._frozen_still()
        if turn != self._turn or self.election.duty() != duty:
            return
        if not goes_on:
            self._tell(report, duty)
        self.election.server_released(duty.data_epoch)
        await self.server.follow(duty.address)
        report = await self.server.report()
        if turn == self._turn:
            if report.source != duty.address:
                raise DataServerError(f"got the command to follow {duty.address}, and does not")
            self.state = State.FOLLOWING
            self._kept = duty
            self._problem = ""
            self._took(report)

    async def _frozen_still(self) -> Report:
        """Its report, which equals that of the time when it was frozen."""
        report = await self.server.report()
        if report != self._frozen:
            raise DataServerError("was frozen, and has changed since then")
        return report

    # Reports

    def _look(self) -> None:
        """Ask the server for its state, and repeat a failed task."""
        if not self.running:
            return
        self._rests = False
        self._act()
        if not self._asking:
            self._asking = True
            turn = self._turn
            asked = self.server.report()
            asked.addCallbacks(self._looked, self._unseen, (turn,), errbackArgs=(turn,))
            asked.addErrback(self._broken)

    def _looked(self, report: Report, turn: int) -> None:
        self._asking = False
        if turn != self._turn or self._doing is not None or not self.running:
            return  # another command has begun meanwhile
        if self.state is State.UNKNOWN:
            self._report = report
        elif problem := deviation(report, self._report, self._frozen, self.state):
            self._lose(problem)
        else:
            self._took(report)
        self._act()

    def _unseen(self, failure: Failure, turn: int) -> None:
        self._asking = False
        failure.trap(DataServerError)
        if turn == self._turn and self._doing is None and self.running:
            self._lose(str(failure.value))
            self._act()

    def _took(self, report: Report) -> None:
        self._report = report
        self._learn(report)
        last, offset = self.election.repl_offset, self._offset(report)
        self.election.set_repl_offset(offset)
        if last != offset == self._kept.said:
            self.election.say_now()  # it has just caught up

    def _learn(self, report: Report) -> None:
        """Record the epoch of the server's present history."""
        assert self._record is not None
        now, longest = self.election.now(), self.election.config.lease_margin
        unseen = is_unseen(self.state, self._kept, self._looked_at, now, longest)
        self._looked_at = now
        self._first = first_in_sync(self._first, report)
        kept, duty, first = self._kept, self.election.duty(), self._first
        try:
            self._record.keep(
                learned(self._histories, report, self.state, kept, duty, first, unseen=unseen)
            )
        except BallotError as error:
            self._complain(str(error))

    def _remember(self, report: Report, data_epoch: int) -> None:
        assert self._record is not None
        self._record.note(report.history, report.run, data_epoch)

    def _tell(self, report: Report, duty: Duty) -> None:
        """Record the next command before the server can confirm anything."""
        assert self._record is not None
        self._record.assign(assignment_of(report, duty, self._histories.assignment))

    @property
    def _histories(self) -> Histories:
        return Histories() if self._record is None else self._record.histories

    def _epoch_of(self, report: Report) -> int:
        return self._histories.epoch_of(report.history, report.run, report.length)

    def _newest(self, report: Report) -> int:
        return self._histories.newest(report.history, report.run, report.length)

    def _offset(self, report: Report) -> int:
        if report.is_copying:
            return 0
        return join_offset(self._epoch_of(report), report.length)

    def _lose(self, why: str) -> None:
        """The state and data of the server are not known."""
        self._complain(f"{self.server.name} {why}")
        known, self.state = self.state, State.UNKNOWN
        if known is State.PRIMARY and self._guard is not None:
            self._guard.freeze()
        if known is not State.UNKNOWN or self._doing is Task.PROMOTE:
            self.election.server_lost(f"{self.server.name} {why}")

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self.log.warn("{node}: {problem}", node=self.election.cluster.node_id, problem=problem)

    def _broken(self, failure: Failure) -> None:
        self.election.failed(failure)
