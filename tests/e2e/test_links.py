"""Real nodes that prove who they are: strangers are not heard, and keys change under way."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pytest_twisted import ensureDeferred

from kevy_elect import wire
from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.settings.links import make_private_key, public_key
from tests.e2e.test_console import ask, settled
from tests.support.certificates import Authority
from tests.support.processes import Cluster, Node, logged, poll
from tests.support.waiting import DEADLINE

PATIENT = ("--down-after=3", "--election-timeout=1")
"""A lease that a busy machine does not lose by itself."""


class Keys:
    """The key files of the nodes of a cluster, and the file of settings that each reads."""

    def __init__(self, cluster: Cluster) -> None:
        self.public: dict[str, list[str]] = {}
        self.nodes = cluster.nodes
        for node in self.nodes.values():
            self.public[node.node_id] = [self.make(node)]

    def file(self, node: Node) -> str:
        return str(node.directory / f"key-{node.node_id}")

    def make(self, node: Node) -> str:
        """Make a key for the node, in place of the one that it has, and its public half."""
        made = f"{self.file(node)}.new"
        public = public_key(make_private_key(made)).hex()
        os.replace(made, self.file(node))
        return public

    def options(self, node: Node) -> Sequence[str]:
        settings = node.directory / f"{node.node_id}.toml"
        lines = [f"{n} = {keys}" for n, keys in self.public.items()]
        settings.write_text("[peer-keys]\n" + "\n".join(lines))
        return *PATIENT, "--links=noise", f"--noise-key={self.file(node)}", f"--config={settings}"

    def start(self) -> None:
        ports = dict(zip(self.nodes, free_ports(len(self.nodes)), strict=True))
        peers = ",".join(f"{each}@127.0.0.1:{port}" for each, port in ports.items())
        for node_id, node in self.nodes.items():
            admin = f"--admin-listen=tcp:{ports[node_id]}:interface=127.0.0.1"
            node.start(node.command(*self.options(node), admin, f"--admin-peers={peers}"))


class Leases:
    """Rereads the settings of one node after another, and sees whether the primary keeps its
    lease."""

    def __init__(self, cluster: Cluster, primary: str) -> None:
        self.seen: list[bool] = []
        self._cluster = cluster
        self._primary = primary

    async def reload(self, node: Node) -> None:
        """Send SIGHUP, and wait until it was obeyed and all links are connected."""
        rereads = self._rereads(node)
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)

        async def connected() -> bool:
            found = [await each.status() for each in self._cluster.nodes.values()]
            statuses = [status for status in found if status is not None]
            links = {peer["link"] for status in statuses for peer in status["peers"]}
            self.seen += [s["can_write"] for s in statuses if s["node_id"] == self._primary]
            return self._rereads(node) > rereads and links == {"connected"}

        await poll(connected)

    def _rereads(self, node: Node) -> int:
        return node.log.read_text().count("was reread: new")


def say(node: Node, message: Heartbeat) -> None:
    """Speak to the election port of a node as a plain member would, until it hangs up."""
    entry = next(each for each in node.peers.split(",") if each.startswith(node.node_id))
    address = ("127.0.0.1", int(entry.rpartition(":")[2]))
    with socket.create_connection(address, DEADLINE) as link, suppress(ConnectionError):
        link.sendall(wire.encode(message) * 400)
        while link.recv(4096):
            pass


@ensureDeferred
async def test_members_elect_and_a_stranger_is_not_heard(cluster: Cluster) -> None:
    Keys(cluster).start()
    before = await cluster.settled()
    for node in cluster.nodes.values():
        say(node, Heartbeat(before["epoch"] + 100, "c", Role.PRIMARY, 0))
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (before["node_id"], before["epoch"])


@ensureDeferred
async def test_the_role_is_moved_from_a_node_that_does_not_have_it(cluster: Cluster) -> None:
    Keys(cluster).start()

    async def moved() -> tuple[Node, Node] | None:
        """A member that has just started does not run yet (R4.3): then it is tried again."""
        primary, (first, second) = await settled(cluster)
        said = await ask(first, "switchover", second.node_id)
        fenced = f"fenced: {primary.node_id} writes nothing" in said.stdout
        return (primary, first) if fenced and said.returncode == 0 else None

    primary, first = await poll(moved)
    await logged(primary.log.read_text, f"operator on {first.node_id}: asked to switchover")
    paused = await ask(first, "pause", "5m", f"--on={primary.node_id}")
    assert paused.stdout.startswith(f"{primary.node_id} "), paused.stderr


@ensureDeferred
async def test_members_with_certificates_elect_and_change_their_authority(
    cluster: Cluster, tmp_path: Path
) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(old.path.read_bytes())

    def put(node: Node, authority: Authority) -> None:
        for made, end in zip(authority.member(node.node_id), ("pem", "key"), strict=True):
            os.replace(made, tmp_path / f"{node.node_id}.{end}")

    for node in cluster.nodes.values():
        put(node, old)
        settings = tmp_path / f"{node.node_id}.toml"
        settings.write_text(
            f'links = "tls"\ntls-ca = "{authorities}"\n'
            f'tls-cert = "{node.node_id}.pem"\ntls-key = "{node.node_id}.key"'
        )
        node.start(node.command(*PATIENT, f"--config={settings}"))
    before = await cluster.settled()
    say(cluster[before["node_id"]], Heartbeat(before["epoch"] + 100, "c", Role.PRIMARY, 0))
    leases = Leases(cluster, before["node_id"])
    authorities.write_bytes(old.path.read_bytes() + new.path.read_bytes())
    for node in cluster.nodes.values():
        await leases.reload(node)
    for node in cluster.nodes.values():
        put(node, new)
        await leases.reload(node)
    authorities.write_bytes(new.path.read_bytes())
    for node in cluster.nodes.values():
        await leases.reload(node)
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (before["node_id"], before["epoch"])
    assert set(leases.seen) == {True}


@ensureDeferred
async def test_a_key_is_changed_without_a_lost_lease(cluster: Cluster) -> None:
    keys = Keys(cluster)
    keys.start()
    before = await cluster.settled()
    primary = before["node_id"]
    others = [node for node_id, node in cluster.nodes.items() if node_id != primary]
    leases = Leases(cluster, primary)
    keys.public[primary].append(keys.make(cluster[primary]))
    for node in others:
        keys.options(node)
        await leases.reload(node)
    await leases.reload(cluster[primary])
    keys.public[primary].pop(0)
    for node in others:
        keys.options(node)
        await leases.reload(node)
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (primary, before["epoch"])
    assert set(leases.seen) == {True}
