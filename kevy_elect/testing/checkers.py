"""The conditions that must hold after every event of a simulated cluster, under any faults.

A checker looks only at what nodes send, save and answer, and never at the state of the cluster or
of an elector.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Mapping
from typing import Protocol

from kevy_elect.config import ElectConfig, quorum
from kevy_elect.messages import Accept, Announce, Message, Offer, Role
from kevy_elect.peers import is_better
from kevy_elect.testing.node import SimulatedNode


class Watched(Protocol):
    """The parts of a cluster that a checker may see, at one instant."""

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""

    @property
    def config(self) -> ElectConfig:
        """The timings."""

    @property
    def nodes(self) -> Mapping[str, SimulatedNode]:
        """All nodes, by id."""

    @property
    def promises_one_writer(self) -> bool:
        """Whether two nodes of ours must never write at once."""

    def writers(self) -> list[str]:
        """The nodes that would take a write now."""

    def note(self, who: str, text: str) -> None:
        """Add a line to the trace."""


class Whose(enum.StrEnum):
    """The implementation of the nodes that took part: ours, the existing one (theirs), or both."""

    OURS = "ours"
    THEIRS = "theirs"
    BOTH = "both"


def whose(nodes: Iterable[SimulatedNode]) -> Whose:
    """The implementation of these nodes."""
    kinds = {node.legacy for node in nodes}
    if len(kinds) > 1:
        return Whose.BOTH
    return Whose.THEIRS if True in kinds else Whose.OURS


class Violation(AssertionError):  # noqa: N818
    """A promise that nodes broke `at` so many virtual seconds; `by` is their implementation."""

    def __init__(self, at: float, promise: str, text: str, by: Whose = Whose.OURS) -> None:
        super().__init__(f"{promise} at {at:.4f} s: {text}")
        self.at = at
        self.promise = promise
        self.by = by


class Checker:
    """Watches one cluster. A subclass overrides the calls that it needs."""

    promise = ""
    cluster: Watched

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def sent(self, node: SimulatedNode, to: str, message: Message) -> None:
        """Called before a node sends anything but a heartbeat."""

    def saved(self, node: SimulatedNode, epoch: int, voted_for: str | None) -> None:
        """Called when a ballot has reached the disk."""

    def ran(self, node: SimulatedNode) -> None:
        """Called when a node has handled a message or a tick."""

    def disturbed(self) -> None:
        """Called when a link or a process has failed or come back."""

    def resigned(self, node: SimulatedNode) -> None:
        """Called when `node` gave up its role on command."""

    def violated(self, text: str, *nodes: SimulatedNode) -> None:
        """Record that `nodes` broke the promise."""
        self.violations.append(Violation(self.cluster.now, self.promise, text, whose(nodes)))
        self.cluster.note("!", f"{self.promise}: {text}")


class OnePrimaryPerEpoch(Checker):
    """Checks that no two nodes become primary in one epoch, which is the fencing token."""

    promise = "one primary per epoch"

    def __init__(self) -> None:
        super().__init__()
        self.elected: dict[int, str] = {}
        """The node that was elected in each epoch."""

    def sent(self, node: SimulatedNode, to: str, message: Message) -> None:
        if type(message) is Announce:
            elected = self.elected.setdefault(message.epoch, node.node_id)
            if elected != node.node_id:
                text = f"{elected} and {node.node_id} were elected in epoch {message.epoch}"
                self.violated(text, self.cluster.nodes[elected], node)


class EpochsRise(Checker):
    """Checks that a node's epoch never falls while it runs, and that on its disk never at all."""

    promise = "epochs never fall"

    def __init__(self) -> None:
        super().__init__()
        self._saved: dict[str, int] = {}
        self._running: dict[str, tuple[int, int]] = {}

    def saved(self, node: SimulatedNode, epoch: int, voted_for: str | None) -> None:
        before = self._saved.get(node.node_id, 0)
        self._saved[node.node_id] = epoch
        if epoch < before:
            self.violated(f"{node.node_id} saved epoch {epoch} after {before}", node)

    def ran(self, node: SimulatedNode) -> None:
        life = node.life, node.machine.epoch
        before = self._running.get(node.node_id, (0, 0))
        self._running[node.node_id] = life
        if life < before:
            self.violated(f"{node.node_id} went from epoch {before[1]} to {life[1]}", node)


class OneVotePerEpoch(Checker):
    """Checks that a node backs one candidate in an epoch, including itself, and only after saving.

    A candidate may withdraw in favour of a better one (R3.2).
    """

    promise = "one vote per epoch"

    def __init__(self) -> None:
        super().__init__()
        self._votes: dict[tuple[str, int], str] = {}
        self._offered: dict[tuple[str, int], int] = {}  # the highest offset of its OFFERs

    def sent(self, node: SimulatedNode, to: str, message: Message) -> None:
        if type(message) is Offer:
            key = node.node_id, message.epoch
            self._offered[key] = max(message.repl_offset, self._offered.get(key, 0))
            self._backs(node, node.node_id, message.epoch)
        elif type(message) is Accept:
            self._backs(node, to, message.epoch)

    def _backs(self, node: SimulatedNode, candidate: str, epoch: int) -> None:
        if node.disk.load() != (epoch, candidate):
            self.violated(
                f"{node.node_id} backs {candidate} in epoch {epoch}, its disk says "
                f"{node.disk.load()}",
                node,
            )
        voter = node.node_id
        before = self._votes.setdefault((voter, epoch), candidate)
        if before == candidate:
            return
        self._votes[voter, epoch] = candidate
        offered = self._offered.get((candidate, epoch), 0)
        withdraws = is_better((candidate, offered), (voter, node.machine.repl_offset))
        if before != voter or not withdraws:
            self.violated(f"{voter} backs {before} and {candidate} in epoch {epoch}", node)


