"""Three copies of a web service behind a real HAProxy with examples/haproxy.cfg, and the answers to
their clients.

Times are nanoseconds of the monotonic clock, which is the same for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final
from urllib.request import urlopen

import attrs

from bench import stamps
from bench.clusters.contender import Timings
from bench.clusters.kevy import FAST
from bench.process import Child, Fleet, wait_for
from kevy_elect.cli.demo.ports import HOST, free_ports
from tests.support import ROOT

NAMES: Final = ("a", "b", "c")
EVERY: Final = 0.01
"""Seconds from one request to the next, whether or not the last one was answered."""
ENOUGH: Final = 30
"""The number of answers in a row after which a copy counts as serving."""
PATIENCE: Final = 10.0
"""Seconds after which a client gives up."""
HAPROXY: Final = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


@attrs.frozen
class Served:
    """A write that a copy answered with 200, as the copy recorded it."""

    node: str
    epoch: int
    request: int
    asked: int
    """The time just before it asked whether it may write."""
    answered: int
    """The time just after the answer."""


@attrs.frozen
class Reply:
    """The answer of one request."""

    request: int
    sent: int
    status: int
    """The status; 0 without a complete answer."""
    node: str | None
    """The copy that answered; None for HAProxy."""
    seconds: float
    """The time from the request to the answer."""


class Balanced(Fleet):
    """The processes: copies a, b and c, and HAProxy. Call `settle` first.

    With `trusting`, the copies answer every write that HAProxy sends, as if they were primary.
    """

    def __init__(self, timings: Timings, *, trusting: bool = False) -> None:
        super().__init__()
        self._down_after = timings.down_after
        self._trusting = trusting
        self._timings = {"hb_interval": timings.heartbeat, "down_after": timings.down_after}
        if timings.down_after < 1:
            self._timings |= FAST
        ports = iter(free_ports(4 * len(NAMES) + 3))
        self._election, self._web, self._http, self._agent = (
            dict(zip(NAMES, ports, strict=False)) for _ in range(4)
        )
        self.writes, self.reads, self.writes_by_agent = ports
        self.copies: dict[str, Child] = {}

    def __enter__(self) -> Balanced:
        super().__enter__()
        for name in NAMES:
            self.revive(name)
        assert HAPROXY is not None
        files = (str(ROOT / "examples/haproxy.cfg"), str(ROOT / "bench/agent_check.cfg"))
        command = [HAPROXY, "-db", "-f", files[0], "-f", files[1]]
        self.start("haproxy", command, **self._environment())
        return self

    def _environment(self) -> dict[str, str]:
        """The variables in the configuration of HAProxy."""
        found = {
            "WRITES": f"{HOST}:{self.writes}",
            "READS": f"{HOST}:{self.reads}",
            "WRITES_BY_AGENT": f"{HOST}:{self.writes_by_agent}",
        }
        for name in NAMES:
            found[f"WEB_{name.upper()}"] = f"{HOST}:{self._web[name]}"
            found[f"HTTP_{name.upper()}"] = str(self._http[name])
            found[f"AGENT_{name.upper()}"] = str(self._agent[name])
        return found

    def revive(self, name: str) -> None:
        """Start this copy, for the first time or after it was killed."""
        peers = (f"{n}@{HOST}:{self._election[n]}:{self._web[n]}" for n in NAMES)
        setting = {
            "name": name,
            "peers": ",".join(peers),
            "timings": self._timings,
            "http": self._http[name],
            "agent": self._agent[name],
            "trusting": self._trusting,
        }
        self.copies[name] = self.twistd(name, "web.tac", setting)

    def settle(self) -> str:
        """Wait until all follow one primary and any of them could vote. Return its name."""
        primary: str = wait_for(self._settled, "a primary that all follow, and all links up")
        return primary

    def _settled(self) -> str | None:
        told = [self.status(name) for name in NAMES]
        youngest = max(copy.started for copy in self.copies.values())
        if not all(told) or time.monotonic_ns() - youngest < self._down_after * 1e9:  # R4.3
            return None
        links = {peer["link"] for each in told for peer in each["peers"]}
        primaries = {each["current_primary"] for each in told}
        writers = {each["node_id"] for each in told if each["can_write"]}
        return writers.pop() if links == {"connected"} and primaries == writers else None

    def status(self, name: str) -> dict[str, Any]:
        """The status document of a copy's node; empty if it does not answer."""
        with contextlib.suppress(OSError):
            url = f"http://{HOST}:{self._http[name]}/status"
            with urlopen(url, timeout=1) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        return {}

    def switch_over(self, name: str) -> None:
        """Let the primary `name` hand over. Raises CalledProcessError if it does not."""
        command = [sys.executable, "-m", "kevy_elect", "switchover", "--data-dir"]
        directory = self.directory / name / "ballot"
        subprocess.run([*command, str(directory)], check=True, capture_output=True, cwd=ROOT)

    def served(self) -> list[Served]:
        """The answered writes, those of each copy in their order."""
        return [
            Served(
                name,
                stamp.told["epoch"],
                stamp.told["request"],
                asked=stamp.told["asked"],
                answered=stamp.at,
            )
            for name in NAMES
            for stamp in stamps.read(self.directory / name / "stamps")
        ]


