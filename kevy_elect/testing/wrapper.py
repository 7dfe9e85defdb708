"""The wrapper of a simulated node, which notifies the others when the node has died."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import attrs

from kevy_elect.messages import Heartbeat, Role
from kevy_elect.testing.network import Link, Network, Schedule
from kevy_elect.testing.node import SimulatedNode

TIMES: Final = 5
"""The number of times that each member gets the message."""
INTERVAL: Final = 0.1
"""The time between two of these, as a part of hb_interval."""
Call = tuple[Link, Heartbeat]


@attrs.frozen(kw_only=True)
class Execution:
    """How the last will of a dead node is executed."""

    killing: float = 0.0
    """The seconds for which the node's orphans live on."""
    reached: Collection[str] | None = None
    """The members that a call reaches; None for all."""
    stale: bool = False
    """Whether the node died before it wrote its last change of role to the will."""


class SimulatedWrapper:
    """Kills what its node has left behind, notifies the members, and lets the node start again.

    A mutation overrides the order of these three.
    """

    def __init__(self, node: SimulatedNode, network: Network, schedule: Schedule) -> None:
        self.busy = False
        """Whether it is at work: its node is dead, and must not start again yet."""
        self._node = node
        self._network = network
        self._schedule = schedule
        self._epochs: tuple[int | None, int | None] = (None, None)
        self._then: Callable[[], object] | None = None

    def keep(self) -> None:
        """Write the will of this moment: the epoch of which the node is primary, if it is."""
        machine = self._node.machine
        epoch = machine.epoch if machine.role is Role.PRIMARY else None
        if epoch != self._epochs[1]:
            self._epochs = self._epochs[1], epoch

    def begin(self, execution: Execution, straggle: float | None) -> None:
        """Execute the will of the dead node. The last messages may arrive `straggle` seconds
        late."""
        self.busy = True
        self._node.orphans = self._node.machine
        calls = []
        epoch, self._epochs = self._epochs[0 if execution.stale else 1], (None, None)
        if epoch is not None:
            node = self._node
            frame = Heartbeat(epoch, node.node_id, Role.REPLICA, node.repl_offset)
            # Other peers would take the message for a sign of life.
            receivers = {view.node_id for view in node.elector.peers if view.acknowledging}
            if execution.reached is not None:
                receivers.intersection_update(execution.reached)
            calls = [(node.links[name], frame) for name in sorted(receivers)]
        self._work(execution.killing, calls, straggle)

    def when_done(self, then: Callable[[], object]) -> None:
        """Call `then` once the node may start again."""
        if self.busy:
            self._then = then
        else:
            then()

    def _work(self, killing: float, calls: list[Call], straggle: float | None) -> None:
        done = killing + self._tell(killing, calls)
        self._later(killing, self._kill)
        self._later(done, partial(self._end, straggle))

    def _kill(self) -> None:
        self._node.orphans = None

    def _tell(self, after: float, calls: list[Call]) -> float:
        """Make these calls, all at once. Return how long they take."""
        if not calls:
            return 0.0
        spacing = INTERVAL * self._node.config.hb_interval
        for call in calls:
            for time in range(TIMES):
                self._later(after + time * spacing, partial(self._say, *call))
        return TIMES * spacing

    def _say(self, link: Link, frame: Heartbeat) -> None:
        self._network.send(link, frame, self._node.clock())

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        self._schedule(self._network.now + seconds, _call, action)

    def _end(self, straggle: float | None) -> None:
        if self.busy and not self._node.running:
            self._network.forget(self._node, straggle)
        self.busy = False
        then, self._then = self._then, None
        if then is not None:
            then()


def _call(action: Any) -> None:
    action()
