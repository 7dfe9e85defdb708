"""A command that runs only while this node is primary, as a child of `PrimaryOnly`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.backoff import Backoff
from kevy_elect.children.output_log import OutputLog
from kevy_elect.children.processes import now
from kevy_elect.children.supervised import (
    CommandError,
    Run,
    describe_status,
    election_environment,
    program,
)
from kevy_elect.grace import OnExit, whole_grace
from kevy_elect.service.election import ElectionService
from kevy_elect.service.reactor import end_with
from kevy_elect.service.timers import timers

LAST_RESORT: Final = 0.05
"""Seconds after which the node kills the group if its supervisor did not."""


class Command(Service):
    """Runs `command` from its start to its stop, under a supervisor that knows the lease.

    A stop sends SIGTERM to its process group and SIGKILL after `stop_grace` seconds, and
    is done when no process is left. If this process is stopped, the supervisor does the same by
    itself in time for the end of the lease. If this process dies, the supervisor kills the group.
    Pass it to `PrimaryOnly` with `stop_grace=whole_grace(stop_grace)`.

    If the command ends by itself, `on_exit` decides: it is started again after a while; or
    this service stops running, which makes `PrimaryOnly` give up the role; or, in addition,
    `on_stop(status)` is called, which by default ends this process with the command's status.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        command: Sequence[str],
        *,
        stop_grace: float,
        on_exit: OnExit = OnExit.RESTART,
        on_stop: Callable[[int], object] | None = None,
        privileged: bool = False,
    ) -> None:
        self._privileged = privileged
        self.election = election
        self.command = tuple(command)
        self.name = program(command)
        self.stop_grace = stop_grace
        self._on_exit = on_exit
        self._on_stop = on_stop or end_with
        self.restarts = 0
        """How often it was restarted after it had ended by itself."""
        self._run: Run | None = None
        self._restart: Any = None
        self._stop_at = 0.0
        self._output = OutputLog(self.log)

    def __str__(self) -> str:
        return f"the command {self.name!r}"

    @property
    def pid(self) -> int | None:
        """The id of the command's process, while it runs."""
        return None if self._run is None else self._run.pid

    def startService(self) -> Deferred[None]:
        """Start the command. Fails with CommandError if it cannot be executed."""
        super().startService()
        self._backoff = Backoff()
        self._watch = LoopingCall(self._follow_lease)
        self._watch.clock = timers(self.election.reactor)
        self._watch.start(self.election.config.hb_interval / 2).addErrback(self._broken)
        started: Deferred[None] = Deferred()

        def fail(failure: Failure) -> None:
            self._give_up()
            started.errback(failure)

        self._launch().addCallbacks(started.callback, fail)
        return started

    def stopService(self) -> Deferred[None]:
        """Stop the command; fires when none of its processes is left."""
        super().stopService()
        if self._watch.running:
            self._watch.stop()
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        stopped: Deferred[None] = Deferred()
        run = self._run
        if run is None:
            stopped.callback(None)
            return stopped
        run.stop_at(min(now(), self._stop_at))
        # The supervisor stopped it first, unless its death has another cause.
        last_resort = timers(self.election.reactor).callLater(
            self.stop_grace + LAST_RESORT, run.kill
        )

        def gone(_: object) -> None:
            if last_resort.active():
                last_resort.cancel()
            stopped.callback(None)

        run.gone.addCallback(gone)
        return stopped

    # A run and its end

    def _launch(self) -> Deferred[None]:
        self._follow_lease()
        self._began = now()
        snapshot = self.election.state_snapshot()
        self._run = run = Run(
            self.command,
            election_environment(self.election.cluster.node_id, snapshot),
            partial(self._output.line, program(self.command)),
            reactor=self.election.reactor,
            stop_at=self._stop_at,
            grace=self.stop_grace,
            leased=True,
            privileged=self._privileged,
        )
        run.gone.addCallback(self._gone, run).addErrback(self._broken)
        return run.started.addCallback(self._started)

    def _started(self, _: None) -> None:
        if self.pid is not None:
            self.log.info("{command} runs as process {pid}", command=self, pid=self.pid)

    def _gone(self, status: int, run: Run) -> None:
        self._run = None
        self._output.tell_left_out(program(self.command))
        how = describe_status(status)
        if self.running:
            self._ended_by_itself(run, status, how)
        else:
            self.log.info("{command} is down: it {how}", command=self, how=how)

    def _ended_by_itself(self, run: Run, status: int, how: str) -> None:
        in_time = now() < self._stop_at and not run.out_of_time  # otherwise its supervisor ended it
        if in_time and self._on_exit is not OnExit.RESTART:
            self.log.warn("{command} {how} while primary", command=self, how=how)
            self._give_up()
            if self._on_exit is OnExit.STOP:
                # Only after the other members were notified that this node gives up its role.
                heard = 3 * self.election.config.hb_interval
                timers(self.election.reactor).callLater(heard, self._on_stop, status)
            return
        delay = self._backoff.after(now() - self._began)
        self.log.warn(
            "{command} {how} while primary: starting it again in {delay:g} s",
            command=self,
            how=how,
            delay=delay,
        )
        self._restart = timers(self.election.reactor).callLater(delay, self._start_again)

    def _start_again(self) -> None:
        self.restarts += 1
        self._launch().addErrback(self._cannot_start)

    def _cannot_start(self, failure: Failure) -> None:
        failure.trap(CommandError)
        self.log.critical(
            "{command} cannot be started again: {why}", command=self, why=failure.value
        )
        self._give_up()

    def _give_up(self) -> None:
        """Stop, which PrimaryOnly takes for the death of the command."""
        self.running = False
        if self._watch.running:
            self._watch.stop()

    # The lease

    def _follow_lease(self) -> None:
        """Send the supervisor the time at which the command must get SIGTERM, so that it is dead
        when the lease is over."""
        snapshot = self.election.state_snapshot()
        if snapshot.can_write:
            self._stop_at = now() + snapshot.lease_expires_in - whole_grace(self.stop_grace)
        if self._run is not None:
            self._run.stop_at(self._stop_at)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("{command} can no longer follow the lease", failure, command=self)
        self._give_up()
