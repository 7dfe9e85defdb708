"""How a node leaves the role of primary: on command, and when it stops."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.errors import HandoverError
from kevy_elect.peers import NEVER
from kevy_elect.service.fence import after
from kevy_elect.service.handover import Handover, Outcome, Primary, Step
from kevy_elect.service.timers import timers
from kevy_elect.settings.admin import check_reason

STOPS: Final = "this node stops"
"""The reason in the event of a handover at the end of the process."""

T = TypeVar("T")


class Departure:
    """The ways in which `election` leaves the role, one at a time."""

    log = Logger()

    def __init__(self, election: Primary, failed: Callable[[Failure], object]) -> None:
        self._election = election
        self._failed = failed
        self._stepping_down: Deferred[None] = succeed(None)  # fires at its end
        self._handing_over: tuple[Handover, Deferred[None]] | None = None  # likewise
        self._resigned_at = NEVER

    def step_down(self, rest: float, why: str) -> Deferred[None]:
        """See `ElectionService.step_down`."""
        stepping = Deferred.fromCoroutine(self._step_down(rest, why))
        stepping.addErrback(lambda f: f if f.check(CancelledError) else self._failed(f))
        return stepping

    async def _step_down(self, rest: float, why: str) -> None:
        ended = self._stepping_down = Deferred[None]()
        try:
            with self._election.fence.closed():
                await self._election.fence.stopped()
                self._resigned_at = self._election.now()
                self._election.resign(rest, why)
        finally:
            ended.callback(None)

    def switch_over(
        self, target: str | None, patience: float, tell: Callable[[Step], object], reason: str
    ) -> Deferred[Outcome]:
        """See `ElectionService.switch_over`."""
        check_reason(reason)
        if self._handing_over is not None:
            raise HandoverError("a handover is under way already")
        handover = Handover(self._election, target, patience=patience, tell=tell, reason=reason)
        return self._hand_over(handover)

    def _hand_over(self, handover: Handover) -> Deferred[Outcome]:
        ended: Deferred[None] = Deferred()
        self._handing_over = handover, ended

        def over(result: T) -> T:
            self._handing_over = None
            ended.callback(None)
            return result

        return Deferred.fromCoroutine(handover.run()).addBoth(over)

    async def leave(self, patience: float, close: Callable[[], object]) -> None:
        """Hand over within `patience` seconds (not at all if that is 0), and then
        `close()` while still fenced, if this node was the primary."""
        election = self._election
        if self._handing_over is not None:
            handover, ended = self._handing_over
            handover.leave(patience)
            with election.fence.closed():
                await ended
                close()
        if not patience:
            return
        if not self._stepping_down.called:
            with suppress(TimeoutError):
                await after(self._stepping_down).addTimeout(patience, timers(election.reactor))
        unsaid = self._resigned_at + election.config.hb_interval - election.now()
        if unsaid > 0:
            await deferLater(
                timers(election.reactor), unsaid
            )  # the notifications have to leave this process
        if election.state_snapshot().can_write:
            handover = Handover(
                election, patience=patience, leaving=True, tell=self._log_step, reason=STOPS
            )
            with election.fence.closed():
                await self._hand_over(handover)
                close()

    def _log_step(self, step: Step) -> None:
        self.log.info(
            "{node}: handover, {at:.3f} s: {text}",
            node=self._election.cluster.node_id,
            at=step.at,
            text=step.text,
        )
