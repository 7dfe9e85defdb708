"""Clusters of three that elect a primary: ours, and others to compare with."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import Final

from bench.clusters.contender import Contender, Timings
from bench.clusters.etcd import Etcd
from bench.clusters.kevy import KevyElect, KevyElectLastWill
from bench.clusters.sentinel import Sentinel
from bench.clusters.syncobj import PySyncObj

CLUSTERS: Final[dict[str, type[Contender]]] = {
    contender.name: contender
    for contender in (KevyElect, KevyElectLastWill, PySyncObj, Sentinel, Etcd)
}


def start(
    names: Iterable[str], timings: Timings, ends: ExitStack, *, writing: bool = False
) -> list[Contender]:
    """Start those that are installed; `ends` will end them."""
    installed = [CLUSTERS[name] for name in names if not CLUSTERS[name].missing()]
    return [ends.enter_context(closing(one(timings, writing=writing))) for one in installed]


__all__ = ["CLUSTERS", "Contender", "Timings", "start"]
