"""Keeps a primary from writing while it gives up its role, and waits for its writers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from kevy_elect.service.observers import enlist
from kevy_elect.status import ChildStatus

T = TypeVar("T")


class Writer(Protocol):
    """Writes while this node is primary, and needs a moment to stop."""

    def when_stopped(self) -> Deferred[None]:
        """Fires when it writes nothing more. The election's change to `can_write` false has
        stopped it, or this call does."""

    def describe(self) -> list[ChildStatus]:
        """Its children, for the status."""


class Close(Protocol):
    """Closes or opens the fence of an election."""

    def __call__(self, *, closed: bool) -> object: ...


class Fence:
    """Is closed while this node leaves the role, so that it writes nothing meanwhile."""

    def __init__(self, close: Close) -> None:
        """`close(closed=True)` must make `can_write` false and notify all observers."""
        self._close = close
        self._closed = 0
        self._writers: list[Writer] = []

    def add(self, writer: Writer) -> Callable[[], None]:
        """Wait for `writer` from now on. Returns a function that removes it."""
        return enlist(self._writers, writer)

    @property
    def is_closed(self) -> bool:
        """Whether writes are forbidden at this moment."""
        return self._closed > 0

    def children(self) -> list[ChildStatus]:
        """The children of all writers."""
        return [child for writer in self._writers for child in writer.describe()]

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Forbid all writes until the end of the block. Blocks may be nested."""
        self._closed += 1
        try:
            if self._closed == 1:
                self._close(closed=True)
            yield
        finally:
            self._closed -= 1
            if not self._closed:
                self._close(closed=False)

    async def stopped(self) -> None:
        """Wait until no writer runs. Call it while closed."""
        for writer in list(self._writers):
            await after(writer.when_stopped())


def after(theirs: Deferred[T]) -> Deferred[T]:
    """A Deferred of its own that fires as `theirs` does. Its cancellation or timeout does not
    affect others that wait for `theirs`."""
    waiting: Deferred[T] = Deferred()

    def tell(result: T) -> T:
        if not waiting.called:
            waiting.callback(result)
        return result

    theirs.addBoth(tell)
    return waiting
