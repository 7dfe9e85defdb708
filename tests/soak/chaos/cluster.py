"""The nodes together: their agreement, and how they are healed."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import attrs

from tests.soak.chaos.footprint import Footprint, greatest
from tests.soak.chaos.network import Network
from tests.soak.chaos.node import Node
from tests.soak.chaos.process import Process
from tests.soak.chaos.sandbox import WORLD
from tests.soak.chaos.settings import MemberSettings
from tests.support.secured import options as secured

PORT: Final = 7101
POLL: Final = 0.02
STARTED_WITHIN: Final = 90.0
"""Seconds within which a started node must answer. A busy machine needs long to start a Python
program, which does not concern elections."""
STEADY: Final = 0.3
"""Seconds for which an agreement must last: directly after the healing, nodes may still agree on an
earlier state."""


@attrs.frozen
class Agreement:
    """The times since which all links are up, and all nodes follow one writing primary; None if
    not."""

    linked: float | None
    agreed: float | None


N = TypeVar("N", bound=Process)


class Group(Generic[N]):
    """Nodes and the network between them."""

    def __init__(self, directory: Path, network: Network, nodes: Iterable[N]) -> None:
        self.directory = directory
        self.network = network
        self.nodes = {node.name: node for node in nodes}
        self.links = "plain"
        self.primary = self.names[0]
        """The last primary that all nodes followed."""

    def __iter__(self) -> Iterator[N]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> N:
        return self.nodes[name]

    @property
    def names(self) -> list[str]:
        return list(self.nodes)

    @property
    def replicas(self) -> list[str]:
        return [name for name in self.nodes if name != self.primary]

    def heal(self) -> None:
        """End all faults."""
        self.network.heal()
        for node in self:
            node.heal()

    def kill(self) -> None:
        for node in self:
            node.kill()

    def relink(self, kind: str) -> None:
        """Restart all nodes with links of another kind. Members with links of different kinds do
        not understand each other."""
        self.kill()
        self.links = kind
        for name, given in self.secured(kind).items():
            self[name].relink(given)

    def secured(self, kind: str) -> Mapping[str, list[str]]:
        """The options for the authentication of each node."""
        return secured(kind, self.names, self.directory)

    def await_starts(self) -> None:
        """Wait until all nodes answer, for at most STARTED_WITHIN seconds."""
        deadline = time.monotonic() + STARTED_WITHIN
        waiting = list(self)
        while waiting and time.monotonic() < deadline:
            for node in waiting:
                node.wake()
            time.sleep(POLL)
            waiting = [node for node in waiting if node.status() is None]

    def settle(self, deadline: float) -> Agreement:
        """Wait for links and agreement, until `deadline` at the latest."""
        linked = agreed = primary = None
        while True:
            for node in self:
                node.wake()
            told = [node.status() for node in self]
            now = time.monotonic()
            linked = (linked or now) if _all_linked(told) else None
            found = _primary_of_all(told)
            if found is None or found != primary:
                agreed, primary = None, found
            if found is not None and agreed is None:
                agreed = now
            steady = linked and agreed and now >= max(linked, agreed) + STEADY
            if steady or now > deadline:
                self.primary = primary or self.primary
                return Agreement(linked, agreed)
            time.sleep(POLL)

    def footprint(self) -> Footprint:
        """The greatest footprint of the nodes."""
        return greatest(node.footprint() for node in self)

    def statuses(self) -> dict[str, Any]:
        return {node.name: node.status() for node in self}


class Cluster(Group[Node]):
    """`size` nodes. The last one is a host program whose reactor's timers do not use the monotonic
    clock. It is a minority, because without timers it only answers."""

    def __init__(self, size: int, directory: Path, stall: float, rng: random.Random) -> None:
        names = [f"n{i}" for i in range(1, size + 1)]
        self.journal = directory / "journal"
        network = Network(names, rng)
        hosts = {f"{name}.chaos": network.addresses[name] for name in names}
        nodes = [
            Node(
                MemberSettings(
                    node=name,
                    peers=[f"{each}@{each}.chaos:{PORT}" for each in names],
                    addresses=hosts,
                    listen=f"tcp:{PORT}:interface={network.addresses[name]}",
                    data=WORLD / "chaos" / name / "data",
                    orders=WORLD / "chaos" / name / "orders",
                    status=WORLD / "chaos" / name / "status",
                    journal=self.journal,
                    refusals=directory / f"{name}.refusals",
                    monotonic=size < 3 or name != names[-1],
                    links=[],
                    stall=stall,
                ),
                directory / f"{name}.log",
            )
            for name in names
        ]
        super().__init__(directory, network, nodes)

    def keep_ballots(self) -> None:
        """Copy the nodes' ballots to their logs."""
        for node in self:
            to = self.directory / f"{node.name}.data"
            shutil.copytree(node.settings.data, to, dirs_exist_ok=True)


def _all_linked(told: list[dict[str, Any] | None]) -> bool:
    return all(
        each is not None and all(peer["link"] == "connected" for peer in each["peers"])
        for each in told
    )


def _primary_of_all(told: list[dict[str, Any] | None]) -> str | None:
    """The primary that may write and that all nodes follow.

    Their epochs may differ: a node after a failed candidacy is in a higher epoch and still follows
    (R7).
    """
    answers = [each for each in told if each is not None]
    followed = {each["current_primary"] for each in answers}
    writers = [each["node_id"] for each in answers if each["can_write"]]
    if len(answers) < len(told) or len(writers) != 1 or followed != set(writers):
        return None
    return str(writers[0])
