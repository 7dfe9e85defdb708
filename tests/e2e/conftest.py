from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

from pytest_twisted import async_yield_fixture

from tests.support.processes import Cluster

# Who runs the tests in the background has them ignore Ctrl-C, which all that they start inherits.
signal.signal(signal.SIGINT, signal.default_int_handler)


@async_yield_fixture()
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three nodes, not started; what still runs at the end is ended. Its logs are printed,
    for pytest to show if the test failed."""
    nodes = Cluster(tmp_path)
    yield nodes
    for node in nodes.nodes.values():
        if node.process is not None and node.process.poll() is None:
            node.process.send_signal(signal.SIGCONT)
            node.kill()
    print(nodes.logs())
