"""A simulated cluster whose members drive a data server each, and clients that write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from kevy_elect.config import ElectConfig, quorum
from kevy_elect.driving import State
from kevy_elect.elector import Elector
from kevy_elect.messages import Role
from kevy_elect.testing.cluster import SimulatedCluster
from kevy_elect.testing.data.checkers import DataChecker
from kevy_elect.testing.data.driver import SimulatedDriver
from kevy_elect.testing.data.server import SimulatedServer
from kevy_elect.testing.node import SimulatedNode

PATIENCE: Final = 1.0
"""The time that a switchover waits for the target's data, as a part of down_after."""


@attrs.frozen(kw_only=True)
class Pace:
    """The speed of the data servers and their clients: the longest times, in virtual seconds."""

    command_delay: float = 0.002
    """The delay of a command or its answer between a node and its server."""
    lag: float = 0.02
    """The delay of data on its way to a follower."""
    copying: float = 0.5
    """The time for the transfer of a whole data set."""
    writing: float = 0.3
    """The time between two writes of clients."""


class DataCluster(SimulatedCluster):
    """A cluster in which every member except witnesses drives a server. Clients write to each
    server that takes writes, also if its node is dead, and ask how many followers have the
    write."""

    servers: dict[str, SimulatedServer]
    replicas_to_confirm: int

    def __init__(
        self,
        nodes: Iterable[str] | int = 3,
        config: ElectConfig | None = None,
        *,
        pace: Pace = Pace(),
        **options: Any,
    ) -> None:
        self.pace = pace
        self.command_delay, self.copying = pace.command_delay, pace.copying
        self.writes = 0
        self.drivers: dict[str, SimulatedDriver] = {}
        self._lags: dict[str, float] = {}
        self._clients_write = True
        super().__init__(nodes, config, **options)
        self._on_data = [each for each in self.checkers if isinstance(each, DataChecker)]
        self._write(None)

    def _start_all(self) -> None:
        self.replicas_to_confirm = len(self.nodes) - quorum(len(self.nodes))
        driven = [node for name, node in self.nodes.items() if name not in self._witnesses]
        self.servers = {
            node.node_id: SimulatedServer(node.node_id, f"{node.node_id}:6379", self)
            for node in driven
        }
        self._by_address = {server.address: server for server in self.servers.values()}
        for node in driven:
            self.drivers[node.node_id] = SimulatedDriver(node, self.servers[node.node_id], self)
        super()._start_all()

    def _start(self, node: SimulatedNode) -> None:
        super()._start(node)
        if node.node_id in self.drivers:
            self.drivers[node.node_id].start()

    def _ran(self, node: SimulatedNode) -> None:
        super()._ran(node)
        node.repl_offset = node.machine.repl_offset  # for a last will
        if node.node_id in self.drivers:
            self.drivers[node.node_id].watch()

    def _wake(self, node: SimulatedNode) -> None:
        was_paused = node.paused
        super()._wake(node)
        if was_paused and node.node_id in self.drivers:
            self.drivers[node.node_id].wake()

    # Faults

    def kill_server(self, node_id: str, keeps: float = 0.0) -> None:
        """Kill the data server, which then starts with this part of its data. Does nothing unless
        all servers are in sync, so that only one server at a time loses data that it confirmed."""
        if node_id in self.servers and self.are_in_sync():
            self._fault(f"kill the server of {node_id}, which keeps {keeps:.0%}")
            server = self.servers[node_id]
            server.kill()
            del server.log[int(keeps * len(server.log)) :]

    def start_server(self, node_id: str) -> None:
        """Start a killed data server, frozen. Does nothing to any other."""
        if node_id in self.servers and not self.servers[node_id].running:
            self._fault(f"start the server of {node_id}")
            self.servers[node_id].start(len(self.servers[node_id].log))

    def hang_server(self, node_id: str) -> None:
        """Let a data server process nothing until `free_server`."""
        if node_id in self.servers and self.servers[node_id].running:
            self._fault(f"the server of {node_id} hangs")
            self.servers[node_id].hang()

    def free_server(self, node_id: str) -> None:
        if node_id in self.servers and self.servers[node_id].is_hung:
            self._fault(f"the server of {node_id} goes on")
            self.servers[node_id].go_on()

    def slow_down(self, node_id: str, lag: float) -> None:
        """Delay data to this follower, and from it to a primary, by up to `lag` seconds."""
        self._fault(f"data to {node_id} takes up to {lag:.2f} s")
        self._lags[node_id] = lag

    def switch_over(self, target: str) -> None:
        """Let the writable primary hand over to `target` once that has all data (section 5). Does
        nothing unless another node is the writable primary."""
        for node in self._resigning():
            if target in self.servers and node.node_id != target:
                self._fault(f"switch over from {node.node_id} to {target}")
                _Switchover(self, node, target).begin()

    def recover(self) -> None:
        self._lags.clear()
        for name, server in self.servers.items():
            self.free_server(name)
            if not server.running:
                self.start_server(name)
        super().recover()

    # The state

    def are_in_sync(self) -> bool:
        """Whether one server takes writes, and all others have all data that was confirmed
        there."""
        writing = [server for server in self.servers.values() if server.takes_writes]
        if len(writing) != 1 or not all(server.running for server in self.servers.values()):
            return False
        return all(
            server is writing[0] or self._is_in_sync(server, writing[0])
            for server in self.servers.values()
        )

    def _is_in_sync(self, server: SimulatedServer, primary: SimulatedServer) -> bool:
        follows = server.report().in_sync and server.source == primary.address
        return follows and not server.is_hung and len(server.log) >= primary.confirmed_length

    def are_alike(self) -> bool:
        """Whether every server follows the writable primary's, and has its data."""
        leader = self.servers.get(self.leader() or "")
        return (
            leader is not None
            and self.are_in_sync()
            and leader.takes_writes
            and all(server.log == leader.log for server in self.servers.values())
        )

    def stop_clients(self) -> None:
        """Stop all writes of clients."""
        self._clients_write = False

    # The interface to servers and drivers (World, Host)

    def at(self, when: float, action: Callable[[], object]) -> None:
        self._schedule(when, _call, action)

    def is_up(self, one: str, other: str) -> bool:
        return self.nodes[one].links[other].is_up()

    def lag(self, follower: str) -> float:
        return self._lags.get(follower, self.pace.lag)

    def server_at(self, address: str) -> SimulatedServer:
        return self._by_address[address]

    def confirmed(self, server: SimulatedServer, values: list[int]) -> None:
        for checker in self._on_data:
            checker.confirmed(server, values)

    def promoted(self, node: SimulatedNode) -> None:
        if node.can_write():
            self.note(node.node_id, f"the server takes writes, with {self._describe(node)}")
            for checker in self._on_data:
                checker.promoted(node)

    def _describe(self, node: SimulatedNode) -> str:
        server = self.servers[node.node_id]
        return f"{len(server.log)} of {server.history}"

    def left(self, node: SimulatedNode, target: str) -> None:
        for checker in self._on_data:
            checker.left(node, target)

    def losing(self, node: SimulatedNode) -> None:
        """Record that a primary gives up the role because of its server."""
        for checker in self.checkers:
            checker.resigned(node)

    def order(self, node: SimulatedNode, call: Callable[[Elector, float], object]) -> None:
        """Call the elector, and let it run."""
        now = node.clock()
        call(node.elector, now)
        self._dispatch(node, node.machine.tick(now), now)
        self._ran(node)

    # Clients

    def _write(self, _: None) -> None:
        for server in self.servers.values():
            if self._clients_write and server.takes_writes and server.running:
                self.writes += 1
                server.receive(server.run, _Write(server, self.writes))
        for checker in self._on_data:
            checker.looked()
        self._schedule(self.now + 2 * self.rng.random() * self.pace.writing, self._write, None)


