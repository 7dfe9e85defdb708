"""A client of Redis Sentinel writes on after a failover and a switchover: the campaign, small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.clients.__main__ import run
from tests.soak.clients.catalogue import CLIENTS, PROGRAMS, Places
from tests.soak.clients.cluster import CALM, IDS, Cluster
from tests.soak.clients.report import table
from tests.soak.clients.trial import Outage, Trial
from tests.support.redis_servers import REDIS_SERVER
from tests.support.waiting import DEADLINE


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes and their servers, started."""
    cluster = Cluster(tmp_path, CALM)
    try:
        for node_id in IDS:
            cluster.start(node_id)
        yield cluster
    finally:
        cluster.end()


@pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")
def test_redis_py_writes_on_after_a_failover_and_a_switchover(driven: Cluster) -> None:
    trial = run("redis-py", driven, Places(), rounds=1, patience=DEADLINE)
    assert trial.works, trial
    assert trial.version


@pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")
def test_a_client_that_is_not_installed_is_said_not_to_be(driven: Cluster) -> None:
    without = Places(python="/no/python")
    trial = run("redis-py", driven, without, rounds=1, patience=DEADLINE)
    assert "/no/python" in trial.problem
    assert not trial.works


def test_every_program_is_of_a_client() -> None:
    assert {each.name for each in PROGRAMS.iterdir() if each.is_file()} == {
        words.split()[0] for words in CLIENTS.values()
    }


def test_the_table_says_which_client_was_left_behind() -> None:
    good, bad = Outage(0.5, 0.61, 2), Outage(0.5, None, 0)
    text = table(
        [
            Trial("one", "1.0", kills=[good], switchovers=[Outage(0.1, 0.2, 0)]),
            Trial("two", "2.0", kills=[good, bad], switchovers=[Outage(0.1, 0.2, 0)]),
            Trial("three", "3.0", kills=[good], switchovers=[Outage(0.1, 0.2, 1)]),
            Trial("four", problem="no such library"),
        ]
    )
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "| yes | 0.50, 0.50 | 0.61, 0.61 | 0.10, 0.10 | 0.20, 0.20 | 2 lost" in lines["one"]
    assert "| no | 0.50, 0.50 | 0.61, 0.61, then never |" in lines["two"]
    assert "| no |" in lines["three"]
    assert "not run: four (no such library)" in text
