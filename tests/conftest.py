"""What lets one suite run under two runners. pytest reads this file, trial does not."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path

import pytest

# Where it is forbidden to keep compiled modules, each of some hundred nodes and commands that
# the tests start compiles all of them again, which is half of what the suite costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def _is_trial_test(item: pytest.Item) -> bool:
    cls = getattr(item, "cls", None)
    return cls is not None and issubclass(cls, unittest.TestCase)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the trial classes first.

    pytest-twisted starts the reactor at its first test or fixture and leaves it
    running; a trial test that spins the reactor itself fails from then on.
    """
    items.sort(key=lambda item: not _is_trial_test(item))


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
