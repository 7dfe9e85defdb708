"""A command that is asked each second how much data this copy has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.processes import now
from kevy_elect.children.supervised import STDOUT, Run, describe_status, printable, program
from kevy_elect.errors import ConfigError
from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers

INTERVAL: Final = 1.0
"""Seconds from one question to the next, unless an answer takes longer."""
TIMEOUT: Final = 5.0
"""Seconds after which a command that has not answered is killed."""
KEPT_LINES: Final = 2
"""Lines of output that are looked at: one is right, two are wrong already."""


class OffsetCommand(Service):
    """Runs `command` each second and gives the number that it prints to `election`; an empty
    one is not run.

    Before another takes the role it is asked once more, when nobody writes any longer.

    An answer that is no number, a failure, or none within `timeout` seconds leaves the
    offset as it was, and is logged when it is another problem than the time before.
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
        """Ask no more; fires when no process is left."""
        super().stopService()
        self.election.offset_source = None
        if self._loop.running:
            self._loop.stop()
        if self._run is not None:
            self._run.stop_at(now())
        return self._idle()

    def use(self, command: Sequence[str]) -> None:
        """Ask another command from now on."""
        self.command = tuple(command)
        self._problem = ""
        if self.running and self.command and not self._loop.running:
            self._loop.start(INTERVAL).addErrback(self._broken)
        elif self._loop.running and not self.command:
            self._loop.stop()

    def _idle(self) -> Deferred[None]:
        """Fires when no process is left of the question that is being asked."""
        idle: Deferred[None] = Deferred()
        if self._run is None:
            idle.callback(None)
        else:
            self._run.gone.addCallback(lambda _: idle.callback(None))
        return idle

    def ask(self) -> Deferred[None]:
        """Ask anew; fires when that answer is taken. One under way may be too old to count."""
        return Deferred.fromCoroutine(self._ask_anew())

    async def _ask_anew(self) -> None:
        while self._run is not None:
            await self._idle()
        if self._question() is not None:
            await self._idle()  # not the run's own Deferred: who cancels this must not end that
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

        began = now()
        self._run = run = Run(
            self.command,
            {},
            keep,
            reactor=self.election.reactor,
            stop_at=began + self._timeout,
            grace=0.0,
            privileged=self._privileged,
        )
        why: list[str] = []
        run.started.addErrback(lambda failure: why.append(str(failure.value)))

        def gone(status: int) -> None:
            self._run = None
            if now() - began >= self._timeout:
                why.append(f"gave no answer within {self._timeout:g} s")
            elif status:
                why.append(describe_status(status))
            if self.running:
                self._take(answer, "".join(why[:1]), complaint)

        return run.gone.addCallback(gone)

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
        self.log.failure("{command} is no longer asked", failure, command=self)


def parse_offset(lines: Sequence[bytes]) -> int:
    """The one number in `lines`. Raises ConfigError if it is anything else."""
    text = lines[0].strip() if len(lines) == 1 else b""
    if not (text.isdigit() and len(text) <= 20):
        raise ConfigError("what it prints is not one number, without sign and on one line")
    return int(text)
