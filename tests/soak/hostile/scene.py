"""The target of an attack, and the properties of an attack."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection

import attrs

from tests.soak.hostile.cluster import Cluster, Node


@attrs.frozen
class Scene:
    """The target of an attack."""

    cluster: Cluster
    primary: str
    epoch: int
    quick: bool
    rng: random.Random
    wrong: list[str] = attrs.field(factory=list)
    """The failures that the attack has seen."""

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
        """The end of an attack of so many seconds; a quick one takes one second."""
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
    """The kinds of links that cannot prevent harm, for example by a stranger that speaks as a
    member. Then only two writers at once are a failure."""
    unfelt: bool = False
    """Whether the node must not be delayed for longer than `measure.TURN`, nor grow by more than
    `measure.GROWTH`."""
    elections: int = 0
    """The number of elections that are no failure, because the attack ends a primary."""
    command: str = ""
    """The command of the primary, for a case that needs one."""
