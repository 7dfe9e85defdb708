"""The pages in docs/recipes, done with the software that they are about."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest

from kevy_elect.cli.demo.ports import free_ports
from tests.support.pages import PATH, Reader
from tests.support.waiting import DEADLINE, wait_for

QUICK = {"KEVY_ELECT_HB_INTERVAL": "0.05", "KEVY_ELECT_DOWN_AFTER": "1"}
GRACE = {"KEVY_ELECT_STOP_GRACE": "0.05"}
CONFIG = "QUICK = ElectConfig(hb_interval=0.05, down_after=1)"
ENOUGH = 3
"""Pieces of work after which a program is believed to work."""
FILESYSTEM = """filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": "queue",
    "data_folder_out": "queue",
    "control_folder": "queue",
}"""


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(module) is None, reason=f"needs {module}")


def read(page: str, directory: Path, **instead: str) -> Reader:
    """A reader who has three hosts on loopback."""
    hosts = {
        f"10.0.0.{number}:7101": f"127.0.0.1:{port}" for number, port in enumerate(free_ports(3), 1)
    }
    return Reader(f"recipes/{page}.md", directory, hosts | instead)


@pytest.fixture
def readers() -> Iterator[list[Reader]]:
    """Those whose processes are ended at the end."""
    found: list[Reader] = []
    yield found
    for reader in found:
        reader.end()


def ask(reader: Reader, data: str, *command: str) -> subprocess.CompletedProcess[str]:
    """What `kevy-elect` tells about the node with that data directory."""
    return subprocess.run(
        ["kevy-elect", *command, "--data-dir", data],
        cwd=reader.directory,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@needs("celery")
def test_one_celery_beat_sends_and_the_next_one_goes_on(
    tmp_path: Path, readers: list[Reader]
) -> None:
    reader = read("celery", tmp_path, **{'redis://10.0.0.9/0")': FILESYSTEM, "60.0": "0.1"})
    readers.append(reader)
    reader.save_files()
    queue = tmp_path / "queue"
    queue.mkdir()
    (command,) = reader.commands()
    for node_id in "abc":
        reader.start(node_id, command.text, **QUICK, **GRACE)

    def senders() -> list[str]:
        """The processes that sent the messages, in the order in which these were sent."""
        found = []
        for path in sorted(queue.glob("*.msg"), key=lambda path: int(path.name.partition("_")[0])):
            with contextlib.suppress(json.JSONDecodeError):  # it is being written
                found.append(json.loads(path.read_text())["headers"]["origin"])
        return found

    def sends(other_than: str = "") -> str | None:
        last = senders()[-ENOUGH:]
        same = len(last) == ENOUGH and len(set(last)) == 1
        return last[0] if same and last[0] != other_than else None

    def at_work() -> tuple[str, str] | None:
        """Who sends, and its node, if it still runs."""
        sender = sends()
        node_id = node_of(sender, reader) if sender else None
        return (sender, node_id) if sender and node_id else None

    first, node_id = wait_for(at_work)
    reader.kill(node_id)
    wait_for(lambda: sends(other_than=first))
    turns = [sender for sender, _ in groupby(senders())]
    assert len(turns) == len(set(turns)), "two beats took turns"


def node_of(sender: str, reader: Reader) -> str | None:
    """The node that started this sender; None if it has ended."""
    nodes = {process.pid: node_id for node_id, process in reader.processes.items()}
    pid = int(re.findall(r"gen(\d+)@", sender)[0])
    while pid > 1 and pid not in nodes:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return None
    return nodes.get(pid)


@needs("apscheduler")
def test_apscheduler_works_in_one_copy_and_then_in_another(
    tmp_path: Path, readers: list[Reader]
) -> None:
    reader = read(
        "apscheduler",
        tmp_path,
        **{
            "PEERS, data_dir": "PEERS, config=QUICK, data_dir",
            "async def main": f"{CONFIG}\n\n\nasync def main",
            "import sys\n": "import sys\nfrom kevy_elect import ElectConfig\n",
            "seconds=60": "seconds=0.1",
        },
    )
    readers.append(reader)
    reader.save_files()
    (command,) = reader.commands()
    for node_id in "abc":
        reader.start(node_id, command.text)
    reports = tmp_path / "reports.txt"

    def work() -> list[tuple[str, int]]:
        text = reports.read_text() if reports.exists() else ""
        return [(name, int(n)) for name, n in re.findall(r"by (.) in epoch (\d+)\n", text)]

    def works(other_than: str = "") -> str | None:
        last = {name for name, _ in work()[-ENOUGH:]}
        return last.pop() if len(last) == 1 and last != {other_than} else None

    first = wait_for(works)
    reader.kill(first)
    wait_for(lambda: works(other_than=first))
    turns = set(work())
    assert len(turns) == len({epoch for _, epoch in turns}), "two copies worked in one epoch"


def test_a_job_of_cron_runs_on_the_primarys_host_only(
    tmp_path: Path, readers: list[Reader]
) -> None:
    reader = read("cron", tmp_path)
    readers.append(reader)
    (command,) = reader.commands()
    (line,) = re.findall(r"^\*/5 \* \* \* \* root (.*)$", reader.text, re.M)
    for node_id in "abc":
        text = command.text.replace("/var/lib/kevy-elect", f"data-{node_id}")
        reader.start(node_id, text, **QUICK)

    def cron() -> list[str]:
        """Where the job ran, of the three hosts."""
        ran = []
        for node_id in "abc":
            job = line.replace("/var/lib/kevy-elect", f"data-{node_id}")
            job = job.replace("rotate-backups", "echo rotated")
            done = subprocess.run(
                ["/bin/sh", "-c", job],
                cwd=tmp_path,
                env={"PATH": PATH},
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            ran += [node_id] * done.stdout.count("rotated")
        return ran

    def ran_once(other_than: str = "") -> str | None:
        """Where it ran. Who is asked last may have become primary since the first was asked."""
        hosts = cron()
        return hosts[0] if len(hosts) == 1 and hosts[0] != other_than else None

    first = wait_for(ran_once)

    def moved() -> str | None:
        ask(reader, f"data-{first}", "switchover")
        return ran_once(other_than=first)

    wait_for(moved)


class Segment:
    """Hosts a, b, c and a neighbour d in one network segment: a namespace each, and a bridge."""

    def __init__(self) -> None:
        self._bridge = f"ke{os.getpid()}"
        self.hosts = {name: f"{self._bridge}{name}" for name in "abcd"}

    def make(self) -> None:
        self._ip("netns", "add", self._bridge)
        self._ip("-n", self._bridge, "link", "add", "br0", "up", "type", "bridge")
        for number, (name, space) in enumerate(self.hosts.items(), 1):
            self._ip("netns", "add", space)
            ends = ("eth0", "netns", space, "type", "veth", "peer", "name", name)
            self._ip("-n", self._bridge, "link", "add", *ends)
            self._ip("-n", self._bridge, "link", "set", "dev", name, "master", "br0", "up")
            self._ip("-n", space, "address", "add", f"10.0.0.{number}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "lo", "up")
            self._ip("-n", space, "link", "set", "eth0", "up")

    def remove(self) -> None:
        for space in (*self.hosts.values(), self._bridge):
            subprocess.run(["ip", "netns", "del", space], check=False, timeout=DEADLINE)

    def has(self, name: str, address: str) -> bool:
        return f" {address}/" in self._ip("-n", self.hosts[name], "address", "show", "dev", "eth0")

    def holders(self, address: str) -> list[str]:
        """Who has it, the first one also after the last one was asked."""
        found = [name for name in "abc" if self.has(name, address)]
        return found if len(found) < 2 else [name for name in found if self.has(name, address)]

    def hardware(self, name: str) -> str:
        told = self._ip("-n", self.hosts[name], "link", "show", "dev", "eth0")
        (found,) = re.findall(r"link/ether (\S+)", told)
        return str(found)

    def known_to_neighbour(self, address: str) -> str:
        """The hardware address to which d would send what is for `address`."""
        told = self._ip("-n", self.hosts["d"], "neighbour", "show", address)
        return "".join(re.findall(r"lladdr (\S+)", told))

    def send(self, address: str) -> None:
        """Have d send something there, which makes it ask who has the address."""
        say = f"echo > /dev/udp/{address}/9"
        command = ("ip", "netns", "exec", self.hosts["d"], "bash", "-c", say)
        subprocess.run(command, check=True, timeout=DEADLINE)

    def _ip(self, *words: str) -> str:
        done = subprocess.run(
            ["ip", *words], capture_output=True, text=True, check=True, timeout=DEADLINE
        )
        return done.stdout


@pytest.fixture
def segment() -> Iterator[Segment]:
    found = Segment()
    try:
        found.make()
        yield found
    finally:
        found.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")
@pytest.mark.skipif(not (shutil.which("ip") and shutil.which("arping")), reason="needs ip, arping")
def test_an_address_moves_and_the_neighbours_know(
    tmp_path: Path, segment: Segment, readers: list[Reader]
) -> None:
    address = "10.0.0.100"
    quick = "--lease-margin 1.5 --down-after 3 --hb-interval 0.05"
    reader = Reader("recipes/floating-ip.md", tmp_path, {"--lease-margin 2.5": quick})
    readers.append(reader)
    reader.save_files()
    (tmp_path / "hold-address").chmod(0o755)
    (command,) = reader.commands()
    for node_id in "abc":
        reader.start(node_id, command.text, "ip", "netns", "exec", segment.hosts[node_id])

    def known_holder(other_than: str = "") -> str | None:
        """Who has the address, if the neighbour knows it."""
        found = segment.holders(address)
        assert len(found) < 2, f"{found} have the address at once"
        if not found or found[0] == other_than:
            return None
        is_known = segment.known_to_neighbour(address) == segment.hardware(found[0])
        return found[0] if is_known else None

    def asked() -> str | None:
        segment.send(address)
        return known_holder()

    first = wait_for(asked)
    reader.kill(first)
    wait_for(lambda: known_holder(other_than=first))  # without having asked again
