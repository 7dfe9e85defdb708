"""Clusters, mostly of three nodes, that elect a primary: ours, and others for comparison."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import Final

from bench.clusters.contender import THREE, Contender, Timings
from bench.clusters.etcd import Etcd
from bench.clusters.kevy import KevyElect, KevyElectLastWill, KevyElectNoise, KevyElectTls
from bench.clusters.sentinel import Sentinel
from bench.clusters.syncobj import PySyncObj

CLUSTERS: Final[dict[str, type[Contender]]] = {
    contender.name: contender
    for contender in (
        KevyElect,
        KevyElectLastWill,
        KevyElectNoise,
        KevyElectTls,
        PySyncObj,
        Sentinel,
        Etcd,
    )
}


def start(
    names: Iterable[str],
    timings: Timings,
    ends: ExitStack,
    *,
    writing: bool = False,
    nodes: int = THREE,
) -> list[Contender]:
    """Start those clusters that are installed and can have so many nodes; `ends` ends them."""
    able = [CLUSTERS[name] for name in names if not obstacle(name, nodes)]
    return [ends.enter_context(closing(one(timings, writing=writing, size=nodes))) for one in able]


def obstacle(name: str, nodes: int = THREE) -> str:
    """The reason why this cluster cannot be measured with so many nodes; empty if it can."""
    one = CLUSTERS[name]
    if nodes != THREE and not one.any_size:
        return "it has three nodes here"
    return one.missing()


__all__ = ["CLUSTERS", "THREE", "Contender", "Timings", "obstacle", "start"]
