"""The nodes of a demo as a whole, polled until they are in an expected state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from kevy_elect.cli.demo.child import Child, why_ended
from kevy_elect.cli.demo.nodes import Node
from kevy_elect.cli.demo.screen import Screen
from kevy_elect.cli.demo.stage import CourseError, Interrupted
from kevy_elect.config import ElectConfig

POLL: Final = 0.1
"""Seconds between two looks at the nodes."""
POLL_FAST: Final = 0.002
"""Seconds between two looks while a failover is measured, which may take some ten milliseconds."""
ASK_TIMEOUT: Final = 1.0
REVIVE_AFTER: Final = 3.0

T = TypeVar("T")


class Cluster:
    """Polls the nodes and shows them while it waits for a state.

    `others` are processes beside the nodes that must run too. `footer` returns lines that a live
    display shows below the nodes.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        config: ElectConfig,
        screen: Screen,
        caught: Sequence[int],
        *,
        others: Sequence[Child] = (),
        footer: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.nodes = nodes
        self._screen = screen
        self._caught = caught
        self._children: Sequence[Child] = (*nodes, *others)
        self._footer = footer
        self._abstention = config.down_after
        # An election that fails starts again after the longest backoff. Several failures, and a
        # slow start of Python on a busy machine, are possible.
        backoff = config.election_backoff + config.election_backoff_jitter
        self._patience = 60 + 5 * (config.down_after + config.election_timeout + backoff)

    def until(self, condition: Callable[[], T | None], what: str, interval: float = POLL) -> T:
        """Poll until the condition returns a result. Raises CourseError if this takes too long or a
        process ends, and Interrupted after a signal."""
        deadline = time.monotonic() + self._patience
        while True:
            self._poll()
            self._expect_running()
            found = condition()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise CourseError(f"{what} took longer than {self._patience:g} s")
            time.sleep(interval)

    def keep_running(self) -> Iterator[None]:
        """Show the nodes until interrupted. Yields to the caller after each look. A process that
        ended is started again later."""
        while True:
            for child in self._children:
                if child.has_ended():
                    child.kill()
                elif child.process is None and time.monotonic() - child.ended_at > REVIVE_AFTER:
                    child.start()
                    self._screen.step(f"restart {child.name}: process {child.pid}")
            self._poll()
            yield
            time.sleep(POLL)

    def named(self, node_id: str) -> Node:
        return next(node for node in self.nodes if node.node_id == node_id)

    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.process is not None]

    def writer(self) -> Node | None:
        """The one node that can write."""
        writers = [node for node in self.running() if node.status and node.status.can_write]
        return writers[0] if len(writers) == 1 else None

    def followed(self) -> Node | None:
        """The node that can write, if all running nodes follow it."""
        writer = self.writer()
        if writer is None:
            return None
        followed = (
            node.status and node.status.current_primary == writer.node_id for node in self.running()
        )
        return writer if all(followed) else None

    def may_vote(self) -> bool:
        """Whether all running nodes may vote; a node that has just started may not (R4.3)."""
        starts = [node.ready_at for node in self.running()]
        ripe_at = max(time.monotonic() if at is None else at for at in starts) + self._abstention
        return time.monotonic() > ripe_at

    def _poll(self) -> None:
        if self._caught:
            raise Interrupted(self._caught[0])
        for node in self.running():
            node.ask(ASK_TIMEOUT)
        self._screen.show(self.nodes, self._footer())

    def _expect_running(self) -> None:
        for child in self._children:
            if child.has_ended():
                raise CourseError(why_ended(child))