class OneWriter(Checker):
    """Checks that no two nodes of ours can write at the same instant, each by its own clock.

    A node becomes writable only in an event of its own. So it is enough to check the others
    whenever the node that ran can write. A paused process counts like any other, because it could
    wake up during a write.

    Where this is not promised, the checker only measures it. It does so too if one or both nodes
    are of the existing implementation, whose primaries write without a lease.
    """

    promise = "one writer"

    def __init__(self) -> None:
        super().__init__()
        self.longest = dict.fromkeys(Whose, 0.0)
        """The longest time for which two nodes could write, in virtual seconds, by
        implementation."""
        self._since: dict[Whose, float] = {}

    def ran(self, node: SimulatedNode) -> None:
        writes = node.machine.role is Role.PRIMARY and node.can_write()
        if writes or self._since:
            self._look(self.cluster.writers())

    def _look(self, writers: list[str]) -> None:
        now, since, nodes = self.cluster.now, self._since, self.cluster.nodes
        pairs = {whose((nodes[a], nodes[b])) for a, b in itertools.combinations(writers, 2)}
        for kind in [*since]:
            self.longest[kind] = max(self.longest[kind], now - since[kind])
            if kind not in pairs:
                del since[kind]
        for kind in pairs - since.keys():
            since[kind] = now
            if kind is Whose.OURS and self.cluster.promises_one_writer:
                ours = [nodes[writer] for writer in writers if not nodes[writer].legacy]
                self.violated(f"{' and '.join(n.node_id for n in ours)} can write", *ours)


class HealthyPrimaryStays(Checker):
    """Checks that a primary with a quorum of healthy links keeps its role and its lease. It may
    renew in a later epoch, without a gap (R8).

    The promise begins when a writable primary and enough followers have run and been connected in
    both directions for three heartbeats, and the followers backed it in its epoch all the time.
    Then they hear it, no other node can have been elected in a later epoch, and none of them may
    vote for another. The promise ends when failures of nodes or links leave the primary without
    such a quorum, whatever the other nodes do.
    """

    promise = "a healthy primary stays"
    HEARTBEATS = 3

    def __init__(self) -> None:
        super().__init__()
        self._leader: SimulatedNode | None = None
        self._epoch = 0
        self._followers: list[SimulatedNode] = []
        self._firm_at = 0.0
        self.watched = 0.0
        """The time for which the promise was in force, in virtual seconds."""

    def disturbed(self) -> None:
        leader = self._leader
        if leader is not None and not self._still_connected(leader):
            self._release()

    def resigned(self, node: SimulatedNode) -> None:
        if node is self._leader:
            self._release()

    def ran(self, node: SimulatedNode) -> None:
        if self._leader is None:
            if not node.legacy and node.machine.role is Role.PRIMARY and node.can_write():
                self._consider(node)
        elif node is self._leader:
            self._verify(node)

    def _consider(self, node: SimulatedNode) -> None:
        followers = [
            peer
            for peer in self.cluster.nodes.values()
            if peer is not node and _connected(node, peer) and peer.backs(node)
        ]
        if len(followers) + 1 >= quorum(len(self.cluster.nodes)):
            self._leader, self._epoch, self._followers = node, node.machine.epoch, followers
            self._firm_at = self.cluster.now + self.HEARTBEATS * self.cluster.config.hb_interval

    def _verify(self, leader: SimulatedNode) -> None:
        machine, firm = leader.machine, self.cluster.now >= self._firm_at
        stays = machine.role is Role.PRIMARY and leader.can_write()
        if stays and (firm or all(peer.backs(leader) for peer in self._followers)):
            self._epoch = machine.epoch
            return
        if firm:
            followers = ", ".join(node.node_id for node in self._followers)
            self.violated(
                f"{leader.node_id}, primary of epoch {self._epoch}, was deposed "
                f"despite healthy links to {followers}",
                leader,
            )
        self._release()

    def _still_connected(self, leader: SimulatedNode) -> bool:
        self._followers = [peer for peer in self._followers if _connected(leader, peer)]
        runs = leader.running and not leader.paused
        return runs and len(self._followers) + 1 >= quorum(len(self.cluster.nodes))

    def _release(self) -> None:
        self.watched += max(0.0, self.cluster.now - self._firm_at)
        self._leader = None


def _connected(one: SimulatedNode, other: SimulatedNode) -> bool:
    """Whether both run, and have a connection to each other that no fault blocks."""
    there, back = one.links[other.node_id], other.links[one.node_id]
    return (
        one.running
        and other.running
        and not (one.paused or other.paused)
        and there.is_up()
        and there.is_connected()
        and back.is_connected()
    )


def default_checkers() -> list[Checker]:
    """A new checker of every kind."""
    return [
        OnePrimaryPerEpoch(),
        EpochsRise(),
        OneVotePerEpoch(),
        OneWriter(),
        HealthyPrimaryStays(),
    ]
