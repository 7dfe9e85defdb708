"""The promises about the data that clients write, and about the servers that take writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from kevy_elect.local_server import split_offset
from kevy_elect.messages import Role
from kevy_elect.testing.checkers import Checker, Watched
from kevy_elect.testing.data.driver import SimulatedDriver
from kevy_elect.testing.data.server import SimulatedServer
from kevy_elect.testing.node import SimulatedNode


class WatchedData(Watched, Protocol):
    """The parts of a cluster with data servers that a checker may see, at one instant."""

    @property
    def servers(self) -> Mapping[str, SimulatedServer]: ...
    @property
    def drivers(self) -> Mapping[str, SimulatedDriver]: ...


class DataChecker(Checker):
    """Watches the data servers also."""

    cluster: WatchedData

    def confirmed(self, server: SimulatedServer, values: Collection[int]) -> None:
        """Called when enough followers of this server have these writes, and clients know it."""

    def promoted(self, node: SimulatedNode) -> None:
        """Called when this node's server was promoted, and the node is a primary that may write."""

    def left(self, node: SimulatedNode, target: str) -> None:
        """Called when this primary's server is frozen and the target reports all of its data. The
        primary then hands over to the target."""

    def looked(self) -> None:
        """Called when clients look for a server that takes writes."""


class ConfirmedSurvives(DataChecker):
    """Checks that a write confirmed on N − quorum replicas is on the server of every later writable
    primary, unless a majority lost its memory (G1)."""

    promise = "a confirmed write survives"

    def __init__(self) -> None:
        super().__init__()
        self.all: set[int] = set()
        """All confirmed writes."""

    def confirmed(self, server: SimulatedServer, values: Collection[int]) -> None:
        self.all.update(values)
        # A later primary may be promoted before the last writes of this one are confirmed.
        mine = self._epoch_of(server)
        for node in self.cluster.nodes.values():
            if node.node_id != server.name and node.machine.role is Role.PRIMARY:
                other = self.cluster.servers.get(node.node_id)
                later = split_offset(node.machine.repl_offset)[0] > mine
                if other is not None and later and node.running and node.can_write():
                    self._verify(node, values)

    def promoted(self, node: SimulatedNode) -> None:
        if self.cluster.servers[node.node_id].takes_writes:  # it has not died since it answered
            self._verify(node, self.all)

    def _epoch_of(self, server: SimulatedServer) -> int:
        return self.cluster.drivers[server.name].epoch_of(server.report())

    def _verify(self, node: SimulatedNode, values: Collection[int]) -> None:
        lost = set(values).difference(self.cluster.servers[node.node_id].log)
        if lost:
            self.violated(
                f"{len(lost)} confirmed writes, {min(lost)} the first, are not on the server of "
                f"{node.node_id}, primary of epoch {node.machine.epoch}",
                node,
            )


class SwitchoverKeepsAll(DataChecker):
    """Checks that the target of a planned switchover has every acknowledged write (G2)."""

    promise = "a switchover loses nothing"

    def __init__(self) -> None:
        super().__init__()
        self.checked = 0
        """The number of switchovers."""
        self._target: str | None = None
        self._data: frozenset[int] = frozenset()

    def left(self, node: SimulatedNode, target: str) -> None:
        self._target = target
        self._data = frozenset(self.cluster.servers[node.node_id].log)

    def promoted(self, node: SimulatedNode) -> None:
        target, self._target = self._target, None
        if node.node_id == target:
            self.checked += 1
            lost = self._data.difference(self.cluster.servers[target].log)
            if lost:
                self.violated(f"{len(lost)} writes are not on the server of {target}", node)


class OnlyPrimariesServe(DataChecker):
    """Checks that a server takes writes only if its node is primary, or is about to freeze it."""

    promise = "a server takes writes for a primary only"
    LOOKS = 4
    """The number of hb_intervals that a node needs to freeze a server: one until the next look, one
    for the answer, and two if another command is in progress."""

    def __init__(self) -> None:
        super().__init__()
        self._since: dict[str, float] = {}

    def disturbed(self) -> None:
        self._since.clear()

    def looked(self) -> None:
        now = self.cluster.now
        for name, server in self.cluster.servers.items():
            node = self.cluster.nodes[name]
            excused = not server.takes_writes or server.is_hung or not node.running or node.paused
            if excused or node.machine.role is Role.PRIMARY:
                self._since.pop(name, None)
            elif now - self._since.setdefault(name, now) > self.LOOKS * node.config.hb_interval:
                self._since[name] = now
                self.violated(f"the server of {name} does, and {name} is no primary", node)
