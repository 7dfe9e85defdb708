"""Three nodes that drive a store made of files by commands: one takes writes, the others follow."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from kevy_elect.children.processes import children, command_line
from kevy_elect.data import guard
from tests.support import ROOT
from tests.support.processes import Cluster, poll
from tests.support.waiting import wait_for

# A target has to run two commands before it stands: it has down_after less two heartbeats for them.
TIMINGS = ("--hb-interval=0.2", "--down-after=2", "--election-timeout=2")
COMMANDS = {
    # Whoever writes or replicates holds the lock, so that nothing is under way after these.
    "freeze": "cd store-$KEVY_NODE_ID; flock lock rm -f source",
    "demote": "cd store-$KEVY_NODE_ID; flock lock rm -f writable",
    "promote": "cd store-$KEVY_NODE_ID; rm -f source; touch writable",
    # Done when it has the primary's history, and nothing of its own beside that.
    "follow": "cd store-$KEVY_NODE_ID; rm -f synced; echo $KEVY_PRIMARY_ADDR > source; "
    "until [ -e synced ]; do sleep 0.02; done",
    "offset-command": "wc -l < store-$KEVY_NODE_ID/log",
}


class Store:
    """A log in a directory. It takes writes while there is `writable`, and follows `source`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.log.touch()

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def takes_writes(self) -> bool:
        return (self.directory / "writable").exists()

    def lines(self) -> list[str]:
        return self.log.read_text().split()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with open(self.directory / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, line: str) -> bool:
        """Whether it took the line."""
        with self.locked():
            if self.takes_writes:
                with open(self.log, "a") as log:
                    log.write(f"{line}\n")
            return self.takes_writes

    def replicate(self, stores: dict[str, Store]) -> None:
        """Take over what the source has."""
        with self.locked():
            try:
                source = (self.directory / "source").read_text().strip()
            except FileNotFoundError:
                return
            if source in stores:
                new = self.directory / "new"
                new.write_bytes(stores[source].log.read_bytes())
                os.replace(new, self.log)
                (self.directory / "synced").touch()


class Stores:
    """One store a node, each at an address at which nobody listens; a thread replicates."""

    def __init__(self, directory: Path) -> None:
        self.of = {node_id: Store(directory / f"store-{node_id}") for node_id in "abc"}
        self.address = {node_id: f"{node_id}.example:1" for node_id in "abc"}
        self._at = {self.address[node_id]: store for node_id, store in self.of.items()}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._replicate)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _replicate(self) -> None:
        while not self._ended.wait(0.02):
            for store in self.of.values():
                store.replicate(self._at)

    def write(self, node_id: str, number: int) -> list[str]:
        """Those of so many lines that the store took, until it takes no more."""
        taken = []
        for line in (f"{node_id}{each}" for each in range(number)):
            if not self.of[node_id].write(line):
                break
            taken.append(line)
        return taken

    def writable(self) -> set[str]:
        return {node_id for node_id, store in self.of.items() if store.takes_writes}


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    found = Stores(tmp_path)
    yield found
    found.stop()


def start(cluster: Cluster, stores: Stores, ids: str = "abc") -> None:
    commands = [f"--{name}={command}" for name, command in COMMANDS.items()]
    for node_id in ids:
        node = cluster[node_id]
        advertised = f"--advertise={stores.address[node_id]}"
        node.start(node.command("--shell", advertised, *TIMINGS, *commands))


def node_pid(cluster: Cluster, node_id: str) -> int:
    process = cluster[node_id].process
    assert process is not None
    return process.pid


def guard_of(node: int) -> int:
    """The process id of the guard below this process."""
    return next(each for each in children(node) if guard.__file__ in command_line(each))


