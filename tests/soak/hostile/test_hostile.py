"""Small versions of some of the attacks, on real processes. Only for pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.soak.hostile.cases import CASES
from tests.soak.hostile.cluster import Cluster
from tests.soak.hostile.measure import measure

CHOSEN: Final = (
    "frames",
    "half",
    "nothing",
    "as-primary-crowd",
    "usurper",
    "deaf",
    "pipelined-read",
    "pipelined-unread",
    "slow-readers",
    "descriptors-primary",
    "leap-alone",
)
SECURE: Final = {
    "noise": ("forged", "replayed", "as-primary-crowd", "usurper"),
    "tls": ("forged",),
}
"""Cases with another result on secure links, because the members know the sender."""
SEED: Final = 1
PATIENT: Final = 2.0
"""Seconds of a lease that a busy machine does not lose by itself."""
MEMORY: Final = 16 * 1024
"""Kilobytes; a node starts with more than twice as much."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all attacks, because each must leave it as before."""
    with Cluster(tmp_path_factory.mktemp("hostile"), down_after=PATIENT) as cluster:
        yield cluster


@pytest.fixture(scope="module", params=SECURE)
def secure(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp(request.param)
    with Cluster(directory, request.param, down_after=PATIENT) as cluster:
        yield cluster


@pytest.mark.parametrize("name", CHOSEN)
def test_nodes_withstand_the_attack(name: str, cluster: Cluster) -> None:
    bear(name, cluster)


def test_nodes_with_secure_links_withstand_the_attacks(secure: Cluster) -> None:
    for name in SECURE[secure.links]:
        bear(name, secure)


def bear(name: str, cluster: Cluster) -> None:
    result = measure(CASES[name], cluster, quick=True, seed=SEED)
    print(result)
    for node in cluster:
        print(f"== {node.log.name}\n{node.log.read_text()[-4000:]}")
    assert result.failures == []
    assert result.memory < MEMORY
