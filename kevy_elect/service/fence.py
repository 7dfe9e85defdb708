"""What keeps a primary from writing while it gives up its role, and who must have stopped first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from kevy_elect.service.observers import enlist
from kevy_elect.status import ChildStatus

T = TypeVar("T")


class Writer(Protocol):
    """Something that writes while this node is primary, and needs a moment to stop."""

    def when_stopped(self) -> Deferred[None]:
        """Fires when it writes nothing more; it has been told by the election's change to
        `can_write` false, or is told by this."""

    def describe(self) -> list[ChildStatus]:
        """What it runs, for those who look."""


class Fence:
    """Closed while this node leaves the role, so that it writes nothing meanwhile."""

    def __init__(self, close: Callable[[bool], object]) -> None:
        """`close(True)` has to make `can_write` false and to tell all who ask it."""
        self._close = close
        self._closed = 0
        self._writers: list[Writer] = []

    def add(self, writer: Writer) -> Callable[[], None]:
        """Have `writer` waited for from now on. Returns what removes it."""
        return enlist(self._writers, writer)

    @property
    def is_closed(self) -> bool:
        return self._closed > 0

    def children(self) -> list[ChildStatus]:
        """The children of all writers."""
        return [child for writer in self._writers for child in writer.describe()]

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Write nothing until the end of the block. May be nested."""
        self._closed += 1
        try:
            if self._closed == 1:
                self._close(True)
            yield
        finally:
            self._closed -= 1
            if not self._closed:
                self._close(False)

    async def stopped(self) -> None:
        """Wait until no writer runs. To be called while closed."""
        for writer in list(self._writers):
            await after(writer.when_stopped())


def after(theirs: Deferred[T]) -> Deferred[T]:
    """A Deferred of its own that fires as `theirs` does: whoever cancels it, or lets it time
    out, leaves theirs to all others who wait for that."""
    waiting: Deferred[T] = Deferred()

    def tell(result: T) -> T:
        if not waiting.called:
            waiting.callback(result)
        return result

    theirs.addBoth(tell)
    return waiting
