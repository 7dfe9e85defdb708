"""Every kind of fault. `Cluster.heal` ends all of them. Two of three faults hit the primary."""

from __future__ import annotations

import random
import signal
from typing import Final

from tests.soak.chaos.network import CUT, ways
from tests.soak.counter.faults import Fault, Harm
from tests.soak.redis.cluster import NAMES, Cluster, Member

FAULTS: Final[dict[str, Fault]] = {}
FORGETS: Final = frozenset({"server killed", "host killed"})
"""Faults after which a server has lost its data: only one at a time, because a majority must
not."""
FORGETS_WITH_NODE: Final = FORGETS | {"node killed", "node restarted"}
"""The same if a node runs its server."""


def _fault(kind: str, shortest: float, longest: float, *, whole: bool = False):  # type: ignore[no-untyped-def]
    def register(harm: Harm) -> Harm:
        FAULTS[kind] = Fault(kind, harm, shortest, longest, whole, None)
        return harm

    return register


@_fault("node killed", 0.0, 2.0, whole=True)
def node_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """Its server continues alone."""
    member.kill_node()


@_fault("node stopped", 0.05, 3.0, whole=True)
def node_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """Its server continues alone."""
    member.signal(signal.SIGSTOP)


@_fault("node restarted", 0.0, 1.0, whole=True)
def node_restarted(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """It gets SIGTERM and starts again."""
    member.end()


@_fault("server killed", 0.0, 2.0, whole=True)
def server_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """It comes back empty."""
    member.server.kill()
    if rng.random() < 0.5:
        member.server.start()  # before its node has noticed


@_fault("server stopped", 0.05, 3.0, whole=True)
def server_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.server.signal(signal.SIGSTOP)


@_fault("host killed", 0.0, 2.0, whole=True)
def host_killed(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.kill()


@_fault("host stopped", 0.05, 3.0, whole=True)
def host_stopped(cluster: Cluster, member: Member, rng: random.Random) -> None:
    member.server.signal(signal.SIGSTOP)
    member.signal(signal.SIGSTOP)


@_fault("switchover", 0.0, 1.0)
def switchover(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """The role moves to this node, or from this node to its own choice."""
    cluster.switch_over(None if member.name == cluster.primary else member.name)


@_fault("partition", 0.2, 3.0, whole=True)
def partition(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """One host is cut off from the others. The clients reach all hosts."""
    cluster.network.impose(CUT, ways([member.name], NAMES) + ways(NAMES, [member.name]))


@_fault("one-way cut", 0.2, 3.0, whole=True)
def one_way_cut(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """A host hears all others and no other hears it, or the other way round."""
    away, back = ways([member.name], NAMES), ways(NAMES, [member.name])
    cluster.network.impose(CUT, rng.choice([away, back]))


@_fault("one link cut", 0.2, 3.0)
def one_link_cut(cluster: Cluster, member: Member, rng: random.Random) -> None:
    """The link between two hosts is cut, in both directions."""
    other = rng.choice([name for name in NAMES if name != member.name])
    cluster.network.impose(CUT, ways([member.name], [other]) + ways([other], [member.name]))
