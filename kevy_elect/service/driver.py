"""Runs one elector in the reactor: on each message, every hb_interval, and when a rule is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from kevy_elect.elector import Elector, next_on_grid
from kevy_elect.errors import FrameError
from kevy_elect.events import Event, EventKind
from kevy_elect.messages import Message, Outbound, Role
from kevy_elect.peers import NEVER
from kevy_elect.service.hiccups import PERIOD, Hiccups
from kevy_elect.service.instruments import Probes
from kevy_elect.service.timers import timers
from kevy_elect.transport.log_limit import WINDOW, Sparing

SLACK: Final = 0.001
"""Seconds that a due action may wait for a tick that comes anyway."""

LINES: Final = 10
"""The most lines of one kind and cause in WINDOW seconds, because a peer can make the elector note
an event with each message."""
IMPORTANT_LINES: Final = 50
"""The same for critical events, and for those that begin or end time as primary or a candidacy."""

T = TypeVar("T")


class Owner(Protocol):
    """The user of a driver."""

    def send(self, outbound: Outbound) -> None:
        """Send messages of the elector."""

    def sweep(self, now: float) -> None:
        """Do other overdue work; called after each run."""

    def changed(self, reason: str) -> None:
        """The visible state of the elector has changed."""

    def failed(self, failure: Failure) -> None:
        """The elector has a bug. The driver has stopped."""


class Driver:
    """Runs `elector` in time, sends its messages, logs its events and reports its changes."""

    log = Logger()

    def __init__(
        self,
        elector: Elector,
        owner: Owner,
        *,
        reactor: Any,
        clock: Callable[[], float],
        probes: Probes,
    ) -> None:
        self.elector = elector
        self.beat_at = NEVER
        """The time at which the elector last did the work of each interval."""
        self._beat_due = NEVER
        self._owner = owner
        self._timers = timers(reactor)
        self._clock = clock
        self._probes = probes
        self._loop = LoopingCall(self._beat)
        self._loop.clock = self._timers
        self._running = False
        self._timer: IDelayedCall | None = None  # for work that is due before the next beat
        self._timer_at = NEVER
        self._events_taken = 0
        self._reported: tuple[object, ...] = ()
        self._sparing = Sparing()
        self._hiccups = Hiccups()

    def start(self) -> None:
        """Run now, and then every hb_interval. Restarts with other timings if it runs already."""
        self.stop()
        self._running = True
        self.beat_at = self._beat_due = NEVER
        self._loop.start(self.elector.config.hb_interval).addErrback(self._fail)

    def stop(self) -> None:
        self._running = False
        if self._loop.running:
            self._loop.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self, sender: str, message: Message, now: float) -> None:
        """Pass a message of `sender` to the elector. Raises FrameError if its connection must end
        (R1)."""
        self._run(lambda elector: elector.on_message(sender, message, now) + elector.tick(now), now)

    def order(self, order: Callable[[Elector, float], object]) -> None:
        """Call `order` with the elector, and send the resulting messages at once."""
        now = self._clock()

        def run(elector: Elector) -> list[Outbound]:
            order(elector, now)
            return elector.tick(now)

        self._run(run, now)

    def ask(self, ask: Callable[[Elector], T]) -> T | None:
        """The result of a call of the elector; None if the call shows a bug in it. Raises
        FrameError."""
        try:
            return ask(self.elector)
        except FrameError:
            raise
        except Exception:
            self._fail(Failure())
            return None

    def _beat(self) -> None:
        now = self._clock()
        if self._beat_due != NEVER:
            self._probes.ticked(max(0.0, now - self._beat_due))
        interval = self.elector.config.hb_interval
        self._begin_interval(now, next_on_grid(self._beat_due, interval, now))
        self._run(lambda elector: elector.tick(now), now)

    def _begin_interval(self, now: float, until: float) -> None:
        self.beat_at, self._beat_due = now, until
        for cause, count in self._sparing.left_out(now):
            self._tell_left_out(cause, count)
        self._tell_hiccups(now)

    def _tell_hiccups(self, now: float) -> None:
        lost = self._hiccups.overdue(now, self.elector.config.down_after)
        if lost is not None:
            self._log(lost, now)
        spate = self._hiccups.spate(now)
        if spate is not None:
            self.log.warn(
                "{node}: was late {count} times within {period:g} s, by up to {longest:.2f} s; "
                "that threatened nothing, but its machine or its program keeps it from running",
                node=self.elector.node_id,
                count=spate.count,
                period=PERIOD,
                longest=spate.longest,
            )

    def _due(self) -> None:
        self._timer = None
        now = self._clock()
        self._run(lambda elector: elector.tick(now), now)

    def _run(self, run: Callable[[Elector], list[Outbound]], now: float) -> None:
        elector, quiet_until = self.elector, self.elector.quiet_until
        sent = self.ask(run)
        is_quiet = now < quiet_until == elector.quiet_until
        if is_quiet and not sent and elector.events.count == self._events_taken:
            return  # most messages change nothing
        for outbound in sent or ():
            self._owner.send(outbound)
        if self._running:
            self._tell(now)
            self._owner.sweep(now)
        if self._running:  # a listener may have stopped this driver
            self._align(now)
            self._set_timer(now)

    def _align(self, now: float) -> None:
        """Let the next beat come when the next heartbeat is due. If one was just sent with
        the answer to a message, this interval needs no beat, and so no wake-up."""
        due = self.elector.heartbeat_due
        if self._loop.call is None or abs(due - self._beat_due) < SLACK:
            return
        if due > now:
            # Twice cheaper than LoopingCall.reset, which makes another timer and sets it twice.
            self._loop.starttime = self._timers.seconds() + due - now
            self._loop.call.reset(due - now)
            self._begin_interval(now, due)

    def _set_timer(self, now: float) -> None:
        """Run when work is due for which the next beat is too late."""
        due = self.elector.next_due(now)
        if due > min(self._beat_due, now + self.elector.config.hb_interval) - SLACK:
            return
        if self._timer is None:
            self._timer = self._timers.callLater(max(SLACK, due - now), self._due)
        elif due != self._timer_at:
            self._timer.reset(max(SLACK, due - now))
        self._timer_at = due

    def _tell(self, now: float) -> None:
        """Log new events of the elector, and report whether its state has changed."""
        elector = self.elector
        events = elector.events.since(self._events_taken)
        if not events:
            return
        self._events_taken = elector.events.count
        leads = elector.role is Role.PRIMARY
        for event in self._hiccups.sift(events, elector.config.down_after, leads=leads):
            self._log(event, now)
        for event in events:
            self._probes.noted(event)
        state = (
            elector.role,
            elector.epoch,
            elector.current_primary,
            elector.primary_addr,
            elector.has_quorum(now),
            elector.can_write(now),
        )
        if state != self._reported:
            self._reported = state
            self._owner.changed("; ".join(event.text for event in events))

    def _log(self, event: Event, now: float) -> None:
        cause = event.kind.value if event.cause is None else f"{event.kind}, {event.cause}"
        important = event.critical or event.kind is EventKind.ROLE
        left_out = self._sparing.line(cause, now, IMPORTANT_LINES if important else LINES)
        if left_out is None:
            return
        if left_out:
            self._tell_left_out(cause, left_out)
        level = LogLevel.critical if event.critical else LogLevel.info
        self.log.emit(level, "{node}: {text}", node=self.elector.node_id, text=event.text)

    def _tell_left_out(self, cause: str, count: int) -> None:
        self.log.warn(
            "{node}: {count} more lines like these ({cause}) were left out within {window:g} s",
            node=self.elector.node_id,
            count=count,
            cause=cause,
            window=WINDOW,
        )

    def _fail(self, failure: Failure) -> None:
        self.stop()
        self._owner.failed(failure)
