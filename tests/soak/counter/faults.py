"""Every kind of fault. `Cluster.heal` ends all of them.

Two of three faults hit the primary, and the others any node. A fault that needs a running command
hits the primary.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import attrs

from tests.soak.chaos.network import CUT, ways
from tests.soak.chaos.orders import STOP_BEFORE_WRITE
from tests.soak.counter.cluster import Cluster, Kind, Member, kill

Harm = Callable[[Cluster, Member, random.Random], None]
AT_THE_PRIMARY: Final = 2 / 3
TWO_AT_ONCE: Final = 0.25


@attrs.frozen
class Fault:
    """A fault of one node that lasts for some seconds before it is healed."""

    kind: str
    harm: Harm
    shortest: float
    longest: float
    whole: bool
    """Whether the node itself is lost meanwhile, and not only the processes below it."""
    only: Kind | None
    """The kind of node that it is for, if not for both. It hits the primary then."""


FAULTS: Final[dict[str, Fault]] = {}


def _fault(
    kind: str, shortest: float, longest: float, *, whole: bool = False, only: Kind | None = None
) -> Callable[[Harm], Harm]:
    def register(harm: Harm) -> Harm:
        FAULTS[kind] = Fault(kind, harm, shortest, longest, whole, only)
        return harm

    return register


# The node


@_fault("node killed", 0.0, 2.0, whole=True)
def node_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.kill()


@_fault("node stopped", 0.05, 3.0, whole=True)
def node_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.signal(signal.SIGSTOP)


@_fault("node stopped before its write", 0.05, 3.0, whole=True, only=Kind.TAC)
def node_stopped_before_its_write(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """It stops directly after the answer that it may write."""
    member.orders.give(STOP_BEFORE_WRITE)


@_fault("node restarted", 0.0, 1.0, whole=True)
def node_restarted(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """It gets SIGTERM and starts again."""
    member.end()


@_fault("switchover", 0.0, 1.0)
def switchover(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """The role moves to this node, or from this node to its own choice."""
    cluster.switch_over(None if member.name == cluster.primary else member.name)


# The network


@_fault("partition", 0.2, 3.0, whole=True)
def partition(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """One node is cut off from the others."""
    cluster.network.impose(
        CUT, ways([member.name], cluster.names) + ways(cluster.names, [member.name])
    )


@_fault("one-way cut", 0.2, 3.0, whole=True)
def one_way_cut(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """It hears all others and no other hears it, or the other way round."""
    away, back = ways([member.name], cluster.names), ways(cluster.names, [member.name])
    cluster.network.impose(CUT, rng.choice([away, back]))


# The processes below the node


@_fault("child killed", 0.0, 1.0, only=Kind.COMMAND)
def child_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    kill(member.workers[:1])


@_fault("child stopped", 0.05, 3.0, only=Kind.COMMAND)
def child_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """The child and all that it has started stop."""
    member.stop(member.workers)


@_fault("child and node stopped", 0.05, 3.0, whole=True, only=Kind.COMMAND)
def child_and_node_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.stop(member.workers)
    member.signal(signal.SIGSTOP)


@_fault("supervisor stopped", 0.05, 3.0, only=Kind.COMMAND)
def supervisor_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.stop(_one_of(member.supervisors, rng))


@_fault("supervisor stopped, node cut off", 1.0, 3.0, whole=True, only=Kind.COMMAND)
def supervisor_stopped_and_node_cut_off(
    cluster: Cluster, member: Member, rng: random.Random
) -> None:
    """The lease ends while the supervisor is stopped."""
    supervisor_stopped(cluster, member, rng)
    partition(cluster, member, rng)


@_fault("supervisor killed", 0.0, 1.0, only=Kind.COMMAND)
def supervisor_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    kill(_one_of(member.supervisors, rng))


def _one_of(pids: list[int], rng: random.Random) -> list[int]:
    """One of these processes, or none if there is none."""
    place = rng.random()
    return pids and [pids[int(place * len(pids))]]


# The schedule


@attrs.frozen
class Harmed:
    """A fault, its target (the primary, or another node), and its start in seconds."""

    fault: Fault
    primary: bool
    place: int
    after: float

    def member(self, cluster: Cluster) -> Member:
        at_primary = self.primary or self.fault.only is not None
        return cluster[cluster.primary if at_primary else cluster.names[self.place]]


@attrs.frozen
class Trouble:
    """One fault, or two of which the second begins during the first, then a time without faults."""

    harms: tuple[Harmed, ...]
    duration: float
    calm: float

    @property
    def kind(self) -> str:
        return self.harms[0].fault.kind if len(self.harms) == 1 else "two at once"


def possible(kind: Kind) -> list[Fault]:
    """The faults for nodes of a `kind`."""
    like = Kind.TAC if kind is Kind.UNCHECKED else kind
    return [fault for fault in FAULTS.values() if fault.only in (None, like)]


def schedule(rng: random.Random, number: int, kinds: Sequence[Fault]) -> Iterator[Trouble]:
    """`number` faults: each of the `kinds` once, in random order, then at random."""
    todo = rng.sample(kinds, len(kinds))[:number]
    for fault in todo:
        yield _trouble(rng, fault)
    left = number - len(todo)
    while left > 0:
        two = left > 1 and len(kinds) > 1 and rng.random() < TWO_AT_ONCE
        faults = rng.sample(kinds, 2 if two else 1)
        left -= len(faults)
        yield _trouble(rng, *faults)


def _trouble(rng: random.Random, *faults: Fault) -> Trouble:
    harms = tuple(
        Harmed(
            fault,
            rng.random() < AT_THE_PRIMARY,
            rng.randrange(3),
            rng.uniform(0.0, 0.5) if at else 0.0,
        )
        for at, fault in enumerate(faults)
    )
    duration = max(rng.uniform(fault.shortest, fault.longest) for fault in faults)
    return Trouble(harms, duration, rng.uniform(0.1, 0.8))
