"""The same three hosts with unchanged Redis Sentinel instead of our nodes, for comparison.

A host has a Redis and a sentinel. Both have a configuration file, which Sentinel rewrites, so that
a server that comes back has its last configuration.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from tests.soak.chaos.cluster import POLL, STEADY, Agreement
from tests.soak.chaos.network import Network
from tests.soak.chaos.sandbox import WORLD
from tests.soak.counter.member import TIMINGS
from tests.soak.redis.cluster import (
    CLIENTS,
    NAMES,
    REDIS_PORT,
    Cluster,
    Server,
    _ask,
    _enter,
)
from tests.support import ROOT

SENTINEL_PORT: Final = 26379
DOWN_AFTER: Final = round(1000 * TIMINGS.down_after)
"""The timeout in milliseconds."""
FAILOVER_TIMEOUT: Final = 1000


class Program(Server):
    """A program with a configuration file, in the namespace of its host."""

    def __init__(self, name: str, address: str, place: Path, log: Path, *words: str) -> None:
        place.mkdir(parents=True)
        super().__init__(name, address, place, log)
        self.file = place / "redis.conf"
        self.command = ("nsenter", f"--net=/run/netns/{name}", "redis-server", *words)


class Host:
    """A server and the sentinel beside it. Faults of the node hit the sentinel."""

    def __init__(self, name: str, addresses: dict[str, str], directory: Path) -> None:
        self.name = name
        address, first = addresses[name], addresses[NAMES[0]]
        place = WORLD / "sentinel" / name
        conf = place / "server" / "redis.conf"
        log = directory / f"redis-{name}.log"
        self.server = Program(name, address, conf.parent, log, str(conf))
        conf.write_text(
            f'port {REDIS_PORT}\nbind {address}\nprotected-mode no\nsave ""\n'
            f"repl-diskless-sync-delay 0\nrepl-timeout 5\ndir {conf.parent}\n"
            + ("" if name == NAMES[0] else f"replicaof {first} {REDIS_PORT}\n")
        )
        conf = place / "sentinel" / "redis.conf"
        self.log = directory / f"{name}.log"
        self.sentinel = Program(name, address, conf.parent, self.log, str(conf), "--sentinel")
        conf.write_text(
            f"port {SENTINEL_PORT}\nbind {address}\nprotected-mode no\ndir {conf.parent}\n"
            f"sentinel monitor main {first} {REDIS_PORT} 2\n"
            f"sentinel down-after-milliseconds main {DOWN_AFTER}\n"
            f"sentinel failover-timeout main {FAILOVER_TIMEOUT}\n"
        )
        self.deaths: list[int] = []
        self.endings = 0

    def wake(self) -> None:
        self.server.wake()
        self.sentinel.wake()

    def heal(self) -> None:
        self.wake()

    def kill(self) -> None:
        self.server.kill()
        self.sentinel.kill()

    def kill_node(self) -> None:
        self.sentinel.kill()

    def end(self) -> None:
        self.sentinel.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        self.sentinel.signal(number)


class Sentinels(Cluster):
    """Three hosts, with the same interface as the cluster of our nodes."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        network = Network((*NAMES, CLIENTS), rng)
        hosts = [Host(name, network.addresses, directory) for name in NAMES]
        self.begin(directory, network, hosts)

    def settle(self, deadline: float) -> Agreement:
        """Wait until all sentinels name one primary, which has both replicas."""
        agreed, primary = None, None
        while True:
            for host in self:
                host.wake()
            found, now = self._named(), time.monotonic()
            if found is None or found != primary:
                agreed, primary = None, found
            if found is not None and agreed is None:
                agreed = now
            if (agreed and now >= agreed + STEADY) or now > deadline:
                self.primary = primary or self.primary
                return Agreement(agreed, agreed)
            time.sleep(POLL)

    def moves(self, deadline: float) -> float | None:
        while time.monotonic() < deadline:
            if _ask(self[self.primary], "confirm") == b"2":
                return time.monotonic()
            self.settle(time.monotonic() + 1.0)
        return None

    def statuses(self) -> dict[str, Any]:
        return {f"server {each.name}": _ask(each, "info").decode() for each in self}

    def switch_over(self, target: str | None) -> None:
        """Begin a failover. Sentinel chooses the target itself."""
        words = [self.network.addresses[NAMES[0]], "failover"]
        asking = subprocess.Popen(
            [*_enter(NAMES[0]), sys.executable, "-m", "tests.soak.redis.sentinels", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._asking.append((time.monotonic(), asking))

    def _named(self) -> str | None:
        asked = [*_enter(NAMES[0]), sys.executable, "-m", "tests.soak.redis.sentinels"]
        done = subprocess.run(
            [*asked, ",".join(self.network.addresses[name] for name in NAMES), "named"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        address = done.stdout.strip()
        names = [name for name in NAMES if self.network.addresses[name] == address]
        return names[0] if names else None


def _sentinel(address: str) -> Redis:
    return Redis(address, SENTINEL_PORT, socket_timeout=1.0, decode_responses=True)


def _answer(addresses: str, question: str) -> int:
    """The answer to a process inside the network."""
    sentinels = [_sentinel(address) for address in addresses.split(",")]
    try:
        if question == "failover":
            sentinels[0].execute_command("SENTINEL", "FAILOVER", "main")
            return 0
        named = {str(each.sentinel_get_master_addr_by_name("main")[0]) for each in sentinels}
        if len(named) == 1:
            (address,) = named
            info: dict[str, Any] = Redis(address, REDIS_PORT, socket_timeout=1.0).info(
                "replication"
            )
            online = sum(info.get(f"slave{at}", {}).get("state") == "online" for at in range(2))
            if info["role"] == "master" and online == len(NAMES) - 1:
                print(address)
    except (RedisError, TypeError):
        return 1
    return 0


def main(words: Sequence[str]) -> int:
    return _answer(*words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
