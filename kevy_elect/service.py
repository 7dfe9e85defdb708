"""The election as a Twisted service: listener, links, timer and observers around one elector."""

from __future__ import annotations

import atexit
import logging
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from kevy_elect.acceptor import Acceptor
from kevy_elect.ballot import Ballot, DirectoryLock, FileBallot
from kevy_elect.changes import Change, ElectorSnapshot, Observer, Observers
from kevy_elect.config import Cluster, ElectConfig, PeerAddr, is_loopback, parse_advertised
from kevy_elect.elector import Elector, Event
from kevy_elect.errors import ConfigError, FrameError
from kevy_elect.link import PeerLink
from kevy_elect.messages import U64_MAX, Message, Outbound, Role
from kevy_elect.peers import NEVER


@attrs.frozen
class PeerStatus:
    """One peer as this node sees it: what was heard of it, and the link to it."""

    node_id: str
    alive: bool
    heard_ago: float | None
    """Seconds; None if never."""
    epoch: int
    role: Role
    offset: int
    link: str
    queued: int
    dropped: int


T = TypeVar("T")

__all__ = [
    "ElectionService",
    "ElectorSnapshot",
    "PeerStatus",
    "end_process",
    "end_with",
    "use_monotonic_time",
]


class ElectionService(Service):
    """One member of the cluster. Runs beside others in any MultiService or Application.

    With `data_dir` the ballot is kept there and the directory locked while the
    service runs; a `ballot` of your own instead is yours to protect. `listen` is an
    endpoint description, by default our own entry's address; `advertise` the
    `host:port` that clients are told, by default our own client address.
    `reactor`, `clock` (seconds, monotonic) and `rng` may be given for tests.

    A bug in the elector must not leave a node that looks alive: the service then
    stops and calls `on_crash(failure)`, which by default ends the process with
    status 1.
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
        reactor: Any = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_crash: Callable[[Failure], object] | None = None,
    ) -> None:
        """Raises ConfigError unless exactly one of `data_dir` and `ballot` is given, or if
        `advertise` is no address that clients could connect to."""
        if (data_dir is None) == (ballot is None):
            raise ConfigError("give either data_dir or ballot: the vote must be kept in one place")
        if reactor is None:
            from twisted.internet import reactor
        self.cluster = cluster
        self.config = config or ElectConfig()
        self.witness = witness
        self.advertise = parse_advertised(advertise or cluster.me.client_addr)
        self.listen = listen or _own_endpoint(cluster.me)
        self._data_dir = data_dir
        self._ballot = ballot
        self.reactor = reactor
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_crash = on_crash or end_process
        self._offset = 0
        self._observers = Observers(self.state_snapshot)

        self._elector: Elector | None = None
        self._lock: DirectoryLock | None = None
        self._links: dict[str, PeerLink] = {}
        self._loop: LoopingCall | None = None
        self._stopped: Deferred[None] | None = None
        self._told: tuple[object, ...] = ()
        self._events_told = 0
        self._next_sweep = NEVER
        self._acceptor = Acceptor(
            cluster.node_id,
            [peer.node_id for peer in cluster.peers],
            self.config,
            self,
            clock,
        )

    # What the host program asks

    def now(self) -> float:
        """Seconds of the clock that this node goes by."""
        return self._clock()

    def state_snapshot(self) -> ElectorSnapshot:
        """What this node knows now. A service that does not run knows no primary."""
        elector, now = self._elector, self._clock()
        if elector is None:
            down = tuple(peer.node_id for peer in self.cluster.peers)
            return ElectorSnapshot(Role.REPLICA, 0, None, None, False, down, False, 0.0)
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
        """Whether this node is primary with its lease, at this moment and no longer (R8)."""
        return self._elector is not None and self._elector.can_write(self._clock())

    def set_repl_offset(self, offset: int) -> None:
        """Say how much data this node has; more makes the better candidate.

        Raises ConfigError unless it is an unsigned 64-bit number.
        """
        if not 0 <= offset <= U64_MAX:
            raise ConfigError(f"the offset {offset} is no unsigned 64-bit number")
        self._offset = offset
        if self._elector is not None:
            self._elector.set_repl_offset(offset)

    def step_down(self, rest: float, why: str) -> None:
        """Give up the role if this node has it, and do not run for `rest` seconds."""
        now = self._clock()
        self._ask(lambda elector: elector.step_down(now, rest, why))
        self._drive(lambda elector, now: elector.tick(now))

    def add_observer(self, observer: Observer) -> Callable[[], None]:
        """Have `observer(snapshot, reason)` called after each change of role, epoch, primary,
        its address, or quorum. What it raises is logged. Returns what removes it."""
        return self._observers.add(observer)

    def when_primary(self) -> Deferred[ElectorSnapshot]:
        """Fires when this node is primary with its lease, at once if it is. May be cancelled."""
        return self._observers.when(lambda snapshot: snapshot.can_write)

    def when_not_primary(self) -> Deferred[ElectorSnapshot]:
        """Fires when it is not, or without its lease; at once if so. May be cancelled."""
        return self._observers.when(lambda snapshot: not snapshot.can_write)

    def changes(self) -> AsyncIterator[Change]:
        """For `async for`: how things are, then each change, with its reason.

        Of more than 256 changes not taken yet the oldest are left out.
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
                link=link.state,
                queued=len(link.outbox),
                dropped=link.outbox.dropped,
            )
            for view in elector.peers
            for link in [self._links[view.node_id]]
        ]

    def recent_events(self) -> list[tuple[float, Event]]:
        """The last 256 events, each with how many seconds ago it was."""
        if self._elector is None:
            return []
        now = self._clock()
        return [(now - event.at, event) for event in self._elector.events]

    # Start and stop

    def privilegedStartService(self) -> None:
        """Listen, which a port below 1024 needs privileges for.

        Raises CannotListenError if the address is taken or not this machine's,
        ConfigError while an earlier stop is not done.
        """
        self._expect_stopped()
        super().privilegedStartService()
        if self._acceptor.address is None:
            self._acceptor.listen(self.listen, self.reactor)

    def startService(self) -> None:
        """Take the data directory, read the ballot, and begin.

        Raises BallotError if the directory is in use or cannot be used, or if the
        ballot cannot be read; CannotListenError; ConfigError while an earlier stop is
        not done. Nothing is left running then.
        """
        self._expect_stopped()
        try:
            self.privilegedStartService()
            self._elector = self._make_elector()
        except BaseException:
            self._unlock()
            if self._acceptor.address is not None:
                self._acceptor.close()
            raise
        super().startService()
        self._stopped = None
        self._warn()
        for peer in self.cluster.peers:
            link = self._links[peer.node_id] = PeerLink(
                peer,
                self.config,
                reactor=self.reactor,
                clock=self._clock,
                rng=self._rng,
                confirm=self.confirm,
            )
            link.start()
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self.reactor
        self._loop.start(self.config.hb_interval / 2).addErrback(self._crash)

    def _expect_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.called:
            raise ConfigError("this service is still stopping: wait for what stopService returned")

    def stopService(self) -> Deferred[None]:
        """End everything; fires when the last connection is gone and the directory is free."""
        if self._acceptor.address is None or (self._stopped and not self._stopped.called):
            return _after(self._stopped)
        super().stopService()
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._elector = None
        self._observers.tell("the service stopped")
        self._stopped = Deferred()
        ends = [link.stop() for link in self._links.values()] + [self._acceptor.close()]
        DeferredList(ends).addCallback(self._ended)
        return _after(self._stopped)

    def _ended(self, results: object) -> None:
        self._unlock()
        assert self._stopped is not None
        self._stopped.callback(None)

    def _make_elector(self) -> Elector:
        cluster, ballot = self.cluster, self._ballot
        if self._data_dir is not None:
            self._lock = DirectoryLock(self._data_dir, cluster.node_id)
            ballot = FileBallot(self._data_dir)
        assert ballot is not None
        elector = Elector(
            cluster.node_id,
            cluster.ids,
            self.advertise,
            config=self.config,
            ballot=ballot,
            rng=self._rng,
            witness=self.witness,
        )
        elector.set_repl_offset(self._offset)
        self._events_told = 0
        self._told = ()
        return elector

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _warn(self) -> None:
        number = self.cluster.warning()
        if number is not None:
            self.log.warn("{advice}", advice=number)
        host = getattr(self._acceptor.address, "host", None)
        if host is not None and not is_loopback(host):
            self.log.warn(
                "listening on {host}: the links are not authenticated, whoever reaches this port "
                "can speak as a member. Keep it to a network that you trust",
                host=host,
            )

    # What drives the elector

    def message_received(self, sender: str, message: Message) -> None:
        """Take what `sender` said. Raises FrameError to have its connection ended (R1)."""
        self._drive(
            lambda elector, now: elector.on_message(sender, message, now) + elector.tick(now)
        )
        self._sweep()

    def check(self, message: Message) -> None:
        """Raises FrameError for a message that may not be sent, heard or not (R1)."""
        self._ask(lambda elector: elector.check(message))

    def member_connected(self, member: str, greeted: bool) -> None:
        """Note whether `member` reads replies, and so acknowledges heartbeats (section 4)."""
        self._ask(lambda elector: elector.set_acknowledging(member, greeted))

    def backs(self, sender: str, epoch: int) -> bool:
        """Whether this node backs `sender` as primary of `epoch` (section 4)."""
        return bool(self._ask(lambda elector: elector.backs(sender, epoch, self._clock())))

    def confirm(self, peer: str, epoch: int, sent_at: float) -> None:
        """Take in that `peer` backed us when it read what we sent at `sent_at` (section 4)."""
        had_lease = self.can_write()
        self._ask(lambda elector: elector.confirm(peer, epoch, sent_at))
        if not had_lease:
            self._drive(lambda elector, now: elector.tick(now))

    def _tick(self) -> None:
        self._drive(lambda elector, now: elector.tick(now))
        self._sweep()

    def _sweep(self) -> None:
        """See to connections, every hb_interval / 2 at most; messages drive this too."""
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = now + self.config.hb_interval / 2
            self._acceptor.sweep(now)
            for link in self._links.values():
                link.sweep(now)

    def _ask(self, ask: Callable[[Elector], T]) -> T | None:
        """Ask the elector, if the service runs. Whatever is wrong with it ends the service."""
        if self._elector is None:
            return None
        try:
            return ask(self._elector)
        except FrameError:
            raise
        except Exception:
            self._crash(Failure())
            return None

    def _drive(self, run: Callable[[Elector, float], list[Outbound]]) -> None:
        now = self._clock()
        for outbound in self._ask(lambda elector: run(elector, now)) or ():
            self._send(outbound)
        if self._elector is not None:
            self._log_events(self._elector)

    def _send(self, outbound: Outbound) -> None:
        if outbound.to == Outbound.BROADCAST:
            for link in self._links.values():
                link.send(outbound.message)
        else:
            self._links[outbound.to].send(outbound.message)

    def _log_events(self, elector: Elector) -> None:
        """Log what the elector noted and tell the observers if that changed anything."""
        new = elector.event_count - self._events_told
        if not new:
            return
        self._events_told = elector.event_count
        events = list(elector.events)[-new:]
        for event in events:
            level = LogLevel.critical if event.critical else LogLevel.info
            self.log.emit(level, "{node}: {text}", node=self.cluster.node_id, text=event.text)
        state = (
            elector.role,
            elector.epoch,
            elector.current_primary,
            elector.primary_addr,
            elector.has_quorum(self._clock()),
        )
        if state != self._told:
            self._told = state
            self._observers.tell("; ".join(event.text for event in events))

    def _crash(self, failure: Failure) -> None:
        self.log.failure("the elector failed; this node stops", failure)
        self.stopService().addBoth(lambda _: self._on_crash(failure))


