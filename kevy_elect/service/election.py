"""The election as a Twisted service: listener, links, timer and observers around one elector."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import quoteStringArgument
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.ballot import Ballot, FileBallot, TimedBallot
from kevy_elect.config import Cluster, ElectConfig, PeerAddr, is_loopback, parse_advertised
from kevy_elect.directory import DirectoryLock
from kevy_elect.elector import Elector
from kevy_elect.errors import ConfigError, HandoverError
from kevy_elect.events import Event
from kevy_elect.local_server import STAY, Duty
from kevy_elect.messages import U64_MAX, Message, Outbound, Role
from kevy_elect.peers import NEVER
from kevy_elect.service.awaitable import awaitable
from kevy_elect.service.clock import uptime
from kevy_elect.service.departure import Departure
from kevy_elect.service.driver import Driver
from kevy_elect.service.fence import Fence, after
from kevy_elect.service.handover import Outcome, Step
from kevy_elect.service.instruments import Probes
from kevy_elect.service.last_will import Addressee, LastWill
from kevy_elect.service.observers import (
    Change,
    ElectorSnapshot,
    Observer,
    Observers,
)
from kevy_elect.service.reactor import end_process, end_with, use_monotonic_time
from kevy_elect.status import CheckStatus, ChildStatus, DataStatus, EventStatus, PeerStatus
from kevy_elect.transport.acceptor import Acceptor
from kevy_elect.transport.channel import PLAIN_SECURITY, Security
from kevy_elect.transport.link import PeerLink

SWEEP: Final = 0.25
"""Seconds between two looks at connections, at most; a tenth of down_after if that is less."""
LONGEST_PAUSE: Final = 1000 * 86400.0

T = TypeVar("T")


class DataDriver(Protocol):
    """Drives the data server beside this node."""

    def watch(self) -> None:
        """Check whether `ElectionService.duty` has changed."""

    def status(self) -> DataStatus:
        """The state of the server."""

    @property
    def freezes_within(self) -> float:
        """Seconds that it may take to freeze it."""


class Check(Protocol):
    """Decides whether this node should be primary."""

    def status(self) -> CheckStatus | None:
        """The last result; None if nothing is checked."""


__all__ = [
    "Check",
    "DataDriver",
    "ElectionService",
    "ElectorSnapshot",
    "end_process",
    "end_with",
    "use_monotonic_time",
]


class ElectionService(Service):
    """One member of the cluster. It runs beside other services in any MultiService or Application.

    With `data_dir` the service keeps the ballot there and locks the directory while it runs. You
    must protect a `ballot` of your own from use by two nodes. `listen` is an endpoint description,
    by default the address of this node's entry. `advertise` is the `host:port` for clients, by
    default the client address of this node's entry.

    With `handover` a primary that stops hands its role over first, if another member is alive. This
    may take about 2 × down_after if that member lacks data. `security` makes the links authenticate
    members; by default there is no authentication. `reactor`, `clock` (seconds, monotonic) and
    `rng` are for tests.

    Below the wrapper (`kevy-elect supervise`) the other members are notified at once of this
    process's death, if `data_dir` is given; see `last_will`. Only the first service that starts in
    a process takes part.

    After a bug in the elector, the service stops and calls `on_crash(failure)`, which by default
    ends the process with status 1: a node must not look alive without taking part in elections.
    """

    log = Logger()

    def __init__(
        self,
        cluster: Cluster,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        ballot: Ballot | None = None,
        config: ElectConfig | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        witness: bool = False,
        priorities: Mapping[str, int] | None = None,
        cluster_name: str = "",
        handover: bool = True,
        reactor: Any = None,
        clock: Callable[[], float] = uptime,
        rng: random.Random | None = None,
        on_crash: Callable[[Failure], object] | None = None,
        security: Security = PLAIN_SECURITY,
    ) -> None:
        """Among members with equal data, those with higher `priorities` run first for primary (R5).
        Give all members the same. People and monitoring see `cluster_name`, which is not on the
        wire.

        Raises ConfigError unless exactly one of `data_dir` and `ballot` is given, or if clients
        cannot connect to the address `advertise`.
        """
        if (data_dir is None) == (ballot is None):
            raise ConfigError("give either data_dir or ballot: the vote must be kept in one place")
        if reactor is None:
            from twisted.internet import reactor
        self.cluster = cluster
        self.config = config or ElectConfig()
        self.witness = witness
        self.priorities = dict(priorities or {})
        self.cluster_name = cluster_name
        self.advertise = parse_advertised(advertise or cluster.me.client_addr)
        self.listen = listen or _own_endpoint(cluster.me)
        self._data_dir = data_dir
        self._ballot = ballot
        self.reactor = reactor
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_crash = on_crash or end_process
        self._security = security
        self._offset = 0
        self._observers = Observers(self.state_snapshot)
        self._hands_over = handover
        self._departure = Departure(self, self.failed)
        self.fence = Fence(self._close_fence)
        """Waits for asynchronous writers: `fence.add(writer)`, as `PrimaryOnly` does."""
        self.offset_source: Callable[[], Deferred[None]] | None = None
        """Called before another member takes the role. It sets the newest offset."""
        self.data: DataDriver | None = None
        """Drives the data server beside this node, if there is one; set before the start."""
        self.survivor = 0
        """The id of a process that may outlive this one for a moment to finish its work: the
        wrapper waits for it. 0 if there is none."""
        self.earlier: Sequence[tuple[float, EventStatus]] = ()
        """Events from before the start, each with its time by this node's clock, set by what has
        kept them; the status has them, too."""
        self.health_check: Check | None = None
        """Reports to `own_status` whether this node is healthy, if that is checked."""
        self.probes = Probes()
        """Measure events, ticks and saves of the ballot: `probes.add(probe)`."""

        self._driver: Driver | None = None
        self._started_at = 0.0
        self.directory: DirectoryLock | None = None
        """The locked data directory while the service runs; None if there is none."""
        self._links: dict[str, PeerLink] = {}
        self._stopped: Deferred[None] | None = None
        self._closing = False
        self._crashed = False
        self._last_will: LastWill | None = None
        self._next_sweep = NEVER
        self._acceptor = Acceptor(
            cluster.node_id,
            [peer.node_id for peer in cluster.peers],
            self.config,
            self,
            clock,
            security,
        )
        self.handshakes = self._acceptor.handshakes  # on all ports that members dial

    @property
    def _elector(self) -> Elector | None:
        return None if self._driver is None else self._driver.elector

    # For the host program

    def now(self) -> float:
        """Seconds of this node's clock."""
        return self._clock()

    def running_for(self) -> float:
        """Seconds since this service was started; 0 while it does not run."""
        return 0.0 if self._elector is None else max(0.0, self._clock() - self._started_at)

    def state_snapshot(self) -> ElectorSnapshot:
        """What this node knows now. A service that does not run knows no primary."""
        elector, now = self._elector, self._clock()
        if elector is None:
            down = tuple(peer.node_id for peer in self.cluster.peers)
            return ElectorSnapshot(
                role=Role.REPLICA,
                epoch=0,
                current_primary=None,
                primary_addr=None,
                has_quorum=False,
                down_peers=down,
                can_write=False,
                lease_expires_in=0.0,
            )
        return ElectorSnapshot(
            role=elector.role,
            epoch=elector.epoch,
            current_primary=elector.current_primary,
            primary_addr=elector.primary_addr,
            has_quorum=elector.has_quorum(now),
            down_peers=tuple(elector.peers.down(now)),
            can_write=elector.can_write(now),
            lease_expires_in=elector.lease_expires_in(now),
        )

    def can_write(self) -> bool:
        """Whether this node is primary with its lease, at this moment only (R8)."""
        return self._elector is not None and self._elector.can_write(self._clock())

    def set_repl_offset(self, offset: int) -> None:
        """State how much data this node has; more data makes a better candidate.

        Raises ConfigError unless it is an unsigned 64-bit number.
        """
        if not 0 <= offset <= U64_MAX:
            raise ConfigError(f"the offset {offset} is no unsigned 64-bit number")
        self._offset = offset
        if self._elector is not None:
            self._elector.set_repl_offset(offset)

    def use_timings(self, config: ElectConfig) -> None:
        """Use other timings from now on, running or not.

        All members should have the same timings, since a lease must not outlast the promises of
        its voters. While members have different down_after, this is certain only as long as the
        primary stays the same and has the smallest: to increase it, change the primary last, and
        to decrease it, first.
        """
        self.config = config
        self._acceptor.use_timings(config)
        for link in self._links.values():
            link.use_timings(config)
        if self._driver is not None:
            self._ask(lambda elector: elector.use_timings(config))
            self._driver.start()

    def use_security(self, security: Security) -> None:
        """Use other keys from now on, running or not. Connections whose peer these keys do not
        authenticate are ended; all others stay."""
        self._security = security
        self._acceptor.use_security(security)
        for link in self._links.values():
            link.use_security(security)

    @property
    def is_electing(self) -> bool:
        """Whether the elector runs: from the start to the end of a stop, including a handover."""
        return self._driver is not None

    @property
    def repl_offset(self) -> int:
        """How much data this node has, as last stated; 0 for a witness (R10)."""
        return self._offset if self._elector is None else self._elector.repl_offset

    # The data server, D1 to D6

    def duty(self) -> Duty:
        """The required state of the data server beside this node."""
        elector = self._elector
        return STAY if elector is None else elector.duty(self._clock())

    def lease_left(self) -> float:
        """Seconds until this node's lease as primary ends, whether it writes or not; see
        `Elector.lease_left`."""
        elector = self._elector
        return 0.0 if elector is None else elector.lease_left(self._clock())

    @property
    def server_freezes_within(self) -> float:
        """Seconds that freezing the data server may take; those of other members are like it."""
        return 0.0 if self.data is None else self.data.freezes_within

    def server_frozen(self, offset: int, newest: int) -> None:
        """See `Elector.server_frozen`."""
        self._offset = offset
        self._order(lambda elector, now: elector.server_frozen(offset, now, newest))

    def say_now(self) -> None:
        """Send a heartbeat at once, because a handover may wait for the offset in it."""
        self._order(lambda elector, now: elector.hasten_heartbeat())

    def server_released(self, data_epoch: int = 0) -> None:
        """See `Elector.server_released`."""
        self._order(lambda elector, now: elector.server_released(data_epoch))

    def server_promoted(self) -> None:
        """See `Elector.server_promoted`."""
        self._order(lambda elector, now: elector.server_promoted(now))

    def server_lost(self, why: str) -> None:
        """See `Elector.server_lost`."""
        self._order(lambda elector, now: elector.server_lost(now, why))

    def last_tick_ago(self) -> float:
        """Seconds since the elector last ran because time had passed; infinite if it does not run.

        If it is more than half a second and hb_interval, something blocks the reactor.
        """
        return math.inf if self._driver is None else self._clock() - self._driver.beat_at

    def add_observer(self, observer: Observer) -> Callable[[], None]:
        """Call `observer(snapshot, reason)` after each change of role, epoch, primary,
        its address, quorum, or `can_write`. Its exceptions are logged. Returns a function that
        removes it."""
        return self._observers.add(observer)

    def when_primary(self) -> Deferred[ElectorSnapshot]:
        """Fires when this node is primary with its lease, at once if it is now. May be
        cancelled."""
        return self._observers.when(lambda snapshot: snapshot.can_write)

    def when_not_primary(self) -> Deferred[ElectorSnapshot]:
        """Fires when it is not primary or has no lease; at once if so. May be cancelled."""
        return self._observers.when(lambda snapshot: not snapshot.can_write)

    def changes(self) -> AsyncIterator[Change]:
        """For `async for`: the present state, then each change with its reason.

        If more than 256 changes wait to be taken, the oldest are left out.
        """
        return self._observers.changes()

    def peer_status(self) -> list[PeerStatus]:
        """How this node sees its peers, and its links to them."""
        elector, now = self._elector, self._clock()
        if elector is None:
            return []
        return [
            PeerStatus(
                node_id=view.node_id,
                alive=not elector.peers.is_down(view.node_id, now),
                heard_ago=None if view.heard == NEVER else now - view.heard,
                epoch=view.epoch,
                role=view.role,
                offset=view.offset,
                acknowledging=view.acknowledging,
                link=link.state,
                link_age=now - link.state_since,
                incoming_age=self._acceptor.age(view.node_id, now),
                queued=len(link.outbox),
                dropped=link.outbox.dropped,
                security=link.security,
                key=link.key,
            )
            for view in elector.peers
            for link in [self._links[view.node_id]]
        ]

    @property
    def security(self) -> Security:
        """The authentication of its links at this moment; it may be replaced."""
        return self._security

    @property
    def certificate_ends(self) -> float | None:
        """When this node's certificate expires, in seconds since 1970; None if it has none."""
        return self._security.ends

    @property
    def last_will(self) -> bool | None:
        """Whether the other members would be notified at once if this process died now: whether it
        is primary. None if no living wrapper runs above it."""
        if self._last_will is None or not self._last_will.is_heard():
            return None
        return self._last_will.stands

    @property
    def began_by_will_of(self) -> str | None:
        """The member whose last will was heard here just before the epoch of the present primary
        began; None if it began otherwise, or there is no primary."""
        return None if self._elector is None else self._elector.began_by_will_of

    def children(self) -> list[ChildStatus]:
        """The children that run only on the primary, on this node, with their states."""
        return self.fence.children()

    def refused_frames(self) -> Counter[str]:
        """Frames that ended their connection, by the kind of their FrameError."""
        return self._acceptor.refused

    def recent_events(self) -> list[tuple[float, Event]]:
        """The last 256 events, each with its age in seconds."""
        if self._elector is None:
            return []
        now = self._clock()
        return [(now - event.at, event) for event in self._elector.events]

    # The operator's commands

    def step_down(self, rest: float, why: str) -> Deferred[None]:
        """Give up the role if this node has it, and do not run for `rest` seconds.

        All writers stop first. Fires when the other members have been notified.
        """
        return awaitable(self._departure.step_down(rest, why))

    def switch_over(
        self,
        target: str | None = None,
        *,
        patience: float = 10.0,
        tell: Callable[[Step], object] = lambda step: None,
        reason: str = "",
    ) -> Deferred[Outcome]:
        """Hand the role over to the member `target`, by default to the best one.

        Fires when another is primary, or when this node has taken the role back because the target
        did not have all data within `patience` seconds. `tell(step)` is called at each step. The
        event of the handover has the `reason`, if one is given.
        Raises HandoverError, with nothing changed, if this node is not the primary with
        its lease, the target cannot take the role, or another handover is in progress;
        ConfigError for a reason that is longer than 200 characters or not printable.
        """
        return awaitable(self._departure.switch_over(target, patience, tell, reason))

    def pause(self, seconds: float) -> None:
        """Do not run for election for so many seconds, or until `resume()`.

        The node still votes and follows. Raises ConfigError unless `seconds` is a positive finite
        number, or while this node is primary: hand over first.
        """
        if not 0 < seconds <= LONGEST_PAUSE:
            raise ConfigError("a pause has a number of seconds above 0, at most a thousand days")
        if self.state_snapshot().role is Role.PRIMARY:
            raise ConfigError(f"{self.cluster.node_id} is primary: hand over first")
        self._stand_aside(seconds)

    def resume(self) -> None:
        """Run for election again, if this node was paused."""
        if self.paused_for():
            self._stand_aside(0.0)

    def maintain(self, seconds: float) -> None:
        """Begin maintenance for so many seconds, in which the node takes over from no primary by
        itself; 0 ends it (M1 to M3).

        The node still votes and acknowledges. Raises ConfigError for a number of seconds below 0 or
        above a thousand days.
        """
        if not 0 <= seconds <= LONGEST_PAUSE:
            raise ConfigError("maintenance takes from 0 seconds to a thousand days")
        self._order(lambda elector, now: elector.maintain(now, seconds))

    def maintained_for(self) -> float:
        """Seconds until maintenance ends; 0 without maintenance."""
        now = self._clock()
        return 0.0 if self._elector is None else self._elector.maintained_for(now)

    def paused_for(self) -> float:
        """Seconds for which this node will still not run for election; 0 if it may run."""
        now = self._clock()
        return 0.0 if self._elector is None else self._elector.aside_for(now)

    def stand_back(self, seconds: float, why: str) -> None:
        """Do not run for at least so many seconds from now, and end a candidacy; a primary stays.

        Programs use this. `pause` and `resume` are the operator's, and neither ends this.
        """
        if self.state_snapshot().role is not Role.PRIMARY:
            self._order(lambda elector, now: elector.step_down(now, seconds, why))

    def _stand_aside(self, seconds: float) -> None:
        self._order(lambda elector, now: elector.stand_aside(now, seconds))

    # For a handover

    def resign(self, rest: float, why: str) -> None:
        """Give up the role without waiting for writers; `step_down` waits for them first."""
        self._order(lambda elector, now: elector.step_down(now, rest, why))

    def hand_over(self, target: str, within: float, rest: float, reason: str = "") -> None:
        """Step down in favour of `target`, likewise without waiting; see `Elector.hand_over`."""
        self._order(lambda elector, now: elector.hand_over(target, now, within, rest, reason))

    async def refresh_offset(self) -> None:
        """Let the offset source set the present offset, if there is one."""
        if self.offset_source is not None:
            await self.offset_source()

    def _close_fence(self, *, closed: bool) -> None:
        self._order(lambda elector, now: elector.fence(now, closed=closed))

    # Start and stop

    def privilegedStartService(self) -> None:
        """Listen on the port. Ports below 1024 need privileges.

        Raises CannotListenError if the address is in use or not one of this machine's,
        ConfigError while an earlier stop is not done.
        """
        self._expect_stopped()
        super().privilegedStartService()
        if self._acceptor.address is None:
            self._acceptor.listen(self.listen, self.reactor)

    def startService(self) -> None:
        """Lock the data directory, read the ballot, and begin.

        Raises BallotError if the directory is in use or cannot be used, or if the
        ballot cannot be read; CannotListenError; ConfigError while an earlier stop is
        not done. After an error nothing runs.
        """
        self._expect_stopped()
        try:
            self.privilegedStartService()
            elector = self._make_elector()
        except BaseException:
            self._unlock()
            if self._acceptor.address is not None:
                self._acceptor.close()
            raise
        super().startService()
        if self._last_will is None and self._data_dir is not None:
            self._last_will = LastWill.take(os.environ)
        self._stopped = None
        self._closing = False
        self._started_at = self._clock()
        self._driver = Driver(
            elector, self, reactor=self.reactor, clock=self._clock, probes=self.probes
        )
        self._warn()
        for peer in self.cluster.peers:
            link = self._links[peer.node_id] = PeerLink(
                peer,
                self.config,
                reactor=self.reactor,
                clock=self._clock,
                rng=self._rng,
                confirm=self.confirm,
                connection=self.peer_connected,
                security=self._security,
            )
            link.start()
        self._driver.start()

    def _expect_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.called:
            raise ConfigError("this service is still stopping: wait for what stopService returned")

    def stopService(self) -> Deferred[None]:
        """Stop everything, after a handover if this node is primary (see the constructor). Fires
        when the last connection is closed and the directory is unlocked."""
        stopping = self._stopped is not None and not self._stopped.called
        if self._is_open() and not stopping:
            super().stopService()
            self._stopped = Deferred()
            Deferred.fromCoroutine(self._leave()).addErrback(self._left_at_once)
        return awaitable(after(self._stopped) if self._stopped is not None else succeed(None))

    def _is_open(self) -> bool:
        return self._acceptor.address is not None

    async def _leave(self) -> None:
        try:
            if not self._crashed:
                patience = self.config.down_after if self._hands_over else 0.0
                await self._departure.leave(patience, self._close)
        finally:
            self._close()

    def _close(self) -> None:
        """End the election and all that belongs to it."""
        if self._closing:
            return
        self._closing = True
        if self._driver is not None:
            self._driver.stop()
            self._driver = None
        if self._last_will is not None and not self._crashed:
            self._last_will.withdraw()
        self._observers.tell("the service stopped")
        ends = [link.stop() for link in self._links.values()] + [self._acceptor.close()]
        DeferredList(ends).addCallback(self._ended)

    def _left_at_once(self, failure: Failure) -> None:
        if failure.check(HandoverError) is None:
            self.log.failure("the handover failed", failure)

    def _ended(self, results: object) -> None:
        self._unlock()
        assert self._stopped is not None
        self._stopped.callback(None)

    def _make_elector(self) -> Elector:
        cluster, ballot = self.cluster, self._ballot
        if self._data_dir is not None:
            self.directory = DirectoryLock(self._data_dir, cluster.node_id)
            ballot = FileBallot(self._data_dir, self.directory)
        assert ballot is not None
        elector = Elector(
            cluster.node_id,
            cluster.ids,
            self.advertise,
            config=self.config,
            ballot=TimedBallot(ballot, self._clock, self.probes.saved),
            rng=self._rng,
            witness=self.witness,
            drives_server=self.data is not None,
            priorities=self.priorities,
        )
        if not elector.ever_saved:
            self.log.info(
                "{node}: no ballot was ever saved here; if this node has voted before, stop it and "
                "restore its data directory",
                node=cluster.node_id,
            )
        elector.set_repl_offset(self._offset)
        if self.fence.is_closed:
            elector.fence(self._clock(), closed=True)
        return elector

    def _unlock(self) -> None:
        if self.directory is not None:
            self.directory.release()
            self.directory = None

    def _warn(self) -> None:
        number = self.cluster.warning()
        if number is not None:
            self.log.warn("{advice}", advice=number)
        host = getattr(self._acceptor.address, "host", None)
        if host is not None and self._security.kind == "plain" and not is_loopback(host):
            self.log.warn(
                "listening on {host}: the links are not authenticated, whoever reaches this port "
                "can speak as a member. Keep it to a network that you trust, or use --links noise "
                "or tls",
                host=host,
            )

    # For the connections

    def message_received(self, sender: str, message: Message, now: float | None = None) -> None:
        """Handle a message of `sender` that arrived at `now`, by this service's clock; None means
        this moment. Raises FrameError if its connection must end (R1)."""
        if self._driver is not None:
            self._driver.take(sender, message, self._clock() if now is None else now)

    def check(self, message: Message) -> None:
        """Raise FrameError for a message that members must not send (R1)."""
        self._ask(lambda elector: elector.check(message))

    def member_connected(self, member: str, *, greeted: bool) -> None:
        """Record whether `member` reads replies, and so acknowledges heartbeats (section 4)."""
        self._ask(lambda elector: elector.set_acknowledging(member, acknowledging=greeted))

    def expect_last_will(self, first: Message) -> bool:
        """See `Elector.expect_last_will`."""
        return bool(self._ask(lambda elector: elector.expect_last_will(first)))

    def peer_connected(self, peer: str, *, connected: bool) -> None:
        """Record whether this node has a connection on which it sends to `peer` (R8)."""
        link = self._links.get(peer)
        if connected and link is not None and link.address is not None:
            self._acceptor.expect(peer, link.address[0])
        self._ask(lambda elector: elector.set_connected(peer, connected=connected))

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        """Whether this node backs `sender` as primary of `epoch` (section 4)."""
        return bool(self._ask(lambda elector: elector.backs(sender, epoch, now)))

    def confirm(self, peer: str, epoch: int, sent_at: float) -> None:
        """Record that `peer` backed this node when it read the heartbeat of `sent_at` (section
        4)."""
        if self.can_write():
            self._ask(lambda elector: elector.confirm(peer, epoch, sent_at))
        else:
            self._order(lambda elector, now: elector.confirm(peer, epoch, sent_at))

    def _ask(self, ask: Callable[[Elector], T]) -> T | None:
        return None if self._driver is None else self._driver.ask(ask)

    def _order(self, order: Callable[[Elector, float], object]) -> None:
        if self._driver is not None:
            self._driver.order(order)

    # For the driver

    def send(self, outbound: Outbound) -> None:
        """Pass messages of the elector to the links of their receivers."""
        if outbound.to == Outbound.BROADCAST:
            for link in self._links.values():
                link.send(outbound.message)
        else:
            self._links[outbound.to].send(outbound.message)

    def sweep(self, now: float) -> None:
        """Check the data server, and now and then the connections and the last will."""
        if self.data is not None:
            self.data.watch()
        if now >= self._next_sweep:
            self._next_sweep = now + min(SWEEP, self.config.down_after / 10)
            self._acceptor.sweep(now)
            for link in self._links.values():
                link.sweep(now)
            self._leave_will()

    def changed(self, reason: str) -> None:
        """Update the last will, and call the observers."""
        self._leave_will()
        self._observers.tell(reason)

    def failed(self, failure: Failure) -> None:
        """Stop the service, because a node with a bug must not look alive."""
        self.log.failure("the elector failed; this node stops", failure)
        self._crashed = True
        stopping = self.stopService()
        self._close()
        stopping.addBoth(lambda _: self._on_crash(failure))

    def _leave_will(self) -> None:
        """Update the last will."""
        will, elector, lock = self._last_will, self._elector, self.directory
        if will is None or not will.is_heard():
            return
        if elector is None or lock is None or elector.role is not Role.PRIMARY:
            will.withdraw()
        else:
            will.leave(
                self.cluster.node_id,
                elector.epoch,
                self.repl_offset,
                lock.path,
                [
                    Addressee(view.node_id, *link.address, link.channel)
                    for view in elector.peers
                    for link in [self._links[view.node_id]]
                    if view.acknowledging and link.address is not None
                ],
                survivor=self.survivor,
                security=self._security,
            )


def _own_endpoint(me: PeerAddr) -> str:
    kind = "tcp6" if ":" in me.host else "tcp"
    return f"{kind}:{me.elect_port}:interface={quoteStringArgument(me.host)}"
