"""Every kind of fault. `Cluster.heal` ends all of them."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Final

import attrs

from tests.soak.chaos import orders
from tests.soak.chaos.cluster import Cluster
from tests.soak.chaos.network import CUT, Condition, ways

Harm = Callable[[Cluster, random.Random], None]


@attrs.frozen
class Fault:
    """A fault that lasts for some seconds before it is healed."""

    kind: str
    harm: Harm
    shortest: float
    longest: float
    resolving: bool = False
    """Whether names may still stall after it is healed."""


FAULTS: Final[dict[str, Fault]] = {}


def _fault(
    kind: str, shortest: float, longest: float, *, resolving: bool = False
) -> Callable[[Harm], Harm]:
    def register(harm: Harm) -> Harm:
        FAULTS[kind] = Fault(kind, harm, shortest, longest, resolving)
        return harm

    return register


def _some(names: list[str], rng: random.Random) -> list[str]:
    """At least one of the names."""
    return rng.sample(names, rng.randint(1, len(names)))


def _sides(cluster: Cluster, rng: random.Random) -> tuple[list[str], list[str]]:
    one = rng.sample(cluster.names, rng.randint(1, len(cluster.names) - 1))
    return one, [name for name in cluster.names if name not in one]


def _isolate(cluster: Cluster, name: str) -> None:
    cluster.network.impose(CUT, ways([name], cluster.names) + ways(cluster.names, [name]))


# The network


@_fault("partition", 0.2, 4.0)
def partition(cluster: Cluster, rng: random.Random) -> None:
    one, other = _sides(cluster, rng)
    cluster.network.impose(CUT, ways(one, other) + ways(other, one))


@_fault("one-way cut", 0.2, 4.0)
def one_way_cut(cluster: Cluster, rng: random.Random) -> None:
    cluster.network.impose(CUT, ways(*_sides(cluster, rng)))


@_fault("one-way cut of the primary", 0.2, 4.0)
def one_way_cut_of_the_primary(cluster: Cluster, rng: random.Random) -> None:
    """It hears all others and no other hears it, or the other way round."""
    one, other = [cluster.primary], cluster.replicas
    cluster.network.impose(CUT, ways(*rng.choice([(one, other), (other, one)])))


@_fault("all links cut", 0.2, 3.0)
def all_links_cut(cluster: Cluster, rng: random.Random) -> None:
    cluster.network.impose(CUT, ways(cluster.names, cluster.names))


@_fault("30 % loss", 1.0, 5.0)
def loss(cluster: Cluster, rng: random.Random) -> None:
    cluster.network.impose(Condition(loss=0.3), ways(cluster.names, cluster.names))


@_fault("200 ms delay", 1.0, 5.0)
def delay(cluster: Cluster, rng: random.Random) -> None:
    slow = _some(cluster.names, rng)
    late = Condition(delay=0.2)
    cluster.network.impose(late, ways(slow, cluster.names) + ways(cluster.names, slow))


@_fault("long cut", 60.0, 75.0)
def long_cut(cluster: Cluster, rng: random.Random) -> None:
    """A cut that is long enough for TCP to retry only every minute; half of the time of all
    links."""
    if rng.random() < 0.5:
        _isolate(cluster, rng.choice(cluster.names))
    else:
        all_links_cut(cluster, rng)


# Processes


@_fault("primary stopped", 0.05, 3.0)
def primary_stopped(cluster: Cluster, rng: random.Random) -> None:
    cluster[cluster.primary].signal(signal.SIGSTOP)


@_fault("primary stopped before its write", 0.05, 3.0)
def primary_stopped_before_its_write(cluster: Cluster, rng: random.Random) -> None:
    """It stops directly after the answer that it may write."""
    cluster[cluster.primary].orders.give(orders.STOP_BEFORE_WRITE)


@_fault("replicas stopped", 0.05, 3.0)
def replicas_stopped(cluster: Cluster, rng: random.Random) -> None:
    for name in _some(cluster.replicas, rng):
        cluster[name].signal(signal.SIGSTOP)


@_fault("primary killed", 0.0, 3.0)
def primary_killed(cluster: Cluster, rng: random.Random) -> None:
    cluster[cluster.primary].kill()


@_fault("replicas killed", 0.0, 3.0)
def replicas_killed(cluster: Cluster, rng: random.Random) -> None:
    for name in _some(cluster.replicas, rng):
        cluster[name].kill()


@_fault("all killed", 0.0, 2.0)
def all_killed(cluster: Cluster, rng: random.Random) -> None:
    cluster.kill()


@_fault("killed before its save", 0.6, 3.0)
def killed_before_its_save(cluster: Cluster, rng: random.Random) -> None:
    _die_in_an_election(cluster, rng, orders.DIE_BEFORE_SAVE)


@_fault("killed between save and send", 0.6, 3.0)
def killed_between_save_and_send(cluster: Cluster, rng: random.Random) -> None:
    _die_in_an_election(cluster, rng, orders.DIE_AFTER_SAVE)


def _die_in_an_election(cluster: Cluster, rng: random.Random, order: str) -> None:
    """A candidate, a voter or both die; the old primary may live on, alone."""
    for name in _some(cluster.replicas, rng):
        cluster[name].orders.give(order)
    _depose(cluster, rng)


def _depose(cluster: Cluster, rng: random.Random) -> None:
    """Let the others elect another primary."""
    way = rng.choice(["isolate", "stop", "kill"])
    if way == "isolate":
        _isolate(cluster, cluster.primary)
    elif way == "stop":
        cluster[cluster.primary].signal(signal.SIGSTOP)
    else:
        cluster[cluster.primary].kill()


# Machines


@_fault("clock stepped by an hour", 0.3, 3.0)
def clock_stepped(cluster: Cluster, rng: random.Random) -> None:
    for name in _some(cluster.names, rng):
        hours = rng.choice([1, -1])
        if not cluster[name].clock_steps:  # two signals of one kind may arrive as one
            cluster[name].step_clock(hours)


@_fault("clock stepped in an election", 0.6, 3.0)
def clock_stepped_in_an_election(cluster: Cluster, rng: random.Random) -> None:
    clock_stepped(cluster, rng)
    _depose(cluster, rng)


@_fault("disk full", 0.6, 3.0)
def disk_full(cluster: Cluster, rng: random.Random) -> None:
    for name in _some(cluster.names, rng):
        cluster[name].fill_disk()
    _depose(cluster, rng)


@_fault("disk read-only", 0.6, 3.0)
def disk_read_only(cluster: Cluster, rng: random.Random) -> None:
    for name in _some(cluster.names, rng):
        cluster[name].protect_disk()
    _depose(cluster, rng)


@_fault("names stall", 0.6, 3.0, resolving=True)
def names_stall(cluster: Cluster, rng: random.Random) -> None:
    """Name resolution stalls while links must be dialled again."""
    for name in _some(cluster.names, rng):
        cluster[name].orders.give(orders.STALL_NAMES)
    harm = rng.choice([primary_killed, replicas_killed, partition])
    harm(cluster, rng)
