"""Three real nodes below wrappers: whoever is primary and dies is replaced at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.cli.supervise import wrapped
from tests.support import TWISTD
from tests.support.processes import Cluster, Node, child, poll
from tests.support.secured import options
from tests.support.waiting import DEADLINE

KEVY_ELECT = (sys.executable, "-m", "kevy_elect")
SUPERVISE = (*KEVY_ELECT, "supervise", "--")
DOWN_AFTER = 2.0
TIMINGS = (f"--down-after={DOWN_AFTER}",)
TOLD, RESIGNED, SILENT = "last-will", "primary-gone", "primary-down"
"""Why another runs: it heard a last will, a resignation, or nothing for DOWN_AFTER."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wrapper needs Linux")


@pytest.fixture(autouse=True)
def nodes_end(cluster: Cluster) -> Iterator[None]:
    """A node goes on without its wrapper, so whoever ends that has not ended the node."""
    yield
    for node in cluster.nodes.values():
        for pid in running(f"--data-dir={node.data}"):
            os.kill(pid, signal.SIGKILL)


def running(argument: str) -> list[int]:
    """The processes that were started with this argument, but wrappers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_text().split("\0")
            if (
                argument in words
                and "supervise" not in words
                and not any(word.endswith("wrapper.py") for word in words)
            ):
                found.append(int(path.parent.name))
    return found


async def start(cluster: Cluster, *more: str) -> str:
    """Start three nodes below wrappers; the primary once they are settled."""
    for node in cluster.nodes.values():
        node.start(wrapped(node.command(*TIMINGS, *more)))
    return await settled(cluster)


async def settled(cluster: Cluster) -> str:
    """Wait until an election needs no wait after a start (R4.3); the primary."""
    await cluster.settled()
    began = time.monotonic()

    async def old_enough() -> bool:
        return time.monotonic() > began + DOWN_AFTER + 0.2

    await poll(old_enough)
    found = await cluster.settled()
    return str(found["node_id"])


def listen(port: int, detour: Detour) -> IListeningPort:
    found: IListeningPort = reactor.listenTCP(port, detour, interface="127.0.0.1")
    return found


class LateEnds(ProxyServer):
    factory: Detour

    def connectionMade(self) -> None:
        self.factory.connections += 1
        self.number = self.factory.connections
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.transport.unregisterProducer()  # which would end with this connection
        super().dataReceived(data)
        if self.factory.old is not None and self.number > self.factory.old:
            self.factory.pass_ends_on()

    def connectionLost(self, reason: Failure) -> None:
        end = partial(super().connectionLost, reason)
        if self.factory.old is not None and self.number <= self.factory.old:
            self.factory.ends.append(end)
        else:
            end()


class Detour(ProxyFactory):
    """The way of all connections to one node. Once `delay_ends` was called, those that there
    are end there after a newer one has brought something, as if packets overtook each other."""

    protocol = LateEnds

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.connections = 0
        self.old: int | None = None
        self.ends: list[Callable[[], None]] = []
        self.late = 0

    def delay_ends(self) -> None:
        self.old = self.connections

    def pass_ends_on(self) -> None:
        for end in self.ends:
            reactor.callLater(0.03, end)
        self.late += len(self.ends)
        self.ends.clear()


def node_below(node: Node) -> int:
    assert node.process is not None
    return child(node.process.pid)


async def successor(cluster: Cluster, dead: str) -> dict[str, Any]:
    """Wait for the two others to agree; the status of the one that is primary then."""
    return await cluster.settled("abc".replace(dead, ""), other_than=dead)


async def replaced(cluster: Cluster, dead: str) -> str:
    """Why the one that is primary after `dead` ran against it."""
    return why(await successor(cluster, dead), dead)


def why(told: dict[str, Any], dead: str) -> str:
    causes = [e["cause"] for e in told["events"] if (e["kind"], e["member"]) == ("candidacy", dead)]
    return str(causes[-1])


def page(node: Node, path: str, awaited: str) -> bool:
    """Whether one of the first lines of this page has what is awaited."""
    with urlopen(f"http://127.0.0.1:{node.http}{path}", timeout=DEADLINE) as lines:
        return any(awaited in line.decode() for line in islice(lines, 200))


@ensureDeferred
async def test_a_killed_primary_is_replaced_at_once(cluster: Cluster) -> None:
    primary = await start(cluster)
    os.kill(node_below(cluster[primary]), signal.SIGKILL)
    told = await successor(cluster, primary)
    assert (why(told, primary), told["began_by_will_of"]) == (TOLD, primary)
    new = str(told["node_id"])
    counted = f'kevy_elect_terms_total{{cause="{TOLD}"}} 1.0'
    assert await deferToThread(page, cluster[new], "/metrics", counted)
    said = f", by the last will of {primary}, and holds its lease"
    assert await deferToThread(page, cluster[new], "/watch", said)
    process = cluster[primary].process
    assert process is not None
    assert process.wait(DEADLINE) == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["noise", "tls"])
@ensureDeferred
async def test_a_killed_primary_is_replaced_at_once_by_secure_links(
    cluster: Cluster, tmp_path: Path, kind: str
) -> None:
    secured = options(kind, cluster.nodes, tmp_path)
    for name, node in cluster.nodes.items():
        node.start(wrapped(node.command(*TIMINGS, *secured[name])))
    primary = await settled(cluster)
    before = await cluster[primary].status()
    assert before is not None
    assert {peer["security"] for peer in before["peers"]} == {kind}
    os.kill(node_below(cluster[primary]), signal.SIGKILL)
    told = await successor(cluster, primary)
    assert (why(told, primary), told["began_by_will_of"]) == (TOLD, primary)
    assert "lack of credentials" not in cluster.logs()


@ensureDeferred
async def test_an_operators_command_is_no_last_will(cluster: Cluster, tmp_path: Path) -> None:
    secured = options("noise", cluster.nodes, tmp_path)
    for name, node in cluster.nodes.items():
        node.start(wrapped(node.command(*secured[name])))
    for command in ("step-down", "switchover"):
        primary = (await cluster.settled())["node_id"]
        asked = [*KEVY_ELECT, command, f"--data-dir={cluster[primary].data}"]
        await poll(lambda primary=primary, asked=asked: is_replaced(cluster, primary, asked))
    for node in cluster.nodes.values():
        told = await poll(node.status)
        assert told["began_by_will_of"] is None
        assert TOLD not in [event["cause"] for event in told["events"]]


async def is_replaced(cluster: Cluster, primary: str, asked: Sequence[str]) -> bool:
    """Whether another is primary after this command, which a busy machine may have failed."""
    await deferToThread(subprocess.run, asked, check=False, timeout=DEADLINE)
    return (await cluster.settled())["node_id"] != primary


@ensureDeferred
async def test_one_more_option_is_enough(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.start(node.command(*TIMINGS, "--last-will"))
    primary = await settled(cluster)

    async def stands() -> bool:
        told = await cluster[primary].status()
        return told is not None and told["last_will"] is True

    await poll(stands)
    os.kill(node_below(cluster[primary]), signal.SIGKILL)
    assert await replaced(cluster, primary) == TOLD


@ensureDeferred
async def test_silence_decides_where_the_wrapper_dies_with_the_node(cluster: Cluster) -> None:
    primary = await start(cluster)
    node = node_below(cluster[primary])
    cluster[primary].kill()
    os.kill(node, signal.SIGKILL)
    assert await replaced(cluster, primary) == SILENT


@ensureDeferred
async def test_a_node_goes_on_without_its_wrapper_and_says_so(cluster: Cluster) -> None:
    primary = await start(cluster)
    node = node_below(cluster[primary])
    cluster[primary].kill()

    async def said() -> bool:
        return "runs below is dead" in cluster[primary].log.read_text()

    try:
        await poll(said)
        assert (await cluster.settled())["node_id"] == primary
    finally:
        os.kill(node, signal.SIGKILL)


@ensureDeferred
async def test_an_orderly_stop_hands_over_and_ends_the_wrapper(cluster: Cluster) -> None:
    primary = await start(cluster)
    assert cluster[primary].kill(signal.SIGTERM) == -signal.SIGTERM  # as twistd does
    told = await successor(cluster, primary)
    assert (why(told, primary), told["began_by_will_of"]) == (RESIGNED, None)
    assert "handover" in cluster[primary].log.read_text()


@ensureDeferred
async def test_a_stopped_node_is_not_taken_for_dead(cluster: Cluster) -> None:
    primary = await start(cluster)
    node = node_below(cluster[primary])
    os.kill(node, signal.SIGSTOP)
    assert await replaced(cluster, primary) == SILENT
    os.kill(node, signal.SIGKILL)  # its will is old news now, and unseats nobody
    process = cluster[primary].process
    assert process is not None
    process.wait(DEADLINE)
    await cluster.settled("abc".replace(primary, ""), other_than=primary)


@ensureDeferred
async def test_a_will_that_is_told_late_is_old_news(cluster: Cluster) -> None:
    primary = await start(cluster)
    wrapper = cluster[primary].process
    assert wrapper is not None
    node = node_below(cluster[primary])
    wrapper.send_signal(signal.SIGSTOP)
    os.kill(node, signal.SIGKILL)
    assert await replaced(cluster, primary) == SILENT
    others = "abc".replace(primary, "")
    before = await cluster.settled(others)
    wrapper.send_signal(signal.SIGCONT)
    assert wrapper.wait(DEADLINE) == -signal.SIGKILL
    after = await cluster.settled(others)
    assert (after["node_id"], after["epoch"]) == (before["node_id"], before["epoch"])


@ensureDeferred
async def test_a_will_is_heard_that_arrives_before_the_end_of_the_old_connection(
    cluster: Cluster,
) -> None:
    ports = dict(zip("abc", free_ports(3), strict=True))
    detours, listening = [], []
    for (name, node), entry in zip(
        cluster.nodes.items(), cluster["a"].peers.split(","), strict=True
    ):
        detour = Detour(ports[name])
        detours.append(detour)
        listening.append(listen(int(entry.rpartition(":")[2]), detour))
        own = f"--listen=tcp:{ports[name]}:interface=127.0.0.1"
        node.start(wrapped(node.command(*TIMINGS, own)))
    try:
        primary = await settled(cluster)
        for detour in detours:
            detour.delay_ends()
        os.kill(node_below(cluster[primary]), signal.SIGKILL)
        assert await replaced(cluster, primary) == TOLD
        assert sum(detour.late for detour in detours) == 2
    finally:
        for port in listening:
            port.stopListening()


@ensureDeferred
async def test_who_is_started_again_at_once_follows_the_new_primary(cluster: Cluster) -> None:
    primary = await start(cluster)
    told = await cluster[primary].status()
    assert told is not None
    node = cluster[primary]
    assert node.process is not None
    os.kill(node_below(node), signal.SIGKILL)
    node.process.wait(DEADLINE)
    node.start(wrapped(node.command(*TIMINGS)))
    assert await replaced(cluster, primary) == TOLD
    found = await cluster.settled(other_than=primary)
    assert found["epoch"] == told["epoch"] + 1  # one election, in which nobody was disturbed


@ensureDeferred
async def test_what_escaped_from_the_command_dies_before_another_writes(
    cluster: Cluster, tmp_path: Path
) -> None:
    stamps = tmp_path / "stamps"
    writer = (
        "import os, sys, time\n"
        "if os.fork() == 0 and os.fork() == 0:\n"
        "    os.setsid(); os.closerange(0, 3)\n"
        "    file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    while True:\n"
        "        os.write(file, f'{os.environ[\"KEVY_NODE_ID\"]} {os.getpid()}\\n'.encode())\n"
        "        time.sleep(0.002)\n"
        "time.sleep(600)\n"
    )
    script = tmp_path / "writer.py"
    script.write_text(writer)
    primary = await start(
        cluster, f"--run-primary={sys.executable} {script} {stamps}", "--stop-grace=0.2"
    )

    async def writes(who: str) -> bool:
        return stamps.exists() and f"\n{who} " in stamps.read_text()

    await poll(lambda: writes(primary))
    node = node_below(cluster[primary])
    guard = child(node)
    keeper = child(guard)
    for pid in (node, guard, keeper):  # all that would have ended the writer
        os.kill(pid, signal.SIGKILL)
    assert await replaced(cluster, primary) == TOLD
    other = str((await cluster.settled("abc".replace(primary, "")))["node_id"])
    await poll(lambda: writes(other))
    writers = [line.split()[0] for line in stamps.read_text().splitlines()]
    assert writers == sorted(writers, key=lambda who: who != primary)


@ensureDeferred
async def test_a_daemon_is_supervised_too(cluster: Cluster, tmp_path: Path) -> None:
    pids = {name: tmp_path / f"{name}.pid" for name in "abc"}
    for name, node in cluster.nodes.items():
        runner = (*TWISTD, f"--pidfile={pids[name]}", f"--logfile={tmp_path}/{name}.daemon")
        node.start([*SUPERVISE, *node.command(*TIMINGS, runner=runner)])
    primary = await settled(cluster)
    os.kill(int(pids[primary].read_text()), signal.SIGKILL)
    assert await replaced(cluster, primary) == TOLD
    process = cluster[primary].process
    assert process is not None
    assert process.wait(DEADLINE) == -signal.SIGKILL
