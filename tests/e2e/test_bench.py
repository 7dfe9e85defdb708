"""The measurements of failovers do what they say."""

from __future__ import annotations

import sys
from contextlib import closing

import pytest

from bench.clusters.contender import Timings
from bench.clusters.kevy import KevyElectLastWill
from bench.failover import fail_over

DOWN_AFTER = 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="the wrapper needs Linux")
def test_a_node_below_its_wrapper_is_killed_and_replaced_without_waiting_for_silence() -> None:
    with closing(KevyElectLastWill(Timings("2 s", 0.1, DOWN_AFTER))) as cluster:
        taken = fail_over(cluster)
        assert taken.writable < 900 * DOWN_AFTER  # milliseconds, and less than silence takes
        assert taken.agreed < 900 * DOWN_AFTER
        assert all(child.running for child in cluster.children.values())
