"""Simulated clusters for scripts: fast links, clocks of one rate, nodes of one letter each."""

from __future__ import annotations

from collections.abc import Mapping

from kevy_elect.testing import SimulatedCluster, default_checkers
from kevy_elect.testing.checkers import OnePrimaryPerEpoch
from tests.support.nodes import CONFIG, TICK


class Cluster(SimulatedCluster):
    """A cluster with the timings of these tests, which all checkers watch."""

    DELAY = 1 / 64

    def __init__(
        self, members: str = "abc", *, offsets: Mapping[str, int] | None = None, witnesses: str = ""
    ) -> None:
        checkers = default_checkers()
        super().__init__(
            members,
            CONFIG,
            seed=1,
            witnesses=witnesses,
            clock_drift=0.0,
            max_delay=self.DELAY,
            checkers=checkers,
        )
        (elections,) = (c for c in checkers if isinstance(c, OnePrimaryPerEpoch))
        self.elected = elections.elected
        """The primary of each epoch."""
        for node_id, offset in (offsets or {}).items():
            self.set_repl_offset(node_id, offset)

    def agreed(self) -> str | None:
        """The writable primary that all running nodes follow, or None."""
        followed = {node.machine.current_primary for node in self.running()}
        leader = followed.pop()
        return leader if not followed and self.writers() == [leader] else None

    def elect(self) -> str:
        """Advance until all running nodes agree on a primary, and return it."""
        self.advance_until(self.agreed, within=10 * CONFIG.down_after)
        leader = self.agreed()
        assert leader is not None
        return leader

    def epochs(self) -> dict[str, int]:
        return {node.node_id: node.machine.epoch for node in self.running()}

    def texts(self, node_id: str, kind: str) -> list[str]:
        events = self.nodes[node_id].elector.events
        return [event.text for event in events if event.kind == kind]


MOMENT = 2 * TICK + 4 * Cluster.DELAY
"""The longest time for a tick that detects a failure, an election and its ANNOUNCE."""
