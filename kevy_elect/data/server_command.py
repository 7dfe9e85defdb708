"""The command that runs a Redis for the life of its node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from kevy_elect.children.backoff import Backoff
from kevy_elect.children.output_log import OutputLog
from kevy_elect.children.processes import now, parent_of
from kevy_elect.children.supervised import Run, describe_status, program
from kevy_elect.data.server import Guard
from kevy_elect.driving import Fencing
from kevy_elect.service.timers import timers

STOP_GRACE: Final = 20.0
"""Seconds that the server has from SIGTERM to SIGKILL when the node stops: it may save its data."""
LAST_RESORT: Final = 0.05
"""Seconds after which the node kills the server if its supervisor did not."""


class ServerCommand:
    """Runs a server by `command` from `start` to `stop`, in every role of the node, beside `guard`.

    The server has to start without taking writes. Its supervisor kills it when this process dies,
    and when its time is over before it is released. It is started again if it ends by itself.
    """

    log = Logger()

    def __init__(
        self,
        command: Sequence[str],
        guard: Guard,
        *,
        node_id: str,
        reactor: Any,
        privileged: bool = False,
    ) -> None:
        self.name = program(command)
        self._command = tuple(command)
        self._guard = guard
        self._environment = {"KEVY_NODE_ID": node_id}  # all else changes while it runs
        self._reactor = reactor
        self._privileged = privileged
        self._output = OutputLog(self.log)
        self._backoff = Backoff()
        self._running = False
        self._run: Run | None = None
        self._began = 0.0
        self._problem = ""  # why it could not be executed
        self._restart: Any = None
        self._owned = (0, 0)  # the last process that was found to be the command's, and the command
        self._foreign = 0  # the last one that was reported not to be

    def __str__(self) -> str:
        return f"the server {self.name!r}"

    # A guard

    @property
    def acted(self) -> Callable[[], object]:
        return self._guard.acted

    @acted.setter
    def acted(self, call: Callable[[], object]) -> None:
        self._guard.acted = call

    @property
    def pid(self) -> int:
        return self._guard.pid

    def fencing(self, process: int) -> Fencing:
        owned = self.owns(process) if process else self._run is not None
        return Fencing.SUPERVISOR if owned else self._guard.fencing(process)

    def start(self) -> None:
        self._running = True
        self._launch()
        self._guard.start()

    def stop(self) -> Deferred[None]:
        """End the guard, and then the server, which gets SIGTERM; fires when nothing is left."""
        self._running = False
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        return self._guard.stop().addCallback(lambda _: self._end())

    def keep(self, until: float, margin: float, process: int) -> None:
        self._guard.keep(until, margin, process)
        if self._run is not None:
            self._run.stop_at(until, 0.0)
        if process not in (0, self._foreign) and not self.owns(process):
            self._foreign = process
            self.log.error(
                "the Redis that answers is process {process}, which {command} is not: it is not "
                "killed when this node dies. Does another one use its port?",
                process=process,
                command=self,
            )

    def freeze(self) -> None:
        self._guard.freeze()

    def release(self) -> None:
        self._guard.release()
        if self._run is not None:
            self._run.stop_at(math.inf, STOP_GRACE)

    def owns(self, process: int) -> bool:
        """Whether the command became this process, or started it."""
        command = None if self._run is None else self._run.pid
        if command is None or (process, command) == self._owned:
            return command is not None
        above: int | None = process
        while above and above != command:
            above = parent_of(above)
        if above:
            self._owned = process, command
        return bool(above)

    # Runs

    def _launch(self) -> None:
        self._began, self._problem = now(), ""
        self._run = run = Run(
            self._command,
            self._environment,
            partial(self._output.line, self.name),
            reactor=self._reactor,
            stop_at=math.inf,
            grace=STOP_GRACE,
            privileged=self._privileged,
        )
        run.started.addCallbacks(
            lambda _: self.log.info("{command} runs as process {pid}", command=self, pid=run.pid),
            lambda failure: setattr(self, "_problem", str(failure.value)),
        )
        run.gone.addCallback(self._gone)

    def _gone(self, status: int) -> None:
        self._run = None
        self._output.tell_left_out(self.name)
        how = self._problem or describe_status(status)
        if not self._running:
            self.log.info("{command} is down: it {how}", command=self, how=how)
            return
        delay = self._backoff.after(now() - self._began)
        self.log.error(
            "{command} ended: {how}{hint}. It is started again in {delay:g} s",
            command=self,
            how=how,
            hint="" if status else "; it has to run in the foreground",
            delay=delay,
        )
        self._restart = timers(self._reactor).callLater(delay, self._launch)

    def _end(self) -> Deferred[None]:
        run = self._run
        if run is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        run.stop_at(now(), STOP_GRACE)
        resort = timers(self._reactor).callLater(STOP_GRACE + LAST_RESORT, run.kill)

        def gone(_: object) -> None:
            if resort.active():
                resort.cancel()
            stopped.callback(None)

        run.gone.addCallback(gone)
        return stopped
