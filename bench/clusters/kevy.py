"""Processes of this package."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from bench.clusters.contender import THREE, Timings
from bench.clusters.stamped import StampedCluster
from bench.process import Child, Wrapped
from tests.support import secured

REDIALLED = 1.2
"""Seconds after which all links to a restarted node are up again."""
FAST = {"election_timeout": 0.5, "election_backoff": 0.1, "election_backoff_jitter": 0.4}
"""Further settings for a down_after of less than a second."""


class KevyElect(StampedCluster):
    name = "kevy-elect"
    explanation = "a process stamps the change in which it finds itself primary with the lease"
    pausing = "a process asks `can_write()` every 2 ms and stamps each yes"
    process: ClassVar[type[Child]] = Child
    links: ClassVar[str] = "plain"

    def __init__(self, timings: Timings, *, writing: bool = False, size: int = THREE) -> None:
        # A node that has just started does not vote yet (R4.3).
        self.rejoining = timings.down_after + REDIALLED
        super().__init__(timings, writing=writing, size=size)

    def start(self, name: str) -> Child:
        heartbeat, down_after = self.timings.heartbeat, self.timings.down_after
        timings = {"hb_interval": heartbeat, "down_after": down_after}
        setting = {
            "name": name,
            "peers": ",".join(f"{peer}@{address}" for peer, address in self.addresses().items()),
            "writes": self.writing,
            "identity": self.identities[name],
            "timings": timings | (FAST if down_after < 1 else {}),
        }
        return self.fleet.twistd(name, "node.tac", setting, self.process)

    @cached_property
    def identities(self) -> Mapping[str, list[str]]:
        """The options for the authentication of each node."""
        return secured.options(self.links, self.names, self.fleet.directory)


class KevyElectLastWill(KevyElect):
    """The same below wrappers, which notify the others when the process dies."""

    name = "kevy-elect, last will"
    explanation = (
        "the same below `kevy-elect supervise`; the node is killed, not its wrapper, and it has "
        "no command, whose processes the wrapper would kill first"
    )
    process = Wrapped

    @classmethod
    def missing(cls) -> str:
        return "" if sys.platform == "linux" else "the wrapper needs Linux"


class KevyElectNoise(KevyElectLastWill):
    name = "kevy-elect, last will, noise"
    explanation = "the same with links that prove who speaks by keys"
    links = "noise"


class KevyElectTls(KevyElectLastWill):
    name = "kevy-elect, last will, tls"
    explanation = "the same with links that prove who speaks by certificates"
    links = "tls"
