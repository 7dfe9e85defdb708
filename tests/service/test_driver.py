from __future__ import annotations

import random
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.elector import Elector
from kevy_elect.events import Event, EventKind
from kevy_elect.messages import Heartbeat, Message, Outbound, Role
from kevy_elect.service.driver import IMPORTANT_LINES, LINES, Driver
from kevy_elect.service.hiccups import PERIOD
from kevy_elect.service.instruments import Probes
from kevy_elect.transport.log_limit import WINDOW
from tests.support.transports import QUICK


@attrs.define
class Listener:
    """The driver's owner, and a probe."""

    changes: int = 0
    events: list[Event] = attrs.field(factory=list)

    def send(self, outbound: Outbound) -> None: ...

    def sweep(self, now: float) -> None: ...

    def changed(self, reason: str) -> None:
        self.changes += 1

    def failed(self, failure: Failure) -> None:
        failure.raiseException()

    def noted(self, event: Event) -> None:
        self.events.append(event)

    def ticked(self, late: float) -> None: ...

    def saved(self, took: float, *, kept: bool) -> None: ...


class LogTests(SynchronousTestCase):
    """What a driver logs while somebody speaks as the absent member c."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Listener()
        self.elector = Elector(
            "a", "abc", "127.0.0.1:1", config=QUICK, ballot=MemoryBallot(), rng=random.Random(0)
        )
        probes = Probes()
        probes.add(self.owner)
        self.driver = Driver(
            self.elector, self.owner, reactor=self.clock, clock=self.clock.seconds, probes=probes
        )
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.driver.start()
        self.addCleanup(self.driver.stop)

    def lines(self, text: str) -> list[str]:
        return [line for line in map(formatEvent, self.logged) if text in line]

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.driver.take(message.sender, message, self.clock.seconds())

    def come_and_go(self, times: int) -> None:
        for _ in range(times):
            self.say(Heartbeat(1, "c", Role.PRIMARY, 0), Heartbeat(1, "c", Role.REPLICA, 0))

    def note(self, times: int, **event: Any) -> None:
        """As if the elector noted this at so many messages."""
        for _ in range(times):
            self.driver.order(
                lambda elector, now: elector.events.note(
                    Event(at=now, epoch=1, text="a note", **event)
                )
            )

    def test_a_member_that_comes_and_goes_at_will_has_a_few_lines(self) -> None:
        self.come_and_go(500)
        self.assertEqual(len(self.lines("a: following c")), LINES)
        self.assertEqual(len(self.lines("a: no longer following c")), LINES)

    def test_observers_probes_and_events_miss_nothing(self) -> None:
        self.come_and_go(500)
        self.assertEqual(self.owner.changes, 1000)
        self.assertEqual(len([e for e in self.owner.events if e.kind is EventKind.PRIMARY]), 1000)

    def test_what_was_left_out_is_counted_in_one_line_once_the_time_is_over(self) -> None:
        self.come_and_go(500)
        self.assertEqual(self.lines("left out"), [])
        self.clock.pump([QUICK.hb_interval] * round(WINDOW / QUICK.hb_interval + 1))
        text = f"a: {500 - LINES} more lines like these (primary, followed) were left out"
        self.assertEqual(len(self.lines(text)), 1)
        self.come_and_go(1)
        self.assertEqual(len(self.lines("a: following c")), LINES + 1)
        self.assertEqual(len(self.lines(text)), 1)

    def test_delays_that_threaten_nothing_are_one_line_if_they_are_many(self) -> None:
        short = QUICK.pause_after + 0.01
        for _ in range(round(PERIOD / short) + 20):
            self.clock.advance(short)
        self.assertEqual(self.lines("did not run for"), [])
        self.assertEqual(len(self.lines("a: was late")), 1)
        self.assertIn(EventKind.PAUSE, {event.kind for event in self.owner.events})
        self.clock.advance(QUICK.down_after)
        self.assertEqual(len(self.lines("did not run for")), 1)

    def test_terms_and_what_is_critical_have_lines_of_their_own(self) -> None:
        self.come_and_go(500)
        self.note(IMPORTANT_LINES, kind=EventKind.CONFLICT, critical=True)
        self.note(IMPORTANT_LINES, kind=EventKind.ROLE)
        self.assertEqual(len(self.lines("a: a note")), 2 * IMPORTANT_LINES)
        critical = [e for e in self.logged if e["log_level"] is LogLevel.critical]
        self.assertEqual(len(critical), IMPORTANT_LINES)

    def test_but_not_without_end(self) -> None:
        self.note(1000, kind=EventKind.CONFLICT, critical=True)
        self.assertEqual(len(self.lines("a: a note")), IMPORTANT_LINES)
