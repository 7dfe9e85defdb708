"""A command that runs at the start and at each change of the node's state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.output_log import OutputLog
from kevy_elect.children.processes import now
from kevy_elect.children.supervised import (
    Run,
    describe_status,
    election_environment,
    program,
)
from kevy_elect.service.election import ElectionService
from kevy_elect.service.observers import Change, ElectorSnapshot
from kevy_elect.service.timers import timers
from kevy_elect.transport.log_limit import Sparing

LONG: Final = 5.0
"""Seconds; a run that takes longer is logged. A service that stops waits this long for a run."""
GRACE: Final = 0.5
"""Seconds between SIGTERM and SIGKILL for a command that still runs then."""

SPACING: Final = 0.1
"""Seconds between the starts of two runs: a peer over plain links can cause changes at will."""


class Hook(Service):
    """Runs `command` at its start, then at each change; one run at a time, and at most ten in a
    second. An empty command does not run.

    A run is not killed for the next one: changes meanwhile cause one more run, with the newest
    state. The environment has that state, the reason, and the state of the run before. A stop waits
    for a run that is in progress or due, for at most five seconds. Stop this service after the
    election: then it also runs for the election's end.
    """

    log = Logger()

    def __init__(
        self, election: ElectionService, command: Sequence[str], *, privileged: bool = False
    ) -> None:
        self.election = election
        self.command = tuple(command)
        self._privileged = privileged
        self._run: Run | None = None
        self._began = float("-inf")
        self._due: Change | None = None
        self._soon: Any = None  # the call that starts a due run
        self._sparing = Sparing()
        self._output = OutputLog(self.log)
        self._last: ElectorSnapshot | None = None
        self._idle: list[Deferred[None]] = []

    def __str__(self) -> str:
        return f"the hook {program(self.command)!r}"

    def startService(self) -> None:
        super().startService()
        self._forget = self.election.add_observer(self._note)
        # After all services have started, so that the first run has their state.
        self._first = timers(self.election.reactor).callLater(0, self._begin)

    def stopService(self) -> Deferred[None]:
        """Stop at the next change; fires when no run is left."""
        super().stopService()
        self._forget()
        if self._first.active():
            self._first.cancel()
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        if self._is_idle():
            self._proceed()
            return idle
        patience = timers(self.election.reactor).callLater(LONG, self._lose_patience)
        return idle.addCallback(lambda _: patience.cancel() if patience.active() else None)

    def use(self, command: Sequence[str], reason: str) -> None:
        """Run another command from now on, first with the present state."""
        self.command = tuple(command)
        self._last = None
        self._note(self.election.state_snapshot(), reason)

    def _is_idle(self) -> bool:
        return self._run is None and self._due is None

    def _begin(self) -> None:
        self._note(self.election.state_snapshot(), "the node started")

    def _note(self, snapshot: ElectorSnapshot, reason: str) -> None:
        self._due = Change(snapshot, reason) if self.command else None
        self._proceed()

    def _proceed(self) -> None:
        """Start a due run, now or as soon as it may start."""
        if self._run is not None:
            return
        waits = self._soon is not None and self._soon.active()
        if self._due is None:
            if waits:
                self._soon.cancel()
            self._end_waiting()
            return
        if waits:
            return
        wait = self._began + SPACING - now()
        if wait > 0:
            self._soon = timers(self.election.reactor).callLater(wait, self._proceed)
        else:
            self._launch(self._due)

    def _end_waiting(self) -> None:
        waiting, self._idle = self._idle, []
        for idle in waiting:
            idle.callback(None)

    def _launch(self, change: Change) -> None:
        self._due = None
        began, name = now(), str(self)
        self._began = began
        self._run = run = Run(
            self.command,
            self._environment(change),
            partial(self._output.line, program(self.command)),
            reactor=self.election.reactor,
            stop_at=float("inf"),
            grace=GRACE,
            privileged=self._privileged,
        )
        self._last = change.snapshot
        late = timers(self.election.reactor).callLater(LONG, self._tell_of_long_run, name)
        run.started.addErrback(self._cannot_start, name)
        run.gone.addCallback(self._gone, run, name, began, late)

    def _environment(self, change: Change) -> dict[str, str]:
        node_id = self.election.cluster.node_id
        new = election_environment(node_id, change.snapshot)
        old = dict.fromkeys(new, "")
        if self._last is not None:
            old = election_environment(node_id, self._last)
        former = {name.replace("KEVY_", "KEVY_OLD_"): value for name, value in old.items()}
        del former["KEVY_OLD_NODE_ID"]
        return new | former | {"KEVY_REASON": change.reason}

    def _gone(self, status: int, run: Run, name: str, began: float, late: Any) -> None:
        took = now() - began
        if late.active():
            late.cancel()
        if status or took > LONG:
            left_out = self._sparing.line("failed", now())
            if left_out is not None:
                self.log.warn(
                    "{hook} {how} after {took:.2f} s{more}",
                    hook=name,
                    how=describe_status(status),
                    took=took,
                    more=f" (and {left_out} runs like this one before)" if left_out else "",
                )
        self._run = None
        if self._due is None:
            self._output.tell_left_out(program(run.command))
        self._proceed()

    def _tell_of_long_run(self, name: str) -> None:
        self.log.warn("{hook} still runs after {long:g} s", hook=name, long=LONG)

    def _cannot_start(self, failure: Failure, name: str) -> None:
        if self._sparing.line("cannot be run", now()) is not None:
            self.log.error("{hook} cannot be run: {why}", hook=name, why=failure.value)

    def _lose_patience(self) -> None:
        self._due = None
        if self._run is not None:
            self._run.stop_at(now())
        else:
            self._proceed()
