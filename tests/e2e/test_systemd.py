"""Real nodes under a service manager that the test plays, and the unit files of examples/."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from kevy_elect.config import ElectConfig
from kevy_elect.ops.systemd import longest_stop
from kevy_elect.tap import Options
from tests.support import FOREGROUND, ROOT
from tests.support.processes import Cluster, Node, child, poll
from tests.support.waiting import DEADLINE, wait_for

EXAMPLES = ROOT / "examples"
LIMIT = 0.4
"""Seconds of the watchdog."""
FAST = ("--hb-interval=0.02", "--down-after=0.8")
WITH_LISTENER = """
import os, socket, sys

fd = int(sys.argv[1])
os.dup2(fd, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="election")
os.execvp(sys.argv[2], sys.argv[2:])
"""
BLOCKING = """
import os, pathlib, time
from twisted.application.service import Application, Service
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.service.election import ElectionService, use_monotonic_time
from kevy_elect.ops.systemd import notifiers

timings = ElectConfig(hb_interval=0.02, down_after=0.8, election_timeout=0.5)
cluster = Cluster("a", (PeerAddr.parse({peer!r}),))
election = ElectionService(cluster, data_dir={data!r}, config=timings)


class Stuck(Service):
    def startService(self):
        election.reactor.callLater(0.5, self.block)

    def block(self):
        pathlib.Path({mark!r}).touch()
        time.sleep({seconds})


use_monotonic_time()
application = Application("stuck")
for each in (election, Stuck(), *notifiers(election, os.environ)):
    each.setServiceParent(application)
"""


class ServiceManager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: set[str] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))

    def environment(self, limit: float = 0.0) -> dict[str, str]:
        """What a process gets from it, with the seconds of the watchdog if it has one."""
        watchdog = {"WATCHDOG_USEC": f"{limit * 1e6:.0f}"} if limit else {}
        return os.environ | {"NOTIFY_SOCKET": self.address} | watchdog

    def hear(self, name: str, value: str) -> dict[str, str]:
        """The next message in which `name` is told with `value` in it."""
        deadline = time.monotonic() + DEADLINE
        last: dict[str, str] = {}
        while time.monotonic() < deadline:
            self._socket.settimeout(deadline - time.monotonic())
            with contextlib.suppress(TimeoutError):
                last = dict(
                    line.split("=", 1) for line in self._socket.recv(65536).decode().splitlines()
                )
                self.heard |= set(last)
            if value in last.get(name, ""):
                return last
        pytest.fail(f"not told {name}={value}; the last message: {last}")

    def forget(self) -> None:
        """Read what has been told so far."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(65536)

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing is told for so long."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(65536)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(request: pytest.FixtureRequest) -> Iterator[ServiceManager]:
    """One with a socket in a directory, or if the parameter is so, with an abstract one."""
    directory = tempfile.mkdtemp()
    found = ServiceManager(f"{getattr(request, 'param', '')}{directory}/notify")
    yield found
    found.close()
    shutil.rmtree(directory)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Node]:
    """A cluster of one, not started; killed at the end."""
    node = Cluster(tmp_path, "a")["a"]
    yield node
    if node.process is not None and node.process.poll() is None:
        node.process.send_signal(signal.SIGCONT)
        node.kill()
    if node.log.exists():
        print(node.log.read_text())


def start(
    node: Node, environment: Mapping[str, str], *options: str, command: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start this node, or what else is to be its process, with this environment."""
    with open(node.log, "ab") as log:
        node.process = subprocess.Popen(
            command or node.command(*FAST, *options),
            cwd=node.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return node.process


@pytest.mark.parametrize("manager", ["", "@"], ids=["path", "abstract"], indirect=True)
def test_a_node_tells_its_manager_of_its_life(alone: Node, manager: ServiceManager) -> None:
    seen = alone.directory / "seen"
    command = f"--run-primary=/bin/sh -c 'env > {seen}.new; mv {seen}.new {seen}; exec sleep 60'"
    node = start(alone, manager.environment(limit=LIMIT), command, "--stop-grace=0.2")
    ready = manager.hear("READY", "1")
    assert ready["STATUS"] == "primary in epoch 2, may write"  # as its only member it elects itself
    manager.hear("WATCHDOG", "1")
    manager.hear("WATCHDOG", "1")
    wait_for(seen.exists)
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "KEVY_EPOCH" in names
    assert not {name for name in names if name.startswith(("NOTIFY_", "WATCHDOG_"))}

    stop(node.pid)
    manager.forget()
    assert manager.is_quiet(2 * LIMIT)
    node.send_signal(signal.SIGCONT)
    manager.hear("WATCHDOG", "1")

    node.send_signal(signal.SIGTERM)
    last = manager.hear("STOPPING", "1")
    assert last["STATUS"].startswith("stopping: primary in epoch")
    assert int(last["EXTEND_TIMEOUT_USEC"]) > 1_000_000
    assert node.wait(DEADLINE) == -signal.SIGTERM


def stop(pid: int) -> None:
    """Stop the process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text())


