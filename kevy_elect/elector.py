"""The rules of the election in docs/protocol.md, R1 to R10, D1 to D6 and M1 to M3, as one state
machine.

Pure: time, randomness and the ballot are arguments, and messages are return values. All
times are seconds of one monotonic clock.

    replica   -> candidate   R5: no member leads, a quorum is alive, its turn
    candidate -> primary     R6: a quorum accepted
    candidate -> replica     R3 a better candidate asks, R6 timeout, R7 another leads
    primary   -> primary     R8: a quorum renewed it, in a higher epoch
    primary   -> candidate   R8: lease lost and part of the cluster is in a higher epoch
    primary   -> replica     R3 voted for another, R7 another leads, R8 no lease for down_after

Only `_become_*`, `_run_on`, `_lead`, `_follow` and `_forget_primary` change role or
primary, only `_enter` changes the epoch, and only `_save` touches the disk.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Mapping, Sequence
from typing import Final

import attrs

from kevy_elect.ballot import Ballot
from kevy_elect.config import ElectConfig, is_client_address
from kevy_elect.errors import BallotError, ConfigError, FrameError, HandoverError
from kevy_elect.events import Cause, Event, EventKind, EventLog
from kevy_elect.local_server import (
    FREEZE,
    STAY,
    UNKNOWN,
    Duty,
    LocalServer,
    Task,
    join_offset,
    split_offset,
)
from kevy_elect.messages import (
    U64_MAX,
    Accept,
    Announce,
    Heartbeat,
    Message,
    Offer,
    Outbound,
    Role,
)
from kevy_elect.peers import NEVER, Lease, Peers, View, is_better

EPOCH_LEAP: Final = 2**32
"""A message whose epoch exceeds this node's by more is refused: adopting it would exhaust the
epochs (R1)."""
EARLY: Final = 4
"""A tick sends a heartbeat that is due within hb_interval / EARLY, so the node wakes up less."""
APART: Final = 16
"""A replica's heartbeat is due hb_interval / APART after the primary's, so it leaves with that."""
STEP: Final = 64
"""Until then, it comes hb_interval / STEP earlier in each interval."""
LONGEST_WAIT: Final = 16
"""A renewal that failed is tried again after twice the wait, at most so many down_after (R8)."""


@attrs.define
class _Vote:
    """The last ACCEPT that this node sent since it started (R4.2)."""

    epoch: int
    candidate: str
    at: float
    released: bool = False  # whether the candidate has said since that it gave up


@attrs.define
class _Candidacy:
    """The epoch that this node offered last, the time of its first OFFER, and who accepted it.

    It is the node's own epoch for a candidate and for a primary that won it. It is a higher epoch
    for a primary that renews (R8).
    """

    epoch: int
    offered_at: float
    accepted: set[str]
    will_of: str | None = None
    """Whose last will it began with."""


@attrs.frozen
class _Refusal:
    rule: Cause
    why: str
    is_new: bool = True  # whether it is worth an event


class Elector:
    """One member's part in the election.

    `peer_ids` are all members, including this one. Call `tick` every hb_interval, after every
    message, and at the time that `next_due` returns. `tick` and `on_message` return the messages to
    send. All times are seconds of one monotonic clock, which also runs while the machine sleeps.
    """

    def __init__(
        self,
        node_id: str,
        peer_ids: Sequence[str],
        advertised_addr: str,
        *,
        config: ElectConfig,
        ballot: Ballot,
        rng: random.Random,
        witness: bool = False,
        drives_server: bool = False,
        priorities: Mapping[str, int] | None = None,
    ) -> None:
        """Load the ballot. Nothing is saved or sent before the first call.

        `advertised_addr` is the `host:port` at which clients reach this member. `rng` draws the
        wait after a failed candidacy. A `witness` votes and never runs (R10).

        Among members with equal data, those with higher `priorities` run first. A member without an
        entry has priority 0 (R5).

        A member that `drives_server` has a data server beside it, which does its `duty` (D1 to D6).

        Raises ConfigError for invalid members, and BallotError for a ballot that cannot be read.
        """
        if node_id not in peer_ids or len(set(peer_ids)) != len(peer_ids):
            raise ConfigError(f"{node_id!r} must be once among the members {list(peer_ids)!r}")
        if witness and drives_server:
            raise ConfigError(f"the witness {node_id} has no data, so it drives no data server")
        self.node_id = node_id
        self.config = config
        self.witness = witness
        self.peers = Peers((peer for peer in peer_ids if peer != node_id), config)
        self.events = EventLog()
        self._advertised_addr = advertised_addr
        self._ballot = ballot
        self._rng = rng
        self._offset = 0
        self._priorities = dict(priorities or {})
        self._server = LocalServer() if drives_server else None
        self._out: list[Outbound] = []

        self._ballot_epoch, _ = ballot.load()
        self._role = Role.REPLICA
        self._epoch = max(1, self._ballot_epoch)
        self._vote: _Vote | None = None
        self._noted: dict[str, tuple[object, ...]] = {}  # a repeated event is noted once

        self._primary: str | None = None
        self._primary_epoch = 0
        self._primary_addr: str | None = None
        self._announced = False  # whether by an ANNOUNCE, and not only by a heartbeat
        self._none_since = NEVER
        self._no_wait = False  # R5: the primary stepped down
        self._resigned: str | None = None  # the primary that stepped down
        self._will_of: str | None = None  # the primary whose last will was heard
        self.began_by_will_of: str | None = None
        """The member whose last will was heard just before the epoch of this node's primary."""

        self._candidacy: _Candidacy | None = None
        self._eligible_since: float | None = None
        self._backoff_until = NEVER
        self._aside_until = NEVER
        self._maintained_until = NEVER
        self._anew: set[str] = set()  # connected since they last claimed to lead

        self._fenced = False
        self._target: str | None = None  # of a handover: only it gets heartbeats
        self._target_until = NEVER
        self._yields_until = NEVER  # to the target of a handover

        self._started: float | None = None
        self._last_run = NEVER
        self._hold_until = NEVER  # R9
        self._ran_until = NEVER  # until the pause before that
        self._due = NEVER
        self._quiet_until = NEVER  # no tick is needed before, without a change
        self._lease = Lease()
        self._had_quorum = False
        self._next_heartbeat = NEVER
        self._last_heartbeat: Heartbeat | None = None
        self._silent_until = NEVER  # R2: to peers that do not acknowledge
        self._next_announce = NEVER
        self._has_changed = False  # in the last tick: other rules may apply now

    # The interface to the host program

    @property
    def role(self) -> Role:
        """The role of this node."""
        return self._role

    @property
    def epoch(self) -> int:
        """The epoch of this node; for a primary, the fencing token of its writes."""
        return self._epoch

    @property
    def current_primary(self) -> str | None:
        """The id of the member that this node follows, its own if it is primary, or None."""
        return self._primary

    @property
    def primary_addr(self) -> str | None:
        """The `host:port` at which clients find the primary; None until the primary announces
        it."""
        return self._primary_addr

    @property
    def primary_epoch(self) -> int:
        """The epoch in which this node learned the current primary; 0 without one."""
        return self._primary_epoch

    @property
    def ever_saved(self) -> bool:
        """Whether this node ever saved a ballot."""
        return self._ballot_epoch > 0

    @property
    def repl_offset(self) -> int:
        """The offset of this node, as its heartbeats and offers state it."""
        return self._offset

    def set_repl_offset(self, offset: int) -> None:
        """Set how much data this node has. More data makes the better candidate (R3.5, R5).

        The offset of a witness stays 0 (R10). Raises ConfigError unless it is an unsigned 64-bit
        number.
        """
        if not 0 <= offset <= U64_MAX:
            raise ConfigError(f"the offset {offset} is no unsigned 64-bit number")
        if self._server is not None and self._role is Role.PRIMARY:
            # Until the server is promoted, its data is of an older history.
            offset = join_offset(self._server.data_epoch, split_offset(offset)[1])
        if not self.witness and offset != self._offset:
            self._offset = offset
            self._changed()

    def use_timings(self, config: ElectConfig) -> None:
        """Use these timings from now on. If they shorten the lease, it ends earlier."""
        self.config = config
        self.peers.use_timings(config)
        self._changed()

    def has_quorum(self, now: float) -> bool:
        """Whether a quorum backs this node at `now`. For a primary, this is the lease (R8, R9)."""
        return now < self._lease_until()

    def can_write(self, now: float) -> bool:
        """Whether this node is primary, holds its lease and is not fenced, and its data server, if
        it drives one, is promoted. Ask at the moment of writing (R8)."""
        server = self._server
        return (
            self._role is Role.PRIMARY
            and not self._fenced
            and now < self._lease_until()
            and (server is None or server.is_promoted)
        )

    def lease_expires_in(self, now: float) -> float:
        """Seconds until the lease of a primary that may write ends, if no more messages come; 0 if
        it may not write.

        This is the time of the lease alone: the process may be paused before its end (R9).
        """
        return self.lease_left(now) if self.can_write(now) else 0.0

    def lease_left(self, now: float) -> float:
        """Seconds until a primary's lease ends, also if it is fenced or its server is not promoted;
        0 without a lease."""
        if self._role is not Role.PRIMARY:
            return 0.0
        return max(0.0, self._deadline(self._counts_from(), runs_until=math.inf) - now)

    def step_down(self, now: float, rest: float, why: str) -> None:
        """Give up the role, and do not run for `rest` seconds. The event has the reason `why`.

        The next tick sends a heartbeat that says so, and the others elect at once (R5, R7).
        """
        self._backoff_until = max(self._backoff_until, now + rest)
        self._eligible_since = None
        if self._role is not Role.REPLICA:
            self._become_replica(now, why, Cause.RESIGNED, reason=why, no_wait=True)
        self._changed()

    def hand_over(
        self, target: str, now: float, within: float, rest: float, reason: str = ""
    ) -> None:
        """Step down, so that `target` is elected at once (section 5). The event has the `reason`.

        Only the target gets heartbeats until its OFFER arrives, so that no other member runs. Then
        the others get one too, and may vote for the target (R4.6). If the target does not run
        `within` seconds, all members get one. This node runs `rest` seconds after that at the
        earliest.

        Raises HandoverError, and changes nothing, if this node is not primary, the target is not
        another member, or a time is out of bounds: `within` above 0, `rest` at least 0, both
        finite.
        """
        if self._role is not Role.PRIMARY:
            raise HandoverError(f"{self.node_id} is not primary, so it has no role to hand over")
        if target not in self.peers:
            peers = ", ".join(view.node_id for view in self.peers) or "none"
            raise HandoverError(f"{target!r} is not another member; these are: {peers}")
        if not (0 < within < math.inf and 0 <= rest < math.inf):
            raise HandoverError(
                f"a handover within {within:g} s and a rest of {rest:g} s: the first must be "
                "above 0, the second not below, and both finite"
            )
        self._target = target
        self._target_until = now + within
        self._yields_until = now + within + rest
        why = f"handing over to {target}"
        self._become_replica(
            now, why, Cause.HANDED_OVER, member=target, reason=reason, no_wait=True
        )
        self._changed()

    def fence(self, now: float, *, closed: bool) -> None:
        """With `closed`, forbid writes from now on, whatever the lease is; otherwise allow them.

        This node keeps its role, and the others keep their promises.
        """
        if closed != self._fenced:
            self._fenced = closed
            if closed:
                text = "this node writes nothing from here on"
                self._note(now, EventKind.FENCE, text, Cause.BEGUN)
            else:
                self._note(now, EventKind.FENCE, "this node may write again", Cause.ENDED)

    def stand_aside(self, now: float, seconds: float) -> None:
        """Do not run for so many seconds. A candidate gives up. 0 ends it."""
        self._aside_until = now + seconds
        self._eligible_since = None
        self._changed()
        if seconds <= 0:
            self._note(now, EventKind.ASIDE, "stands for election again", Cause.ENDED)
            return
        text = f"does not stand for election for {seconds:g} s"
        self._note(now, EventKind.ASIDE, text, Cause.BEGUN)
        if self._role is Role.CANDIDATE:
            self._become_replica(now, "stands aside", Cause.WITHDRAWN)

    def maintain(self, now: float, seconds: float) -> None:
        """Begin maintenance for so many seconds: do not take over by itself (M1, M2). 0 ends it."""
        was_on = now < self._maintained_until
        self._maintained_until = now + seconds
        self._eligible_since = None
        self._changed()
        if seconds > 0:
            text = f"maintenance: takes over from nobody by itself for {seconds:g} s"
            self._note(now, EventKind.MAINTENANCE, text, Cause.BEGUN)
            if self._role is Role.CANDIDATE:
                self._become_replica(now, "maintenance", Cause.WITHDRAWN)
        elif was_on:
            self._note(now, EventKind.MAINTENANCE, "maintenance is over", Cause.ENDED)

    def maintained_for(self, now: float) -> float:
        """Seconds until maintenance ends; 0 without maintenance (M3)."""
        return max(0.0, self._maintained_until - now)

    def aside_for(self, now: float) -> float:
        """Seconds until this node may run again after `stand_aside`; 0 if it may run."""
        return max(0.0, self._aside_until - now)

    def is_peer_down(self, peer: str, now: float) -> bool:
        """Whether `peer` was silent for down_after. Raises ConfigError if it is no peer."""
        if peer not in self.peers:
            raise ConfigError(f"{peer!r} is not a peer of {self.node_id!r}")
        return self.peers.is_down(peer, now)

    # The data server beside this member, D1 to D6

    def duty(self, now: float) -> Duty:
        """The task of the data server at `now`. Ask again after each call that changes anything."""
        server = self._server
        if server is None:
            return STAY
        if self._role is Role.PRIMARY:
            serves = not self._fenced and self.has_quorum(now)
            return Duty(Task.PROMOTE, server.data_epoch) if serves else FREEZE
        if self._role is Role.CANDIDATE or server.is_wanted_frozen or self._has_waiting(now):
            return FREEZE
        leader = self._primary
        if leader is None or self.peers.is_down(leader, now) or self._primary_addr is None:
            return FREEZE
        view = self.peers[leader]
        is_older = self._primary_epoch < self._ballot_epoch  # D3
        if is_older or view.epoch < self._primary_epoch or view.led_epoch == 0:  # D6
            return FREEZE
        # A message that arrives right after a pause may have been sent before it.
        heard_at = view.heard if view.heard >= self._hold_until else self._ran_until
        reign = view.led_epoch, leader, self._primary_addr
        return Duty(Task.FOLLOW, *reign, view.led_from, heard_at, view.offset)

    def server_frozen(self, offset: int, now: float, newest: int = 0) -> None:
        """Report that the data server takes no writes, and has the data of this `offset`. The next
        tick then votes or runs if a vote or a candidacy waited for the server (D1, D2).

        `newest` is the newest data epoch that the server ever had. If it is above the epoch of the
        offset, the server lost data that it may have confirmed, so D5 restricts this member.
        """
        server = self._server
        assert server is not None
        server.newest = newest
        was_promoted = server.is_promoted
        server.release()
        server.is_frozen = True
        server.may_have = 0
        data_epoch, _ = split_offset(offset)
        if data_epoch >= newest:
            server.lost_at = None
        elif server.lost_at is None:
            server.lost_at = now
        self.set_repl_offset(offset)
        if was_promoted:
            text = "the data server takes no writes any more"
            self._note(now, EventKind.SERVER, text, Cause.ENDED)
        if self._role is Role.PRIMARY and data_epoch < server.data_epoch <= newest:
            self._give_up_for_server(now, "the data server has lost what it may have confirmed")
        self._changed()

    def hasten_heartbeat(self) -> None:
        """Send the next heartbeat with the next tick, because another node waits for its
        content."""
        self._next_heartbeat = NEVER
        self._changed()

    def server_released(self, data_epoch: int = 0) -> None:
        """Report that the data server may take writes from now on: it was commanded to follow a
        primary or to take the clients' writes. Its data will soon be of `data_epoch`."""
        assert self._server is not None
        self._server.release()
        self._server.may_have = data_epoch
        self._server.lost_at = None
        self._changed()

    def server_promoted(self, now: float) -> None:
        """Report that the data server takes the clients' writes: a primary may admit clients
        now."""
        assert self._server is not None
        self._server.release()
        if self._role is Role.PRIMARY:
            self._server.is_promoted = True
            text = f"the data server was promoted, with data epoch {self._server.data_epoch}"
            self._note(now, EventKind.SERVER, text, Cause.BEGUN)
        self._changed()

    def server_lost(self, now: float, why: str) -> None:
        """Report that the data server does not answer, or gives wrong answers, so its data is
        unknown. This node then neither votes nor runs, and a primary steps down (D5)."""
        assert self._server is not None
        self._server.release()
        self._give_up_for_server(now, why)
        self._changed()

    def _give_up_for_server(self, now: float, why: str) -> None:
        if self._role is Role.PRIMARY:
            self.step_down(now, 0.0, why)
            self._back_off(now)
        elif self._role is Role.CANDIDATE:
            self._become_replica(now, why, Cause.WITHDRAWN)
            self._back_off(now)

    def _has_waiting(self, now: float) -> bool:
        """Whether an OFFER waits for the data server. A candidate that still runs repeats its
        OFFER."""
        server = self._server
        if server is None or server.waiting is None:
            return False
        if now - server.asked_at > 2 * self.config.hb_interval:
            server.waiting = None
        return server.waiting is not None

    def _judge_waiting(self, now: float) -> None:
        """Answer the OFFER that waited, by the data of the frozen server (D1)."""
        server = self._server
        if server is not None and server.is_frozen and self._has_waiting(now):
            assert server.waiting is not None
            offer, server.waiting = server.waiting, None
            self._note_refusal(offer, self._answer(offer, now), now)

    def _waits_for_server(self, offer: Offer, now: float) -> _Refusal | None:
        """The refusal of this otherwise good OFFER while the server is not frozen (D1), or for data
        that the server lost (D5)."""
        server = self._server
        if server is None:
            return None
        if server.is_frozen:
            if self._vouches_for(offer.sender, offer.repl_offset, now):
                return None
            return _Refusal(Cause.D5, "the data server has lost what it may have confirmed")
        repeated = server.waiting is not None and server.waiting.epoch == offer.epoch
        server.waiting, server.asked_at = offer, now
        return _Refusal(Cause.D1, "not before the data server is frozen", is_new=repeated)

    def _vouches_for(self, candidate: str, offset: int, now: float) -> bool:
        """Whether the election of this candidate with this `offset` can lose no confirmed data of
        the local server. If the server lost data, or its data may be of any epoch, this needs
        heartbeats of all members since then (D5)."""
        server = self._server
        if server is None or server.lost_at is None:
            return True
        if server.newest == UNKNOWN and self._has_it_all(candidate, offset):
            return True
        if now - server.lost_at < self.config.down_after:
            return False  # earlier heartbeats may state less than they have
        if any(self.peers.is_down(view.node_id, now) for view in self.peers):
            return False
        epochs = {view.node_id: split_offset(view.offset)[0] for view in self.peers}
        if server.newest == UNKNOWN:  # its data is of the newest epoch at most
            newest = max(epochs.values(), default=0)
            return offset >= join_offset(newest, split_offset(self._offset)[1])
        return all(epoch < server.newest for peer, epoch in epochs.items() if peer != candidate)

    def _has_it_all(self, candidate: str, offset: int) -> bool:
        """Whether this candidate has all data that the server may have confirmed in epochs that
        this member does not know of. In a cluster of three, both other members voted in those
        epochs. What either had then is less than what the primary confirmed afterwards (D5)."""
        if len(self.peers) != 2:
            return False
        (epoch, length), own = split_offset(offset), split_offset(self._offset)
        return candidate == self.node_id or (epoch >= own[0] and length >= own[1])

    def _is_ready_to_run(self, now: float) -> bool:
        """Whether the data server is frozen and this node may offer its data. If it is not frozen,
        this asks for that (D2)."""
        server = self._server
        if server is not None and not server.is_frozen:
            server.is_wanted_frozen = True
            return False
        return self._vouches_for(self.node_id, self._offset, now)

    # The interface to the transport

    def tick(self, now: float) -> list[Outbound]:
        """Apply the rules at `now`, and return the messages to send."""
        if self._is_quiet(now):
            self._last_run = now
            self._lease.is_measured = False
            return []
        noted = self.events.count
        self._begin(now)
        self._judge_waiting(now)
        if self._role is Role.PRIMARY:
            self._guard_lease(now)
        elif self._role is Role.CANDIDATE:
            if self._is_late(now):
                self._give_up(now)
        else:
            self._follow_old_claim(now)
            self._consider_running(now)
        self._send_heartbeats(now)
        out = self._end(now)
        self._has_changed = self.events.count != noted
        self._due = self._next_due(now)
        early = self._next_heartbeat - self.config.hb_interval / EARLY
        if self._had_quorum and now >= self._hold_until and not self._has_changed:
            self._quiet_until = min(self._due, early)
        return out

    @property
    def quiet_until(self) -> float:
        """The time until which `tick` does nothing, unless another call comes first."""
        return self._quiet_until

    @property
    def heartbeat_due(self) -> float:
        """The latest time of the next heartbeat. `tick` sends it up to a quarter of hb_interval
        earlier (R2)."""
        return self._next_heartbeat

    def next_due(self, now: float) -> float:
        """The latest time of the next call of `tick`, always after `now`: then a rule applies that
        depends on time alone."""
        return self._due if self._is_quiet(now) else self._next_due(now)

    def _next_due(self, now: float) -> float:
        if self._has_changed:  # the rules that this enables apply at once
            return math.nextafter(now, math.inf)
        due = min([at for at in self._times() if at > now], default=math.inf)
        return min(due, now + self.config.hb_interval)

    def _is_quiet(self, now: float) -> bool:
        """Whether a tick would do nothing: no time has come, and since the last tick nothing has
        changed except when peers were heard or confirmed."""
        return now < self._quiet_until and now - self._last_run <= self.config.pause_after

    def _times(self) -> list[float]:
        """The times at which a rule may decide otherwise without a message."""
        config, counts_from = self.config, self._counts_from()
        times = [self._next_heartbeat, self._target_until, self._hold_until, self._lease_until()]
        times.append(self._maintained_until)
        times.append(self._deadline(counts_from, math.inf))
        if counts_from != self._hold_until:
            times.append(self._deadline(self._hold_until, math.inf))
        for view in self.peers:
            down_at = view.heard + config.down_after
            times += (down_at, down_at + config.candidate_step)
            if view.role is Role.CANDIDATE and view.epoch > self._epoch:
                times.append(view.heard + config.pause_after)
            if view.ahead_since is not None:
                times.append(view.ahead_since + view.wait * config.down_after)
        if self._candidacy is not None:
            times.append(self._candidacy.offered_at + config.election_timeout)
        if self._role is Role.PRIMARY:
            return times + self._times_of_primary()
        times += (self._backoff_until, self._yields_until, self._aside_until)
        times += (self._none_since + config.candidate_step, self._none_since + config.down_after)
        if self._started is not None:
            times.append(self._started + config.down_after)
        if self._vote is not None:
            times.append(self._vote.at + config.down_after)
        if self._eligible_since is not None:
            since, step = self._eligible_since, config.candidate_step
            times += [since + steps * step for steps in range(1, len(self.peers) + 1)]
        return times

    def _times_of_primary(self) -> list[float]:
        times = [self._next_announce]
        if self._lease.lost_since is not None:
            times += (self._lease.lost_since + self.config.down_after, self._backoff_until)
        return times

    def on_message(self, sender: str, message: Message, now: float) -> list[Outbound]:
        """Handle a message of `sender`, and return the messages to send.

        A message of a stranger, or whose id field is not `sender`, changes nothing (R1). Raises
        FrameError of the kind `bad_epoch` for an epoch too far ahead. The elector then records only
        that it came.
        """
        if sender != message.sender or sender not in self.peers:
            return []
        if self._is_quiet(now) and self._repeats(message, now):
            self.peers[sender].heard = self._last_run = now
            self._lease.is_measured = False
            return []
        self._check_epoch(message, now)
        self._begin(now)
        match message:
            case Heartbeat():
                self._on_heartbeat(message, now)
            case Offer():
                self._on_offer(message, now)
            case Accept():
                self._on_accept(message, now)
            case Announce():
                self._on_announce(message, now)
        return self._end(now)

    def _repeats(self, message: Message, now: float) -> bool:
        """Whether this message changes only when its sender was heard. It is a heartbeat of a live
        peer that repeats its last one, and concerns neither an election, nor another primary, nor
        this node's vote."""
        if not isinstance(message, Heartbeat):
            return False
        view = self.peers[message.sender]
        said = (message.epoch, message.role, message.repl_offset)
        if said != (view.epoch, view.role, view.offset) or self.peers.is_down(view.node_id, now):
            return False
        if view.far_ahead_at != NEVER:
            return False
        if view.node_id == self._primary:
            return message.role is Role.PRIMARY and message.epoch == self._primary_epoch
        vote = self._vote
        about_vote = vote is not None and vote.candidate == view.node_id and not vote.released
        return message.role is Role.REPLICA and not about_vote

    def check(self, message: Message) -> None:
        """Raise FrameError of the kind `bad_epoch` for an epoch too far ahead (R1)."""
        if message.epoch > self._epoch + EPOCH_LEAP:
            raise FrameError(
                "bad_epoch",
                f"{message.sender} claims epoch {message.epoch}, this node is in {self._epoch}; it "
                "follows once a quorum of the other members says the like",
            )

    def _check_epoch(self, message: Message, now: float) -> None:
        """Refuse an epoch too far ahead, unless a quorum shows that this node was away (R1)."""
        view = self.peers[message.sender]
        is_far = message.epoch > self._epoch + EPOCH_LEAP
        view.far_ahead_at = now if is_far else NEVER
        if is_far and not self.peers.quorum_far_ahead(now):
            self.check(message)

    # Acknowledged leases, section 4

    def set_connected(self, peer: str, *, connected: bool) -> None:
        """Record whether this node has a connection on which it sends to `peer` (R8)."""
        view = self.peers[peer]
        view.connected = connected
        view.ahead_since = None
        self._changed()

    def set_acknowledging(self, peer: str, *, acknowledging: bool) -> None:
        """Record whether `peer` answers heartbeats with ACK (section 4)."""
        self.peers[peer].acknowledging = acknowledging
        self._anew.add(peer)
        self._changed()

    def expect_last_will(self, first: Message) -> bool:
        """Whether `first`, which is taken next, is a last will: this node's primary, which
        acknowledges, resigns in the first message on a connection without a greeting.

        A node that acknowledges greets on all its connections, whenever it dials them. Only the
        wrapper of a dead one does not, because it reads no replies.
        """
        sender = first.sender
        is_will = (
            isinstance(first, Heartbeat)
            and first.role is Role.REPLICA
            and (sender, first.epoch) == (self._primary, self._primary_epoch)
            and sender in self.peers
            and self.peers[sender].acknowledging
        )
        if is_will:
            self._anew.add(sender)
            self._will_of = sender
        return is_will

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        """Whether this node backs `sender` as primary of `epoch`, so that it may send an ACK."""
        vote = self._binding_vote(now)
        return (
            self._role is Role.REPLICA
            and self._primary == sender
            and self._primary_epoch == epoch == self._epoch
            and (vote is None or vote.candidate == sender)
        )

    def confirm(self, peer: str, epoch: int, sent_at: float) -> None:
        """Record that `peer` acknowledged the heartbeat that this node sent at `sent_at` as primary
        of `epoch`. It extends the lease if this node is still that primary (section 4).
        """
        if self._role is Role.PRIMARY and epoch == self._epoch:
            view = self.peers[peer]
            view.confirmed = max(view.confirmed, sent_at)
            self._lease.is_measured = False

    def _begin(self, now: float) -> None:
        """Detect a pause (R9) and a lost lease (R8) before any other rule applies."""
        self._quiet_until = NEVER
        if self._role is Role.PRIMARY:
            self._lease_until()  # before this call changes anything
        if self._started is None:
            self._started = self._none_since = now
        elif now - self._last_run > self.config.pause_after:
            if now >= self._hold_until:
                self._ran_until = self._last_run
            self._hold_until = now + self.config.pause_after
            lasted = now - self._last_run
            self._note(now, EventKind.PAUSE, f"did not run for {lasted:.2f} s", lasted=lasted)
        self._last_run = now
        if self._role is Role.PRIMARY and now >= self._deadline(self._hold_until, math.inf):
            self._lease.counts_from = now + self.config.pause_after
            self._lease.is_measured = False
            self._lease_until()

    def _end(self, now: float) -> list[Outbound]:
        self._lease.is_measured = False
        quorum = self.has_quorum(now)
        if quorum != self._had_quorum:
            self._had_quorum = quorum
            what = "the lease" if self._role is Role.PRIMARY else "sight of a quorum"
            if quorum:
                self._note(now, EventKind.QUORUM, f"has {what}", Cause.GAINED)
            else:
                self._note(now, EventKind.QUORUM, f"lost {what}", Cause.LOST)
        out, self._out = self._out, []
        return out

    # Messages

    def _on_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        sender = heartbeat.sender
        if sender == self._primary and self._is_older_than_claim(heartbeat):
            return
        view = self.peers[sender]
        view.heard = now
        view.update(heartbeat)
        vote = self._vote
        if vote is not None and vote.candidate == sender:
            gave_up = heartbeat.role is Role.REPLICA and heartbeat.epoch == vote.epoch
            vote.released = vote.released or gave_up or heartbeat.epoch > vote.epoch
        if heartbeat.role is Role.PRIMARY:
            self._anew.discard(sender)
            self._on_claim(sender, heartbeat.epoch, None, now)
        elif sender == self._primary:
            self._on_resignation(heartbeat, now)

    def _is_older_than_claim(self, heartbeat: Heartbeat) -> bool:
        """Whether the primary sent this heartbeat before it became primary (R7)."""
        if heartbeat.role is Role.PRIMARY:
            return False
        late = heartbeat.epoch == self._primary_epoch and heartbeat.role is Role.CANDIDATE
        return late or heartbeat.epoch < self._primary_epoch

    def _on_resignation(self, heartbeat: Heartbeat, now: float) -> None:
        """Handle a heartbeat of this node's primary that does not claim to be primary (R7)."""
        sender, vote = heartbeat.sender, self._vote
        resigned = heartbeat.epoch == self._primary_epoch or (
            heartbeat.role is Role.REPLICA
            and vote is not None
            and (vote.epoch, vote.candidate) == (heartbeat.epoch, sender)
        )
        why = f"{sender} says that it is {heartbeat.role}"
        if sender == self._will_of:
            why = f"its last will says that {sender} is dead"
        self._forget_primary(now, why, sender if resigned else None)

    def _on_announce(self, announce: Announce, now: float) -> None:
        view = self.peers[announce.sender]
        view.heard = now
        if announce.epoch >= view.epoch:
            view.claims(Role.PRIMARY, announce.epoch)
        self._on_claim(announce.sender, announce.epoch, announce.new_primary_addr, now)

    def _on_claim(self, sender: str, epoch: int, addr: str | None, now: float) -> None:
        """Handle the claim of `sender` to be primary: an ANNOUNCE, or without `addr` a heartbeat
        (R7)."""
        if epoch > self._epoch:
            if epoch > self._ballot_epoch:
                self._save(epoch, None if addr is None else sender, now)
            self._enter(epoch)
            self._follow(sender, epoch, addr, now)
        elif epoch == self._epoch:
            if self._role is Role.PRIMARY:
                self._contend(sender, addr, now)
            elif self._primary_epoch < epoch or (addr is not None and not self._announced):
                self._follow(sender, epoch, addr, now)
            elif sender == self._primary:
                self._learn_address(addr, now)
        elif sender == self._primary:
            self._learn_address(addr, now)

    def _learn_address(self, addr: str | None, now: float) -> None:
        """Use the address at which the primary says that clients reach it."""
        if addr is None or addr == self._primary_addr:
            return
        if is_client_address(addr):
            self._primary_addr = addr
            text = f"primary {self._primary} is at {addr}"
            self._note(now, EventKind.PRIMARY, text, Cause.ADDRESS, member=self._primary)
        else:
            self._primary_addr = None
            if self._is_news(f"address of {self._primary}", self._primary_epoch):
                text = (
                    f"primary {self._primary} announces {addr!r}, which is no host:port: clients "
                    "are told of no address. Correct its --advertise"
                )
                self._note(now, EventKind.PRIMARY, text, Cause.NO_ADDRESS, member=self._primary)

    def _contend(self, sender: str, addr: str | None, now: float) -> None:
        """Handle a second primary of the same epoch, after a lost ballot: the better one stays
        (R7)."""
        loses = self._is_better(sender, self.peers[sender].offset)
        if self._is_news(f"conflict {sender}", self._epoch):
            text = (
                f"{sender} also claims to be primary of epoch {self._epoch}: a ballot was lost; "
                f"compare what both wrote. This one {'steps down' if loses else 'stays'}"
            )
            self._note(now, EventKind.CONFLICT, text, member=sender, critical=True)
        if loses:
            self._follow(sender, self._epoch, addr, now)

    def _on_offer(self, offer: Offer, now: float) -> None:
        sender = offer.sender
        view = self.peers[sender]
        view.heard = now
        ahead = offer.epoch > self._epoch
        if ahead and sender == self._target:
            # This heartbeat of the old epoch also frees the members that voted in it (R4.2).
            self._tell_all()
            self._send_heartbeats(now)
        refusal = self._answer(offer, now)
        # After the answer, which depends on what the candidate claimed before (R4.4).
        if ahead:
            view.claims(Role.CANDIDATE, offer.epoch)
        self._note_refusal(offer, refusal, now)

    def _note_refusal(self, offer: Offer, refusal: _Refusal | None, now: float) -> None:
        sender = offer.sender
        if refusal is None or not refusal.is_new:
            return
        if self._is_news(f"refused {sender}", offer.epoch, refusal.rule):
            text = f"refused OFFER {offer.epoch} of {sender}: {refusal.why}"
            self._note(now, EventKind.REFUSED, text, refusal.rule, member=sender)

    def _answer(self, offer: Offer, now: float) -> _Refusal | None:
        """Vote for the candidate, or return why not (R3)."""
        epoch, candidate = offer.epoch, offer.sender
        if epoch == self._epoch:
            vote = self._vote
            if (
                self._role is Role.REPLICA
                and vote is not None
                and (vote.epoch, vote.candidate) == (epoch, candidate)
            ):
                self._accept(epoch, candidate, now)
                return None
            if self._role is Role.CANDIDATE and self._is_better(candidate, offer.repl_offset):
                if waits := self._waits_for_server(offer, now):
                    return waits
                why = f"{candidate} is the better candidate of epoch {epoch}"
                self._become_replica(now, why, Cause.WITHDRAWN, member=candidate)
                return self._vote_for(epoch, candidate, now)
        spent = max(self._epoch, self._ballot_epoch)  # the ballot's is higher during a renewal (R8)
        if epoch <= spent:
            return _Refusal(Cause.R3_3, f"epoch {epoch} is not above {spent}")
        pledge = self._pledge(epoch, candidate, now)
        if pledge is not None:
            return pledge
        if self._offset > offer.repl_offset and not self._has_all(candidate):
            return _Refusal(
                Cause.R3_5, f"its offset {offer.repl_offset} is behind this node's, {self._offset}"
            )
        return self._waits_for_server(offer, now) or self._vote_for(epoch, candidate, now)

    def _has_all(self, candidate: str) -> bool:
        """Whether this is the current primary, which has all of this node's data whatever it offers
        (R3.5). A primary that the data server may not follow (D3) may lack some."""
        may_follow = self._server is None or self._primary_epoch >= self._ballot_epoch
        return candidate == self._primary and may_follow

    def _vote_for(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        if not self._save(epoch, candidate, now):
            return _Refusal(Cause.R3_6, "the ballot could not be saved")
        self._enter(epoch)
        if self._role is not Role.REPLICA:
            why = f"voted for {candidate} in epoch {epoch}"
            self._become_replica(now, why, Cause.WITHDRAWN, member=candidate)
        if candidate != self._target:
            self._tell_all()
        self._accept(epoch, candidate, now)
        text = f"voted for {candidate} in epoch {epoch}"
        self._note(now, EventKind.VOTE, text, member=candidate)
        return None

    def _accept(self, epoch: int, candidate: str, now: float) -> None:
        self._vote = _Vote(epoch, candidate, now)
        self._send(candidate, Accept(epoch, self.node_id))

    def _pledge(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        """Why this node may not back the candidate yet, or None (R4). The order of the rules
        decides."""
        assert self._started is not None
        down_after = self.config.down_after
        if self._role is Role.PRIMARY:
            if self.has_quorum(now):
                return _Refusal(Cause.R4_1, "this node is primary and holds the lease")
            return None
        vote = self._binding_vote(now)
        if vote is not None and vote.candidate != candidate:
            ago = now - vote.at
            return _Refusal(Cause.R4_2, f"voted for {vote.candidate} {ago:.2f} s ago")
        first = self._epoch == 1 and epoch == 2 and self._is_brand_new(now, range(3))
        if now - self._started < down_after and not first:
            ago = now - self._started
            return _Refusal(Cause.R4_3, f"started {ago:.2f} s ago, it may have forgotten a vote")
        if self._is_incumbent(candidate, now):
            return None
        if now < self._hold_until:
            return _Refusal(Cause.R4_5, "this process did not run until just now")
        if self._primary is not None and not self.peers.is_down(self._primary, now):
            ago = now - self.peers[self._primary].heard
            return _Refusal(Cause.R4_6, f"primary {self._primary} was heard {ago:.2f} s ago")
        return None

    def _is_incumbent(self, candidate: str, now: float) -> bool:
        """Whether `candidate` leads already, so that it only renews (R4.4)."""
        if self._primary is not None:
            return candidate == self._primary
        view = self.peers[candidate]
        return view.role is Role.PRIMARY and not self.peers.is_down(candidate, now)

    def _is_brand_new(self, now: float, epochs: Container[int]) -> bool:
        """Whether no member can have forgotten a vote: this node never saved a ballot, and every
        other member is alive, not primary and in one of `epochs`."""
        return not self.ever_saved and all(
            not self.peers.is_down(view.node_id, now)
            and view.role is not Role.PRIMARY
            and view.epoch in epochs
            for view in self.peers
        )

    def _binding_vote(self, now: float) -> _Vote | None:
        """The vote on which its candidate may still rely (R4.2)."""
        vote = self._vote
        if vote is None or vote.released or now - vote.at >= self.config.down_after:
            return None
        return vote

    def _on_accept(self, accept: Accept, now: float) -> None:
        """Count a vote (R6). The ACCEPT may have waited in a socket, so its sender counts as heard
        when the OFFER was sent, and not now."""
        run = self._candidacy
        if run is None or run.epoch != accept.epoch or self._role is Role.REPLICA:
            return
        if self._is_late(now):
            return
        view = self.peers[accept.sender]
        view.heard = max(view.heard, run.offered_at)
        view.epoch = max(view.epoch, accept.epoch)
        view.confirmed = max(view.confirmed, run.offered_at)
        if self._role is Role.PRIMARY and not self._renews():
            return
        view.granted = run.epoch
        first = accept.sender not in run.accepted
        run.accepted.add(accept.sender)
        self._win_with_quorum(now)
        if first and accept.sender == self._resigned and self._role is Role.CANDIDATE:
            # It has freed the others, which refused the earlier OFFER (R4.6).
            self._next_heartbeat = NEVER

    # What time triggers

    def _follow_old_claim(self, now: float) -> None:
        """A primary of an older epoch is better than none, or than one that is DOWN (R7)."""
        since = self._none_since
        if self._primary is not None:
            since = self.peers[self._primary].heard + self.config.down_after
        if now - since < self.config.candidate_step:
            return
        claims = self.peers.claims_primary(now)
        if claims:
            newest = min(claims, key=lambda view: (-view.epoch, -view.offset, view.node_id))
            self._follow(newest.node_id, newest.epoch, None, now)

    def _consider_running(self, now: float) -> None:
        if self._server is not None:
            self._server.is_wanted_frozen = False
        if not self._may_run(now):
            self._eligible_since = None
            return
        if self._eligible_since is None:
            self._eligible_since = now
        own = self._turn(self.node_id, self._offset)
        better = sum(
            view.node_id != self._resigned and self._turn(view.node_id, view.offset) < own
            for view in self.peers.alive(now)
        )
        if now - self._eligible_since >= better * self.config.candidate_step:
            if not self._is_ready_to_run(now):
                return
            if self._primary is not None:
                why = f"primary {self._primary} is down"
                self._become_candidate(now, why, Cause.PRIMARY_DOWN, self._primary)
            elif self._resigned is not None and self._resigned == self._will_of:
                why = f"by the last will of {self._resigned}"
                self._become_candidate(now, why, Cause.LAST_WILL, self._resigned)
            elif self._resigned is not None:
                why = f"{self._resigned} is primary no more"
                self._become_candidate(now, why, Cause.PRIMARY_GONE, self._resigned)
            else:
                self._become_candidate(now, "there is no primary", Cause.NO_PRIMARY)

    def _turn(self, node_id: str, offset: int) -> tuple[int, int, str]:
        """The sort key by which members run one after another, the smallest first (R5)."""
        return -offset, -self._priorities.get(node_id, 0), node_id

    def _may_run(self, now: float) -> bool:
        """Whether all conditions of R5 hold except the delay for better candidates."""
        assert self._started is not None
        if self._primary is not None and not self.peers.is_down(self._primary, now):
            return False
        rests_until = max(self._backoff_until, self._yields_until, self._aside_until)
        if self.witness or now < self._hold_until or now < rests_until:
            return False
        if now < self._maintained_until and not self._was_given_up():
            return False
        if self._binding_vote(now) is not None or not self.peers.quorum_alive(now):
            return False
        if self.peers.claims_primary(now):
            return False
        down_after = self.config.down_after
        brand_new = self._is_brand_new(now, (1,))
        waited = self._no_wait or brand_new or now - self._none_since >= down_after
        if self._primary is None and not waited:
            return False
        if now - self._started < down_after and not brand_new:
            return False
        return not any(
            view.role is Role.CANDIDATE
            and view.epoch > self._epoch
            and now - view.heard < self.config.pause_after
            for view in self.peers
        )

    def _was_given_up(self) -> bool:
        """Whether the primary gave up the role deliberately while it ran (M1). A primary that had
        connected anew before it said so was restarted, or is dead and its last will said so."""
        return self._no_wait and self._resigned not in self._anew

    def _guard_lease(self, now: float) -> None:
        """As primary, renew: in place with the lease, as a candidate without it. If it cannot, step
        down in time (R8)."""
        if self._server is not None:
            self._server.is_wanted_frozen = False
        if self.has_quorum(now):
            self._lease.lost_since = None
            self._consider_renewing(now)
            return
        if self._lease.lost_since is None:
            self._lease.lost_since = now
        if self._renews():
            self._run_on(now)
            return
        ahead = any(view.epoch > self._epoch for view in self.peers.alive(now))
        free = now >= self._hold_until and now >= self._backoff_until
        if ahead and free and self.peers.quorum_alive(now) and self._is_ready_to_run(now):
            why = "the lease is lost and others are in a higher epoch"
            self._become_candidate(now, why, Cause.OTHERS_AHEAD)
        elif now < self._maintained_until:
            return  # M2
        elif now - self._lease.lost_since >= self.config.down_after:
            self._become_replica(now, "no lease for down_after", Cause.LEASELESS, no_wait=True)

    def _consider_renewing(self, now: float) -> None:
        """Renew if peers stay in a higher epoch, so that they follow this primary again (R8)."""
        if self._renews():
            if self._is_late(now):
                self._put_off_renewal(now)
            return
        ahead = [view for view in self.peers if self._stays_ahead(view, now)]
        if ahead:
            self._renew(now, ahead[0].node_id)

    def _stays_ahead(self, view: View, now: float) -> bool:
        """Whether this peer, alive and connected, was in a higher epoch for long enough."""
        if view.epoch <= self._epoch:
            view.ahead_since = None
            view.wait = 1
            return False
        if not view.connected or self.peers.is_down(view.node_id, now):
            view.ahead_since = None
            return False
        if view.ahead_since is None:
            view.ahead_since = now
        return now - view.ahead_since >= view.wait * self.config.down_after

    def _renew(self, now: float, ahead: str) -> None:
        """Offer a higher epoch, and stay primary of this one meanwhile (R8)."""
        epoch = self._next_epoch()
        if epoch > U64_MAX or not self._save(epoch, self.node_id, now):
            self._put_off_renewal(now)
            return
        self._candidacy = _Candidacy(epoch, now, {self.node_id})
        self._vote = None
        text = f"asks for the votes of epoch {epoch}, since {ahead} is in a higher epoch"
        self._note(now, EventKind.RENEWAL, text, Cause.OTHERS_AHEAD, member=ahead)
        self._broadcast(Offer(epoch, self.node_id, self._offset))

    def _put_off_renewal(self, now: float) -> None:
        if self._renews():
            votes = self._votes()
            self._candidacy = None
            text = f"stays primary of epoch {self._epoch}: {votes}"
            self._note(now, EventKind.RENEWAL, text, Cause.TIMEOUT)
        for view in self.peers:
            view.granted = 0
            if view.ahead_since is not None:
                view.ahead_since = now
                view.wait = min(2 * view.wait, LONGEST_WAIT)

    def _run_on(self, now: float) -> None:
        """Turn the renewal into a candidacy, because the lease has ended (R8)."""
        run = self._candidacy
        assert run is not None
        why = "the lease ended before enough members had voted to renew it"
        self._demote()
        self._forget_primary(now, why)
        self._role = Role.CANDIDATE
        self._enter(run.epoch)
        self._fall_silent(now)
        for view in self.peers:
            if view.node_id not in run.accepted:
                view.confirmed = NEVER
        text = f"running in epoch {run.epoch}: {why}"
        self._note(now, EventKind.CANDIDACY, text, Cause.OTHERS_AHEAD)

    def _send_heartbeats(self, now: float) -> None:
        """Send the messages that are repeated (R2)."""
        if self._target is not None and now >= self._target_until:
            self._tell_all()
        if now >= self._next_heartbeat - self.config.hb_interval / EARLY:
            self._next_heartbeat = self._heartbeat_after(now)
            run = self._candidacy
            # The first OFFER was sent when the candidacy began.
            repeats = run is not None and now > run.offered_at
            if repeats and self._renews():
                self._offer_again()
            self._send_heartbeat(now)
            if repeats and self._role is Role.CANDIDATE:
                self._offer_again()
        if self._role is Role.PRIMARY and now >= self._next_announce:
            self._announce(now)

    def _heartbeat_after(self, now: float) -> float:
        """When the heartbeat after the one of `now` is due. If a message caused that one, the
        replica's next one is due just after the next such message."""
        due, interval = self._next_heartbeat, self.config.hb_interval
        if self._role is Role.REPLICA and self._primary is not None:
            earlier = due - interval / STEP
            due = earlier if now >= due else max(earlier, now + interval / APART)
        return next_on_grid(due, interval, now)

    def _send_heartbeat(self, now: float) -> None:
        """Send a heartbeat to all members that may receive one (R2, section 5)."""
        heartbeat = self._current_heartbeat()
        if self._target is None and now >= self._silent_until:
            self._broadcast(heartbeat)
            return
        for view in self.peers:
            told = self._target is None or self._target == view.node_id
            if told and (view.acknowledging or now >= self._silent_until):
                self._send(view.node_id, heartbeat)

    def _offer_again(self) -> None:
        run = self._candidacy
        assert run is not None
        self._broadcast(Offer(run.epoch, self.node_id, self._offset))

    # Changes of state

    def _enter(self, epoch: int) -> None:
        """Change to this epoch, unless the node's own is higher."""
        self._epoch = max(self._epoch, epoch)

    def _next_epoch(self) -> int:
        """The epoch to offer: above those of this node, its ballot and its peers (R1, R5)."""
        own = max(self._epoch, self._ballot_epoch)
        return 1 + max(own, min(self.peers.highest_epoch(), self._epoch + EPOCH_LEAP // 2))

    def _renews(self) -> bool:
        """Whether this primary offers a higher epoch at present (R8)."""
        run = self._candidacy
        return self._role is Role.PRIMARY and run is not None and run.epoch > self._epoch

    def _is_late(self, now: float) -> bool:
        """Whether election_timeout has passed since the first OFFER (R6)."""
        run = self._candidacy
        return run is not None and now - run.offered_at >= self.config.election_timeout

    def _become_candidate(
        self, now: float, why: str, cause: Cause, member: str | None = None
    ) -> None:
        """Save the next epoch and offer it to all (R5)."""
        epoch = self._next_epoch()
        self._eligible_since = None
        if epoch > U64_MAX:
            self._back_off(now)
            text = "cannot run: the epochs are used up"
            self._note(now, EventKind.CANDIDACY, text, Cause.EPOCHS_USED_UP, critical=True)
            return
        if not self._save(epoch, self.node_id, now):
            self._back_off(now)
            return
        if self._role is Role.PRIMARY:
            self._demote()
            self._forget_primary(now, why)
            self._fall_silent(now)
        self._role = Role.CANDIDATE
        self._enter(epoch)
        self._vote = None
        self._candidacy = _Candidacy(epoch, now, {self.node_id})
        if cause is Cause.LAST_WILL:
            self._candidacy.will_of = member
        self.peers.forget_confirmations()
        self._tell_all()
        text = f"running in epoch {epoch}: {why}"
        self._note(now, EventKind.CANDIDACY, text, cause, member=member)
        self._broadcast(Offer(epoch, self.node_id, self._offset))
        self._win_with_quorum(now)

    def _win_with_quorum(self, now: float) -> None:
        run = self._candidacy
        if run is not None and len(run.accepted) >= self.peers.quorum:
            voters = ", ".join(sorted(run.accepted))
            if self._renews():
                text = f"renewed as primary, of epoch {run.epoch}, by {voters}"
                self._lead(now, EventKind.RENEWAL, text)
            else:
                self._lease = Lease()
                self._begin_reign()
                self._lead(now, EventKind.ROLE, f"elected primary of epoch {run.epoch} by {voters}")

    def _begin_reign(self) -> None:
        """Count this member's data as history of the epoch that it won (D6)."""
        if self._server is not None:
            assert self._candidacy is not None
            self._server.data_epoch = self._candidacy.epoch
            self._offset = join_offset(self._server.data_epoch, split_offset(self._offset)[1])

    def _demote(self) -> None:
        """Stop being primary: the data server must not take the clients' writes."""
        if self._server is not None and self._server.is_promoted:
            self._server.release()

    def _lead(self, now: float, kind: EventKind, text: str) -> None:
        """Become primary, elected (R6) or renewed in a higher epoch (R8)."""
        assert self._candidacy is not None
        self.began_by_will_of, self._will_of = self._candidacy.will_of, None
        self._enter(self._candidacy.epoch)
        self._role = Role.PRIMARY
        self._primary = self.node_id
        self._primary_epoch = self._epoch
        self._primary_addr = self._advertised_addr
        self._announced = True
        self._silent_until = NEVER
        for view in self.peers:
            view.ahead_since = None
            view.wait = 1
        self._note(now, kind, text, Cause.ELECTED)
        self._next_heartbeat = now + self.config.hb_interval
        self._send_heartbeat(now)
        self._announce(now)

    def _become_replica(
        self,
        now: float,
        why: str,
        cause: Cause,
        *,
        member: str | None = None,
        reason: str = "",
        no_wait: bool = False,
    ) -> None:
        """Stop leading or running. A candidate still follows its former primary."""
        was, self._role = self._role, Role.REPLICA
        self._demote()
        self._candidacy = None
        self._lease.counts_from = NEVER
        text = f"{was} no more: {why}"
        self._note(now, EventKind.ROLE, text, cause, member=member, reason=reason)
        if was is Role.PRIMARY:
            self._enter(self._ballot_epoch)  # of a renewal, in which it has voted (R8)
            self._next_heartbeat = NEVER  # tell the others at once
            self._fall_silent(now)
            self._forget_primary(now, why)
            self._no_wait = no_wait

    def _follow(self, sender: str, epoch: int, addr: str | None, now: float) -> None:
        if self._role is not Role.REPLICA:
            why = f"{sender} is primary of epoch {epoch}"
            self._become_replica(now, why, Cause.SUPERSEDED, member=sender)
        if (sender, epoch) != (self._primary, self._primary_epoch):
            cause = Cause.FOLLOWED if epoch == self._epoch else Cause.FOLLOWED_OLDER
            text = f"following {sender}, primary of epoch {epoch}"
            self._note(now, EventKind.PRIMARY, text, cause, member=sender)
            self.began_by_will_of = None if self._will_of == sender else self._will_of
            self._will_of = None
        if sender != self._primary:
            self._primary_addr = None
        self._primary = sender
        self._primary_epoch = epoch
        self._announced = addr is not None
        self._learn_address(addr, now)
        self._no_wait = False
        self._resigned = None
        self._yields_until = NEVER
        self._silent_until = NEVER
        self._tell_all()

    def _forget_primary(self, now: float, why: str, resigned: str | None = None) -> None:
        """Follow no primary from now on. `resigned` is the primary that stepped down itself
        (R7)."""
        if self._primary != self.node_id:
            text = f"no longer following {self._primary}: {why}"
            self._note(now, EventKind.PRIMARY, text, Cause.LOST, member=self._primary)
        self._primary = None
        self._primary_epoch = 0
        self._primary_addr = None
        self.began_by_will_of = None
        self._announced = False
        self._none_since = now
        self._no_wait = resigned is not None
        self._resigned = resigned

    def _fall_silent(self, now: float) -> None:
        """Send no heartbeats to peers that would take them for a sign of life of their primary,
        until they have noticed that it is gone (R2)."""
        self._silent_until = now + self.config.down_after + 2 * self.config.hb_interval

    def _give_up(self, now: float) -> None:
        why = f"{self._votes()} for epoch {self._epoch} in time"
        self._become_replica(now, why, Cause.TIMEOUT)
        if self._primary is None:
            self._fall_silent(now)
        self._back_off(now)

    def _votes(self) -> str:
        accepted = self._candidacy.accepted if self._candidacy is not None else ()
        return f"{len(accepted)} of {self.peers.quorum} votes"

    def _back_off(self, now: float) -> None:
        jitter = self._rng.uniform(0, self.config.election_backoff_jitter)
        self._backoff_until = now + self.config.election_backoff + jitter

    def _save(self, epoch: int, voted_for: str | None, now: float) -> bool:
        """Save the ballot. Return whether that succeeded."""
        try:
            self._ballot.save(epoch, voted_for)
        except BallotError as error:
            if self._is_news("ballot", str(error)):
                text = f"{error}. This node cannot vote or run until that works"
                self._note(now, EventKind.BALLOT, text, critical=True)
            return False
        self._noted.pop("ballot", None)
        self._ballot_epoch = epoch
        return True

    # Helpers

    def _changed(self) -> None:
        """Measure the lease again and run the next tick in full, because something has changed."""
        self._quiet_until = NEVER
        self._lease.is_measured = False

    def _lease_until(self) -> float:
        lease = self._lease
        if not lease.is_measured:
            runs_until = self._last_run + self.config.pause_after
            lease.until = self._deadline(self._counts_from(), runs_until)
            lease.is_measured = True
        return lease.until

    def _counts_from(self) -> float:
        return max(self._hold_until, self._lease.counts_from)

    def _deadline(self, since: float, runs_until: float) -> float:
        """The time until which a quorum backs this node, by messages that came at `since` or
        later."""
        return self.peers.lease_deadline(
            self._epoch,
            since=since,
            runs_until=runs_until,
            leads=self._role is Role.PRIMARY,
        )

    def _is_better(self, candidate: str, offset: int) -> bool:
        return is_better((candidate, offset), (self.node_id, self._offset))

    def _current_heartbeat(self) -> Heartbeat:
        """The heartbeat to send: the same object until something changes, so it is encoded once."""
        last, offset = self._last_heartbeat, self._offset
        if self._server is not None and self._server.may_have:  # other members may rely on it (D5)
            offset = max(offset, join_offset(self._server.may_have, 0))
        current = (self._epoch, self._role, offset)
        if last is None or (last.epoch, last.role, last.repl_offset) != current:
            last = Heartbeat(self._epoch, self.node_id, self._role, offset)
            self._last_heartbeat = last
        return last

    def _announce(self, now: float) -> None:
        self._next_announce = now + self.config.announce_interval
        self._broadcast(Announce(self._epoch, self.node_id, self._advertised_addr))

    def _broadcast(self, message: Message) -> None:
        self._send(Outbound.BROADCAST, message)

    def _tell_all(self) -> None:
        """End a handover's silence: send the next heartbeat to all, and at once."""
        if self._target is not None:
            self._target = None
            self._next_heartbeat = NEVER

    def _send(self, to: str, message: Message) -> None:
        self._out.append(Outbound(to, message))

    def _is_news(self, about: str, *what: object) -> bool:
        """Whether `what` differs from the last time. Repeated events must not displace all
        others."""
        news = self._noted.get(about) != what
        self._noted[about] = what
        return news

    def _note(
        self,
        at: float,
        kind: EventKind,
        text: str,
        cause: Cause | None = None,
        *,
        member: str | None = None,
        reason: str = "",
        critical: bool = False,
        lasted: float = 0.0,
    ) -> None:
        self.events.note(
            Event(
                at=at,
                kind=kind,
                epoch=self._epoch,
                text=text,
                cause=cause,
                member=member,
                reason=reason,
                critical=critical,
                lasted=lasted,
            )
        )


def next_on_grid(due: float, interval: float, now: float) -> float:
    """The next time after `now` on the grid of `interval` through `due`. After a late call, the
    grid starts anew at `now`."""
    following = due + interval
    return following if following > now else now + interval
