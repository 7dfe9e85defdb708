"""A node's knowledge at one moment, and the observers of its changes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from kevy_elect.messages import Role
from kevy_elect.service.awaitable import Awaitable, awaitable

BACKLOG: Final = 256
"""Changes kept for an iteration that is too slow; the oldest are dropped first."""


@attrs.frozen
class ElectorSnapshot:
    """A node's knowledge at one moment. Leases end: ask `can_write` again before each write."""

    role: Role
    epoch: int
    """The fencing token: a store that refuses smaller tokens than it has seen is safe."""
    current_primary: str | None
    primary_addr: str | None
    has_quorum: bool
    """Whether a quorum backs this node; for a primary, its lease (R8)."""
    down_peers: tuple[str, ...]
    can_write: bool
    lease_expires_in: float
    """Seconds until the lease ends; 0 without a lease, infinite in a cluster of one."""


@attrs.frozen
class Change:
    """A node's new state, and the reason for the change in words."""

    snapshot: ElectorSnapshot
    reason: str


Observer = Callable[[ElectorSnapshot, str], object]
T = TypeVar("T")


def enlist(members: list[T], member: T) -> Callable[[], None]:
    """Add `member` to the list. Returns a function that removes it, and may be called twice."""
    members.append(member)

    def remove() -> None:
        if member in members:
            members.remove(member)

    return remove


class Observers:
    """All observers. Each change is reported to all of them before the next one."""

    log = Logger()

    def __init__(self, ask: Callable[[], ElectorSnapshot]) -> None:
        """`ask` returns the present state."""
        self._ask = ask
        self._observers: list[Observer] = []
        self._pending: deque[Change] = deque()
        self._telling = False

    def add(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` at each change from now on. Returns a function that removes it."""
        return enlist(self._observers, observer)

    def tell(self, reason: str) -> None:
        """Report the present state to all. Exceptions of an observer are logged. Changes that an
        observer causes are reported afterwards."""
        self._pending.append(Change(self._ask(), reason))
        if self._telling:
            return
        self._telling = True
        while self._pending:
            change = self._pending.popleft()
            for observer in list(self._observers):
                try:
                    observer(change.snapshot, change.reason)
                except Exception:
                    self.log.failure("{observer} failed to take a change", observer=observer)
        self._telling = False

    def when(self, wanted: Callable[[ElectorSnapshot], bool]) -> Deferred[ElectorSnapshot]:
        """Fires with the first snapshot that is `wanted`, at once if the present one is.
        May be cancelled."""
        present = self._ask()
        if wanted(present):
            return awaitable(succeed(present))

        def observe(snapshot: ElectorSnapshot, reason: str) -> None:
            if wanted(snapshot):
                remove()
                waiting.callback(snapshot)

        remove = self.add(observe)
        waiting: Awaitable[ElectorSnapshot] = Awaitable(lambda _: remove())
        return waiting

    async def changes(self) -> AsyncIterator[Change]:
        """The state when the iteration begins, then each change."""
        backlog = deque([Change(self._ask(), "as it is now")], maxlen=BACKLOG)
        wake: Awaitable[None] | None = None

        def observe(snapshot: ElectorSnapshot, reason: str) -> None:
            nonlocal wake
            backlog.append(Change(snapshot, reason))
            if wake is not None:
                waking, wake = wake, None
                waking.callback(None)

        remove = self.add(observe)
        try:
            while True:
                while backlog:
                    yield backlog.popleft()
                wake = Awaitable()
                await wake
        finally:
            remove()