AS_MAIN_PROCESS = ("/bin/sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh")
"""What systemd does beside: the watchdog is meant for the process that it has started."""
below_wrapper = pytest.mark.skipif(sys.platform != "linux", reason="the wrapper needs Linux")


@below_wrapper
def test_a_node_below_its_wrapper_tells_its_manager_of_its_life(
    alone: Node, manager: ServiceManager
) -> None:
    command = [*AS_MAIN_PROCESS, *alone.command(*FAST, "--last-will")]
    main = start(alone, manager.environment(limit=LIMIT), command=command)
    assert manager.hear("READY", "1")["STATUS"] == "primary in epoch 2, may write"
    manager.hear("WATCHDOG", "1")
    manager.hear("WATCHDOG", "1")
    main.send_signal(signal.SIGTERM)
    assert manager.hear("STOPPING", "1")["STATUS"].startswith("stopping: primary in epoch")
    assert main.wait(DEADLINE) == -signal.SIGTERM


@below_wrapper
def test_the_watchdog_of_a_node_below_its_wrapper_ends_the_node(
    alone: Node, manager: ServiceManager
) -> None:
    command = [*AS_MAIN_PROCESS, *alone.command(*FAST, "--last-will")]
    environment = manager.environment(limit=LIMIT) | {"PYTHONFAULTHANDLER": "1"}
    main = start(alone, environment, command=command)
    manager.hear("WATCHDOG", "1")
    node = child(main.pid)
    stop(node)
    manager.forget()
    assert manager.is_quiet(2 * LIMIT)
    main.send_signal(signal.SIGABRT)  # as systemd does now
    os.kill(node, signal.SIGCONT)
    assert main.wait(DEADLINE) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in alone.log.read_text()


@ensureDeferred
async def test_it_is_ready_without_the_others_and_stops_before_it_hands_over(
    cluster: Cluster, manager: ServiceManager
) -> None:
    node = start(cluster["a"], manager.environment(), "--down-after=2")
    ready = await deferToThread(manager.hear, "READY", "1")
    assert "knows no primary, no quorum" in ready["STATUS"]
    for each in "bc":
        cluster[each].start(cluster[each].command(*FAST, "--down-after=2"))
    await make_primary(cluster, "a")
    await deferToThread(manager.hear, "STATUS", "primary in epoch")
    node.send_signal(signal.SIGTERM)
    last = await deferToThread(manager.hear, "STOPPING", "1")
    assert re.fullmatch(r"stopping: primary in epoch \d+, may write", last["STATUS"])
    await deferToThread(manager.hear, "STATUS", "stopping: replica in epoch")
    assert await deferToThread(node.wait, DEADLINE) == -signal.SIGTERM
    assert "WATCHDOG" not in manager.heard  # nobody asked for it


async def make_primary(cluster: Cluster, node_id: str) -> None:
    """Have this node elected, once all may vote and run."""

    async def is_primary() -> bool:
        found = await cluster.settled()
        if found["node_id"] != node_id:
            where = f"--data-dir={cluster[found['node_id']].data}"
            command = [sys.executable, "-m", "kevy_elect", "switchover", where, node_id]
            await deferToThread(subprocess.run, command, capture_output=True)
            return False
        return True

    await poll(is_primary)


def test_a_loop_that_is_stuck_is_silent(alone: Node, manager: ServiceManager) -> None:
    tac = alone.directory / "blocking.tac"
    mark = alone.directory / "blocks"
    peer, data = alone.peers, str(alone.data)
    tac.write_text(BLOCKING.format(peer=peer, data=data, mark=str(mark), seconds=8 * LIMIT))
    command = (*FOREGROUND, "-y", str(tac))
    start(alone, manager.environment(limit=LIMIT), command=command)
    manager.hear("WATCHDOG", "1")
    wait_for(mark.exists)
    manager.forget()
    assert manager.is_quiet(2 * LIMIT)
    manager.hear("WATCHDOG", "1")


