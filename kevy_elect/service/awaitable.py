"""Deferreds that both an asyncio task and a coroutine of Twisted's can await."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Awaitable(Deferred[T]):
    """A Deferred that an asyncio task may await if Twisted's reactor runs on asyncio's loop. A
    plain Deferred would end the task with "Task got bad yield".

    Awaiting it yields the Deferred itself, which has both the methods that a task needs of a
    future and those of a Deferred.
    """

    _future: Future[T] | None = None
    _loop: AbstractEventLoop

    def __await__(self) -> Generator[Any, Any, T]:
        loop = _loop_of_task()
        if loop is None or hasattr(self, "result"):
            return self.__iter__()
        self._loop = loop
        return self._wait()

    def _wait(self) -> Generator[Any, Any, T]:
        self._asyncio_future_blocking = True
        result: T = yield self
        return result if self._future is None else self._future.result()

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]
        """Cancel it as a Deferred; a task that awaits it is notified."""
        if self._future is not None and not self._future.done():
            return self._future.cancel(msg)  # which calls this again
        super().cancel()
        return True

    # The interface of a future, for tasks

    def get_loop(self) -> AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Future[T]], object], *, context: Context | None = None
    ) -> None:
        self._future = self.asFuture(self._loop)
        self._future.add_done_callback(callback, context=context)


def awaitable(deferred: Deferred[T]) -> Awaitable[T]:
    """A Deferred that fires as `deferred` does. Its cancellation cancels `deferred`."""
    made: Awaitable[T] = Awaitable(lambda _: deferred.cancel())
    deferred.addBoth(made.callback)
    return made


def _loop_of_task() -> AbstractEventLoop | None:
    """The loop of the running asyncio task, if there is one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return None
    return None if task is None else task.get_loop()
