"""An election that a test controls, for tests of programs that use an ElectionService.

It is in this package because an ElectionService returns Deferreds, and `kevy_elect.testing`
imports no Twisted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.errors import ConfigError, HandoverError
from kevy_elect.events import Cause, Event, EventKind, EventLog
from kevy_elect.messages import Role
from kevy_elect.service.election import ElectionService
from kevy_elect.service.observers import ElectorSnapshot
from kevy_elect.status import PeerStatus

ROUNDING: Final = 1e-9
"""Seconds by which a timer may seem later than the sum of the steps that lead to it."""


class FakeElection(ElectionService):
    """An ElectionService without sockets and peers, in virtual time, under the control of a test.

        election = FakeElection("a")
        program = MyProgram(election)
        election.elect()
        assert program.is_writing
        election.cut_off()
        election.advance(election.lease)
        assert not program.is_writing

    At first it is a replica that knows no primary, and all `peers` are alive. It runs from
    its construction until `stopService()`, and again after `startService()`. It has all methods
    of an ElectionService that a program calls, and `PrimaryOnly` runs with it unchanged:
    `step_down`, `switch_over` and a stop close the fence and wait for writers as usual.

    Time passes only in `advance`. `reactor` is a `Clock` of Twisted's, also for the timers of
    the program under test.
    """

    def __init__(
        self,
        node_id: str = "a",
        peers: Iterable[str] = ("b", "c"),
        *,
        config: ElectConfig | None = None,
        handover: bool = True,
    ) -> None:
        """Member `n` has the address `n.example:6101`. With `handover` a primary that stops
        hands over first. Raises ConfigError for invalid ids, or without peers: the only member of
        a cluster has a lease without end."""
        members = [PeerAddr(each, f"{each}.example", 7101, 6101) for each in (node_id, *peers)]
        if len(members) == 1:
            raise ConfigError("name at least one peer")
        clock = Clock()
        super().__init__(
            Cluster(node_id, tuple(members)),
            ballot=MemoryBallot(),
            config=config,
            handover=handover,
            reactor=clock,
            clock=clock.seconds,
            on_crash=lambda failure: None,  # it is in the log, where tests find it
        )
        self._running = True
        self._role = Role.REPLICA
        self._epoch = 0
        self._primary: str | None = None
        self._lease_end: float | None = None  # None while it is renewed
        self._aside_until = -math.inf
        self._maintained_until = -math.inf
        self._down: set[str] = set()
        self._offsets: dict[str, int] = {}
        self._events = EventLog()
        self._due: list[IDelayedCall] = []
        self._reported: tuple[object, ...] = ()

    # The controls of a test

    @property
    def lease(self) -> float:
        """Seconds that a lease lasts with these timings after it was last renewed."""
        return min(self.config.lease_duration, self.config.down_after - self.config.lease_margin)

    def advance(self, seconds: float) -> None:
        """Let time pass. Each timer runs at its own time, however many are due."""
        end = self.now() + seconds
        while (due := self._next_timer()) <= end + ROUNDING:
            self.reactor.rightNow = max(self.now(), due)
            self.reactor.advance(0)
        self.reactor.rightNow = max(self.now(), end)

    def _next_timer(self) -> float:
        calls = self.reactor.getDelayedCalls()
        return min((call.getTime() for call in calls), default=math.inf)

    def elect(self) -> None:
        """This node becomes the primary of the next epoch, with a lease that is renewed.
        Raises ConfigError if the service was stopped; so do all following methods."""
        self._expect_running()
        self._lease_end = None
        self._epoch += 1
        text = f"elected primary of epoch {self._epoch}"
        self._become(Role.PRIMARY, self.cluster.node_id, EventKind.ROLE, Cause.ELECTED, text)

    def follow(self, peer: str) -> None:
        """`peer` becomes the primary of the next epoch, and this node follows it. If it was
        primary itself, it is no longer. Raises ConfigError for an unknown peer."""
        self._expect_running()
        self._expect_peer(peer)
        self._lease_end = None
        self._epoch += 1
        text = f"{peer} is primary of epoch {self._epoch}"
        if self._role is Role.PRIMARY:
            self._become(Role.REPLICA, peer, EventKind.ROLE, Cause.SUPERSEDED, text, member=peer)
        else:
            self._become(Role.REPLICA, peer, EventKind.PRIMARY, Cause.FOLLOWED, text, member=peer)

    def unseat(self, why: str = "a test unseated it") -> None:
        """This node is no longer primary, at once and without waiting for writers, and knows
        no other primary."""
        self._expect_running()
        self._become(Role.REPLICA, None, EventKind.ROLE, Cause.RESIGNED, why, reason=why)

    def cut_off(self, lease: float | None = None) -> None:
        """From now on this node hears no peer, and no peer hears it.

        If it is primary, its lease ends after `lease` seconds, by default after the rest of its
        time. With 0 it ends without warning, as for a process that was stopped for longer. After
        down_after without a lease it gives up the role.
        """
        self._expect_running()
        self._forget()
        left = self.lease if lease is None else lease
        self._lease_end = self.now() + (left if self._role is Role.PRIMARY else 0.0)
        if self._lease_end > self.now():
            self._later(left, self._lose_quorum)
        else:
            self._lose_quorum()

    def reconnect(self) -> None:
        """It hears its peers again, and its lease, if it still is primary, is renewed."""
        self._expect_running()
        self._forget()
        self._lease_end = None
        self._note(EventKind.QUORUM, Cause.GAINED, "a quorum backs this node")

    def set_peer(self, peer: str, *, alive: bool = True, offset: int | None = None) -> None:
        """Set whether `peer` is alive, and how much data it has, by default as much as this node.
        It decides only to which member the role can be handed over."""
        self._expect_peer(peer)
        self._down -= {peer}
        if not alive:
            self._down |= {peer}
        self._offsets.pop(peer, None)
        if offset is not None:
            self._offsets[peer] = offset

    # For the program under test

    @property
    def is_electing(self) -> bool:
        """Whether it runs: from its construction or start to the end of its stop."""
        return self._running

    def state_snapshot(self) -> ElectorSnapshot:
        """What this node knows now, as the test has decided."""
        if not self._running:
            return super().state_snapshot()
        return ElectorSnapshot(
            role=self._role,
            epoch=self._epoch,
            current_primary=self._primary,
            primary_addr=self._address(),
            has_quorum=self._is_backed(),
            down_peers=tuple(p.node_id for p in self.cluster.peers if not self._is_alive(p)),
            can_write=self.can_write(),
            lease_expires_in=self._lease_left() if self.can_write() else 0.0,
        )

    def can_write(self) -> bool:
        """Whether this node is primary with its lease, and its fence is open."""
        leads = self._running and self._role is Role.PRIMARY
        return leads and self._is_backed() and not self.fence.is_closed

    def last_tick_ago(self) -> float:
        """0 while it runs: nothing is ever late in virtual time."""
        return 0.0 if self._running else math.inf

    def peer_status(self) -> list[PeerStatus]:
        """How this node sees its peers, as `set_peer` and `cut_off` set it."""
        return [self._view(peer) for peer in self.cluster.peers] if self._running else []

    def recent_events(self) -> list[tuple[float, Event]]:
        """The events, each with its age in seconds."""
        now = self.now()
        return [(now - event.at, event) for event in self._events] if self._running else []

    def maintain(self, seconds: float) -> None:
        """See `ElectionService.maintain`."""
        self._maintained_until = self.now() + seconds

    def maintained_for(self) -> float:
        """See `ElectionService.maintained_for`."""
        return max(0.0, self._maintained_until - self.now())

    def paused_for(self) -> float:
        """Seconds of a `pause` that remain; `elect` elects this node all the same."""
        return max(0.0, self._aside_until - self.now())

    def _address(self) -> str | None:
        if self._primary == self.cluster.node_id:
            return self.advertise
        found = (p.client_addr for p in self.cluster.peers if p.node_id == self._primary)
        return next(found, None)

    def _lease_left(self) -> float:
        return self.lease if self._lease_end is None else max(0.0, self._lease_end - self.now())

    def _is_backed(self) -> bool:
        return self._lease_left() > 0

    def _is_alive(self, peer: PeerAddr) -> bool:
        return self._is_backed() and peer.node_id not in self._down

    def _view(self, peer: PeerAddr) -> PeerStatus:
        alive = self._is_alive(peer)
        return PeerStatus(
            node_id=peer.node_id,
            alive=alive,
            heard_ago=0.0 if alive else self.config.down_after,
            epoch=self._epoch,
            role=Role.PRIMARY if peer.node_id == self._primary else Role.REPLICA,
            offset=self._offsets.get(peer.node_id, self.repl_offset),
            acknowledging=alive,
            link="connected" if alive else "connecting",
            link_age=0.0,
            incoming_age=0.0 if alive else None,
            queued=0,
            dropped=0,
        )

    # For a departure and the fence

    def resign(self, rest: float, why: str) -> None:
        """Give up the role; the test decides which member is elected next."""
        if self._role is Role.PRIMARY:
            self.unseat(why)

    def hand_over(self, target: str, within: float, rest: float, reason: str = "") -> None:
        """Step down; `target` is elected a heartbeat later, if it is alive then. Raises
        HandoverError if this node is not primary, or `target` is no peer."""
        if self._role is not Role.PRIMARY:
            raise HandoverError(f"{self.cluster.node_id} is not primary")
        try:
            self._expect_peer(target)
        except ConfigError as error:
            raise HandoverError(str(error)) from None
        self._become(
            Role.REPLICA,
            None,
            EventKind.ROLE,
            Cause.HANDED_OVER,
            f"hands over to {target}",
            member=target,
            reason=reason,
        )
        self._later(self.config.hb_interval, lambda: self._elect_target(target))

    def _elect_target(self, target: str) -> None:
        if target not in self._down:
            self.follow(target)

    def _close_fence(self, *, closed: bool) -> None:
        cause = Cause.BEGUN if closed else Cause.ENDED
        self._note(EventKind.FENCE, cause, "fenced" if closed else "this node may write again")

    def _stand_aside(self, seconds: float) -> None:
        self._aside_until = self.now() + seconds
        cause = Cause.BEGUN if seconds else Cause.ENDED
        self._note(EventKind.ASIDE, cause, f"does not stand for {seconds:g} s")

    # Start and stop

    def privilegedStartService(self) -> None:
        """Listen nowhere."""
        Service.privilegedStartService(self)

    def startService(self) -> None:
        """Start again as a replica that knows no primary, if it was stopped; the epoch stays.
        Raises ConfigError while a stop is not done."""
        self._expect_stopped()
        Service.startService(self)
        self._running, self._closing = True, False

    def _is_open(self) -> bool:
        return self._running

    def _close(self) -> None:
        if self._closing:
            return
        self._closing, self._running = True, False
        self._forget()
        self._role, self._primary, self._lease_end = Role.REPLICA, None, None
        self._observers.tell("the service stopped")
        self._ended(None)

    # Changes of the state

    def _become(
        self,
        role: Role,
        primary: str | None,
        kind: EventKind,
        cause: Cause,
        text: str,
        *,
        member: str | None = None,
        reason: str = "",
    ) -> None:
        self._forget()
        self._role, self._primary = role, primary
        if self._lease_end is not None:  # cut off, and the rest of the lease ended with the role
            self._lease_end = min(self._lease_end, self.now())
        self._note(kind, cause, text, member=member, reason=reason)

    def _lose_quorum(self) -> None:
        self._note(EventKind.QUORUM, Cause.LOST, "no quorum backs this node any more")
        if self._role is Role.PRIMARY:
            self._later(self.config.down_after, self._give_up)

    def _give_up(self) -> None:
        text = "had no lease for down_after"
        self._become(Role.REPLICA, None, EventKind.ROLE, Cause.LEASELESS, text)

    def _note(
        self,
        kind: EventKind,
        cause: Cause,
        text: str,
        *,
        member: str | None = None,
        reason: str = "",
    ) -> None:
        """Note an event, and report it to observers if the visible state has changed."""
        if not self._running:
            return
        event = Event(
            at=self.now(),
            kind=kind,
            epoch=self._epoch,
            text=text,
            cause=cause,
            member=member,
            reason=reason,
        )
        self._events.note(event)
        self.probes.noted(event)
        state = (self._role, self._epoch, self._primary, self._is_backed(), self.can_write())
        if state != self._reported:
            self._reported = state
            self._observers.tell(text)

    def _later(self, seconds: float, act: Callable[[], object]) -> None:
        self._due.append(self.reactor.callLater(seconds, act))

    def _forget(self) -> None:
        """Cancel the consequences of the former state."""
        due, self._due = self._due, []
        for call in due:
            if call.active():
                call.cancel()

    def _expect_running(self) -> None:
        if not self._running:
            raise ConfigError("this election was stopped: start it again first")

    def _expect_peer(self, peer: str) -> None:
        ids = [each.node_id for each in self.cluster.peers]
        if peer not in ids:
            raise ConfigError(f"{peer!r} is no peer; there are {', '.join(ids)}")
