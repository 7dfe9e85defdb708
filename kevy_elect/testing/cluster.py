"""A whole cluster in one process: real electors, virtual time, a network that fails on request.

One seed gives one run, byte for byte. Nothing here uses a reactor, a clock or a
socket, so a synchronous test can drive it:

    cluster = SimulatedCluster(seed=1)
    cluster.settle()
    cluster.partition(["n1"], ["n2", "n3"])
    cluster.advance(10)
    assert cluster.primaries() == ["n2"]
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import attrs

from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError
from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Outbound, Role
from kevy_elect.testing.checkers import Checker, Violation, default_checkers
from kevy_elect.testing.network import Ack, Connection, Host, Network, Stream
from kevy_elect.transport.takeover import Floor

TICK_JITTER: Final = 0.1
"""A tick comes up to this part of its interval early or late."""


@attrs.frozen
class NodeSnapshot:
    """What one node thinks at one instant, by its own clock."""

    node_id: str
    role: Role
    epoch: int
    current_primary: str | None
    primary_addr: str | None
    has_quorum: bool
    can_write: bool
    down_peers: tuple[str, ...]


Observer = Callable[[NodeSnapshot, str], object]
"""Called with a node's new state and, in words, why it changed."""


class SimulatedDisk:
    """A ballot that survives a crash, and that may refuse to save."""

    def __init__(self, node: SimulatedNode) -> None:
        self.broken = False
        self._node = node
        self._saved: tuple[int, str | None] = (0, None)

    def load(self) -> tuple[int, str | None]:
        return self._saved

    def save(self, epoch: int, voted_for: str | None) -> None:
        if self.broken:
            raise BallotError("the simulated disk refuses to save")
        self._saved = (epoch, voted_for)
        self._node.cluster.on_saved(self._node, epoch, voted_for)


class SimulatedNode(Host):
    """One node: its disk and clock, which outlive it, and its elector while it runs."""

    elector: Elector
    floor: Floor

    def __init__(self, cluster: SimulatedCluster, node_id: str, offset: float, rate: float) -> None:
        super().__init__(node_id)
        self.cluster = cluster
        self.disk = SimulatedDisk(self)
        self.observers: list[Observer] = []
        self.repl_offset = 0
        self.missed_tick = False  # while paused
        self.seen = 0  # of the elector's events
        self.told: tuple[object, ...] = ()
        self._clock_offset = offset
        self._clock_rate = rate

    def clock(self) -> float:
        """This node's monotonic clock, in its own seconds."""
        return self._clock_offset + self._clock_rate * self.cluster.now

    def can_write(self) -> bool:
        """Whether a write at this instant would be taken; a paused process may wake up in one."""
        return self.running and self.elector.can_write(self.clock())

    def snapshot(self) -> NodeSnapshot:
        elector, now = self.elector, self.clock()
        return NodeSnapshot(
            node_id=self.node_id,
            role=elector.role,
            epoch=elector.epoch,
            current_primary=elector.current_primary,
            primary_addr=elector.primary_addr,
            has_quorum=elector.has_quorum(now),
            can_write=elector.can_write(now),
            down_peers=tuple(elector.peers.down(now)),
        )


