"""The recipes of examples/ as their users run them: three nodes each, real twistd processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from kevy_elect.cli.demo.ports import free_ports
from tests.support import FOREGROUND, ROOT
from tests.support.processes import Process, start
from tests.support.waiting import DEADLINE, wait_for

EXAMPLES = ROOT / "examples"
TIMINGS = {
    "hb_interval": 0.02,
    "down_after": 1.0,
    "election_timeout": 0.5,
    "election_backoff": 0.1,
    "election_backoff_jitter": 0.3,
}
ENOUGH = 10
"""Pieces of work after which a node is believed to work."""


class Recipe:
    """Processes that run examples, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = free_ports(7)
        self.web = dict(zip("abc", ports[3:6], strict=True))
        self.store = f"http://127.0.0.1:{ports[6]}/"
        self.settings = {
            "PEERS": ",".join(
                f"{node_id}@127.0.0.1:{port}:{self.web[node_id]}"
                for node_id, port in zip("abc", ports[:3], strict=True)
            ),
            "TIMINGS": json.dumps(TIMINGS),
            "STOP_GRACE": "0.2",
            "INTERVAL": "0.02",
            "STORE_PORT": str(ports[6]),
        }
        self.processes: dict[str, Process] = {}

    def start(self, name: str, *command: str) -> None:
        self.processes[name] = start(
            command, self.directory, self.log(name), **self.settings, NODE_ID=name
        )

    def start_nodes(self, tac: str, ids: str = "abc") -> None:
        for node_id in ids:
            self.start(node_id, *FOREGROUND, "-y", str(EXAMPLES / tac))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait(DEADLINE)

    def pause(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def lines(self, name: str) -> list[list[str]]:
        """The words of each line of a file that the nodes write together."""
        path = self.directory / name
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def worker(self, name: str, other_than: str = "") -> str:
        """Who wrote the last lines of that file, once there are enough."""

        def ask() -> str | None:
            last = [node for *_, node in self.lines(name)[-ENOUGH:]]
            same = len(last) == ENOUGH and len(set(last)) == 1
            return last[0] if same and last[0] not in other_than else None

        return wait_for(ask)


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Recipe]:
    """Nothing runs yet; what still runs at the end is ended."""
    recipe = Recipe(tmp_path)
    try:
        yield recipe
    finally:
        for name in recipe.processes:
            recipe.kill(name)
        for name in recipe.processes:
            print(f"== {name}\n{recipe.log(name).read_text()}")


def ask(url: str, method: str, body: str = "", **headers: str) -> tuple[int, str, str | None]:
    """Status, body and X-Primary of the answer; status 0 if there is none."""
    request = Request(url, body.encode() or None, headers, method=method)
    try:
        with urlopen(request, timeout=1) as answer:
            return answer.status, answer.read().decode(), None
    except HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode(), answer.headers["X-Primary"]
    except OSError:
        return 0, "", None


def test_the_singleton_job_numbers_without_a_gap_or_a_repeat(recipe: Recipe) -> None:
    recipe.start_nodes("singleton_job.tac")
    first = recipe.worker("numbers.txt")
    recipe.kill(first)
    recipe.worker("numbers.txt", other_than=first)
    found = recipe.lines("numbers.txt")
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    for node_id in {node_id for _, node_id in found}:
        assert "elected primary of epoch" in recipe.log(node_id).read_text()


def test_the_loop_turns_on_the_primary_of_each_epoch_only(recipe: Recipe) -> None:
    recipe.start_nodes("primary_loop.tac")
    first = recipe.worker("turns.txt")
    recipe.kill(first)
    recipe.worker("turns.txt", other_than=first)
    turns = [(int(epoch), node_id) for epoch, node_id in recipe.lines("turns.txt")]
    assert turns == sorted(turns, key=lambda turn: turn[0])
    for epoch, node_id in set(turns):
        assert f"elected primary of epoch {epoch} " in recipe.log(node_id).read_text()


