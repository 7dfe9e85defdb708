"""Connections in memory, and other replacements for a network."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.messages import Heartbeat, Role

QUICK = ElectConfig(hb_interval=0.05, down_after=0.5, election_timeout=0.5)


class Wire(StringTransport):
    """A StringTransport that also takes the options that a TCP transport has."""

    def __init__(self, host: str = "192.0.2.1", port: int = 40000) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, port))
        self.options: dict[str, Any] = {}
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options["nodelay"] = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options["keepalive"] = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


def cluster(node_id: str = "a", ids: str = "abc") -> Cluster:
    members = tuple(
        PeerAddr(member, "127.0.0.1", 7101 + i, 6101 + i) for i, member in enumerate(ids)
    )
    return Cluster(node_id, members)


def heartbeat(node_id: str = "b", epoch: int = 1, role: Role = Role.REPLICA) -> Heartbeat:
    return Heartbeat(epoch, node_id, role, 0)


def rng() -> random.Random:
    return random.Random(0)
