from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kevy_elect.service.clock import uptime
from kevy_elect.service.timers import SteadyTimers, timers
from tests.service.test_election import ServiceTests
from tests.support.transports import QUICK

HOURS = 5 * 3600.0
on_linux = skipUnless(sys.platform == "linux", "timerfd is Linux's")


class WithoutDescriptorsTests(SynchronousTestCase):
    def test_a_reactor_of_a_test_keeps_its_own_time(self) -> None:
        clock = Clock()
        self.assertIs(timers(clock), clock)


@on_linux
class TimersTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.timers = SteadyTimers(reactor)
        self.called: list[object] = []
        self.addCleanup(self.cancel_all)

    def cancel_all(self) -> None:
        for call in self.timers.getDelayedCalls():
            call.cancel()

    def wait(self, seconds: float) -> Deferred[None]:
        return deferLater(self.timers, seconds)  # type: ignore[arg-type]

    def call(self, delay: float, what: object) -> Any:
        return self.timers.callLater(delay, self.called.append, what)

    async def test_calls_come_in_their_order_and_not_too_early(self) -> None:
        began = uptime()
        for delay in (0.02, 0.0, 0.01):
            self.call(delay, delay)
        await self.wait(0.03)
        self.assertGreaterEqual(uptime() - began, 0.03)
        self.assertEqual(self.called, [0.0, 0.01, 0.02])

    async def test_what_is_put_off_brought_forward_or_cancelled_is_so(self) -> None:
        off, forward, cancelled = (self.call(delay, delay) for delay in (0.01, 60.0, 0.02))
        off.reset(60.0)
        forward.reset(0.01)
        cancelled.cancel()
        await self.wait(0.05)
        self.assertEqual(self.called, [60.0])
        self.assertEqual(self.timers.getDelayedCalls(), [off])

    async def test_a_call_may_cancel_another_that_is_due_too(self) -> None:
        self.timers.callLater(0.0, lambda: other.cancel())
        other = self.call(0.01, "other")
        time.sleep(0.02)  # now both are due
        await self.wait(0.0)
        self.assertEqual(self.called, [])

    async def test_a_call_that_fails_keeps_none_of_the_others(self) -> None:
        self.timers.callLater(0.0, lambda: 1 / 0)
        self.call(0.01, "next")
        await self.wait(0.02)
        self.assertEqual(self.called, ["next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_it_holds_a_descriptor_only_while_something_is_due(self) -> None:
        call = self.call(60.0, "never")
        descriptor = self.timers.fileno()
        self.assertFalse(os.get_inheritable(descriptor))
        self.assertIn(self.timers, self.reactor.getReaders())
        call.cancel()
        soon = self.call(0.0, "soon")
        self.assertEqual(self.timers.fileno(), descriptor)
        soon.cancel()
        while self.timers.fileno() != -1:
            await deferLater(self.reactor, 0.0)
        self.assertNotIn(self.timers, self.reactor.getReaders())

    async def test_a_step_of_the_wall_clock_changes_nothing(self) -> None:
        self.call(0.01, "soon")
        self.call(15.0, "late")
        await self.wait(0.0)  # until this test's own timeout is set, by the clock that is right
        for step in (-HOURS, 20.0):  # less than what would end this test
            self.patch(self.reactor, "seconds", lambda step=step: time.time() + step)
            await self.wait(0.05)
            self.assertEqual(self.called, ["soon"])


@on_linux
class StepTests(ServiceTests):
    """A cluster whose hosts' wall clocks are all set back, in a program that needs the date."""

    async def poll_steadily(self, state: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not state():
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            await deferLater(timers(self.reactor), 0.01)

    async def test_an_election_goes_on_and_the_program_sees_the_date(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        primary = self.agreed("abc")
        assert primary is not None
        self.assertLess(abs(self.reactor.seconds() - time.time()), 60)
        self.patch(self.reactor, "seconds", lambda: time.time() - HOURS)
        began = time.monotonic()
        await self.poll_steadily(lambda: time.monotonic() - began > 3 * QUICK.down_after)
        self.assertEqual(self.agreed("abc"), primary)
        others = "abc".replace(primary, "")
        await self.nodes[primary].stopService()
        await self.poll_steadily(lambda: self.agreed(others) not in (None, primary))
