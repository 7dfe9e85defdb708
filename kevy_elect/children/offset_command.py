"""A command that reports each second how much data this copy has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.processes import now
from kevy_elect.children.supervised import STDOUT, Run, printable, program, run_to_end
from kevy_elect.errors import ConfigError
from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers

INTERVAL: Final = 1.0
"""Seconds between two runs, unless one takes longer."""
TIMEOUT: Final = 5.0
"""Seconds after which a command without an answer is killed."""
KEPT_LINES: Final = 2
"""Lines of output that are kept: one is right, two are already wrong."""


class OffsetCommand(Service):
    """Runs `command` each second and sets the number that it prints at `election`. An empty command
    does not run.

    It also runs before another member takes the role, when all writers have stopped.

    If a run fails, prints something other than a number, or takes longer than `timeout` seconds,
    the offset does not change. A problem is logged if it differs from that of the run before.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        command: Sequence[str],
        *,
        timeout: float = TIMEOUT,
        privileged: bool = False,
    ) -> None:
        self._privileged = privileged
        self.election = election
        self.command = tuple(command)
        self._timeout = timeout
        self._run: Run | None = None
        self._problem = ""

    def __str__(self) -> str:
        return f"the offset command {program(self.command)!r}"

    def startService(self) -> None:
        super().startService()
        self.election.offset_source = self.ask
        self._loop = LoopingCall(self._question)
        self._loop.clock = timers(self.election.reactor)
        self.use(self.command)

    def stopService(self) -> Deferred[None]:
        """Run it no more; fires when no process is left."""
        super().stopService()
        self.election.offset_source = None
        if self._loop.running:
            self._loop.stop()
        if self._run is not None:
            self._run.stop_at(now())
        return self._idle()

    def use(self, command: Sequence[str]) -> None:
        """Run another command from now on."""
        self.command = tuple(command)
        self._problem = ""
        if self.running and self.command and not self._loop.running:
            self._loop.start(INTERVAL).addErrback(self._broken)
        elif self._loop.running and not self.command:
            self._loop.stop()

    def _idle(self) -> Deferred[None]:
        """Fires when no process is left of the present run."""
        idle: Deferred[None] = Deferred()
        if self._run is None:
            idle.callback(None)
        else:
            self._run.gone.addCallback(lambda _: idle.callback(None))
        return idle

    def ask(self) -> Deferred[None]:
        """Run the command again; fires when its answer is set. A present run may be too old to
        count."""
        return Deferred.fromCoroutine(self._ask_anew())

    async def _ask_anew(self) -> None:
        while self._run is not None:
            await self._idle()
        if self._question() is not None:
            await self._idle()  # not the run's own Deferred, which a cancellation must not end
        if self._problem:
            raise ConfigError(f"{self}: {self._problem}")

    def _question(self) -> Deferred[None] | None:
        if not self.command or self._run is not None:
            return None
        answer: list[bytes] = []
        complaint: list[bytes] = []

        def keep(descriptor: int, line: bytes) -> None:
            kept = answer if descriptor == STDOUT else complaint
            if len(kept) < KEPT_LINES:
                kept.append(line)

        self._run, ended = run_to_end(
            self.command,
            {},
            keep,
            reactor=self.election.reactor,
            timeout=self._timeout,
            privileged=self._privileged,
        )

        def gone(problem: str) -> None:
            self._run = None
            if self.running:
                self._take(answer, problem, complaint)

        return ended.addCallback(gone)

    def _take(self, answer: Sequence[bytes], problem: str, complaint: Sequence[bytes]) -> None:
        if not problem:
            try:
                self.election.set_repl_offset(parse_offset(answer))
            except ConfigError as error:
                problem = str(error)
        if problem and problem != self._problem:
            self.log.warn(
                "{command}: {problem}; the offset stays as it was. {complaint}",
                command=self,
                problem=problem,
                complaint=" ".join(map(printable, complaint)),
            )
        elif self._problem and not problem:
            self.log.info("{command} works again", command=self)
        self._problem = problem

    def _broken(self, failure: Failure) -> None:
        self.log.failure("{command} no longer runs", failure, command=self)


def parse_offset(lines: Sequence[bytes]) -> int:
    """The one number in `lines`. Raises ConfigError if it is anything else."""
    text = lines[0].strip() if len(lines) == 1 else b""
    if not (text.isdigit() and len(text) <= 20):
        raise ConfigError("what it prints is not one number, without sign and on one line")
    return int(text)