def use_monotonic_time() -> None:
    """Have the reactor's timers follow the monotonic clock, so that a step of the wall clock
    neither stops nor rushes them; `twistd kevy-elect` does. To be called before anything
    sets a timer, since one that was set before would never fire: it does nothing then.

    What takes the reactor's time for a date is wrong from then on, such as the access
    log of twisted.web.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    if not loop.getDelayedCalls():
        loop.seconds = time.monotonic


def end_process(failure: Failure) -> None:
    """What a failed elector does to its process: `end_with(1)`."""
    end_with(1)


def end_with(status: int) -> None:
    """Stop the reactor, which stops all services, and have the process end with `status`.

    Exit handlers that the program registered before are not run.
    """
    from twisted.internet import reactor

    # twistd offers no way to choose its exit status.
    atexit.register(exit_now, status)
    loop: Any = reactor
    if loop.running:
        loop.stop()


def exit_now(status: int) -> None:
    """End the process with `status`, without waiting for anything but the log."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _after(deferred: Deferred[None] | None) -> Deferred[None]:
    """A Deferred of its own for whoever waits, which fires when `deferred` has."""
    waiting: Deferred[None] = Deferred()
    if deferred is None:
        waiting.callback(None)
        return waiting

    def tell(result: None) -> None:
        waiting.callback(None)

    deferred.addCallback(tell)
    return waiting


def _own_endpoint(me: PeerAddr) -> str:
    kind = "tcp6" if ":" in me.host else "tcp"
    return f"{kind}:{me.elect_port}:interface={quoteStringArgument(me.host)}"
