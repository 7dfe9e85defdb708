"""What lets one suite run under two runners. pytest reads this file, trial does not."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Where it is forbidden to keep compiled modules, each of some hundred nodes and commands that
# the tests start compiles all of them again, which is half of what the suite costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_WHOLE = (
    "tests/e2e/test_demo.py",  # each of its clusters has a minute to elect
    "tests/e2e/test_page.py",  # one browser
    "tests/soak/counter/test_counter.py",  # runs that all share
    "tests/soak/hostile/test_hostile.py",  # nodes that all share
)
"""Files whose tests run one after another."""
_LONGEST = (
    "tests/soak/",
    "tests/e2e/test_timings.py",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_page.py",
    "tests/e2e/test_postgresql.py",
    "tests/e2e/test_commands.py",
)


def _is_trial_test(item: pytest.Item) -> bool:
    cls = getattr(item, "cls", None)
    return cls is not None and issubclass(cls, unittest.TestCase)


class OneByOne(LoadScopeScheduling):
    """Gives a process that has nothing to do one more test, or one of these files."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in _WHOLE else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    return OneByOne(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the trial classes first, and of the others those that take longest.

    pytest-twisted starts the reactor at its first test or fixture and leaves it
    running; a trial test that spins the reactor itself fails from then on.
    """
    items.sort(key=lambda item: (not _is_trial_test(item), not item.nodeid.startswith(_LONGEST)))


@pytest.fixture(scope="session")
def trial_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trial")


@pytest.fixture(autouse=True)
def _stand_where_trial_does(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run trial tests in a directory of their own, as trial does: `mktemp` of a trial
    class makes its files in the current one."""
    if _is_trial_test(request.node):
        monkeypatch.chdir(request.getfixturevalue("trial_directory"))
