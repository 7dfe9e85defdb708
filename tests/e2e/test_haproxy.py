"""Three copies of a web service behind a real HAProxy: examples/haproxy.cfg, real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from bench.balanced import HAPROXY, Balanced, Served, Traffic, violations
from bench.clusters.contender import Timings
from bench.process import wait_for
from kevy_elect.cli.demo.ports import HOST

QUICK = Timings("50 ms / 500 ms", heartbeat=0.05, down_after=0.5)
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


@pytest.fixture
def balanced(request: Any) -> Iterator[Balanced]:
    """Its logs are printed, for pytest to show if the test failed."""
    with Balanced(QUICK, trusting=getattr(request, "param", False)) as running:
        yield running
        for log in sorted(running.directory.glob("*/log")):
            print(f"== {log.parent.name}\n{log.read_text()}")


def reader(port: int) -> str | None:
    """The role of whoever answers a read there."""
    try:
        with urlopen(f"http://{HOST}:{port}/", timeout=1) as answer:
            return str(json.load(answer)["role"])
    except OSError:
        return None


@needs_haproxy
def test_only_the_primary_answers_whatever_happens_to_it(balanced: Balanced) -> None:
    """Told by the health checks, and by the agents."""
    first = balanced.settle()
    with Traffic(balanced.writes) as checked, Traffic(balanced.writes_by_agent) as by_agent:
        assert checked.server() == by_agent.server() == first
        assert {wait_for(lambda: reader(balanced.reads), "a read") for _ in range(9)} == {"replica"}

        balanced.copies[first].kill()
        second = checked.server(other_than=first)
        assert by_agent.server(other_than=first) == second
        balanced.revive(first)
        balanced.settle()

        balanced.copies[second].stop()
        third = checked.server(other_than=second)
        assert by_agent.server(other_than=second) == third
        balanced.copies[second].resume()
        balanced.settle()

        balanced.switch_over(third)
        fourth = checked.server(other_than=third)
        assert by_agent.server(other_than=third) == fourth
    served = balanced.served()
    assert violations(served) == []
    assert len({each.epoch for each in served}) >= 4
    servers = {each.request: each.node for each in served}
    for reply in checked.replies + by_agent.replies:
        if reply.status == 200:
            assert servers[reply.request] == reply.node
        elif reply.status == 503:
            assert reply.request not in servers, "refused, and done all the same"


@needs_haproxy
@pytest.mark.parametrize("balanced", [True], indirect=True)
def test_copies_that_trust_the_balancer_answer_as_no_primary_any_more(balanced: Balanced) -> None:
    """So they must ask for themselves: what waited for a stopped one is answered too late."""
    first = balanced.settle()
    with Traffic(balanced.writes) as traffic:
        assert traffic.server() == first
        balanced.copies[first].stop()
        traffic.server(other_than=first)
        balanced.copies[first].resume()
        wait_for(lambda: violations(balanced.served()), "an answer that comes too late")


def test_an_answer_of_an_older_epoch_after_one_of_a_newer_is_a_violation() -> None:
    old = Served("a", 2, request=0, asked=10, answered=11)
    new = Served("b", 3, request=1, asked=20, answered=22)
    meanwhile = Served("a", 2, request=2, asked=21, answered=30)
    late = Served("a", 2, request=3, asked=23, answered=24)
    assert violations([new, old, meanwhile]) == []
    assert len(violations([late, new, old])) == 1


def test_two_who_answer_in_one_epoch_are_a_violation() -> None:
    one = Served("a", 2, request=0, asked=10, answered=11)
    other = Served("b", 2, request=1, asked=12, answered=13)
    assert len(violations([one, other])) == 1