class SimulatedCluster:
    """N nodes named n1, n2, … and the network between them, all started at virtual time 0.

    The clock of each node starts anywhere and runs at a rate of its own, off by
    `clock_drift` at most. A message takes up to `max_delay` seconds. The nodes of
    `legacy` (True: all) neither greet nor acknowledge, so that leases on them are
    inferred (R8). `witnesses` vote and never run.

    Every event is followed by the `checkers`; `advance` raises the first Violation
    that they find, unless `raising` is off, and `violations` has them all.
    """

    def __init__(
        self,
        seed: object,
        nodes: int = 3,
        config: ElectConfig | None = None,
        *,
        legacy: bool | Collection[str] = False,
        witnesses: Collection[str] = (),
        clock_drift: float = 0.01,
        max_delay: float | None = None,
        checkers: Sequence[Checker] | None = None,
        raising: bool = True,
        elector: type[Elector] = Elector,
    ) -> None:
        self.config = config = config or ElectConfig()
        self.trace: list[str] = []
        self.tracing = True
        self.checkers = default_checkers() if checkers is None else checkers
        self.promises_one_writer = True
        self.rng = random.Random(str(seed))
        self._raising = raising
        self._elector = elector
        self._witnesses = witnesses
        self._queue: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._now = 0.0

        self.nodes = {
            node_id: SimulatedNode(
                self,
                node_id,
                offset=self.rng.uniform(0, 10_000),
                rate=1 + self.rng.uniform(-clock_drift, clock_drift),
            )
            for node_id in (f"n{number}" for number in range(1, nodes + 1))
        }
        for node in self.nodes.values():
            node.acknowledges = not (legacy is True or (legacy and node.node_id in legacy))
        self.network = Network(
            list(self.nodes.values()),
            rng=self.rng,
            schedule=self._schedule,
            deliver=self._deliver,
            closed=self._closed,
            max_delay=config.hb_interval / 5 if max_delay is None else max_delay,
            retry_after=config.hb_interval / 2,
            give_up_after=config.down_after,
        )
        for checker in self.checkers:
            checker.cluster = self
        # Most checkers care for one or two of these; the others are not even called.
        self._on_sent = [c.sent for c in self.checkers if type(c).sent is not Checker.sent]
        self._on_saved = [c.saved for c in self.checkers if type(c).saved is not Checker.saved]
        self._on_ran = [c.ran for c in self.checkers if type(c).ran is not Checker.ran]
        for node in self.nodes.values():
            self._start(node)

    # What a test asks

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    @property
    def violations(self) -> list[Violation]:
        """What the checkers found, in order of time."""
        found = [violation for checker in self.checkers for violation in checker.violations]
        return sorted(found, key=lambda violation: violation.at)

    def snapshot(self, node_id: str) -> NodeSnapshot:
        """The state of a running node. Raises ValueError if it is crashed."""
        return self._running(node_id).snapshot()

    def running(self) -> list[SimulatedNode]:
        """The nodes that are not crashed; paused ones are among them."""
        return [node for node in self.nodes.values() if node.running]

    def primaries(self) -> list[str]:
        """The running nodes whose role is primary, with or without lease."""
        return [n.node_id for n in self.running() if n.elector.role is Role.PRIMARY]

    def writers(self) -> list[str]:
        """The running nodes that would take a write now: never two."""
        return [node.node_id for node in self.running() if node.can_write()]

    def leader(self) -> str | None:
        """The writable primary that all nodes run and follow, or None: whether all is settled."""
        first = next(iter(self.nodes.values()))
        leader = self.nodes[first.elector.current_primary or first.node_id]
        if not leader.can_write():
            return None
        for node in self.nodes.values():
            elector = node.elector
            if not node.running or node.paused or elector.current_primary != leader.node_id:
                return None
        return leader.node_id

    def add_observer(self, node_id: str, observer: Observer) -> None:
        """Call `observer` when role, epoch, primary or quorum of this node change."""
        node = self.nodes[node_id]
        node.told = self._visible(node)
        node.observers.append(observer)

    # Time

    def advance(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        end = self._now + seconds
        queue, network, pop = self._queue, self.network, heapq.heappop
        while queue and queue[0][0] <= end:
            at, _, action, argument = pop(queue)
            self._now = network.now = at
            action(argument)
        self._now = network.now = end
        if self._raising and (violations := self.violations):
            raise violations[0]

    def settle(self, within: float = 60.0) -> str:
        """Advance until one primary can write and all follow it, and return its id.

        Raises Violation if that takes longer than `within` seconds.
        """
        end = self._now + within
        while (leader := self.leader()) is None:
            if self._now >= end:
                raise Violation(self._now, "settling", f"no primary that all follow in {within} s")
            self.advance(self.config.hb_interval / 2)
        return leader

    def _schedule(self, at: float, action: Callable[[Any], None], argument: Any) -> None:
        self._scheduled += 1  # which also decides a tie
        heapq.heappush(self._queue, (at, self._scheduled, action, argument))

    # Faults

    def cut_one_way(self, source: str, target: str) -> None:
        """Let nothing of `source` reach `target`; the other direction is left as it is.

        Unless all nodes acknowledge, two writers are possible from here on (R8).
        """
        self._fault(f"cut {source} -> {target}")
        if not all(node.acknowledges for node in self.nodes.values()):
            self.promises_one_writer = False
        self.network.cut(self.nodes[source].links[target])
        self._disturbed()

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between the two, in either direction."""
        self._fault(f"cut {one} -- {other}")
        self._cut_both(one, other)
        self._disturbed()

    def mend(self, one: str, other: str) -> None:
        """Mend the link between the two, in both directions."""
        self._fault(f"mend {one} -- {other}")
        link = self.nodes[one].links[other]
        self.network.mend(link)
        self.network.mend(link.reverse)
        self._disturbed()

    def partition(self, *groups: Iterable[str]) -> None:
        """Leave only links within a group; who is named nowhere is alone. Other cuts are mended."""
        members = [list(group) for group in groups]
        self._fault(f"partition {' | '.join(' '.join(group) for group in members)}")
        group_of = {node: number for number, group in enumerate(members) for node in group}
        self._mend_links()
        names = list(self.nodes)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                if one not in group_of or group_of[one] != group_of.get(other):
                    self._cut_both(one, other)
        self._disturbed()

    def isolate(self, node_id: str) -> None:
        """Cut this node off from all others."""
        self._fault(f"isolate {node_id}")
        for link in self.nodes[node_id].links.values():
            self._cut_both(node_id, link.acceptor.node_id)
        self._disturbed()

    def heal(self) -> None:
        """Mend all cuts."""
        self._fault("heal")
        self._mend_links()
        self._disturbed()

    def reset(self, one: str, other: str, straggle: float | None = None) -> None:
        """Break the connection that `one` dialled to `other`.

        What was on its way is lost; or, with `straggle`, arrives that many seconds
        later, when a new connection may long have been speaking.
        """
        how = "" if straggle is None else f", the rest {straggle:.3f} s late"
        self._fault(f"reset {one} -> {other}{how}")
        self.network.reset(self.nodes[one].links[other], straggle)
        self._disturbed()

    def pause(self, node_id: str) -> None:
        """Stop the process as SIGSTOP does: its sockets fill, its clock goes on."""
        self._fault(f"pause {node_id}")
        self._running(node_id).paused = True
        self._disturbed()

    def resume(self, node_id: str) -> None:
        """Let a paused process go on; harmless for any other."""
        self._fault(f"resume {node_id}")
        self._wake(self.nodes[node_id])
        self._disturbed()

    def crash(self, node_id: str, straggle: float | None = None) -> None:
        """Kill the process. What it had sent is lost, or arrives `straggle` seconds late."""
        node = self._running(node_id)
        self._fault(f"crash {node_id}")
        node.running = node.paused = False
        node.life += 1
        self.network.forget(node, straggle)
        self._disturbed()

    def restart(self, node_id: str) -> None:
        """Start a crashed node again, with the ballot that it left; harmless if it runs."""
        node = self.nodes[node_id]
        self._fault(f"restart {node_id}")
        if not node.running:
            self._start(node)
        self._disturbed()

    def fail_disk(self, node_id: str) -> None:
        """Let every save of this node's ballot fail."""
        self._fault(f"fail disk of {node_id}")
        self.nodes[node_id].disk.broken = True

    def mend_disk(self, node_id: str) -> None:
        self._fault(f"mend disk of {node_id}")
        self.nodes[node_id].disk.broken = False

    def set_repl_offset(self, node_id: str, offset: int) -> None:
        """Say how much data a node has; a restart keeps it."""
        self._fault(f"offset of {node_id} is {offset}")
        node = self.nodes[node_id]
        node.repl_offset = offset
        if node.running:
            node.elector.set_repl_offset(offset)

    def hand_over(self, target: str) -> None:
        """Have the writable primary hand over to `target`; harmless if there is no other one."""
        self._fault(f"hand over to {target}")
        for node in self.running():
            if node.can_write() and not node.paused and node.node_id != target:
                for checker in self.checkers:
                    checker.resigned(node)
                now, within = node.clock(), self.config.down_after / 2
                node.elector.hand_over(target, now, within, rest=0.0)
                self._dispatch(node, node.elector.tick(now), now)
                self._ran(node)

    def recover(self) -> None:
        """End all faults: links, processes and disks."""
        self._fault("recover")
        self._mend_links()
        for node in self.nodes.values():
            node.disk.broken = False
            self._wake(node)
            if not node.running:
                self._start(node)
        self._disturbed()

    def _fault(self, text: str) -> None:
        self.note("*", text)

    def _cut_both(self, one: str, other: str) -> None:
        link = self.nodes[one].links[other]
        self.network.cut(link)
        self.network.cut(link.reverse)

    def _mend_links(self) -> None:
        for node in self.nodes.values():
            for link in node.links.values():
                self.network.mend(link)

    def _wake(self, node: SimulatedNode) -> None:
        if node.paused:
            node.paused = False
            self.network.wake(node)
            if node.missed_tick:
                self._schedule_tick(node, self.rng.random() / 4)

    def _disturbed(self) -> None:
        for checker in self.checkers:
            checker.disturbed()

    # Nodes at work

    def _start(self, node: SimulatedNode) -> None:
        node.elector = self._elector(
            node.node_id,
            list(self.nodes),
            f"{node.node_id}:6379",
            config=self.config,
            ballot=node.disk,
            rng=self.rng,
            witness=node.node_id in self._witnesses,
        )
        node.elector.set_repl_offset(node.repl_offset)
        node.floor = Floor(self.config.pause_after)
        node.running = True
        node.missed_tick = False
        node.seen = 0
        node.told = self._visible(node)
        self._schedule_tick(node, self.rng.random())

    def _running(self, node_id: str) -> SimulatedNode:
        node = self.nodes[node_id]
        if not node.running:
            raise ValueError(f"{node_id} is crashed: restart it first")
        return node

    def _schedule_tick(self, node: SimulatedNode, part: float) -> None:
        """The next tick comes after this part of its usual interval."""
        at = self._now + part * self.config.hb_interval / 2
        self._schedule(at, self._tick, (node, node.life))

    def _tick(self, due: tuple[SimulatedNode, int]) -> None:
        node, life = due
        if life != node.life:
            return
        node.missed_tick = node.paused
        if node.paused:
            return
        self._schedule_tick(node, 1 - TICK_JITTER + 2 * TICK_JITTER * self.rng.random())
        now = node.clock()
        for link in node.links.values():
            if link.connection is None:
                self.network.connect(link, now)
        self._dispatch(node, node.elector.tick(now), now)
        self._ran(node)

    def _deliver(self, stream: Stream, item: Any) -> None:
        node = stream.target
        assert isinstance(node, SimulatedNode)
        now = node.clock()
        if stream.is_back:
            self._take_ack(node, stream, item, now)
        else:
            self._take_message(node, stream, item, now)
        self._ran(node)

    def _take_ack(self, node: SimulatedNode, stream: Stream, ack: Ack, now: float) -> None:
        """The dialler learns since when the acceptor backs it (section 4)."""
        connection = stream.connection
        sent_at = connection.recall(ack)
        if sent_at is not None:
            node.elector.confirm(connection.link.acceptor.node_id, ack[0], sent_at)
        self._dispatch(node, node.elector.tick(now), now)

    def _take_message(
        self, node: SimulatedNode, stream: Stream, message: Message, now: float
    ) -> None:
        """As the service does: take it in, tick, and answer a heartbeat."""
        connection, elector = stream.connection, node.elector
        sender = message.sender
        if type(message) is Heartbeat:
            connection.read += 1
        if not node.floor.take(sender, connection.number, now):
            return
        if not connection.introduced:
            connection.introduced = True
            elector.set_acknowledging(sender, connection.greeted)
        self._dispatch(node, elector.on_message(sender, message, now), now)
        self._dispatch(node, elector.tick(now), now)
        backed = type(message) is Heartbeat and elector.backs(sender, message.epoch, now)
        if backed and connection.greeted:
            self.network.reply(connection, (message.epoch, connection.read))

    @staticmethod
    def _closed(connection: Connection) -> None:
        node, dialler = connection.link.acceptor, connection.link.dialler
        assert isinstance(node, SimulatedNode)
        if node.life == connection.there.life:
            node.floor.leave(dialler.node_id, connection.number)

    def _dispatch(self, node: SimulatedNode, out: list[Outbound], now: float) -> None:
        if not out:
            return
        send, links = self.network.send, node.links
        for outbound in out:
            to, message = outbound.to, outbound.message
            if type(message) is not Heartbeat:
                self._about_to_send(node, to, message)
            if to == Outbound.BROADCAST:
                for link in links.values():
                    send(link, message, now)
            else:
                send(links[to], message, now)

    def _about_to_send(self, node: SimulatedNode, to: str, message: Message) -> None:
        for sent in self._on_sent:
            sent(node, to, message)
        if self.tracing:
            self.note(node.node_id, f"sends {_describe(message)} to {to}")

    def on_saved(self, node: SimulatedNode, epoch: int, voted_for: str | None) -> None:
        for saved in self._on_saved:
            saved(node, epoch, voted_for)

    def _ran(self, node: SimulatedNode) -> None:
        """After every event of a node: look for violations, tell observers, write the trace."""
        for ran in self._on_ran:
            ran(node)
        if self.tracing or node.observers:
            reasons = self._new_reasons(node)
            if self.tracing:
                for reason in reasons:
                    self.note(node.node_id, reason)
            if node.observers:
                self._tell(node, "; ".join(reasons))

    @staticmethod
    def _new_reasons(node: SimulatedNode) -> list[str]:
        events, count = node.elector.events, node.elector.event_count
        fresh = min(count - node.seen, len(events))
        node.seen = count
        return [event.text for event in list(events)[len(events) - fresh :]] if fresh else []

    @staticmethod
    def _visible(node: SimulatedNode) -> tuple[object, ...]:
        elector = node.elector
        quorum = elector.has_quorum(node.clock())
        return elector.role, elector.epoch, elector.current_primary, quorum

    def _tell(self, node: SimulatedNode, reason: str) -> None:
        visible = self._visible(node)
        if visible != node.told:
            node.told = visible
            snapshot = node.snapshot()
            for observer in node.observers:
                observer(snapshot, reason)

    def note(self, who: str, text: str) -> None:
        """Add a line to the trace: a node's name, * for a fault or ! for a broken promise."""
        if self.tracing:
            self.trace.append(f"{self._now:10.4f}  {who:<4} {text}")


def _describe(message: Message) -> str:
    match message:
        case Accept():
            return f"ACCEPT {message.epoch}"
        case Offer():
            return f"OFFER {message.epoch}, offset {message.repl_offset}"
        case Announce():
            return f"ANNOUNCE {message.epoch}"
    return f"HB {message.epoch} {message.role}"