def test_a_manager_that_is_not_there_harms_nothing(alone: Node) -> None:
    missing = str(alone.directory / "nobody")
    node = start(alone, os.environ | {"NOTIFY_SOCKET": missing, "WATCHDOG_USEC": "200000"})
    wait_for(lambda: "has the lease" in alone.log.read_text())
    wait_for(lambda: missing in alone.log.read_text())  # after that the reactor runs
    node.send_signal(signal.SIGTERM)
    assert node.wait(DEADLINE) == -signal.SIGTERM
    assert alone.log.read_text().count(missing) == 1


@pytest.mark.parametrize("more", [(), pytest.param(("--last-will",), marks=below_wrapper)])
def test_it_takes_a_port_that_its_manager_holds(alone: Node, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = alone.directory / "ran"
        command = alone.command(
            *FAST,
            "--listen=systemd:domain=INET:index=0",
            f"--run-primary=/usr/bin/touch {done}",
            "--stop-grace=0.2",
            *more,
        )
        with open(alone.log, "ab") as log:
            alone.process = subprocess.Popen(
                [sys.executable, "-c", WITH_LISTENER, str(listener.fileno()), *command],
                cwd=alone.directory,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        address = listener.getsockname()
    wait_for(lambda: "has the lease" in alone.log.read_text())
    with socket.create_connection(address, DEADLINE) as peer:
        peer.settimeout(DEADLINE)
        peer.sendall(b"nonsense\r\n")
        assert read_to_the_end(peer) == b""  # whoever listens there has refused it
    wait_for(done.exists)
    alone.kill(signal.SIGTERM)  # SIGKILL would leave the node below a wrapper alive


def read_to_the_end(peer: socket.socket) -> bytes:
    try:
        return peer.recv(100)
    except ConnectionResetError:
        return b""


# The unit files


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory with the unit files, as if the package were installed where they say."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed; it comes with Debian's systemd")
    for name in ("kevy-elect.service", "kevy-elect.socket"):
        text = (EXAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/kevy-elect/bin/twistd", sys.executable))
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=DEADLINE
    )


def complaints(unit: Path) -> list[str]:
    """What systemd has to say against this unit; of others on this machine it may speak too."""
    verified = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    found = [line for line in verified.stderr.splitlines() if unit.stem in line]
    return found or [verified.stderr] * verified.returncode


def test_the_unit_files_are_valid(units: Path) -> None:
    for name in ("kevy-elect.service", "kevy-elect.socket"):
        assert complaints(units / name) == []


def test_a_line_that_systemd_does_not_know_would_be_found(units: Path) -> None:
    unit = units / "kevy-elect.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    (complaint,) = complaints(unit)
    assert "'NoNewPrivilege'" in complaint


def test_the_service_is_hardened(units: Path) -> None:
    unit = str(units / "kevy-elect.service")
    judged = analyze("security", "--offline=true", "--threshold=20", "--no-pager", unit)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_a_command_that_leaks_or_forks_takes_a_part_of_its_host_and_not_the_node() -> None:
    lines = (EXAMPLES / "kevy-elect.service").read_text().splitlines()
    service = dict(line.split("=", 1) for line in lines if "=" in line and line[0].isalpha())
    assert {"MemoryMax", "TasksMax"} <= set(service)
    assert service["OOMPolicy"] == "continue"


def test_the_service_gives_a_node_the_time_that_it_asks_for() -> None:
    lines = (EXAMPLES / "kevy-elect.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    default = ElectConfig()
    assert float(unit["WatchdogSec"]) > 2 * default.down_after
    assert float(unit["TimeoutStopSec"]) > longest_stop(default, peers=4)
    assert unit["Type"] == "notify"
    assert unit["NotifyAccess"] == "all"  # the main process is the wrapper, and the node its child
    assert unit["KillMode"] == "mixed"
    options = Options()
    settings = EXAMPLES / "kevy-elect.toml"
    program, *words = unit["ExecStart"].replace("/etc/kevy-elect/node.toml", str(settings)).split()
    assert Path(program).name == "twistd"
    options.parseOptions([*words[words.index("kevy-elect") + 1 :], "--node-id=a"])
    assert options.cluster.node_id == "a"
    assert options["last-will"]
