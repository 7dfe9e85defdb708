"""Three nodes on loopback, each with a Redis that it drives and a port for Sentinel's clients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from kevy_elect.cli.demo.ports import free_ports
from tests.support import ROOT
from tests.support.processes import Cluster as Nodes
from tests.support.redis_servers import FROZEN, RedisServer

IDS: Final = "abc"
CALM: Final = ("--hb-interval=0.2", "--down-after=2")
"""Timings at which a busy machine causes no failover."""
KEY: Final = "numbers"
"""The list to which every program appends."""


class Cluster:
    def __init__(self, directory: Path, more: Sequence[str] = ()) -> None:
        """`more` are options of every node."""
        ports = free_ports(2 * len(IDS))
        self.servers = {
            n: RedisServer(p, directory, *FROZEN) for n, p in zip(IDS, ports, strict=False)
        }
        faces = dict(zip(IDS, ports[len(IDS) :], strict=True))
        self.directory = directory
        self.restarts = 0
        """The number of servers that their guards killed because they were too slow, and that were
        restarted."""
        self._wanted: set[str] = set()
        self._operator: subprocess.Popen[bytes] | None = None
        self._nodes = Nodes(directory)
        self._faces = faces
        self._more = more

    def sentinels(self, first: str) -> list[str]:
        """The addresses for a client, with that of this node first."""
        ids = (first, *IDS.replace(first, ""))
        return [f"127.0.0.1:{self._faces[node_id]}" for node_id in ids]

    def start(self, node_id: str) -> None:
        """Start the server, then its node."""
        self._wanted.add(node_id)
        server, node = self.servers[node_id], self._nodes[node_id]
        server.start()
        node.start(
            node.command(
                f"--redis={server.address}",
                f"--advertise={server.address}",
                f"--sentinel=tcp:{self._faces[node_id]}:interface=127.0.0.1",
                "--sentinel-name=mymaster",
                "--sentinel-peers="
                + ",".join(f"{n}@127.0.0.1:{port}" for n, port in self._faces.items()),
                *self._more,
            )
        )

    def kill(self, node_id: str) -> None:
        """Kill the node and its server at once."""
        self._wanted.discard(node_id)
        node = self._nodes[node_id]
        if node.process is not None and node.process.poll() is None:
            node.process.kill()
        self.servers[node_id].kill()
        if node.process is not None:
            node.process.wait()

    def end(self) -> None:
        """End all processes."""
        for node_id in IDS:
            self.kill(node_id)
        if self._operator is not None:
            self._operator.wait()

    def _revive(self) -> None:
        """Restart dead servers, as systemd would."""
        for node_id in self._wanted:
            process = self.servers[node_id].process
            if process is not None and process.poll() is not None:
                self.restarts += 1
                self.servers[node_id].start()

    def primary(self) -> str | None:
        """The primary that all nodes follow, if all servers have all of its data."""
        self._revive()
        told = [self._nodes[node_id].ask() for node_id in IDS]
        known: list[dict[str, Any]] = [each for each in told if each]
        writers = [each["node_id"] for each in known if each["can_write"]]
        followed = {each["current_primary"] for each in known}
        synced = sum(bool(each["data"]["in_sync"]) for each in known)
        whole = len(known) == len(IDS) and synced == len(IDS) - 1
        return writers[0] if whole and len(writers) == 1 and followed == {writers[0]} else None

    def switch_over(self, node_id: str) -> None:
        """Ask this node, the primary, to hand over its role. This does not wait for the end."""
        if self._operator is not None:
            self._operator.wait()
        data = self._nodes[node_id].data
        with open(self.directory / "switchovers.log", "ab") as log:
            self._operator = subprocess.Popen(
                (sys.executable, "-m", "kevy_elect", "switchover", f"--data-dir={data}"),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def writer(self) -> str | None:
        """The node whose server takes writes, if there is one."""
        self._revive()
        return next(filter(self._takes_writes, self._wanted), None)

    def _takes_writes(self, node_id: str) -> bool:
        try:
            return self.servers[node_id].takes_writes()
        except RedisError:
            return False

    def numbers(self) -> set[int]:
        """The written numbers, by the server that takes writes; empty while there is none."""
        node_id = self.writer()
        try:
            found = self.servers[node_id].client.lrange(KEY, 0, -1) if node_id else []
        except RedisError:
            found = []
        return {int(each) for each in found}

    def forget(self, node_id: str) -> None:
        """Empty the list, at the primary."""
        self.servers[node_id].client.delete(KEY)
