"""The guard of a store that is driven by commands, with real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kevy_elect.children.processes import is_running
from kevy_elect.children.supervised import supervised
from kevy_elect.data import guard
from kevy_elect.service.clock import uptime
from tests.support.waiting import DEADLINE, wait_for

SOON = 0.2


class Guarding:
    """A guard, whose command writes into a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, cwd=directory
        )

    def begin(self, script: str, limit: float = DEADLINE) -> None:
        words = supervised(["/bin/sh", "-c", script], "", grace=0.0, leased=False, privileged=False)
        self.tell(command=words, environment={**os.environ, "KEVY_EPOCH": "7"}, limit=limit)

    def tell(self, **what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def keep(self, seconds: float) -> None:
        self.tell(until=uptime() + seconds, margin=0.1)

    def end_node(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def read(self) -> str:
        path = self.directory / "out"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def guarding(tmp_path: Path) -> Iterator[Guarding]:
    found = Guarding(tmp_path)
    yield found
    found.process.kill()
    found.process.wait()


def test_it_runs_the_command_when_the_node_ends_and_ends_with_it(guarding: Guarding) -> None:
    guarding.begin("echo $KEVY_EPOCH > out")
    guarding.keep(DEADLINE)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    assert guarding.read() == "7\n"


def test_it_runs_it_before_the_lease_ends_if_nothing_more_is_heard(guarding: Guarding) -> None:
    guarding.begin("echo > out")
    guarding.keep(SOON)
    wait_for(guarding.read)


def test_it_runs_it_again_until_it_succeeds(guarding: Guarding) -> None:
    guarding.begin("echo >> out; test $(wc -l < out) = 2")
    guarding.keep(SOON)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    assert guarding.read() == "\n\n"


def test_it_gives_up_when_its_time_is_over(guarding: Guarding) -> None:
    """And nothing of the command is left: a node that is back may promote the store then."""
    guarding.begin("sleep 60 & echo $! > out; wait", limit=1.5)
    guarding.keep(SOON)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    text = guarding.read()  # nothing, if the machine is so busy that the command never began
    assert not text or not is_running(int(text))


def test_a_node_that_froze_the_store_itself_ends_the_command(guarding: Guarding) -> None:
    guarding.begin("trap '' TERM; sleep 60 & echo $! > out; wait")
    guarding.keep(SOON)
    left = int(wait_for(lambda: guarding.read().endswith("\n") and guarding.read()))
    guarding.tell(until=None)
    wait_for(lambda: not is_running(left))


def test_a_store_that_takes_no_writes_is_left_alone(guarding: Guarding) -> None:
    guarding.begin("echo > out")
    guarding.keep(DEADLINE)
    guarding.tell(until=None)
    guarding.end_node()
    assert guarding.process.wait(DEADLINE) == 0
    assert guarding.read() == ""


def test_it_reports_what_it_does_because_of_the_time(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__],
        stdin=subprocess.PIPE,
        preexec_fn=lambda: os.dup2(theirs, guard.REPORT),
        close_fds=False,
    )
    os.close(theirs)
    words = supervised(["true"], "", grace=0.0, leased=False, privileged=False)
    told = {"command": words, "environment": {}, "limit": DEADLINE, "until": 0, "margin": 0}
    assert process.stdin is not None
    process.stdin.write(json.dumps(told).encode() + b"\n")
    process.stdin.flush()
    assert os.read(ours, 64) == b"frozen\n"
    process.stdin.close()
    assert process.wait(DEADLINE) == 0
    os.close(ours)
