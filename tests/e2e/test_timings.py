"""The two steps in which docs/operating.md changes down_after, on real nodes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.support import FOREGROUND, ROOT
from tests.support.processes import Cluster, Node, poll

PAGE = ROOT / "docs/operating.md"
KEVY_ELECT = (sys.executable, "-m", "kevy_elect")


def steps(change: str) -> list[str]:
    """The lines of the settings that the page has for each step of this change."""
    row = re.search(rf"(?m)^\| {change} \|(.*)\|(.*)\|$", PAGE.read_text())
    assert row is not None, change
    return ["\n".join(re.findall(r"`([^`]*)`", cell)) for cell in row.groups()]


class Members:
    """Three nodes of one file, each as its host has it."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        peers = [peer.split("@") for peer in cluster["a"].peers.split(",")]
        self._peers = "\n".join(["[peers]", *(f'{name} = "{where}"' for name, where in peers)])
        self._files = {name: directory / f"{name}.toml" for name in cluster.nodes}
        for name in cluster.nodes:
            self.write(name, "")

    def write(self, name: str, settings: str) -> None:
        self._files[name].write_text(f"{settings}\n{self._peers}\n")

    def _options(self, node: Node) -> list[str]:
        file = self._files[node.node_id]
        return ["--config", str(file), "--node-id", node.node_id, "--data-dir", str(node.data)]

    def start(self, name: str) -> None:
        node = self.cluster[name]
        http = f"--http=tcp:{node.http}:interface=127.0.0.1"
        node.start([*FOREGROUND, "kevy-elect", *self._options(node), http])

    def check(self, name: str) -> str:
        """What check-config has against the file of this node."""
        command = [*KEVY_ELECT, "check-config", *self._options(self.cluster[name])]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    def warnings(self) -> list[str]:
        urls = [f"127.0.0.1:{node.http}" for node in self.cluster.nodes.values()]
        command = [*KEVY_ELECT, "status", "--json", *urls]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found: list[str] = json.loads(told)["warnings"]
        return found

    async def take(self, name: str, settings: str) -> None:
        """Give a member that runs these settings."""
        self.write(name, settings)
        assert self.check(name) == ""
        process = self.cluster[name].process
        assert process is not None
        process.send_signal(signal.SIGHUP)
        await self.goes_by(name, settings)

    async def goes_by(self, name: str, settings: str) -> None:
        wanted = {"lease_duration": None} | {
            key.strip().replace("-", "_"): float(value)
            for key, value in (line.split("=") for line in settings.splitlines())
        }
        if wanted["lease_duration"] is None:
            wanted["lease_duration"] = 0.98 * wanted["down_after"]

        async def is_told() -> bool:
            told: Any = await self.cluster[name].status()
            return told is not None and all(
                told["settings"][key] == pytest.approx(value) for key, value in wanted.items()
            )

        await poll(is_told)


@ensureDeferred
async def test_down_after_grows_and_shrinks_in_two_steps_and_not_in_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    members = Members(cluster, tmp_path)
    for name in cluster.nodes:
        members.start(name)
    primary = (await cluster.settled())["node_id"]
    first, second = steps("from 5 s to 8 s")

    members.write(primary, second)
    assert "change it in two steps" in members.check(primary)
    process = cluster[primary].process
    assert process is not None
    process.send_signal(signal.SIGHUP)

    async def refused() -> bool:
        return "nothing of it is used: a lease of 7.84 s" in cluster[primary].log.read_text()

    await poll(refused)
    members.write(primary, "")

    # The first step, with a failover in its middle: the primary comes back without it.
    others = "abc".replace(primary, "")
    for name in others:
        await members.take(name, first)
    assert any("differ in down_after" in each for each in members.warnings())
    assert not any("two nodes could write" in each for each in members.warnings())
    cluster[primary].kill()
    await cluster.settled(others, other_than=primary)
    members.start(primary)
    await cluster.settled(other_than=primary)
    await members.take(primary, first)
    assert members.warnings() == []

    leads = (await cluster.settled())["node_id"]
    for name in "abc":
        await members.take(name, second)
    for settings in steps("from 8 s to 5 s"):
        for name in "cab":
            await members.take(name, settings)
        assert members.warnings() == []
    assert (await cluster.settled())["node_id"] == leads
