"""A whole cluster in one process: real electors, virtual time, a network that fails on request.

A seed always gives the same run. The simulation uses no reactor, clock or socket, so a synchronous
test can drive it:

    cluster = SimulatedCluster(["a", "b", "c"], seed=1)
    cluster.settle()
    cluster.partition(["a"], ["b", "c"])
    cluster.advance(10)
    assert cluster.primaries() == ["b"]
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector
from kevy_elect.messages import Accept, Ack, Announce, Heartbeat, Message, Offer, Outbound, Role
from kevy_elect.testing.checkers import Checker, Violation, default_checkers
from kevy_elect.testing.legacy import LegacyNode, constant_jitter
from kevy_elect.testing.network import Connection, Link, Loss, Network, Stream
from kevy_elect.testing.node import NodeSnapshot, Observer, SimulatedNode
from kevy_elect.testing.wrapper import Execution, SimulatedWrapper
from kevy_elect.transport.outbox import Outbox
from kevy_elect.transport.takeover import CurrentConnections

TICK_JITTER: Final = 0.1
"""A tick at hb_interval is early or late by at most this part of hb_interval."""
TIMER_DELAY: Final = 0.05
"""A tick at the time of `next_due` is late by at most this part of hb_interval."""


class SimulatedCluster:
    """Nodes and the network between them, which all start at virtual time 0.

    `nodes` are their names, or their number; they are then named n1, n2, … The clock of each node
    starts at a random time, and its rate differs from virtual time by at most `clock_drift`. A
    message takes up to `max_delay` seconds, by default hb_interval / 5.

    `witnesses` vote and never run. `silent` nodes neither greet nor acknowledge, so that leases on
    them are inferred (R8). `legacy` nodes run a model of the existing implementation, which
    reproduces its recorded traces.

    A node reads one connection of a peer at a time, as the service does. Without `one_connection`
    it reads all of them, however late their messages arrive.

    The `checkers` run after every event. `advance` raises the first Violation that they find,
    unless `raising` is off. `violations` has all of them.
    """

    servers: Mapping[str, object] = {}
    """The data servers of the nodes, by node id."""

    def __init__(
        self,
        nodes: Iterable[str] | int = 3,
        config: ElectConfig | None = None,
        *,
        seed: object = 0,
        witnesses: Collection[str] = (),
        silent: Collection[str] = (),
        legacy: Collection[str] = (),
        one_connection: bool = True,
        clock_drift: float = 0.01,
        max_delay: float | None = None,
        checkers: Sequence[Checker] | None = None,
        raising: bool = True,
        elector: type[Elector] = Elector,
        outbox: type[Outbox] = Outbox,
        wrapper: type[SimulatedWrapper] = SimulatedWrapper,
    ) -> None:
        """Raises ValueError if `witnesses`, `silent` or `legacy` name unknown nodes."""
        names = [f"n{n + 1}" for n in range(nodes)] if isinstance(nodes, int) else list(nodes)
        for special in (witnesses, silent, legacy):
            if unknown := sorted(set(special) - set(names)):
                raise ValueError(f"{', '.join(unknown)}: not among the nodes {', '.join(names)}")
        self.config = config = config or ElectConfig()
        self.trace: list[str] = []
        self.tracing = True
        self.checkers = default_checkers() if checkers is None else checkers
        self.promises_one_writer = not (legacy and config.count_unacknowledged)
        self.rng = random.Random(str(seed))
        self._raising = raising
        self._elector = elector
        self._witnesses = witnesses
        self._one_connection = one_connection
        self._queue: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._scheduled = 0
        self._now = 0.0

        self.nodes = {
            name: SimulatedNode(
                name,
                config,
                legacy=name in legacy,
                outbox=outbox,
                time=lambda: self._now,
                clock_offset=self.rng.uniform(0, 10_000),
                clock_rate=1 + self.rng.uniform(-clock_drift, clock_drift),
                saved=self._saved,
            )
            for name in names
        }
        for name in silent:
            self.nodes[name].acknowledges = False
        self.network = Network(
            list(self.nodes.values()),
            rng=self.rng,
            schedule=self._schedule,
            deliver=self._deliver,
            dialled=self._dialled,
            closed=self._closed,
            max_delay=config.hb_interval / 5 if max_delay is None else max_delay,
            retry_after=config.hb_interval / 2,
            give_up_after=config.down_after,
        )
        self.wrappers = {
            name: wrapper(node, self.network, self._schedule) for name, node in self.nodes.items()
        }
        for checker in self.checkers:
            checker.cluster = self
        # Most checkers override one or two of these calls; only those are called.
        self._on_sent = [c.sent for c in self.checkers if type(c).sent is not Checker.sent]
        self._on_saved = [c.saved for c in self.checkers if type(c).saved is not Checker.saved]
        self._on_ran = [c.ran for c in self.checkers if type(c).ran is not Checker.ran]
        self._start_all()

    # The state

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    @property
    def violations(self) -> list[Violation]:
        """The violations that the checkers found, in order of time."""
        found = [violation for checker in self.checkers for violation in checker.violations]
        return sorted(found, key=lambda violation: violation.at)

    def snapshot(self, node_id: str) -> NodeSnapshot:
        """The state of a running node. Raises ValueError if it is crashed."""
        return self._running(node_id).snapshot()

    def running(self) -> list[SimulatedNode]:
        """The nodes that are not crashed, including paused ones."""
        return [node for node in self.nodes.values() if node.running]

    def primaries(self) -> list[str]:
        """The running nodes whose role is primary, with or without a lease."""
        return [n.node_id for n in self.running() if n.machine.role is Role.PRIMARY]

    def writers(self) -> list[str]:
        """The nodes that would take a write now, or whose orphans would: never two of ours."""
        return [node.node_id for node in self.nodes.values() if node.can_write()]

    def leader(self) -> str | None:
        """The writable primary that all nodes follow while all of them run; None if there is
        none."""
        first = next(iter(self.nodes.values()))
        leader = self.nodes[first.machine.current_primary or first.node_id]
        if not leader.can_write():
            return None
        for node in self.nodes.values():
            if not node.running or node.paused:
                return None
            if node.machine.current_primary != leader.node_id:
                return None
            if node is not leader and node.machine.role is Role.PRIMARY:
                return None
        return leader.node_id

    def add_observer(self, node_id: str, observer: Observer) -> None:
        """Call `observer` whenever role, epoch, primary or quorum of this node change."""
        node = self.nodes[node_id]
        node.observed = node.visible()
        node.observers.append(observer)

    # Time

    def advance(self, seconds: float) -> None:
        """Advance virtual time by so many seconds."""
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

    def advance_until(self, condition: Callable[[], object], within: float = 60.0) -> float:
        """Advance until the condition holds. Return the seconds that it took, to hb_interval / 20.

        Raises Violation if it takes longer than `within` seconds.
        """
        began = self._now
        while not condition():
            if self._now - began >= within:
                raise Violation(self._now, "progress", f"not what was waited for in {within} s")
            self.advance(self.config.hb_interval / 20)
        return self._now - began

    def _schedule(self, at: float, action: Callable[[Any], None], argument: Any) -> None:
        self._scheduled += 1  # also orders actions of the same time
        heapq.heappush(self._queue, (at, self._scheduled, action, argument))

    # Faults

    def cut_one_way(self, source: str, target: str) -> None:
        """Stop everything from `source` to `target`. The other direction does not change.

        From here on two writers of ours are possible, unless all nodes acknowledge or only nodes
        that do count (R8).
        """
        self._fault(f"cut {source} -> {target}")
        infers = not all(node.acknowledges for node in self.nodes.values())
        if infers and self.config.count_unacknowledged:
            self.promises_one_writer = False
        self.network.cut(self.nodes[source].links[target])
        self._disturbed()

    def cut(self, one: str, other: str) -> None:
        """Stop everything between the two, in both directions."""
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
        """Leave only the links within each group. A node in no group is alone. Other cuts are
        mended."""
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

        Messages on their way are lost. With `straggle` they arrive that many seconds later, when a
        new connection may have carried messages already.
        """
        how = "" if straggle is None else f", the rest {straggle:.3f} s late"
        self._fault(f"reset {one} -> {other}{how}")
        self.network.reset(self.nodes[one].links[other], straggle)
        self._disturbed()

    def pause(self, node_id: str) -> None:
        """Stop the process as SIGSTOP does: its sockets fill and its clock goes on."""
        self._fault(f"pause {node_id}")
        self._running(node_id).paused = True
        self._disturbed()

    def resume(self, node_id: str) -> None:
        """Let a paused process go on. Does nothing to any other."""
        self._fault(f"resume {node_id}")
        self._wake(self.nodes[node_id])
        self._disturbed()

    def crash(self, node_id: str, straggle: float | None = None) -> None:
        """Kill the process, everything that it started, and its wrapper. Messages on their way are
        lost, or arrive `straggle` seconds late."""
        self._fault(f"crash {node_id}")
        self._end_process(self._running(node_id), straggle)
        self._disturbed()

    def die(
        self,
        node_id: str,
        straggle: float | None = None,
        execution: Execution = Execution(),  # noqa: B008
    ) -> None:
        """Kill only the process. Its wrapper kills everything that it started, and executes its
        last will. A node of the existing implementation has no wrapper."""
        node = self._running(node_id)
        self._fault(f"{node_id} dies below its wrapper")
        self._end_process(node, straggle)
        if not node.legacy:
            self.wrappers[node_id].begin(execution, straggle)
        self._disturbed()

    def _end_process(self, node: SimulatedNode, straggle: float | None) -> None:
        node.running = node.paused = False
        node.life += 1
        self.network.forget(node, straggle)

    def restart(self, node_id: str) -> None:
        """Start a dead node again with its ballot, as soon as its wrapper has ended. Does nothing
        to a node that runs."""
        self._fault(f"restart {node_id}")
        self._revive(self.nodes[node_id])
        self._disturbed()

    def _revive(self, node: SimulatedNode) -> None:
        if not node.running:
            self.wrappers[node.node_id].when_done(lambda: self._start(node))

    def fail_disk(self, node_id: str) -> None:
        """Make every save of this node's ballot fail."""
        self._fault(f"fail disk of {node_id}")
        self.nodes[node_id].disk.broken = True

    def mend_disk(self, node_id: str) -> None:
        """End `fail_disk`."""
        self._fault(f"mend disk of {node_id}")
        self.nodes[node_id].disk.broken = False

    def replace_disk(self, node_id: str, epoch: int = 0, voted_for: str | None = None) -> None:
        """Replace the ballot of a crashed node before it starts again. (0, None) is an empty disk.

        Raises ValueError while the node runs.
        """
        node = self.nodes[node_id]
        if node.running:
            raise ValueError(f"{node_id} runs: crash it first")
        self._fault(f"new disk for {node_id}, epoch {epoch}")
        node.disk.replace(epoch, voted_for)

    def lose(self, loss: Loss | None) -> None:
        """Lose every message for which `loss(sender, target, message)` is true from now on; None
        ends it."""
        self.network.lost = loss

    def use_timings(self, node_id: str, config: ElectConfig) -> None:
        """Give a node of ours other timings. A restart keeps them."""
        self._fault(f"timings of {node_id}: down_after {config.down_after:g} s")
        node = self.nodes[node_id]
        node.config = config
        if node.running:
            node.elector.use_timings(config)
            node.current.pause_after = config.pause_after

    def set_repl_offset(self, node_id: str, offset: int) -> None:
        """Set how much data a node has. A restart keeps it."""
        self._fault(f"offset of {node_id} is {offset}")
        node = self.nodes[node_id]
        node.repl_offset = offset
        if node.running:
            node.machine.set_repl_offset(offset)

    def hand_over(self, target: str, within: float | None = None, rest: float = 0.0) -> None:
        """Let the writable primary hand over to `target`.

        Does nothing unless another node is primary and writable. The old primary waits for the
        target for `within` seconds, by default down_after / 2, and does not run for `rest` seconds
        after that.
        """
        self._fault(f"hand over to {target}")
        for node in self._resigning():
            if node.node_id != target:
                now = node.clock()
                waits = node.config.down_after / 2 if within is None else within
                node.elector.hand_over(target, now, waits, rest)
                self._after_order(node, now)

    def step_down(self, node_id: str, rest: float = 0.0) -> None:
        """Let this node, if it can write, give up the role and not run for `rest` seconds."""
        self._fault(f"step down {node_id}")
        for node in self._resigning():
            if node.node_id == node_id:
                now = node.clock()
                node.elector.step_down(now, rest, "told to")
                self._after_order(node, now)

    def _resigning(self) -> list[SimulatedNode]:
        """The nodes that can give up a role on command: a primary of ours."""
        return [
            node for node in self.running() if not (node.legacy or node.paused) and node.can_write()
        ]

    def _after_order(self, node: SimulatedNode, now: float) -> None:
        for checker in self.checkers:
            checker.resigned(node)
        self._dispatch(node, node.machine.tick(now), now)
        self._ran(node)

    def recover(self) -> None:
        """End all faults: links, processes and disks."""
        self._fault("recover")
        self._mend_links()
        for node in self.nodes.values():
            node.disk.broken = False
            self._wake(node)
            self._revive(node)
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
                self._schedule_tick(node, self.rng.random() / 8)

    def _disturbed(self) -> None:
        for checker in self.checkers:
            checker.disturbed()

    # Nodes at work

    def _start_all(self) -> None:
        for node in self.nodes.values():
            self._start(node)

    def _start(self, node: SimulatedNode) -> None:
        node.machine = self._legacy_machine(node) if node.legacy else self._our_machine(node)
        node.machine.set_repl_offset(node.repl_offset)
        node.current = CurrentConnections(node.config.pause_after)
        node.running = True
        node.missed_tick = False
        node.noted = 0
        node.observed = node.visible()
        node.last_event = self._now
        node.due_at = math.inf
        self._schedule_tick(node, 1.0 if node.legacy else self.rng.random() / 2)

    def _our_machine(self, node: SimulatedNode) -> Elector:
        return self._elector(
            node.node_id,
            list(self.nodes),
            f"{node.node_id}:6379",
            config=node.config,
            ballot=node.disk,
            rng=self.rng,
            witness=node.node_id in self._witnesses,
            drives_server=node.node_id in self.servers,
        )

    def _legacy_machine(self, node: SimulatedNode) -> LegacyNode:
        jitter = round(node.config.election_backoff_jitter * 1e9)
        return LegacyNode(
            node.node_id,
            tuple(self.nodes),
            node.config,
            address=f"{node.node_id}:6379",
            ballot=node.disk,
            jitter=constant_jitter(node.node_id, jitter) / 1e9,
        )

    def _running(self, node_id: str) -> SimulatedNode:
        node = self.nodes[node_id]
        if not node.running:
            raise ValueError(f"{node_id} is crashed: restart it first")
        return node

    def _schedule_tick(self, node: SimulatedNode, part: float) -> None:
        """Schedule the next tick after this part of the interval."""
        node.next_tick = self._now + part * node.config.hb_interval
        self._schedule(node.next_tick, self._tick, (node, node.life))

    def _set_timer(self, node: SimulatedNode, now: float) -> None:
        """Schedule a tick at the time of `next_due`, if the next regular tick would be too late."""
        due_at = node.elector.next_due(now)
        if due_at == node.due_at:
            return
        late = (1e-6 + TIMER_DELAY * self.rng.random()) * node.config.hb_interval
        at = node.when(due_at) + late
        if at < node.next_tick:
            node.due_at = due_at
            self._schedule(at, self._tick_when_due, (node, node.life, due_at))
        else:
            node.due_at = math.inf

    def _tick_when_due(self, due: tuple[SimulatedNode, int, float]) -> None:
        node, life, due_at = due
        if life == node.life and due_at == node.due_at and not node.paused:
            node.due_at = math.inf
            now = node.clock()
            self._dispatch(node, node.machine.tick(now), now)
            self._ran(node)

    def _tick(self, due: tuple[SimulatedNode, int]) -> None:
        node, life = due
        if life != node.life:
            return
        node.missed_tick = node.paused
        if node.paused:
            return
        if node.legacy:
            # A legacy node ticks only after hb_interval without an event.
            silent_until = node.last_event + node.config.hb_interval
            if self._now < silent_until:
                self._schedule(silent_until, self._tick, due)
                return
            node.last_event = self._now
            self._schedule_tick(node, 1.0)
        else:
            self._schedule_tick(node, 1 - TICK_JITTER + 2 * TICK_JITTER * self.rng.random())
        now = node.clock()
        for link in node.links.values():
            if link.connection is None:
                self.network.connect(link, now)
        self._dispatch(node, node.machine.tick(now), now)
        self._ran(node)

    def _deliver(self, stream: Stream, item: Any) -> None:
        node = stream.target
        assert isinstance(node, SimulatedNode)
        now = node.clock()
        if stream.is_back:
            self._take_ack(node, stream, item, now)
        elif node.legacy:
            self._take_as_legacy(node, item, now)
        else:
            self._take_message(node, stream, item, now)
        self._ran(node)

    def _take_ack(self, node: SimulatedNode, stream: Stream, ack: Ack, now: float) -> None:
        """Tell the dialler since when the acceptor backs it (section 4)."""
        connection, elector = stream.connection, node.elector
        sent_at = connection.ledger.confirmed_by(ack)
        if sent_at is not None:
            elector.confirm(connection.link.acceptor.node_id, ack.epoch, sent_at)
        self._dispatch(node, elector.tick(now), now)

    def _take_as_legacy(self, node: SimulatedNode, message: Message, now: float) -> None:
        """Handle a message on any connection, then tick."""
        node.last_event = self._now
        machine = node.machine
        self._dispatch(node, machine.on_message(message.sender, message, now), now)
        self._dispatch(node, machine.tick(now), now)

    def _take_message(
        self, node: SimulatedNode, stream: Stream, message: Message, now: float
    ) -> None:
        """Handle a message as the service does: the elector, a tick, and the answer to a
        heartbeat."""
        connection, elector = stream.connection, node.elector
        sender = message.sender
        if type(message) is Heartbeat:
            connection.read += 1
        heard = node.current.hears(sender, connection.number, now)
        if self._one_connection and not heard:
            return
        if not connection.introduced:
            connection.introduced = True
            elector.set_acknowledging(sender, acknowledging=connection.greeted)
        self._dispatch(node, elector.on_message(sender, message, now), now)
        self._dispatch(node, elector.tick(now), now)
        backed = type(message) is Heartbeat and elector.backs(sender, message.epoch, now)
        if backed and connection.greeted:
            self.network.reply(connection, Ack(message.epoch, connection.read))

    def _dialled(self, link: Link) -> None:
        node = link.dialler
        assert isinstance(node, SimulatedNode)
        if node.running and not node.legacy:
            node.elector.set_connected(link.acceptor.node_id, connected=link.connection is not None)

    def _closed(self, connection: Connection) -> None:
        node, dialler = connection.link.acceptor, connection.link.dialler
        assert isinstance(node, SimulatedNode)
        if node.life == connection.there.life:
            node.last_event = self._now
            node.current.closed(dialler.node_id, connection.number)

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

    def _saved(self, node: SimulatedNode, epoch: int, voted_for: str | None) -> None:
        for saved in self._on_saved:
            saved(node, epoch, voted_for)

    def _ran(self, node: SimulatedNode) -> None:
        """Check for violations, call observers and write the trace after an event of a node."""
        if not node.legacy:
            self._set_timer(node, node.clock())
            self.wrappers[node.node_id].keep()
        for ran in self._on_ran:
            ran(node)
        if self.tracing or node.observers:
            reasons = node.take_reasons()
            if self.tracing:
                for reason in reasons:
                    self.note(node.node_id, reason)
            if node.observers:
                self._tell(node, "; ".join(reasons))

    @staticmethod
    def _tell(node: SimulatedNode, reason: str) -> None:
        visible = node.visible()
        if visible != node.observed:
            node.observed = visible
            snapshot = node.snapshot()
            for observer in node.observers:
                observer(snapshot, reason)

    def note(self, who: str, text: str) -> None:
        """Add a line to the trace: `who` is a node, * for a fault, or ! for a broken promise."""
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
