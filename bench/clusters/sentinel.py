"""Redis with Sentinel: three servers, and three sentinels that watch them."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from typing import Final

from bench.clusters.contender import Contender
from bench.process import Child, wait_for
from kevy_elect.cli.demo.ports import HOST, free_ports

NAMES: Final = ("a", "b", "c")
ASK_EVERY: Final = 0.002
ASK_PRIMARY: Final = "SENTINEL get-master-addr-by-name main"
FAILOVER_TIMEOUT: Final = 1.0
"""Seconds; Sentinel starts no second failover within twice that."""


class Server:
    """A connection that speaks inline commands and reads short replies."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, command: str) -> str:
        """The reply in its raw form; empty without a reply."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection((HOST, self._port), 1)
            self._socket.sendall(command.encode() + b"\r\n")
            return self._socket.recv(65536).decode()
        except OSError:
            self.close()
            return ""

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Writer(threading.Thread):
    """Writes to one server every few milliseconds, and records when each write was taken."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.taken: list[int] = []
        self.ended = False
        self._server = Server(port)

    def run(self) -> None:
        while not self.ended:
            if self._server.ask("SET written here").startswith("+OK"):
                self.taken.append(time.monotonic_ns())
            time.sleep(ASK_EVERY)
        self._server.close()


class Sentinel(Contender):
    name = "Redis Sentinel"
    explanation = (
        "down-after-milliseconds is down-after; only the Redis primary is killed, all three "
        "sentinels live; writable when a replica takes a SET, tried every 2 ms; agreement when "
        "all sentinels name it; it pings every second, or every down-after if that is shorter"
    )
    pausing = (
        "a client per server sends a SET every 2 ms; a write is one that was taken, so the "
        "overlap is how long both the stale and the new primary took writes"
    )

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("redis-sentinel") else "install redis-server and redis-sentinel"

    def begin(self) -> None:
        ports = free_ports(2 * len(NAMES))
        self.ports = dict(zip(NAMES, ports, strict=False))
        self.servers = {name: Server(port) for name, port in self.ports.items()}
        self.sentinels = [Server(port) for port in ports[len(NAMES) :]]
        self.children: dict[str, Child] = {}
        self.primary = NAMES[0]
        self.writers: dict[str, Writer] = {}
        for name in NAMES:
            self.revive(name)
        wait_for(lambda: self._replicas() == len(NAMES) - 1, "Redis replicates")
        for number, port in enumerate(ports[len(NAMES) :]):
            self._start_sentinel(f"sentinel{number}", port)
        if self.writing:
            self.writers = {name: Writer(port) for name, port in self.ports.items()}
            for writer in self.writers.values():
                writer.start()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.ended = True
        super().close()

    def settle(self) -> str:
        wait_for(self._complete, "all sentinels name one primary, with its replicas", 120)
        time.sleep(2 * FAILOVER_TIMEOUT + self.timings.down_after)
        wait_for(self._complete, "all sentinels name one primary, with its replicas", 120)
        return self.primary

    def kill(self, name: str) -> int:
        return self.children[name].kill()

    def stop(self, name: str) -> None:
        self.children[name].stop()

    def resume(self, name: str) -> None:
        self.children[name].resume()

    def succession(self, old: str, since: int) -> tuple[int, int]:
        survivors = [name for name in NAMES if name != old]
        self.primary = wait_for(lambda: self._writable(survivors), "a write", every=ASK_EVERY)
        writable = time.monotonic_ns()
        wait_for(self._named, "all sentinels name the new primary", every=ASK_EVERY)
        return writable, time.monotonic_ns()

    def revive(self, name: str) -> None:
        """Start a server. A restarted one is told its primary at once, which saves time."""
        command = ["redis-server", "--port", str(self.ports[name]), "--bind", HOST]
        command += ["--save", "", "--repl-diskless-sync-delay", "0"]
        if name != self.primary:
            command += ["--replicaof", f"{HOST} {self.ports[self.primary]}"]
        self.children[name] = self.fleet.start(name, command)

    def writes(self, name: str, since: int) -> list[int]:
        return [at for at in self.writers[name].taken if at >= since]

    def _start_sentinel(self, name: str, port: int) -> None:
        directory = self.fleet.directory / name
        directory.mkdir()
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind {HOST}\n"
            f"sentinel monitor main {HOST} {self.ports[self.primary]} 2\n"
            f"sentinel down-after-milliseconds main {round(self.timings.down_after * 1000)}\n"
            f"sentinel failover-timeout main {round(FAILOVER_TIMEOUT * 1000)}\n"
        )
        self.fleet.start(name, ["redis-sentinel", str(configuration)])

    def _replicas(self) -> int:
        return self.servers[self.primary].ask("INFO replication").count("state=online")

    def _writable(self, names: list[str]) -> str | None:
        for name in names:
            if self.servers[name].ask("SET written here").startswith("+OK"):
                return name
        return None

    def _named(self) -> bool:
        port = f"\r\n{self.ports[self.primary]}\r\n"
        return all(port in sentinel.ask(ASK_PRIMARY) for sentinel in self.sentinels)

    def _complete(self) -> bool:
        """Whether all is as before a failover, which Sentinel may also have begun by itself."""
        named = self.sentinels[0].ask(ASK_PRIMARY)
        for name, port in self.ports.items():
            if f"\r\n{port}\r\n" in named:
                self.primary = name
        reach = [sentinel.ask("SENTINEL ckquorum main") for sentinel in self.sentinels]
        reached = all("OK 3 usable" in reply for reply in reach)
        return reached and self._named() and self._replicas() == len(NAMES) - 1