class Traffic:
    """Sends a write to a port every EVERY seconds during the `with` block. At the end, each has
    been answered or given up. No number is used twice."""

    _numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, port: int) -> None:
        self.replies: list[Reply] = []
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def server(self, other_than: str | None = None) -> str:
        """Wait until one copy, other than this one, answers request after request. Return its
        name."""
        name: str = wait_for(lambda: self._server(other_than), "a copy that answers every request")
        return name

    def _server(self, other_than: str | None) -> str | None:
        last = self.replies[-ENOUGH:]
        if len(last) < ENOUGH:
            return None
        servers = {reply.node if reply.status == 200 else None for reply in last}
        name = servers.pop()
        return None if servers or name == other_than else name

    async def _send(self) -> None:
        async with asyncio.TaskGroup() as requests:
            while not self._stopping.is_set():
                requests.create_task(self._request(next(self._numbers)))
                await asyncio.sleep(EVERY)

    async def _request(self, number: int) -> None:
        sent, status, told = time.monotonic_ns(), 0, {}
        with contextlib.suppress(OSError, ValueError, IndexError):  # TimeoutError is an OSError
            async with asyncio.timeout(PATIENCE):
                head, body = await self._post(number)
            status = int(head.split()[1])
            told = json.loads(body)
        if status == 200 and told.get("request") != number:
            status = 0
        seconds = (time.monotonic_ns() - sent) / 1e9
        self.replies.append(Reply(number, sent, status, told.get("node"), seconds))

    async def _post(self, number: int) -> tuple[bytes, bytes]:
        """Head and body of the answer, up to the end of the connection."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        try:
            writer.write(b"POST /%d HTTP/1.0\r\nContent-Length: 0\r\n\r\n" % number)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return head, body
        finally:
            writer.close()


def violations(served: Iterable[Served]) -> list[str]:
    """The writes that a copy answered while it was not primary, by the stamps alone.

    If two copies answered in one epoch, one of them was not elected. A copy was also not primary
    any more if it asked after another had been allowed to answer in a newer epoch.
    """
    found = []
    newest: Served | None = None
    nodes: dict[int, str] = {}
    for each in sorted(served, key=lambda write: write.asked):
        if nodes.setdefault(each.epoch, each.node) != each.node:
            found.append(f"{each} in the epoch of {nodes[each.epoch]}")
        elif newest is not None and each.epoch < newest.epoch and newest.answered < each.asked:
            found.append(f"{each} after {newest}")
        if newest is None or each.epoch > newest.epoch:
            newest = each
    return found
