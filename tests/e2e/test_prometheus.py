"""A real Prometheus, three real nodes, and the alerts of examples/alerts.yml."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.threads import deferToThread

from kevy_elect.cli.demo.ports import free_ports
from tests.ops.test_metrics import ALERTS, described, documented, named, panels, series
from tests.support.processes import Cluster, poll
from tests.support.waiting import DEADLINE

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
CHILD = ("--run-primary=sleep 1000", "--stop-grace=0.1", "--down-after=2")
SETTINGS = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: db
    static_configs:
      - targets: %s
"""
WATCHED = {"KevyElectNoPrimary", "KevyElectMemberDown", "KevyElectNotScraped"}
"""Others may rightly fire on a machine with much to do."""


def metrics(cluster: Cluster, node_id: str) -> str:
    with urlopen(f"http://127.0.0.1:{cluster[node_id].http}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


class Prometheus:
    """Scrapes these nodes five times a second, and waits a second where the alerts say minutes."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.targets = {
            node_id: f"127.0.0.1:{node.http}" for node_id, node in cluster.nodes.items()
        }
        (self._port,) = free_ports(1)
        self._log = directory / "prometheus.log"
        alerts = re.sub(r"\bfor: \w+", "for: 1s", ALERTS.read_text())
        (directory / "alerts.yml").write_text(alerts)
        config = directory / "prometheus.yml"
        config.write_text(SETTINGS % json.dumps([*self.targets.values()]))
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    str(PROMETHEUS),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={directory / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        print(f"== {self._log.name}\n{self._log.read_text()}")

    async def ask(self, path: str, **query: str) -> Any:
        """What it answers; None while it does not."""

        def ask() -> Any:
            url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(query)}"
            try:
                with urlopen(url, timeout=5) as answer:
                    return json.load(answer)["data"]
            except OSError:
                return None

        return await deferToThread(ask)

    async def value(self, expression: str) -> float | None:
        """Of an expression that has one value."""
        found = await self.ask("query", query=expression)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    async def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire, by their names."""
        found = await self.ask("alerts")
        return {
            alert["labels"]["alertname"]: alert
            for alert in (found or {"alerts": []})["alerts"]
            if alert["state"] == "firing"
        }


@async_yield_fixture()
async def prometheus(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Prometheus]:
    running = Prometheus(cluster, tmp_path)
    yield running
    running.end()


@ensureDeferred
async def test_a_real_node_has_all_that_is_documented_shown_and_watched(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.start(node.command(*CHILD))
    primary = (await cluster.settled())["node_id"]

    async def ticked() -> str | None:
        told = str(await deferToThread(metrics, cluster, primary))
        return None if "\nkevy_elect_tick_lateness_seconds_count 0.0" in told else told

    scrape = await poll(ticked)
    families = list(text_string_to_metric_families(scrape))
    of_servers = ("kevy_elect_data_state", "kevy_elect_data_fencing")
    without_server = {name: ("gauge", set[str]()) for name in of_servers}
    assert described(families) == documented() | without_server

    there = series(families)
    assert named("\n".join(panels())) <= there
    watched = {name for name in named(ALERTS.read_text()) if "_data_" not in name}
    not_asked_for = {
        "kevy_elect_certificate_end_timestamp_seconds",
        "kevy_elect_healthy",
        "kevy_elect_maintenance_end_timestamp_seconds",
    }
    assert watched <= there | not_asked_for

    values = {
        (each.name, *each.labels.values()): each.value for f in families for each in f.samples
    }
    assert values["kevy_elect_can_write",] == 1
    assert values["kevy_elect_elections_total", "elected"] == 1
    assert values["kevy_elect_ballot_save_seconds_count",] > 0
    assert values["kevy_elect_tick_lateness_seconds_count",] > 0
    assert values["kevy_elect_link_state", "b" if primary != "b" else "c", "connected"] == 1
    if PROMTOOL is not None:
        command = [PROMTOOL, "check", "metrics"]
        done = subprocess.run(command, input=scrape, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_prometheus
@ensureDeferred
async def test_the_alert_fires_when_the_quorum_is_lost_and_ends_when_it_is_back(
    cluster: Cluster, prometheus: Prometheus
) -> None:
    cluster.start()
    primary = (await cluster.settled())["node_id"]

    async def is_quiet() -> bool:
        """All nodes are scraped, one may write, and no alert says otherwise."""
        writers = await prometheus.value("sum(kevy_elect_can_write)")
        scraped = await prometheus.value('sum(up{job="db"})')
        return (writers, scraped) == (1, 3) and not WATCHED & set(await prometheus.firing())

    await poll(is_quiet)
    writer = await prometheus.ask("query", query="kevy_elect_can_write == 1")
    assert writer["result"][0]["metric"]["instance"] == prometheus.targets[primary]

    dead = (primary, "a" if primary != "a" else "b")
    for node_id in dead:
        cluster[node_id].kill()
    began = time.monotonic()

    async def fires() -> Any:
        return (await prometheus.firing()).get("KevyElectNoPrimary")

    alert = await poll(fires)
    print(f"fired {time.monotonic() - began:.1f} s after the quorum was lost")
    assert alert["labels"] == {
        "alertname": "KevyElectNoPrimary",
        "job": "db",
        "severity": "critical",
    }
    assert alert["annotations"]["summary"] == "db has no primary that may write"

    async def tells_who_is_down() -> bool:
        return set(await prometheus.firing()) >= WATCHED

    await poll(tells_who_is_down)
    for node_id in dead:
        cluster[node_id].start()
    await poll(is_quiet)
