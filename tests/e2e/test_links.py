"""Real nodes that prove who they are: strangers are not heard, and keys change under way."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

from pytest_twisted import ensureDeferred

from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.settings.links import make_private_key, public_key
from tests.support.processes import Cluster, Node, poll


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
        return "--links=noise", f"--noise-key={self.file(node)}", f"--config={settings}"

    def start(self) -> None:
        for node in self.nodes.values():
            node.start(node.command(*self.options(node)))

    def reload(self, *node_ids: str) -> None:
        for node_id in node_ids:
            node = self.nodes[node_id]
            self.options(node)
            assert node.process is not None
            node.process.send_signal(signal.SIGHUP)


def say(node: Node, message: Heartbeat) -> None:
    """Speak to the election port of a node as a plain member would, until it hangs up."""
    entry = next(each for each in node.peers.split(",") if each.startswith(node.node_id))
    with socket.create_connection(("127.0.0.1", int(entry.rpartition(":")[2])), 5) as link:
        link.sendall(wire.encode(message) * 400)
        try:
            while link.recv(4096):
                pass
        except ConnectionResetError:
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
async def test_a_key_is_changed_without_a_lost_lease(cluster: Cluster) -> None:
    keys = Keys(cluster)
    keys.start()
    before = await cluster.settled()
    primary = before["node_id"]
    others = [node_id for node_id in cluster.nodes if node_id != primary]

    async def reread(node_id: str) -> bool:
        return cluster[node_id].log.read_text().count("was reread") == rereads[node_id]

    async def connected() -> bool:
        found = {node_id: await node.status() for node_id, node in cluster.nodes.items()}
        leases.append(found[primary] is not None and found[primary]["can_write"])
        links = [peer["link"] for status in found.values() for peer in status["peers"]]
        return set(links) == {"connected"}

    leases: list[bool] = []
    rereads = dict.fromkeys(cluster.nodes, 0)
    for step in range(3):
        if step == 0:
            old = cluster[primary].directory / "old"
            os.rename(keys.file(cluster[primary]), old)
            keys.public[primary].append(keys.make(cluster[primary]))
            whose = others
        elif step == 1:
            whose = [primary]
        else:
            keys.public[primary].pop(0)
            whose = others
        for node_id in whose:
            keys.reload(node_id)
            rereads[node_id] += 1
            await poll(lambda node_id=node_id: reread(node_id))  # type: ignore[misc]
            await poll(connected)
    after = await cluster.settled()
    assert (after["node_id"], after["epoch"]) == (primary, before["epoch"])
    assert all(leases)
