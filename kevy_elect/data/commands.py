"""Any store as a data server, driven by commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.offset_command import parse_offset
from kevy_elect.children.output_log import OutputLog
from kevy_elect.children.processes import now
from kevy_elect.children.supervised import (
    STDOUT,
    Run,
    election_environment,
    program,
    run_to_end,
    supervised,
)
from kevy_elect.data.server import DataServerError
from kevy_elect.driving import Frozen, Report
from kevy_elect.errors import ConfigError
from kevy_elect.service.election import ElectionService
from kevy_elect.service.fence import after
from kevy_elect.service.timers import timers

FREEZE, DEMOTE, PROMOTE, FOLLOW = "freeze", "demote", "promote", "follow"
OFFSET: Final = "offset-command"
INTERVAL: Final = 1.0
"""Seconds between two readings of the offset, unless one takes longer."""
DEADLINES: Final = {FREEZE: 5.0, DEMOTE: 5.0, OFFSET: 5.0, PROMOTE: 30.0, FOLLOW: 30.0}
"""Seconds after which each command is killed and has failed."""
RETRY: Final = 1.0
"""Seconds from a failure of a command to its next start."""
KEPT_LINES: Final = 2
"""Lines of an answer that are kept: one is expected, and two are already wrong."""
ALWAYS: Final = "commands"
"""The name of the store's history and of its run. No command reports another one. Two stores
are known to have the same history from the primaries that they followed. A loss of data is not
detected."""


class Commands:
    """The store beside the node of `election`, driven by the commands of these settings: `promote`,
    `follow`, `offset-command`, and `freeze` or `demote` or both.

    Exit status 0 means success. Without `freeze` a replica goes on replicating while it is frozen,
    and its length stays at its last value. Without `demote`, `freeze` also freezes an old primary.
    """

    log = Logger()
    name = "the store"
    starts_frozen_with = ""  # how it starts cannot be seen

    def __init__(
        self,
        election: ElectionService,
        commands: Mapping[str, Sequence[str]],
        *,
        privileged: bool = False,
    ) -> None:
        self.lost: Callable[[], object] = lambda: None
        """Never called: a reading of the offset finds that the store is gone."""
        self._election = election
        self._commands = {name: tuple(commands[name]) for name in DEADLINES if name in commands}
        self._privileged = privileged
        self._timers = timers(election.reactor)
        self._output = OutputLog(self.log)
        self._runs: set[Run] = set()
        self._failed_at: dict[str, float] = {}
        self._takes_writes: bool | None = None  # None if it is not known
        self._source = ""
        self._length: int | None = None
        self._problem = ""
        self._holds = False  # whether the length stays at its last value
        self._asked = self._answered = 0  # a late answer must not replace a newer one
        self._loop = LoopingCall(self._poll)
        self._loop.clock = self._timers

    @property
    def freezes_within(self) -> float:
        """Seconds that the commands for a freeze and the offset may take together."""
        return sum(DEADLINES[what] for what in (FREEZE, OFFSET) if what in self._commands)

    def use(self, command: Sequence[str]) -> None:
        """Read the offset with another command from now on."""
        self._commands[OFFSET] = tuple(command)

    def for_guard(self) -> dict[str, object]:
        """How a guard ends the writes of clients."""
        election = self._election
        command = self._commands.get(DEMOTE) or self._commands[FREEZE]
        words = supervised(command, "", grace=0.0, leased=False, privileged=self._privileged)
        return {
            "command": words,
            "environment": {**os.environ, **self._environment()},
            # A node that is started again promotes its store no sooner than down_after.
            "limit": min(DEADLINES[DEMOTE], election.config.down_after),
        }

    # The interface of a data server

    def start(self) -> None:
        """Begin to read the offset."""
        self._loop.start(INTERVAL).addErrback(self._broken)

    def stop(self) -> Deferred[None]:
        """Kill the running commands; fires when none is left."""
        if self._loop.running:
            self._loop.stop()
        runs = list(self._runs)
        ends = DeferredList([after(run.gone) for run in runs])
        for run in runs:
            run.stop_at(now())
        return ends.addCallback(lambda _: None)

    def report(self) -> Deferred[Report]:
        """The last answer of the offset command; waits for the first one."""
        return Deferred.fromCoroutine(self._report())

    def freeze(self) -> Deferred[Frozen]:
        """See `DataServer.freeze`."""
        return Deferred.fromCoroutine(self._freeze())

    def promote(self) -> Deferred[Report]:
        """See `DataServer.promote`."""
        return Deferred.fromCoroutine(self._promote())

    def follow(self, address: str) -> Deferred[None]:
        """See `DataServer.follow`."""
        return Deferred.fromCoroutine(self._follow(address))

    async def _report(self) -> Report:
        if self._length is None:
            await self._ask()
        elif self._problem:
            raise DataServerError(self._problem)
        return self._known()

    def _known(self) -> Report:
        return Report(
            run=ALWAYS,
            takes_writes=bool(self._takes_writes),
            source=self._source,
            in_sync=bool(self._source),
            history=ALWAYS,
            length=self._length or 0,
        )

    async def _freeze(self) -> Frozen:
        before, self._source = self._known(), ""
        for what in self._freezing():
            await self._do(what)
        self._takes_writes = self._holds = False
        await self._ask()
        self._holds = FREEZE not in self._commands
        return Frozen(before, self._known())

    def _freezing(self) -> list[str]:
        """The commands that freeze the store in its present state."""
        given = [what for what in (DEMOTE, FREEZE) if what in self._commands]
        if self._takes_writes is None:
            return given
        return given[:1] if self._takes_writes else [what for what in given if what == FREEZE]

    async def _promote(self) -> Report:
        self._takes_writes, self._source = None, ""
        await self._do(PROMOTE)
        self._takes_writes, self._holds = True, False
        return self._known()

    async def _follow(self, address: str) -> None:
        await self._do(FOLLOW, KEVY_PRIMARY_ADDR=address)
        self._source, self._holds = address, False

    # The commands

    def _poll(self) -> Deferred[None]:
        async def poll() -> None:
            with suppress(DataServerError):  # the next report has the problem
                await self._ask()

        return Deferred.fromCoroutine(poll())

    async def _ask(self) -> None:
        """Read how much data there is, unless a newer answer has come meanwhile."""
        self._asked += 1
        turn = self._asked
        problem, length = "", self._length
        try:
            length = parse_offset(await self._do(OFFSET))
        except DataServerError as error:
            problem = str(error)
        except ConfigError as error:
            problem = f"does not report how much data it has: {error}"
        if turn > self._answered:
            self._answered, self._problem = turn, problem
            if not self._holds:
                self._length = length
        if problem:
            raise DataServerError(problem)

    async def _do(self, what: str, **variables: str) -> list[bytes]:
        """Run the command to its end; returns its output. Raises DataServerError if it fails."""
        wait = self._failed_at.get(what, -RETRY) + RETRY - self._election.now()
        if wait > 0:
            await deferLater(self._timers, wait)
            if not self._loop.running:
                raise DataServerError("gets no more commands")
        command, printed = self._commands[what], list[bytes]()

        def take(descriptor: int, line: bytes) -> None:
            if what != OFFSET or descriptor != STDOUT:
                self._output.line(program(command), descriptor, line)
            elif len(printed) < KEPT_LINES:
                printed.append(line)

        problem = await self._run(what, take, variables)
        if problem:
            self._failed_at[what] = self._election.now()
            raise DataServerError(f"failed at --{what}: {program(command)!r} {problem}")
        return printed

    async def _run(
        self, what: str, take: Callable[[int, bytes], object], variables: dict[str, str]
    ) -> str:
        """Why the command failed; empty if it did not."""
        election = self._election
        run, ended = run_to_end(
            self._commands[what],
            self._environment() | variables,
            take,
            reactor=election.reactor,
            timeout=DEADLINES[what],
            privileged=self._privileged,
        )
        self._runs.add(run)
        problem = await after(ended)
        self._runs.discard(run)
        return problem

    def _environment(self) -> dict[str, str]:
        election = self._election
        return election_environment(election.cluster.node_id, election.state_snapshot())

    def _broken(self, failure: Failure) -> None:
        self._election.failed(failure)
