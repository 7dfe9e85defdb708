"""A short run on real processes, with every kind of fault that it has time for. Only for pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.chaos import sandbox
from tests.support import ROOT

SEED = 1
MINUTES = 0.3


def test_no_two_nodes_write_at_once_and_all_agree_again(tmp_path: Path) -> None:
    obstacle = sandbox.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    options = [f"--minutes={MINUTES}", f"--seed={SEED}", "--stall=2", f"--directory={tmp_path}"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak.chaos", *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    print(run.stdout)
    for log in sorted(tmp_path.glob("*.log")):
        print(f"== {log.name}\n{log.read_text()}")
    assert run.returncode == 0, run.stdout
