"""An election in an asyncio program, which needs no Twisted in its code.

    from kevy_elect.aio import Election

    async with Election("a", ["a@10.0.0.1:7101", "b@10.0.0.2:7101", "c@10.0.0.3:7101"],
                        data_dir="/var/lib/myapp/election") as election:
        await election.when_primary()
        while election.can_write():  # asked at the moment of writing, never remembered
            await write_something(fencing_token=election.state_snapshot().epoch)

Twisted's reactor runs on the running event loop, and starts with the first election.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from kevy_elect.config import Cluster, PeerAddr
from kevy_elect.errors import ConfigError

if TYPE_CHECKING:
    from kevy_elect.service.election import ElectionService

__all__ = ["Election"]

_REACTOR: Final = "twisted.internet.reactor"
_running: set[Election] = set()


class Election:
    """One member, which runs during an `async with`.

    `node_id` is this member's id, one of those in `peers`. These are entries such as
    `id@host:elect_port[:client_port]`, or PeerAddr. All other arguments of `ElectionService` may
    follow by name; one of `data_dir` and `ballot` is required.

    `async with` returns the ElectionService. Its Deferreds can be awaited, also with
    `asyncio.wait_for`, and `async for change in election.changes()` works. At the end of the block,
    a primary first hands over its role.

    The same object may run again later, but only on the same loop: a process has one reactor.
    """

    def __init__(self, node_id: str, peers: Iterable[str | PeerAddr], **options: Any) -> None:
        """Raises ConfigError for invalid members."""
        members = tuple(PeerAddr.parse(peer) if isinstance(peer, str) else peer for peer in peers)
        self._cluster = Cluster(node_id, members)
        self._options = options
        self._service: ElectionService | None = None

    async def __aenter__(self) -> ElectionService:
        """Start the member. Raises ConfigError for invalid options, or if this process has another
        reactor of Twisted already; BallotError and CannotListenError as `ElectionService` does."""
        if self._service is not None:
            raise ConfigError("this election is running already: make another")
        _run_reactor(asyncio.get_running_loop())
        from kevy_elect.service.election import ElectionService

        service = ElectionService(self._cluster, **self._options)
        service.startService()
        self._service = service
        _running.add(self)
        return service

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the member, after a handover if it is primary, also if this task is cancelled."""
        service, self._service = self._service, None
        assert service is not None
        loop = asyncio.get_running_loop()
        stopped = service.stopService().asFuture(loop)
        try:
            await asyncio.shield(stopped)
        finally:
            _running.discard(self)
            if not _running:
                _end_threads()


def _run_reactor(loop: asyncio.AbstractEventLoop) -> None:
    """Install Twisted's reactor on this loop."""
    if _REACTOR not in sys.modules:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)
    from twisted.internet import reactor as installed

    reactor: Any = installed
    if getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise ConfigError(
            "Twisted's reactor in this process is not on the running loop: do not import "
            "twisted.internet.reactor before, and use one loop for all elections"
        )
    if not reactor.running:
        reactor.startRunning(installSignalHandlers=False)


def _end_threads() -> None:
    """End the reactor's threads, which resolve names: otherwise the process would not end."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    if reactor.threadpool is not None:
        reactor._stopThreadPool()
