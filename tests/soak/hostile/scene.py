"""What an attack finds, and what is known of one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection

import attrs

from tests.soak.hostile.cluster import Cluster, Node


@attrs.frozen
class Scene:
    """What an attack finds."""

    cluster: Cluster
    primary: str
    epoch: int
    quick: bool
    rng: random.Random
    wrong: list[str] = attrs.field(factory=list)
    """What the attack saw that must not be."""

    @property
    def nodes(self) -> list[Node]:
        return list(self.cluster)

    @property
    def replicas(self) -> list[Node]:
        return [node for node in self.cluster if node.name != self.primary]

    @property
    def leader(self) -> Node:
        return self.cluster[self.primary]

    def scaled(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def until(self, seconds: float) -> float:
        """When an attack of so many seconds is over; a quick one takes one."""
        return time.monotonic() + (1.0 if self.quick else seconds)

    def others(self, node: Node) -> list[Node]:
        return [each for each in self.cluster if each is not node]


Attack = Callable[[Scene], str]


@attrs.frozen(kw_only=True)
class Case:
    name: str = attrs.field(kw_only=False)
    title: str = attrs.field(kw_only=False)
    attack: Attack = attrs.field(kw_only=False)
    unpreventable: Collection[str] = ()
    """The kinds of links that cannot keep it from doing harm, as where somebody is believed to be
    a member, so that only two writers at once would be a failure."""
    unfelt: bool = False
    """Whether the node must neither stop for longer than `measure.TURN` nor grow by more than
    `measure.GROWTH`."""
    elections: int = 0
    """How many are right, since the attack ends a primary."""
    command: str = ""
    """What the primary runs, for those that want such a cluster."""