def test_the_web_application_serves_on_the_primary_and_replicas_point_to_it(
    recipe: Recipe,
) -> None:
    recipe.start_nodes("web_application.tac")
    tickets: list[tuple[int, int]] = []

    def serving(ids: str) -> str | None:
        """Who serves, if all others point to it. Two that serve would mix up the tickets."""
        servers, told = [], []
        for node_id in ids:
            status, body, primary = ask(f"http://127.0.0.1:{recipe.web[node_id]}/", "POST")
            if status == 200:
                epoch, number = body.split(".")
                tickets.append((int(epoch), int(number)))
                servers.append(node_id)
            elif status == 503 and primary and body == f"the primary is {primary}\n":
                told.append(primary)
        if len(servers) != 1 or len(told) != len(ids) - 1:
            return None
        address = f"127.0.0.1:{recipe.web[servers[0]]}"
        return servers[0] if set(told) == {address} else None

    first = wait_for(lambda: serving("abc"))
    recipe.kill(first)
    wait_for(lambda: serving("abc".replace(first, "")))
    assert tickets == sorted(set(tickets))
    assert tickets[0][0] < tickets[-1][0]


def test_the_store_refuses_a_stale_primary(recipe: Recipe) -> None:
    # A busy machine must not take the lease, and so the job, of the one that is paused.
    timings = {**TIMINGS, "hb_interval": 0.1, "down_after": 2.5}
    recipe.settings["TIMINGS"] = json.dumps(timings)
    store = (sys.executable, str(EXAMPLES / "fenced_store.py"))
    recipe.start("store", *store)
    recipe.start_nodes("fenced_job.tac")

    def writes() -> list[tuple[int, str]]:
        """Epoch and node of each write."""
        found = [json.loads(line) for line in ask(recipe.store, "GET")[1].splitlines()]
        return [(write["epoch"], write["value"][-1]) for write in found]

    def newer(than: int) -> tuple[int, str] | None:
        return next((write for write in writes() if write[0] > than), None)

    def late(epoch: int) -> int:
        return ask(recipe.store, "PUT", "late", Epoch=str(epoch))[0]

    old, first = wait_for(lambda: newer(0))
    recipe.pause(first)
    epoch, second = wait_for(lambda: newer(old))
    assert second != first
    assert late(old) == 409
    recipe.resume(first)  # and PrimaryOnly finds that the job outlived its lease
    assert recipe.processes[first].wait(DEADLINE) == 1
    recipe.start_nodes("fenced_job.tac", first)
    recipe.kill(second)
    wait_for(lambda: newer(epoch))

    recipe.kill("store")
    recipe.start("store", *store)
    wait_for(writes)
    assert late(epoch) == 409
    found = writes()
    assert found == sorted(found, key=lambda write: write[0])
    assert len(dict(found)) == len(set(found)), "two nodes wrote in one epoch"
    assert ask(recipe.store, "PUT", "no number", Epoch="x")[0] == 400


def test_one_of_three_workers_of_a_web_server_does_the_job(recipe: Recipe) -> None:
    """In a program of asyncio's, by `kevy_elect.aio`; the server replaces a worker that dies."""
    (port,) = free_ports(1)
    command = (sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--workers", "3")
    recipe.start("server", *command, "--port", str(port), "asgi_app:app")
    first = recipe.worker("numbers.txt")

    def asked() -> str | None:
        status, body, _ = ask(f"http://127.0.0.1:{port}/primary", "GET")
        return body if status == 200 and json.loads(body)["primary"] == first else None

    assert wait_for(asked)
    *_, worker, _ = recipe.lines("numbers.txt")[-1]
    os.kill(int(worker), signal.SIGKILL)
    recipe.worker("numbers.txt", other_than=first)
    numbers = [int(number) for number, *_ in recipe.lines("numbers.txt")]
    assert numbers == list(range(1, len(numbers) + 1))
    recipe.processes["server"].terminate()
    assert recipe.processes["server"].wait(DEADLINE) is not None
