"""Three processes of pysyncobj, a Raft library in Python."""

from __future__ import annotations

import importlib.util
import json
import sys

from bench.clusters.contender import THREE, Timings
from bench.clusters.stamped import StampedCluster
from bench.process import Child
from tests.support import ROOT


class PySyncObj(StampedCluster):
    name = "pysyncobj"
    explanation = (
        "raftMinTimeout is down-after and raftMaxTimeout twice that, appendEntriesPeriod the "
        "heartbeat; a process stamps when its `_isLeader()` turns true, asked every 2 ms; "
        "it keeps its vote in memory, so nothing waits for a disk"
    )
    pausing = "a process asks `_isLeader()` every 2 ms and stamps each yes"

    def __init__(self, timings: Timings, *, writing: bool = False, size: int = THREE) -> None:
        self.rejoining = timings.down_after
        super().__init__(timings, writing=writing, size=size)

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("pysyncobj") else "pip install pysyncobj"

    def start(self, name: str) -> Child:
        setting = {
            "name": name,
            "addresses": self.addresses(),
            "heartbeat": self.timings.heartbeat,
            "down_after": self.timings.down_after,
            "writes": self.writing,
        }
        command = [sys.executable, "-m", "bench.clusters.syncobj_node"]
        return self.fleet.start(name, command, BENCH=json.dumps(setting), PYTHONPATH=str(ROOT))