@attrs.frozen
class _Write:
    """A write on its way. It is refused if the server was frozen meanwhile."""

    server: SimulatedServer
    value: int

    def __call__(self) -> None:
        if self.server.takes_writes:
            self.server.write(self.value)


class _Switchover:
    """Fences, waits until the server is frozen and the target has its data, and hands over."""

    def __init__(self, cluster: DataCluster, node: SimulatedNode, target: str) -> None:
        self._cluster = cluster
        self._node = node
        self._target = target
        self._life = node.life
        self._epoch = node.machine.epoch
        self._until = cluster.now + PATIENCE * node.config.down_after

    def begin(self) -> None:
        self._fence(closed=True)
        self._look()

    def _look(self) -> None:
        cluster, node = self._cluster, self._node
        if node.life != self._life:
            return
        if not node.paused:
            if not self._leads() or cluster.now > self._until:
                self._fence(closed=False)
                return
            if self._has_all():
                cluster.left(node, self._target)
                self._hand_over()
                return
        cluster.at(cluster.now + node.config.hb_interval / 10, self._look)

    def _leads(self) -> bool:
        machine = self._node.machine
        leads = machine.role is Role.PRIMARY and machine.epoch == self._epoch
        return leads and machine.has_quorum(self._node.clock())

    def _has_all(self) -> bool:
        driver = self._cluster.drivers[self._node.node_id]
        view = self._node.elector.peers[self._target]
        return driver.state is State.FROZEN and view.offset >= self._node.machine.repl_offset

    def _hand_over(self) -> None:
        cluster, node = self._cluster, self._node
        rest = node.config.down_after / 2
        cluster.losing(node)
        cluster.order(node, lambda elector, now: elector.hand_over(self._target, now, rest, 0.0))
        cluster.at(cluster.now + node.config.down_after, self._end)

    def _end(self) -> None:
        if self._node.life == self._life:
            self._fence(closed=False)

    def _fence(self, *, closed: bool) -> None:
        self._cluster.losing(self._node)
        self._cluster.order(self._node, lambda elector, now: elector.fence(now, closed=closed))


def _call(action: Any) -> None:
    action()
