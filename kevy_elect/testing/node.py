"""One node of a simulated cluster: the state machine that it runs, its disk and its clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import attrs

from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError
from kevy_elect.messages import Message, Outbound, Role
from kevy_elect.testing.legacy import LegacyNode
from kevy_elect.testing.network import Host
from kevy_elect.transport.outbox import Outbox
from kevy_elect.transport.takeover import CurrentConnections


class Machine(Protocol):
    """The program of a node: our Elector, or the model of the existing implementation."""

    @property
    def role(self) -> Role:
        """The role of the node."""

    @property
    def epoch(self) -> int:
        """The epoch of the node."""

    @property
    def current_primary(self) -> str | None:
        """The primary that it follows, itself, or None."""

    @property
    def repl_offset(self) -> int:
        """How much data it has."""

    def set_repl_offset(self, offset: int) -> None:
        """Set how much data it has."""

    def tick(self, now: float) -> list[Outbound]:
        """Do the work of this time. Returns the messages to send."""

    def on_message(self, sender: str, message: Message, now: float) -> list[Outbound]:
        """Handle a message. Returns the messages to send."""

    def has_quorum(self, now: float) -> bool:
        """Whether a quorum backs it."""

    def can_write(self, now: float) -> bool:
        """Whether it may write."""


@attrs.frozen
class NodeSnapshot:
    """The state of one node at one instant, by its own clock."""

    node_id: str
    role: Role
    epoch: int
    current_primary: str | None
    primary_addr: str | None
    """None without a primary, and on a node of the existing implementation, which keeps no
    address."""
    has_quorum: bool
    can_write: bool
    down_peers: tuple[str, ...]


Observer = Callable[[NodeSnapshot, str], object]
"""Receives a node's new state, and a text that says why it changed."""
Saved = Callable[["SimulatedNode", int, str | None], None]


class SimulatedDisk:
    """A ballot that survives a crash, and that may refuse to save."""

    def __init__(self, node: SimulatedNode, saved: Saved) -> None:
        self.broken = False
        self._node = node
        self._on_saved = saved
        self._saved: tuple[int, str | None] = (0, None)

    def load(self) -> tuple[int, str | None]:
        """The ballot on the disk."""
        return self._saved

    def save(self, epoch: int, voted_for: str | None) -> None:
        """Save a ballot. Raises BallotError if the disk fails."""
        if self.broken:
            if self._node.legacy:
                return  # the existing implementation ignores the failure
            raise BallotError("the simulated disk refuses to save")
        self._saved = (epoch, voted_for)
        self._on_saved(self._node, epoch, voted_for)

    def replace(self, epoch: int, voted_for: str | None) -> None:
        """Replace the ballot on the disk."""
        self._saved = (epoch, voted_for)


class SimulatedNode(Host):
    """One node: its disk and clock, which survive a crash, and its machine while it runs."""

    machine: Machine
    current: CurrentConnections

    def __init__(
        self,
        node_id: str,
        config: ElectConfig,
        *,
        legacy: bool,
        outbox: type[Outbox],
        time: Callable[[], float],
        clock_offset: float,
        clock_rate: float,
        saved: Saved,
    ) -> None:
        super().__init__(node_id, outbox, legacy=legacy)
        self.config = config
        self.disk = SimulatedDisk(self, saved)
        self.observers: list[Observer] = []
        self.repl_offset = 0
        self.orphans: Machine | None = None  # the dead machine whose lease allows orphans to write
        self.missed_tick = False  # while paused
        self.last_event = 0.0  # virtual time; a legacy node ticks hb_interval later
        self.next_tick = 0.0  # virtual time
        self.due_at = math.inf  # by its own clock: the time of its timer
        self.noted: object = 0  # the number of the elector's events, or a legacy node's state
        self.observed: tuple[object, ...] = ()
        self._time = time
        self._clock_offset = clock_offset
        self._clock_rate = clock_rate

    @property
    def elector(self) -> Elector:
        """The machine of a node of ours. Raises TypeError for a legacy node."""
        machine = self.machine
        if not isinstance(machine, Elector):
            raise TypeError(f"{self.node_id} runs the existing implementation, not an Elector")
        return machine

    def clock(self) -> float:
        """This node's monotonic clock, in its own seconds."""
        return self._clock_offset + self._clock_rate * self._time()

    def when(self, clock: float) -> float:
        """The virtual time at which this node's clock shows `clock`."""
        return (clock - self._clock_offset) / self._clock_rate

    def can_write(self) -> bool:
        """Whether this node, or an orphan of it, would take a write at this instant. A paused
        process counts too, because it may wake up during a write."""
        now = self.clock()
        if self.orphans is not None and self.orphans.can_write(now):
            return True
        return self.running and self.machine.can_write(now)

    def backs(self, leader: SimulatedNode) -> bool:
        """Whether this node follows `leader` in its epoch and would acknowledge that. False for a
        node of the existing implementation, which may vote for any other."""
        if self.legacy:
            return False
        return self.elector.backs(leader.node_id, leader.machine.epoch, self.clock())

    def is_with(self, leader: SimulatedNode) -> bool:
        """Whether this node follows `leader` in its epoch, and acknowledges it if it can
        acknowledge."""
        if self.legacy:
            state = self.machine.current_primary, self.machine.epoch
            return state == (leader.node_id, leader.machine.epoch)
        return self.backs(leader)

    def visible(self) -> tuple[Role, int, str | None, bool]:
        """The state that observers receive: role, epoch, primary and whether it has a quorum."""
        machine = self.machine
        quorum = machine.has_quorum(self.clock())
        return machine.role, machine.epoch, machine.current_primary, quorum

    def snapshot(self) -> NodeSnapshot:
        """The state of the node now. The node must run."""
        machine, now = self.machine, self.clock()
        return NodeSnapshot(
            node_id=self.node_id,
            role=machine.role,
            epoch=machine.epoch,
            current_primary=machine.current_primary,
            primary_addr=None if self.legacy else self.elector.primary_addr,
            has_quorum=machine.has_quorum(now),
            can_write=machine.can_write(now),
            down_peers=tuple(self.down_peers()),
        )

    def down_peers(self) -> list[str]:
        """The ids of the peers that it does not hear."""
        machine = self.machine
        peers = machine if isinstance(machine, LegacyNode) else self.elector.peers
        return peers.down(self.clock())

    def take_reasons(self) -> list[str]:
        """Return the reasons for the changes of its state since the last call, in the elector's
        words."""
        if self.legacy:
            return self._describe_change()
        events = self.elector.events
        assert isinstance(self.noted, int)
        fresh, self.noted = events.since(self.noted), events.count
        return [event.text for event in fresh]

    def _describe_change(self) -> list[str]:
        """Describe the change by the state, because the existing implementation gives no
        reasons."""
        machine = self.machine
        state = role, epoch, primary = machine.role, machine.epoch, machine.current_primary
        if state == self.noted:
            return []
        self.noted = state
        return [f"is {role} of epoch {epoch}; its primary is {primary or 'not known'}"]
