"""Real nodes with a configuration file, which they reread on SIGHUP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.support import FOREGROUND, ROOT, TWISTD
from tests.support.processes import TWIST, Cluster, Node, logged, poll
from tests.support.waiting import DEADLINE

EXAMPLE = ROOT / "examples/kevy-elect.toml"
CHECK = (sys.executable, "-m", "kevy_elect", "check-config")
QUICK = {
    "hb-interval": 0.1,
    "down-after": 2.0,
    "election-timeout": 0.5,
    "election-backoff": 0.1,
    "election-backoff-jitter": 0.3,
    "log-format": "json",
}


class ConfigFile:
    """The example, with these members and with settings filled in."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.path = directory / "kevy-elect.toml"
        members = [peer.split("@") for peer in cluster["a"].peers.split(",")]
        self._peers = "".join(f'{node_id} = "{address}"\n' for node_id, address in members)

    def write(self, **settings: Any) -> None:
        text = EXAMPLE.read_text(encoding="utf-8")
        given = QUICK | {name.replace("_", "-"): value for name, value in settings.items()}
        for name, value in given.items():
            line = f"{name} = {json.dumps(value)}"
            text, found = re.subn(rf"(?m)^# {name} = .*$", lambda _, new=line: new, text)
            assert found == 1, name
        text = re.sub(r"(?ms)(?<=^\[peers\]\n).*?(?=\n\n)", lambda _: self._peers, text)
        self.path.write_text(text, encoding="utf-8")

    def command(self, node: Node, *twistd: str) -> list[str]:
        return [
            *((*TWISTD, *twistd) if twistd else FOREGROUND),
            *("kevy-elect", "--config", self.path.name, "--node-id", node.node_id),
            f"--http=tcp:{node.http}:interface=127.0.0.1",
        ]


@pytest.fixture
def config(cluster: Cluster, tmp_path: Path) -> ConfigFile:
    return ConfigFile(cluster, tmp_path)


async def goes_by(node: Node, down_after: float) -> None:
    async def is_told() -> bool:
        told = await node.status()
        return told is not None and told["settings"]["down_after"] == down_after

    await poll(is_told)


def reload(node: Node) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)


@ensureDeferred
async def test_nodes_of_one_file_reread_it_and_go_on(
    cluster: Cluster, config: ConfigFile, tmp_path: Path
) -> None:
    config.write()
    for node in cluster.nodes.values():
        node.start(config.command(node))
    before = await cluster.settled()
    primary = before["node_id"]

    heard = tmp_path / "heard"
    hook = ["/bin/sh", "-c", f"echo $KEVY_NODE_ID of $KEVY_PRIMARY_ID: $KEVY_REASON >> {heard}"]
    longer = {"down_after": 4.0, "lease_duration": 1.96}  # the first step of growing
    config.write(**longer, on_change=hook, log_level="debug", no_handover=True)
    for node_id in "abc":
        reload(cluster[node_id])
        await goes_by(cluster[node_id], 4.0)
        await logged(
            cluster[node_id].log.read_text, "no-handover also changed, which needs a restart"
        )

    async def all_heard() -> bool:
        lines = heard.read_text().splitlines() if heard.exists() else []
        wanted = {f"{n} of {primary}: the configuration was reread" for n in "abc"}
        return wanted <= set(lines)

    await poll(all_heard)
    config.path.write_text(config.path.read_text() + "\n[job]\nx = 1\n[peers.d]\nhost = 1\n")
    line = config.path.read_text().count("\n") - 3
    reload(cluster[primary])
    log = cluster[primary].log.read_text
    await logged(log, f"nothing of it is used: {config.path}:{line}: job: there is no")
    await logged(log, f"{config.path}:{line + 2}: --peers: d has no elect-port")
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (primary, before["epoch"])
    assert after["settings"]["down_after"] == 4.0

    for node in cluster.nodes.values():
        assert node.kill(signal.SIGTERM) == -signal.SIGTERM
        text, lines = [], []
        for line_of_log in node.log.read_text().splitlines():
            (lines if line_of_log.startswith("{") else text).append(line_of_log)
        assert len(text) == 2, text  # twistd's own, before anything is read
        events = [json.loads(each) for each in lines]
        assert {each["node"] for each in events} == {node.node_id}
        assert not any("Traceback" in each["message"] for each in events)
        assert "critical" not in {each["level"] for each in events} or node.node_id == primary


@ensureDeferred
async def test_a_daemon_finds_its_file_again(
    cluster: Cluster, config: ConfigFile, tmp_path: Path
) -> None:
    config.write(log_level="warn")
    alone = cluster["a"]
    run, pidfile = tmp_path / "run", tmp_path / "a.pid"
    run.mkdir()
    twistd = (f"--pidfile={pidfile}", f"--rundir={run}", f"--logfile={tmp_path / 'daemon.log'}")
    assert alone.start(config.command(alone, *twistd)).wait(DEADLINE) == 0
    pid = int(pidfile.read_text())
    try:
        await poll(alone.status)
        config.write(down_after=4.0, lease_duration=1.96)
        os.kill(pid, signal.SIGHUP)
        await goes_by(alone, 4.0)
    finally:
        os.kill(pid, signal.SIGTERM)
    assert (run / "kevy-elect-a").is_dir()

    async def gone() -> bool:
        return not pidfile.exists()

    await poll(gone)


@ensureDeferred
async def test_twistd_itself_may_log_json_from_its_first_line(
    cluster: Cluster, config: ConfigFile
) -> None:
    config.write(log_format="text")
    node = cluster["a"]
    node.start(
        config.command(node, "-n", "--pidfile=", "--logger", "kevy_elect.ops.log.json_observer")
    )
    await poll(node.status)
    assert node.kill(signal.SIGTERM) == -signal.SIGTERM
    events = [json.loads(line) for line in node.log.read_text().splitlines()]
    assert "a" in {each["node"] for each in events}
    assert events[0]["message"].startswith("twistd ")
    assert events[-1]["message"] == "Server Shut Down."


@pytest.mark.parametrize("runner", [FOREGROUND, TWIST], ids=["twistd", "twist"])
def test_all_mistakes_are_told_at_once_and_nothing_starts(
    cluster: Cluster, config: ConfigFile, tmp_path: Path, runner: tuple[str, ...]
) -> None:
    config.write(witness=3, http="nonsense")
    options = ("--config", str(config.path), "--node-id=a", "--listen=nothing")
    outputs = []
    for command in ([*runner, "kevy-elect", *options], [*CHECK, *options]):
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "KEVY_ELECT_ADVERTISE": "here"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (1, "")
        outputs.append(ended.stderr)
    assert outputs[0] == outputs[1]
    beginnings = [line.removeprefix("kevy-elect: ") for line in outputs[0].splitlines()]
    wanted = ("--listen", "KEVY_ELECT_ADVERTISE: ", f"{config.path}:", f"{config.path}:")
    for beginning, begin in zip(beginnings, wanted, strict=True):
        assert beginning.startswith(begin)
    assert not list(tmp_path.glob("kevy-elect-*"))


def test_check_config_shows_what_the_example_makes(cluster: Cluster, config: ConfigFile) -> None:
    config.write()
    ended = subprocess.run(
        [*CHECK, "--config", str(config.path), "--node-id=a", "--json"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    settings = json.loads(ended.stdout)["settings"]
    assert settings["down-after"]["value"] == 2.0
    assert settings["down-after"]["source"] == "file"
    assert settings["node-id"] == {
        "value": "a",
        "source": "command line",
        "name": None,
        "line": None,
    }
