"""What a service returns can be awaited by Twisted's coroutines and by asyncio's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.service.awaitable import Awaitable, awaitable


async def value_of(waiting: Awaitable[int]) -> int:
    return await waiting


class TwistedTests(SynchronousTestCase):
    def test_a_value(self) -> None:
        waiting: Awaitable[int] = Awaitable()
        got = Deferred.fromCoroutine(value_of(waiting))
        self.assertNoResult(got)
        waiting.callback(5)
        self.assertEqual(self.successResultOf(got), 5)

    def test_what_is_there_already(self) -> None:
        got = Deferred.fromCoroutine(value_of(awaitable(succeed(5))))
        self.assertEqual(self.successResultOf(got), 5)

    def test_a_failure(self) -> None:
        got = Deferred.fromCoroutine(value_of(awaitable(fail(KeyError("k")))))
        self.failureResultOf(got, KeyError)

    def test_cancelling_it_cancels_what_it_stands_for(self) -> None:
        inner: Deferred[int] = Deferred()
        outer = awaitable(inner)
        outer.cancel()
        self.failureResultOf(outer, CancelledError)
        self.assertTrue(inner.called)


class TaskTests(SynchronousTestCase):
    def run_task(self, task: Coroutine[Any, Any, None]) -> None:
        asyncio.run(asyncio.wait_for(task, 30))

    def later(self, waiting: Deferred[int], result: object) -> None:
        asyncio.get_running_loop().call_soon(waiting.callback, result)

    def test_a_value(self) -> None:
        async def task() -> None:
            waiting: Awaitable[int] = Awaitable()
            self.later(waiting, 5)
            self.assertEqual(await waiting, 5)

        self.run_task(task())

    def test_what_is_there_already(self) -> None:
        async def task() -> None:
            self.assertEqual(await awaitable(succeed(5)), 5)
            with self.assertRaises(KeyError):
                await awaitable(fail(KeyError("k")))

        self.run_task(task())

    def test_a_failure(self) -> None:
        async def task() -> None:
            waiting: Awaitable[int] = Awaitable()
            asyncio.get_running_loop().call_soon(waiting.errback, KeyError("k"))
            with self.assertRaises(KeyError):
                await waiting

        self.run_task(task())

    def test_with_a_time_limit_and_with_others(self) -> None:
        async def task() -> None:
            never: Awaitable[int] = Awaitable()
            with self.assertRaises(TimeoutError):
                await asyncio.wait_for(never, 0.01)
            self.assertTrue(never.called)  # it was cancelled
            one: Awaitable[int] = Awaitable()
            other: Awaitable[int] = Awaitable()
            self.later(one, 1)
            self.later(other, 2)
            self.assertEqual(await asyncio.gather(one, other), [1, 2])

        self.run_task(task())

    def test_a_task_that_is_cancelled_cancels_it(self) -> None:
        async def task() -> None:
            waiting: Awaitable[int] = Awaitable()
            waiter = asyncio.create_task(value_of(waiting))
            await asyncio.sleep(0)
            waiter.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiter
            self.assertTrue(waiting.called)

        self.run_task(task())

    def test_a_coroutine_of_twisteds_that_a_task_starts(self) -> None:
        """It awaits while the task runs, and is no task."""

        async def task() -> None:
            waiting: Awaitable[int] = Awaitable()
            got = Deferred.fromCoroutine(value_of(waiting))
            self.later(waiting, 5)
            self.assertEqual(await got.asFuture(asyncio.get_running_loop()), 5)

        self.run_task(task())
