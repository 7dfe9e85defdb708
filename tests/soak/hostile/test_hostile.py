"""Small versions of some of the attacks, on real processes. pytest only, not trial."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.soak.hostile.__main__ import run
from tests.soak.hostile.cases import CASES

CHOSEN: Final = (
    "frames",
    "half",
    "nothing",
    "as-primary-crowd",
    "usurper",
    "deaf",
    "pipelined-read",
    "pipelined-unread",
    "slow-readers",
    "descriptors-primary",
    "leap-alone",
)
SEED: Final = 1
MEMORY: Final = 16 * 1024
"""Kilobytes; a node starts with more than twice that."""


@pytest.mark.parametrize("name", CHOSEN)
def test_the_nodes_bear_it(name: str, tmp_path: Path) -> None:
    (result,) = run([CASES[name]], tmp_path, quick=True, seed=SEED)
    print(result)
    for log in sorted(tmp_path.glob("*/*.log")):
        print(f"== {log.name}\n{log.read_text()[-4000:]}")
    assert result.failures == []
    assert result.memory < MEMORY
