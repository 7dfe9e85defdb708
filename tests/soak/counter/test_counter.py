"""A few faults on real processes. Only for pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.soak.chaos import sandbox
from tests.support import ROOT

SEED = 111
FAULTS = {
    "run-primary": ("node killed", "switchover", "child and node stopped"),
    "tac": ("node killed", "switchover", "node stopped before its write"),
    "last-will": ("node killed", "node restarted", "node stopped", "supervisor killed"),
}
OPTIONS = {
    "run-primary": ["--links=plain"],
    "tac": ["--tac", "--links=tls"],
    "last-will": ["--last-will", "--links=noise"],
}


@attrs.frozen
class Running:
    directory: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    """Start all runs at once, because they mostly wait."""
    obstacle = sandbox.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    started = {kind: _start(kind, tmp_path_factory.mktemp(kind)) for kind in FAULTS}
    yield started
    for each in started.values():
        each.process.kill()
        each.process.wait()


def _start(kind: str, directory: Path) -> Running:
    options = [
        f"--faults={len(FAULTS[kind])}",
        f"--seed={SEED}",
        f"--directory={directory}",
        *(f"--only={fault}" for fault in FAULTS[kind]),
        *OPTIONS.get(kind, []),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.counter", *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Running(directory, process)


@pytest.mark.parametrize("kind", FAULTS)
def test_only_the_primary_increments_and_no_increment_is_lost(
    runs: dict[str, Running], kind: str
) -> None:
    told, _ = runs[kind].process.communicate(timeout=300)
    print(told)
    for log in sorted(runs[kind].directory.glob("*.log")):
        print(f"== {log.name}\n{log.read_text()}")
    assert runs[kind].process.returncode == 0, told
