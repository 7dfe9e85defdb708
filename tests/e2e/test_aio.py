"""Elections in programs of asyncio's, each a process of its own, since it has one reactor."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from kevy_elect.cli.demo.ports import free_ports
from tests.support.waiting import DEADLINE

HEAD = """
import asyncio
from kevy_elect import ConfigError, ElectConfig
from kevy_elect.aio import Election

CONFIG = ElectConfig(hb_interval=0.05, down_after=0.5, election_timeout=0.5,
                     election_backoff=0.1, election_backoff_jitter=0.4)

def member(node_id):
    return Election(node_id, PEERS, data_dir=f"data-{node_id}", config=CONFIG)

async def leader(*elections):
    waits = {asyncio.ensure_future(each.when_primary()): each for each in elections}
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in rest:
        wait.cancel()
    return waits[done.pop()]
"""


def run(directory: Path, program: str) -> subprocess.CompletedProcess[str]:
    ports = free_ports(3)
    hosts = ("127.0.0.1", "localhost", "127.0.0.1")  # a name is resolved in a thread
    peers = [f"{n}@{h}:{p}" for n, h, p in zip("abc", hosts, ports, strict=True)]
    script = f"PEERS = {peers!r}\n{HEAD}\n{textwrap.dedent(program)}"
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_three_members_of_one_program_elect_watch_and_hand_over(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            async with member("a") as a, member("b") as b:
                async with member("c") as c:
                    first = await asyncio.wait_for(leader(a, b, c), 20)
                    me = first.cluster.node_id
                    async for change in b.changes():
                        if change.snapshot.current_primary == me:
                            break
                    await asyncio.sleep(CONFIG.down_after)  # who just started does not run
                    others = [each for each in (a, b, c) if each is not first]
                    outcome = await first.switch_over(others[0].cluster.node_id)
                    assert outcome.done, outcome.text
                    second = await asyncio.wait_for(leader(*others), 20)
                    assert second is others[0]
                    try:
                        await asyncio.wait_for(first.when_primary(), 0.05)
                    except TimeoutError:
                        print("not primary")
                    await second.step_down(5.0, "a test says so")
                third = await asyncio.wait_for(leader(a, b), 20)
                assert third.can_write()
            print("all stopped")

        asyncio.run(main())
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["not primary", "all stopped"]


def test_a_program_may_elect_again_but_only_on_one_loop(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            for _ in range(2):
                async with member("a") as a:
                    assert a.state_snapshot().current_primary is None

        asyncio.run(main())
        try:
            asyncio.run(main())
        except ConfigError as error:
            print(error)
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "one loop for all elections" in ended.stdout


def test_another_reactor_is_refused(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        from twisted.internet import reactor

        async def main():
            async with member("a"):
                pass

        try:
            asyncio.run(main())
        except ConfigError as error:
            print(error)
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "not on the running loop" in ended.stdout


def test_what_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            async with member("a"):
                try:
                    async with member("a"):
                        pass
                except Exception as error:
                    print(type(error).__name__)

        asyncio.run(main())
        """,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == "CannotListenError"
