"""The handover of a primary's role: fence it, stop its children, then step down.

No node may write between the fence and the next primary's election. Each step therefore begins as
soon as the one before is done, and has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kevy_elect.config import Cluster, ElectConfig
from kevy_elect.errors import HandoverError
from kevy_elect.messages import Role
from kevy_elect.peers import is_better
from kevy_elect.service.fence import Fence
from kevy_elect.service.observers import ElectorSnapshot, Observer
from kevy_elect.service.timers import timers
from kevy_elect.status import PeerStatus

HEARTBEATS_TO_RUN: Final = 5
"""Heartbeats within which a target without better candidates runs, if it can."""


class Primary(Protocol):
    """The part of a node that a handover uses."""

    @property
    def cluster(self) -> Cluster:
        """The members."""

    @property
    def config(self) -> ElectConfig:
        """The timings."""

    @property
    def fence(self) -> Fence:
        """The fence, with all writers."""

    @property
    def reactor(self) -> Any:
        """The reactor for timers."""

    @property
    def is_electing(self) -> bool:
        """Whether the elector runs."""

    @property
    def repl_offset(self) -> int:
        """How much data this node has."""

    @property
    def server_freezes_within(self) -> float:
        """Seconds that freezing a data server may take; 0 without one."""

    def now(self) -> float:
        """Seconds of this node's clock."""

    def state_snapshot(self) -> ElectorSnapshot:
        """This node's present state."""

    def peer_status(self) -> list[PeerStatus]:
        """The peers as this node sees them."""

    def add_observer(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` at each change. Returns a function that removes it."""

    async def refresh_offset(self) -> None:
        """Read how much data this node has now."""

    def resign(self, rest: float, why: str) -> None:
        """Step down, notify all members, and do not run for `rest` seconds."""

    def hand_over(self, target: str, within: float, rest: float, reason: str = "") -> None:
        """Step down in favour of `target`; see `Elector.hand_over`."""


@attrs.frozen
class Step:
    """A completed step, `at` seconds after the fence."""

    at: float
    text: str


@attrs.frozen
class Outcome:
    """The result of a handover that began."""

    done: bool
    """Whether the intended member has the role."""
    text: str
    primary: str | None
    epoch: int
    unwritable: float
    """Seconds in which no node could write, as this node sees it."""


class Handover:
    """One handover of `election`'s role, to `target` or else to the best member.

    It waits until the target's offset has reached this node's, for at most `patience` seconds,
    which include the stop of the children. After that this node takes the role back; or, if it
    is `leaving`, the others elect any member. `tell(step)` is called after each step.
    The events keep the `reason`.
    """

    def __init__(
        self,
        election: Primary,
        target: str | None = None,
        *,
        patience: float,
        leaving: bool = False,
        tell: Callable[[Step], object] = lambda step: None,
        reason: str = "",
    ) -> None:
        """Raises HandoverError, with nothing changed, if this node is not the primary with its
        lease, or if `target` cannot take the role."""
        snapshot = election.state_snapshot()
        self._me = election.cluster.node_id
        if not snapshot.can_write:
            who = snapshot.current_primary
            primary = f"{who} is" if who and who != self._me else "ask the primary, if there is one"
            raise HandoverError(f"{self._me} is not the primary with its lease: {primary}")
        self._election = election
        self._target = self._best() if target is None else self._check(target)
        self._named = target is not None
        self._epoch = snapshot.epoch
        self._leaving = leaving
        self._tell = tell
        self._reason = reason
        self._began = election.now()
        self._deadline = self._began + patience

    async def run(self) -> Outcome:
        """Perform the handover. Failures become part of the outcome."""
        with self._election.fence.closed():
            self._say(f"fenced: {self._me} writes nothing from here on")
            obstacle = await self._stop_children()
            if obstacle is None:
                obstacle = await self._wait_for_target()
                if obstacle is None:
                    return await self._step_down()
                if self._leaving:
                    return await self._resign(obstacle)
            if not self._leads():
                return self._over(f"{obstacle}; {self._me} is no longer the primary")
        then = "stops" if self._leaving else "takes the role back"
        return self._over(f"{obstacle}; {self._me} {then}")

    def leave(self, patience: float) -> None:
        """Leave the role in any case, after at most `patience` seconds."""
        self._leaving = True
        self._deadline = min(self._deadline, self._election.now() + patience)

    # The steps. Each returns the obstacle, if there is one.

    async def _stop_children(self) -> str | None:
        fence = self._election.fence
        ended = _ending(fence.stopped())
        if not await self._until(lambda: bool(ended)):
            return f"its children did not stop within {self._elapsed():.1f} s"
        if ended[0] is not None:
            return f"its children did not stop: {ended[0].value}"
        if fence.children():
            self._say("its children are down")
        return None

    async def _wait_for_target(self) -> str | None:
        election = self._election
        answered = _ending(election.refresh_offset())
        if not await self._until(lambda: bool(answered)):
            return f"its offset did not come within {self._elapsed():.1f} s"
        if answered[0] is not None:
            offset = election.repl_offset
            self._say(f"its offset stays {offset}, maybe too low: {answered[0].value}")

        def arrived() -> bool:
            target = self._peer(self._target)
            gone = not target.is_there or not self._leads()
            return gone or target.offset >= election.repl_offset

        in_time = await self._until(arrived)
        target = self._peer(self._target)
        if not self._leads():
            return "the lease or the role was lost meanwhile"
        if not target.is_there:
            return f"{target.node_id} is gone"
        if not in_time:
            return (
                f"{target.node_id} has reached only {target.offset} of {election.repl_offset} "
                f"after {self._elapsed():.1f} s"
            )
        self._say(f"{target.node_id} has all of this node's data, offset {election.repl_offset}")
        return None

    async def _step_down(self) -> Outcome:
        """Notify the target, and wait until a member is elected."""
        election, config = self._election, self._election.config
        steps = len(election.cluster.peers) * config.candidate_step
        ahead = sum(
            is_better((peer.node_id, peer.offset), (self._target, self._peer(self._target).offset))
            for peer in election.peer_status()
            if peer.alive
        )
        within = HEARTBEATS_TO_RUN * config.hb_interval + ahead * config.candidate_step
        within = min(within, config.down_after / 2)
        if freezing := election.server_freezes_within:  # the target freezes its own first (D2)
            # After that, the others, which were not notified, find this node DOWN and run
            # themselves.
            longest = config.down_after - 2 * config.hb_interval
            within = min(within + freezing, longest)
        rest = 0.0 if self._named else steps
        election.hand_over(self._target, within, rest, self._reason)
        self._say(f"stepped down; only {self._target} is notified so far")
        self._deadline = election.now() + within + steps + config.election_timeout

        def voted() -> bool:
            return election.state_snapshot().epoch > self._epoch

        def elected() -> bool:
            snapshot = election.state_snapshot()
            return snapshot.current_primary is not None and snapshot.epoch > self._epoch

        if await self._until(lambda: voted() or self._is_hopeless()) and voted() and not elected():
            epoch = election.state_snapshot().epoch
            self._say(f"an election of epoch {epoch} is in progress; all members are notified")
        await self._until(lambda: elected() or self._is_hopeless())
        primary = election.state_snapshot().current_primary
        if primary is None:
            return self._over(f"nobody was elected within {self._elapsed():.1f} s")
        who = f"{primary} is primary of epoch {election.state_snapshot().epoch}"
        if primary != self._target:
            moved = primary != self._me and not self._named
            text = f"{self._target} did not run, or was not elected; {who}"
            return self._over(text, done=moved)
        return self._over(who, done=True)

    async def _resign(self, obstacle: str) -> Outcome:
        """Step down, notify all members, and let them elect any member."""
        election = self._election
        election.resign(election.config.down_after, obstacle)
        self._deadline = election.now() + 2 * election.config.hb_interval
        await self._until(lambda: False)  # the messages must leave this process
        return self._over(f"{obstacle}; {self._me} stepped down")

    # The state that the steps check

    def _best(self) -> str:
        there = [peer for peer in self._election.peer_status() if peer.is_there]
        if not there:
            raise HandoverError(f"no other member is there that {self._me} could hand over to")
        return min(there, key=lambda peer: (-peer.offset, peer.node_id)).node_id

    def _check(self, target: str) -> str:
        ids = [peer.node_id for peer in self._election.cluster.peers]
        if target == self._me:
            raise HandoverError(f"{target} is the primary already")
        if target not in ids:
            raise HandoverError(f"{target!r} is no other member; there are {', '.join(ids)}")
        if not self._peer(target).is_there:
            raise HandoverError(f"{target} is not there: start it, or choose another")
        return target

    def _peer(self, node_id: str) -> PeerStatus:
        return next(p for p in self._election.peer_status() if p.node_id == node_id)

    def _leads(self) -> bool:
        """Whether this node is still the same primary and holds its lease."""
        snapshot = self._election.state_snapshot()
        return (
            snapshot.role is Role.PRIMARY and snapshot.epoch == self._epoch and snapshot.has_quorum
        )

    def _is_hopeless(self) -> bool:
        """Whether this node leaves while too few others are connected to elect a primary."""
        there = sum(peer.is_there for peer in self._election.peer_status())
        return self._leaving and there < self._election.cluster.quorum

    def _elapsed(self) -> float:
        return self._election.now() - self._began

    def _say(self, text: str) -> None:
        self._tell(Step(self._elapsed(), text))

    def _over(self, text: str, *, done: bool = False) -> Outcome:
        snapshot, elapsed = self._election.state_snapshot(), self._elapsed()
        self._say(text)
        return Outcome(done, text, snapshot.current_primary, snapshot.epoch, elapsed)

    async def _until(self, state: Callable[[], bool]) -> bool:
        """Wait for `state()`; returns whether it came before the deadline."""
        while self._election.is_electing:
            if state():
                return True
            if self._election.now() >= self._deadline:
                return False
            await self._change()
        raise HandoverError(f"{self._me} stopped in the middle of the handover")

    def _change(self) -> Deferred[None]:
        """Fires when observers are called, or at the next poll, because observers are not called
        for changes of offsets."""
        election = self._election
        waiting: Deferred[None] = Deferred()

        def wake(*_: object) -> None:
            remove()
            if look.active():
                look.cancel()
            if not waiting.called:
                waiting.callback(None)

        remove = election.add_observer(wake)
        look = timers(election.reactor).callLater(election.config.hb_interval / 10, wake)
        return waiting


def _ending(work: Coroutine[Any, Any, None]) -> list[Failure | None]:
    """Gets one item when `work` ends: its failure, or None."""
    ended: list[Failure | None] = []
    running = Deferred.fromCoroutine(work)
    running.addCallbacks(lambda _: ended.append(None), ended.append)
    return ended
