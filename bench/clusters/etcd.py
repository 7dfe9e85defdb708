"""Three etcd servers, asked over their JSON gateway."""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import time
from typing import Any, Final

from bench import stamps
from bench.clusters.contender import Contender
from bench.process import Child, wait_for
from kevy_elect.cli.demo.ports import HOST, free_ports
from tests.support import ROOT

NAMES: Final = ("a", "b", "c")
ASK_EVERY: Final = 0.002
WRITE: Final = {"key": "dw==", "value": "aA=="}


class Gateway:
    """A connection to one server's JSON gateway."""

    def __init__(self, port: int, timeout: float = 1.0) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout)

    def ask(self, path: str, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None for an error or without an answer."""
        try:
            self._connection.request("POST", path, json.dumps(question))
            answer = self._connection.getresponse()
            told: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return None
        return told if answer.status == 200 else None


class Etcd(Contender):
    name = "etcd"
    explanation = (
        "--election-timeout is down-after (drawn from once to twice that), --heartbeat-interval "
        "the heartbeat; writable when a PUT is committed, which is sent once a survivor names a "
        "new leader, asked every 2 ms; agreement when both survivors name it"
    )
    pausing = (
        "two clients compete for a key under a lease of down-after, which the holder renews every "
        "third of it; the holder is stopped, not a server; it stamps every 2 ms until a renewal "
        "tells it that the lease is gone"
    )

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("etcd") else "install etcd-server"

    def begin(self) -> None:
        ports = free_ports(2 * len(NAMES))
        self.client_ports = dict(zip(NAMES, ports, strict=False))
        self.peer_ports = dict(zip(NAMES, ports[len(NAMES) :], strict=True))
        self.gateways = {name: Gateway(port) for name, port in self.client_ports.items()}
        self.ids: dict[str, str] = {}
        self.children: dict[str, Child] = {}
        self.holders: dict[str, Child] = {}
        for name in NAMES:
            self.revive(name)
        if self.writing:
            wait_for(lambda: self._leader(NAMES), "a leader")
            for name in NAMES[:2]:
                self.holders[name] = self._start_holder(name)

    def settle(self) -> str:
        if self.writing:
            wait_for(lambda: self._holder(), "a holder of the key")
            time.sleep(self.timings.down_after)
            return str(self._holder())
        wait_for(lambda: self._leader(NAMES), "a leader that all follow")
        time.sleep(2 * self.timings.down_after)
        primary: str = wait_for(lambda: self._leader(NAMES), "a leader that all follow")
        return primary

    def kill(self, name: str) -> int:
        return self.children[name].kill()

    def stop(self, name: str) -> None:
        self.holders[name].stop()

    def resume(self, name: str) -> None:
        self.holders[name].resume()

    def succession(self, old: str, since: int) -> tuple[int, int]:
        if self.writing:
            at: int = wait_for(lambda: self._first_write(old, since), "another holder")
            return at, at
        survivors = [name for name in NAMES if name != old]
        agreed = 0

        def leads() -> str | None:
            named = {self._named_by(name) for name in survivors} - {None, old}
            return named.pop() if named else None

        leader = wait_for(leads, "a new leader", every=ASK_EVERY)
        wait_for(lambda: self._write(leader), "a write", every=ASK_EVERY)
        writable = time.monotonic_ns()
        wait_for(lambda: self._leader(survivors), "agreement", every=ASK_EVERY)
        agreed = time.monotonic_ns()
        return writable, agreed

    def revive(self, name: str) -> None:
        client = f"http://{HOST}:{self.client_ports[name]}"
        peer = f"http://{HOST}:{self.peer_ports[name]}"
        members = ",".join(f"{n}=http://{HOST}:{port}" for n, port in self.peer_ports.items())
        timings = self.timings
        self.children[name] = self.fleet.start(
            name,
            [
                "etcd",
                f"--name={name}",
                "--data-dir=data",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster={members}",
                f"--heartbeat-interval={round(timings.heartbeat * 1000)}",
                f"--election-timeout={round(timings.down_after * 1000)}",
            ],
        )

    def writes(self, name: str, since: int) -> list[int]:
        if name not in self.holders:
            return []
        path = self.fleet.directory / f"holder-{name}" / "stamps"
        return [stamp.at for stamp in stamps.read(path, since)]

    def _start_holder(self, name: str) -> Child:
        setting = {"name": name, "port": self.client_ports["c"], "ttl": self.timings.down_after}
        command = [sys.executable, "-m", "bench.clusters.etcd_holder"]
        return self.fleet.start(
            f"holder-{name}", command, BENCH=json.dumps(setting), PYTHONPATH=str(ROOT)
        )

    def _holder(self) -> str | None:
        recent = time.monotonic_ns() - 100_000_000
        return next((name for name in self.holders if self.writes(name, recent)), None)

    def _first_write(self, old: str, since: int) -> int:
        others = [name for name in self.holders if name != old]
        return min((at for name in others for at in self.writes(name, since)), default=0)

    def _write(self, name: str) -> bool:
        return self.gateways[name].ask("/v3/kv/put", WRITE) is not None

    def _leader(self, names: tuple[str, ...] | list[str]) -> str | None:
        """The member that all of these name as leader."""
        named = {self._named_by(name) for name in names}
        return named.pop() if len(named) == 1 else None

    def _named_by(self, name: str) -> str | None:
        told = self.gateways[name].ask("/v3/maintenance/status", {})
        if told is None:
            return None
        self.ids[told["header"]["member_id"]] = name
        return self.ids.get(told.get("leader", ""))
