"""Three servers of Redis, each with a node of this package that drives it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.request
from typing import Any, ClassVar, Final

from bench.clusters.contender import Contender
from bench.clusters.kevy import FAST, REDIALLED
from bench.clusters.sentinel import ASK_EVERY, ASK_PRIMARY, NAMES, Server
from bench.process import Child, Wrapped, wait_for
from kevy_elect.cli.demo.ports import HOST, free_ports
from tests.support import FOREGROUND


class DrivenRedis(Contender):
    """Redis and node are killed together, as if their host failed."""

    name = "kevy-elect --redis"
    explanation = (
        "the Redis primary and the node beside it are killed, as if their host had died; writable "
        "when another Redis takes a SET, tried every 2 ms; agreement when the Sentinel ports of "
        "both surviving nodes name it"
    )
    pausing = ""
    process: ClassVar[type[Child]] = Child
    kills_node: ClassVar[bool] = True

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("redis-server") else "install redis-server"

    def begin(self) -> None:
        ports = iter(free_ports(4 * len(NAMES)))
        self.ports, self.elect, self.pages, self.faces = (
            {name: next(ports) for name in NAMES} for _ in range(4)
        )
        self.servers = {name: Server(port) for name, port in self.ports.items()}
        self.sentinels = {name: Server(port) for name, port in self.faces.items()}
        self.children: dict[str, Child] = {}
        self.nodes: dict[str, Child] = {}
        for name in NAMES:
            self.revive(name)

    def settle(self) -> str:
        primary: str = wait_for(self._settled, "one primary, whose replicas are in sync", 120)
        # A node that has just started does not vote yet (R4.3).
        time.sleep(self.timings.down_after + REDIALLED)
        return primary

    def kill(self, name: str) -> int:
        killed = self.children[name].strike()
        if self.kills_node:
            self.nodes[name].strike()  # a wrapper ends later, after it has notified the others
        return killed

    def stop(self, name: str) -> None:
        self.nodes[name].stop()

    def resume(self, name: str) -> None:
        self.nodes[name].resume()

    def succession(self, old: str, since: int) -> tuple[int, int]:
        survivors = [name for name in NAMES if name != old]
        new = wait_for(lambda: self._writable(survivors), "a write", every=ASK_EVERY)
        writable = time.monotonic_ns()
        port = f"\r\n{self.ports[new]}\r\n"
        wait_for(
            lambda: all(port in self.sentinels[name].ask(ASK_PRIMARY) for name in survivors),
            "both nodes name the new primary",
            every=ASK_EVERY,
        )
        return writable, time.monotonic_ns()

    def revive(self, name: str) -> None:
        if name in self.children:
            self.children[name].wait()
        if name in self.nodes and self.kills_node:
            self.nodes[name].wait()
        if name not in self.children or not self.children[name].running:
            self.children[name] = self.fleet.start(
                f"redis-{name}",
                [
                    *("redis-server", "--port", str(self.ports[name]), "--bind", HOST),
                    *("--save", "", "--repl-diskless-sync-delay", "0"),
                    *("--replicaof", f"{HOST} 1"),
                ],
            )
        if name not in self.nodes or not self.nodes[name].running:
            self.nodes[name] = self.fleet.start(name, self._node(name), self.process)

    def writes(self, name: str, since: int) -> list[int]:
        return []

    def _node(self, name: str) -> list[str]:
        heartbeat, down_after = self.timings.heartbeat, self.timings.down_after
        timings = {"hb_interval": heartbeat, "down_after": down_after}
        timings |= FAST if down_after < 1 else {}
        peers = (f"{each}@{HOST}:{self.elect[each]}:{self.ports[each]}" for each in NAMES)
        return [
            *(*FOREGROUND, "kevy-elect", f"--node-id={name}", f"--peers={','.join(peers)}"),
            f"--redis={HOST}:{self.ports[name]}",
            f"--http=tcp:{self.pages[name]}:interface={HOST}",
            f"--sentinel=tcp:{self.faces[name]}:interface={HOST}",
            "--sentinel-name=main",
            *(f"--{each.replace('_', '-')}={value}" for each, value in timings.items()),
        ]

    def _settled(self) -> str | None:
        """The primary, once all nodes follow it, and all servers its server."""
        told = [self._status(name) for name in NAMES]
        writers = [each["node_id"] for each in told if each and each["can_write"]]
        synced = sum(bool(each and each["data"]["in_sync"]) for each in told)
        return writers[0] if len(writers) == 1 and synced == len(NAMES) - 1 else None

    def _status(self, name: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(
                f"http://{HOST}:{self.pages[name]}/status", timeout=1
            ) as page:
                found: dict[str, Any] = json.load(page)
                return found
        except OSError:
            return None

    def _writable(self, names: list[str]) -> str | None:
        for name in names:
            if self.servers[name].ask("SET written here").startswith("+OK"):
                return name
        return None


class DrivenRedisLastWill(DrivenRedis):
    """The same below wrappers, which notify the others when the node's process dies."""

    name = "kevy-elect --redis, last will"
    explanation = (
        "the same below `kevy-elect supervise`; Redis and node are killed, not the wrapper"
    )
    process = Wrapped

    @classmethod
    def missing(cls) -> str:
        return super().missing() or ("" if sys.platform == "linux" else "the wrapper needs Linux")


class DrivenRedisAlone(DrivenRedis):
    """Only the server dies, and its node notices it."""

    name = "kevy-elect --redis, server only"
    explanation = "only the Redis primary is killed, and its node lives"
    kills_node = False


DRIVEN: Final = (DrivenRedis, DrivenRedisLastWill, DrivenRedisAlone)