async def replicating(cluster: Cluster, stores: Stores, ids: str = "abc") -> str:
    """The primary, once the others' stores have all that its store has."""

    async def whole() -> Any:
        found = await cluster.agreed(ids)
        if found is None:
            return None
        told = [await cluster[node_id].status() for node_id in ids]
        states = sorted(each["data"]["state"] for each in told if each)
        equal = len({tuple(stores.of[node_id].lines()) for node_id in ids}) == 1
        follow = states == ["following"] * (len(ids) - 1) + ["primary"]
        return found["node_id"] if follow and equal else None

    primary: str = await poll(whole)
    return primary


@ensureDeferred
async def test_one_store_takes_writes_and_the_others_follow(
    cluster: Cluster, stores: Stores
) -> None:
    start(cluster, stores)
    primary = await replicating(cluster, stores)
    assert stores.writable() == {primary}
    taken = stores.write(primary, 20)
    assert len(taken) == 20
    assert await replicating(cluster, stores) == primary
    assert stores.of["abc".replace(primary, "")[0]].lines() == taken


@ensureDeferred
async def test_a_switchover_loses_nothing_that_was_taken(cluster: Cluster, stores: Stores) -> None:
    start(cluster, stores)
    first = await replicating(cluster, stores)
    writing = deferToThread(stores.write, first, 1_000_000)
    command = [sys.executable, "-m", "kevy_elect", "switchover"]

    async def moved() -> bool:
        """On a busy machine a target may not stand in time, and then loses nothing, either."""
        where = f"--data-dir={cluster[first].data}"
        done = await deferToThread(subprocess.run, [*command, where], cwd=ROOT)
        return done.returncode == 0

    await poll(moved)
    taken = await writing
    second = await replicating(cluster, stores)
    assert second != first
    assert stores.writable() == {second}
    assert taken
    assert stores.of[second].lines() == taken


@ensureDeferred
async def test_an_old_primary_that_went_on_alone_follows_when_its_node_is_back(
    cluster: Cluster, stores: Stores
) -> None:
    start(cluster, stores)
    first = await replicating(cluster, stores)
    pid = node_pid(cluster, first)
    os.kill(guard_of(pid), signal.SIGKILL)
    cluster[first].kill()  # its store takes writes on: nothing fences it
    rest = "abc".replace(first, "")
    second = await replicating(cluster, stores, rest)
    assert len(stores.write(first, 50)) == 50
    taken = stores.write(second, 5)
    start(cluster, stores, first)
    assert await replicating(cluster, stores) == second
    assert stores.writable() == {second}
    assert stores.of[first].lines() == taken


@ensureDeferred
async def test_a_store_whose_node_dies_takes_no_writes(cluster: Cluster, stores: Stores) -> None:
    start(cluster, stores)
    first = await replicating(cluster, stores)
    cluster[first].kill()
    wait_for(lambda: not stores.of[first].takes_writes)


@ensureDeferred
async def test_a_store_whose_node_hangs_takes_no_writes(cluster: Cluster, stores: Stores) -> None:
    """Before the next one takes any."""
    start(cluster, stores)
    first = await replicating(cluster, stores)
    os.kill(node_pid(cluster, first), signal.SIGSTOP)

    def others() -> set[str]:
        return stores.writable() - {first}

    wait_for(lambda: not stores.of[first].takes_writes or others())
    assert not others()
    rest = "abc".replace(first, "")
    second = await replicating(cluster, stores, rest)
    os.kill(node_pid(cluster, first), signal.SIGCONT)
    assert await replicating(cluster, stores) == second
    assert stores.writable() == {second}


@ensureDeferred
async def test_a_member_whose_store_cannot_be_frozen_does_not_lead(
    cluster: Cluster, stores: Stores
) -> None:
    (stores.of["a"].directory / "writable").mkdir()  # which `rm` does not remove
    start(cluster, stores)
    await replicating(cluster, stores, "bc")

    async def is_said() -> bool:
        return "the store failed at --demote: 'sh' exited with status 1" in cluster.logs()

    await poll(is_said)
