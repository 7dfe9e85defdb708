"""Nodes in processes of their own on loopback, seen from outside."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from kevy_elect.cli.demo.ports import free_ports
from tests.soak.chaos.process import prefer
from tests.soak.hostile.member import DOWN_AFTER, MemberSettings
from tests.soak.hostile.openings import Stranger
from tests.support import FOREGROUND, ROOT
from tests.support.secured import options

_TAC: Final = Path(__file__).with_name("node.tac")
START_DEADLINE: Final = 20.0
POLL: Final = 0.05


class Node:
    """One node's process."""

    def __init__(
        self, settings: MemberSettings, port: int, directory: Path, *, real_time: bool
    ) -> None:
        self._real_time = real_time
        self.name = settings.node
        self.settings = settings
        self.port = port
        self.directory = directory
        self.log = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*FOREGROUND, "-y", str(_TAC)],
                cwd=self.directory,
                env={
                    **os.environ,
                    **self.settings.to_environment(),
                    "PYTHONPATH": str(ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        prefer(self.pid, real_time=self._real_time)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def limit_descriptors(self, soft: int) -> int:
        """Limit the process to so many file descriptors. Return the former limit."""
        before, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))
        return before

    def threads(self) -> int:
        """The number of threads; 0 without a process."""
        return self._told("Threads:")

    def descriptors(self) -> int:
        """The number of open file descriptors; 0 without a process."""
        try:
            return 0 if self._process is None else len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0

    def memory(self) -> int:
        """Resident kilobytes; 0 without a process."""
        return self._told("VmRSS:")

    def _told(self, name: str) -> int:
        try:
            told = "" if self._process is None else Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        rows = (line.split() for line in told.splitlines())
        return next((int(row[1]) for row in rows if row and row[0] == name), 0)

    def status(self) -> dict[str, Any] | None:
        """Its status document over HTTP; None if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.http, timeout=2)
        try:
            connection.request("GET", "/status", headers={"Connection": "close"})
            told: dict[str, Any] = json.load(connection.getresponse())
            return told
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class Cluster:
    """Three nodes, which are killed at the end."""

    def __init__(
        self,
        directory: Path,
        links: str = "plain",
        down_after: float = DOWN_AFTER,
        *,
        real_time: bool = False,
        command: str = "",
    ) -> None:
        """`command` is the command of the primary, if any."""
        self.directory = directory
        self.links = links
        self.journal = directory / "journal"
        self.refusals = directory / "refusals"
        names = ("a", "b", "c")
        secured = options(links, names, directory)
        self.stranger = Stranger(links, secured, directory)
        ports = free_ports(3 * len(names))
        election, pages, fronts = (ports[i :: len(names)] for i in range(3))
        peers = dict(zip(names, election, strict=True))
        self.nodes = {
            name: Node(
                MemberSettings(
                    node=name,
                    peers=peers,
                    http=page,
                    front=front,
                    fronts=dict(zip(names, fronts, strict=True)),
                    command=command,
                    config=directory / f"{name}.toml",
                    hooks=directory / f"{name}.hooks",
                    turns=directory / f"{name}.turns",
                    links=secured[name],
                    down_after=down_after,
                    data=directory / f"{name}.data",
                    journal=self.journal,
                    refusals=self.refusals,
                ),
                port,
                directory,
                real_time=real_time,
            )
            for name, port, page, front in zip(names, election, pages, fronts, strict=True)
        }

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __enter__(self) -> Cluster:
        try:
            for node in self:
                node.settings.write()
                node.start()
            if self.wait_until_agreed(START_DEADLINE) is None:
                raise RuntimeError(f"no agreement at the start; see {self.directory}")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        for node in self:
            node.kill()

    def agreement(self) -> tuple[str, int] | None:
        """Primary and epoch, if all nodes follow one that may write and all links are up."""
        told = [node.status() for node in self]
        answers = [each for each in told if each is not None]
        if len(answers) < len(told):
            return None
        writers = [(each["node_id"], each["epoch"]) for each in answers if each["can_write"]]
        followed = {each["current_primary"] for each in answers}
        linked = all(
            peer["link"] == "connected" and peer["alive"]
            for each in answers
            for peer in each["peers"]
        )
        if not linked or len(writers) != 1 or followed != {writers[0][0]}:
            return None
        return writers[0]

    def wait_until_agreed(self, seconds: float) -> tuple[str, int] | None:
        deadline = time.monotonic() + seconds
        while True:
            found = self.agreement()
            if found is not None or time.monotonic() > deadline:
                return found
            time.sleep(POLL)
