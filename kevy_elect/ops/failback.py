"""Hands a primary's role to a member that the operator prefers, once it has been fit for some
time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.errors import HandoverError
from kevy_elect.events import Cause, EventKind
from kevy_elect.failback import REASON, Failback, Own, obstacle
from kevy_elect.messages import Role
from kevy_elect.ops.page_model import Happening, Known
from kevy_elect.service.departure import STOPS
from kevy_elect.service.election import ElectionService, ElectorSnapshot
from kevy_elect.service.handover import Outcome, Step
from kevy_elect.service.timers import timers
from kevy_elect.status import PeerStatus

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the members, and between two requests for the page of one."""
ON_ITS_WAY: Final = 3.0
"""Seconds after which other members have received a write of this node, and have said so."""
ELECTED_WITHIN: Final = 30.0
"""The most seconds from a handover until its target is elected."""
TOLD_LATE: Final = 3.0
"""Seconds by which the time of another member's event may be wrong, because its answer took
time."""


class Pages(Protocol):
    """The pages of the other members; `page_poll.Others` implements this."""

    def __iter__(self) -> Iterator[Known]: ...

    def start(self) -> None:
        """Begin to ask them repeatedly."""

    def stop(self) -> None:
        """Stop asking."""


class FailbackService(Service):
    """While `election` is primary, hands its role to a member that `priorities` prefer.

    A member is fit if it is alive, acknowledges, and has all data, and if its page in `pages` says
    that it is healthy, neither paused nor in maintenance, and that its data server, if this node
    drives one, is in sync. The pages are asked only while this node is primary and other members
    are preferred.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        priorities: Mapping[str, int],
        pages: Pages,
        after: float,
    ) -> None:
        """`after` are the seconds for which a member must be fit without interruption."""
        self._election = election
        self._pages = pages
        self._after = after
        self._decision = Failback(after)
        self._preferred = preferred(election.cluster.node_id, priorities)
        self._began = 0.0
        """The time at which this node last became primary."""
        self._by_hand = False
        self._offsets: deque[tuple[float, int]] = deque(maxlen=60)
        self._loop: LoopingCall | None = None
        self._forget: Callable[[], None] = lambda: None

    def startService(self) -> None:
        super().startService()
        if self._preferred:
            self._forget = self._election.add_observer(self._changed)
            self._changed(self._election.state_snapshot())

    def stopService(self) -> None:
        super().stopService()
        self._forget()
        self._end()

    def _changed(self, snapshot: ElectorSnapshot, reason: str = "") -> None:
        if snapshot.role is not Role.PRIMARY:
            self._end()
        elif self._loop is None:
            self._begin()

    def _begin(self) -> None:
        self._began = self._election.now()
        self._by_hand = False
        self._offsets.clear()
        self._decision.begin(self._began)
        self._pages.start()
        self._loop = LoopingCall(self._look)
        self._loop.clock = timers(self._election.reactor)
        self._loop.start(LOOK_EVERY, now=False).addErrback(self._broken)

    def _end(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            self._pages.stop()
            if loop.running:
                loop.stop()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the role is not handed back any more", failure)
        self._forget()  # another start would not know what an operator moved before
        self._end()

    def _look(self) -> None:
        now, epoch = self._election.now(), self._election.state_snapshot().epoch
        known = {each.node_id: each for each in self._pages}
        self._note_hand(known.values())
        member = self._decision.choose(now, self._fit(known, epoch, now))
        if member is not None:
            self._hand_over(member)

    def _note_hand(self, known: Iterable[Known]) -> None:
        if self._by_hand:
            return
        me = self._election.cluster.node_id
        self._by_hand = any(
            was_by_hand(event, me, self._began) for each in known for event in each.events
        )
        if self._by_hand:
            self.log.info("{node}: an operator moved the role here, so it stays here", node=me)

    def _fit(self, known: Mapping[str, Known], epoch: int, now: float) -> list[str]:
        """The members that may have the role now, the most preferred first."""
        self._offsets.append((now, self._election.repl_offset))
        if not self._may_give(known.values(), now):
            return []
        peers = {peer.node_id: peer for peer in self._election.peer_status()}
        own = self._own(epoch, now)
        return [each for each in self._preferred if self._is_fit(peers, known, each, own, now)]

    def _may_give(self, known: Iterable[Known], now: float) -> bool:
        """Whether a handover without an operator's command is allowed now. None is during another
        one, because the node is fenced then."""
        election = self._election
        if self._by_hand or election.maintained_for() or not election.can_write():
            return False
        told = (each.status for each in known if each.is_fresh(now))
        return not any(status is not None and status.maintained_for > 0 for status in told)

    def _own(self, epoch: int, now: float) -> Own:
        earlier = (offset for at, offset in reversed(self._offsets) if now - at >= ON_ITS_WAY)
        offset = next(earlier, self._election.repl_offset)
        node_id, drives = self._election.cluster.node_id, self._election.data is not None
        return Own(node_id, epoch, offset, drives, self._after)

    def _is_fit(
        self,
        peers: Mapping[str, PeerStatus],
        known: Mapping[str, Known],
        member: str,
        own: Own,
        now: float,
    ) -> bool:
        if member not in peers or member not in known:
            return False
        told = known[member].status if known[member].is_fresh(now) else None
        return obstacle(peers[member], told, own) is None

    def _hand_over(self, member: str) -> None:
        election, me = self._election, self._election.cluster.node_id
        self.log.info(
            "{node}: {member} is preferred, and fit for {after:g} s: handing over to it",
            node=me,
            member=member,
            after=self._after,
        )
        try:
            handing = election.switch_over(
                member, patience=election.config.down_after, tell=self._tell, reason=REASON
            )
        except HandoverError:
            return  # an operator was faster, or the member has just gone
        handing.addCallbacks(self._done, self._not_done)

    def _tell(self, step: Step) -> None:
        self.log.info(
            "{node}: failback, {at:.3f} s: {text}",
            node=self._election.cluster.node_id,
            at=step.at,
            text=step.text,
        )

    def _done(self, outcome: Outcome) -> None:
        now = self._election.now()
        if outcome.done:
            self._decision.gave(now)
            return
        self.log.warn(
            "{node}: the role was not handed back: {text}; the next try is in {wait:g} s",
            node=self._election.cluster.node_id,
            text=outcome.text,
            wait=self._decision.failed(now),
        )

    def _not_done(self, failure: Failure) -> None:
        if failure.check(HandoverError) is None:
            self.log.failure("the handover failed", failure)
        self._decision.failed(self._election.now())


def preferred(node_id: str, priorities: Mapping[str, int]) -> list[str]:
    """The members that are preferred to this one, the most preferred first."""
    own = priorities.get(node_id, 0)
    above = [each for each, rank in priorities.items() if rank > own]
    return sorted(above, key=lambda each: (-priorities[each], each))


def was_by_hand(event: Happening, me: str, began: float) -> bool:
    """Whether, by this event of another member, an operator gave `me` the role that began at that
    time."""
    if (event.kind, event.cause, event.member) != (EventKind.ROLE, Cause.HANDED_OVER, me):
        return False
    if event.reason in (REASON, STOPS):
        return False
    return began - ELECTED_WITHIN <= event.at <= began + TOLD_LATE
