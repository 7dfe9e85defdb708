"""One real member that appends its observations to a file, with their times; `node.tac` runs it.

The environment variable BENCH contains its identity in JSON.
"""

from __future__ import annotations

import json
import os
from typing import Final

from twisted.application.internet import TimerService
from twisted.application.service import Application

from bench.stamps import Stamps
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.service.election import ElectionService, ElectorSnapshot, use_monotonic_time
from tests.support import secured

WRITE_EVERY: Final = 0.002
"""Seconds between two questions whether a write is allowed."""


def make_application() -> Application:
    setting = json.loads(os.environ["BENCH"])
    application = Application("node")
    peers = tuple(PeerAddr.parse(peer) for peer in setting["peers"].split(","))
    cluster = Cluster(setting["name"], peers)
    ids = [peer.node_id for peer in cluster.peers]
    election = ElectionService(
        cluster,
        data_dir="ballot",
        config=ElectConfig(**setting["timings"]),
        security=secured.security(cluster.node_id, ids, setting["identity"]),
    )
    stamps = Stamps.append_to("stamps")

    def observe(snapshot: ElectorSnapshot, reason: str) -> None:
        stamps.put("state", primary=snapshot.current_primary, writable=snapshot.can_write)

    def write() -> None:
        if election.can_write():
            stamps.put("write")

    use_monotonic_time()
    election.add_observer(observe)
    election.setServiceParent(application)
    if setting["writes"]:
        TimerService(WRITE_EVERY, write).setServiceParent(application)
    return application
