"""The rules of the election, R1 to R10 of docs/protocol.md, as one state machine.

Pure: time, randomness and the ballot come in as arguments, messages go out as
return values. All times are seconds of one monotonic clock.

    replica   -> candidate   R5: nobody leads, a quorum is alive, it is our turn
    candidate -> primary     R6: a quorum accepted
    candidate -> replica     R3 a better one of the same epoch, R6 timeout, R7 another leads
    primary   -> candidate   R8: lease lost and part of the cluster is in a higher epoch
    primary   -> replica     R3 voted for another, R7 another leads, R8 no lease for down_after

Only `_become_*`, `_follow` and `_forget_primary` change role or primary, and
only `_save` touches the disk.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Container, Sequence
from typing import Final

import attrs

from kevy_elect.ballot import Ballot
from kevy_elect.config import ElectConfig
from kevy_elect.errors import BallotError, ConfigError, FrameError
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
from kevy_elect.peers import NEVER, Peers, is_better

EPOCH_LEAP: Final = 2**32
"""An epoch further above ours than this is refused: following it would use up the epochs (R1)."""
EVENTS_KEPT: Final = 256


@attrs.frozen
class Event:
    """Something that an operator may ask about later: when, of what kind, and why in words."""

    at: float
    kind: str
    text: str
    critical: bool = False
    epoch: int = 0
    """The node's own when it was noted."""
    label: str = ""
    """A word to count by: the rule that refused a vote, or how a candidacy ended."""


@attrs.define
class _Vote:
    """The last ACCEPT sent in this life."""

    epoch: int
    candidate: str
    at: float
    released: bool = False  # its candidate has since said that it gave up


@attrs.frozen
class _Refusal:
    rule: str
    why: str


class Elector:
    """One node's part in the election.

    `peer_ids` are all members, this one included. `tick` wants to be called at
    least every hb_interval / 2 and after every message. Both return what to send.
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
    ) -> None:
        """Load the ballot; nothing is saved or sent before the first call.

        Raises ConfigError for members that do not fit, BallotError for a ballot
        that cannot be read.
        """
        if node_id not in peer_ids or len(set(peer_ids)) != len(peer_ids):
            raise ConfigError(f"{node_id!r} must be once among the members {list(peer_ids)!r}")
        self.node_id = node_id
        self.config = config
        self.witness = witness
        self.peers = Peers((peer for peer in peer_ids if peer != node_id), config)
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.event_count = 0
        self._advertised_addr = advertised_addr
        self._ballot = ballot
        self._rng = rng
        self._offset = 0
        self._out: list[Outbound] = []

        saved_epoch, _ = ballot.load()
        self._ever_saved = saved_epoch > 0
        self._role = Role.REPLICA
        self._epoch = max(1, saved_epoch)
        self._vote: _Vote | None = None
        self._noted: dict[str, tuple[object, ...]] = {}  # what is repeated is noted once

        self._primary: str | None = None
        self._primary_epoch = 0
        self._primary_addr: str | None = None
        self._announced = False  # by an ANNOUNCE, not by a heartbeat only
        self._none_since = NEVER
        self._no_wait = False  # R5: the primary stepped down, nobody need be waited for
        self._resigned: str | None = None  # the one that did

        self._accepted: set[str] = set()
        self._offered_at = NEVER
        self._eligible_since: float | None = None
        self._backoff_until = NEVER
        self._aside_until = NEVER

        self._fenced = False
        self._heir: str | None = None  # whom alone a handover tells, until then
        self._heir_until = NEVER
        self._yields_until = NEVER  # to whom a handover was meant for

        self._started: float | None = None
        self._last_run = NEVER
        self._hold_until = NEVER  # R9
        self._lease_from = NEVER  # R8: only what is heard from here on counts
        self._lease_until = NEVER
        self._leaseless_since: float | None = None
        self._had_quorum = False
        self._next_heartbeat = NEVER
        self._last_heartbeat: Heartbeat | None = None
        self._next_announce = NEVER

    # What the host program asks

    @property
    def role(self) -> Role:
        return self._role

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def current_primary(self) -> str | None:
        """Whom this node follows, itself if it is primary, None if it knows none."""
        return self._primary

    @property
    def primary_addr(self) -> str | None:
        """Where clients find the primary, None until it announced itself."""
        return self._primary_addr

    @property
    def primary_epoch(self) -> int:
        """The epoch in which the current primary was learned, 0 without one."""
        return self._primary_epoch

    @property
    def ever_saved(self) -> bool:
        """Whether a ballot was ever saved here."""
        return self._ever_saved

    @property
    def repl_offset(self) -> int:
        return self._offset

    def set_repl_offset(self, offset: int) -> None:
        """Say how much data this node has; more makes the better candidate.

        An unsigned 64-bit number, else ConfigError. A witness stays at 0 (R10).
        """
        if not 0 <= offset <= U64_MAX:
            raise ConfigError(f"the offset {offset} is no unsigned 64-bit number")
        if not self.witness:
            self._offset = offset

    def use_timings(self, config: ElectConfig) -> None:
        """Go by other timings from now on. A lease that they shorten ends accordingly."""
        self.config = config
        self.peers.use_timings(config)
        self._measure_lease()

    def has_quorum(self, now: float) -> bool:
        """Whether a quorum backs this node at `now`: for a primary, the lease (R8, R9)."""
        return now < self._lease_until

    def can_write(self, now: float) -> bool:
        """Whether this node is primary with its lease. Ask at the moment of writing (R8)."""
        return now < self._lease_until and self._role is Role.PRIMARY and not self._fenced

    def lease_expires_in(self, now: float) -> float:
        """Seconds until a primary's lease ends if nothing more is heard; 0 without a lease.

        That this process may be paused before (R9) is left out: then it need not ask.
        """
        if not self.can_write(now):
            return 0.0
        return self._deadline(self._counts_from(), runs_until=math.inf) - now

    def step_down(self, now: float, rest: float, why: str) -> None:
        """Give up the role, and do not run for `rest` seconds.

        A primary's next heartbeat says so, and the others need not wait (R5, R7).
        """
        self._backoff_until = max(self._backoff_until, now + rest)
        self._eligible_since = None
        if self._role is not Role.REPLICA:
            self._become_replica(now, why, "resigned", no_wait=True)
        self._measure_lease()

    def hand_over(self, heir: str, now: float, within: float, rest: float) -> None:
        """Step down, so that `heir` is elected at once.

        Nobody but the heir is told, so that nobody runs against it, until its OFFER is
        here: then the others, too, may vote for it (R4.6). If it does not run `within`
        seconds they are told all the same; `rest` seconds later this node may run again.
        """
        self._heir = heir
        self._heir_until = now + within
        self._yields_until = now + within + rest
        self._next_heartbeat = NEVER
        self.step_down(now, 0.0, f"handing over to {heir}")

    def fence(self, now: float, closed: bool) -> None:
        """Write nothing from now on, whatever the lease; or no longer so.

        The role and the promises of the others stay as they are.
        """
        if closed != self._fenced:
            self._fenced = closed
            text = (
                "this node writes nothing from here on" if closed else "this node may write again"
            )
            self._note(now, "fence", text)

    def stand_aside(self, now: float, seconds: float) -> None:
        """Do not run for so many seconds, 0 to run again; a candidate gives up."""
        self._aside_until = now + seconds
        self._eligible_since = None
        if seconds > 0:
            self._note(now, "aside", f"does not stand for election for {seconds:g} s")
        else:
            self._note(now, "aside", "stands for election again")
        if seconds > 0 and self._role is Role.CANDIDATE:
            self._become_replica(now, "stands aside", "withdrawn")

    def aside_for(self, now: float) -> float:
        """Seconds that this node still does not run because it was told to stand aside."""
        return max(0.0, self._aside_until - now)

    def is_peer_down(self, peer: str, now: float) -> bool:
        """Whether `peer` was silent for down_after. Raises ConfigError if it is no peer."""
        if peer not in self.peers:
            raise ConfigError(f"{peer!r} is not a peer of {self.node_id!r}")
        return self.peers.is_down(peer, now)

    # What the transport calls

    def tick(self, now: float) -> list[Outbound]:
        """Do what is due at `now`."""
        self._begin(now)
        if self._role is Role.PRIMARY:
            self._guard_lease(now)
        elif self._role is Role.CANDIDATE:
            if now - self._offered_at >= self.config.election_timeout:
                self._give_up(now)
        else:
            self._follow_old_claim(now)
            self._consider_running(now)
        self._send_heartbeats(now)
        return self._end(now)

    def on_message(self, sender: str, message: Message, now: float) -> list[Outbound]:
        """Take a message of `sender` in.

        A stranger's, or one whose id field is not `sender`, changes nothing (R1).
        Raises FrameError (kind `bad_epoch`) for an epoch too far ahead, unchanged too.
        """
        if sender != message.sender or sender not in self.peers:
            return []
        self.check(message)
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

    def check(self, message: Message) -> None:
        """Raises FrameError (kind `bad_epoch`) for an epoch too far ahead (R1)."""
        if message.epoch > self._epoch + EPOCH_LEAP:
            raise FrameError(
                "bad_epoch",
                f"{message.sender} claims epoch {message.epoch}, this node is in {self._epoch}; if "
                "that is true, stop this node and write that epoch into its elect.meta",
            )

    # Acknowledged leases, section 4

    def set_acknowledging(self, peer: str, acknowledging: bool) -> None:
        """Whether `peer` answers heartbeats with ACK, so that its backing is known exactly."""
        self.peers[peer].acknowledging = acknowledging
        self._measure_lease()

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        """Whether this node backs `sender`, primary of `epoch`, and may say so in an ACK."""
        vote = self._binding_vote(now)
        return (
            self._role is Role.REPLICA
            and self._primary == sender
            and self._primary_epoch == epoch == self._epoch
            and (vote is None or vote.candidate == sender)
        )

    def confirm(self, peer: str, epoch: int, sent_at: float) -> None:
        """`peer` acknowledged the heartbeat that this node sent at `sent_at` as primary of `epoch`.

        Moves its confirmation forward, if this node still is that primary.
        """
        if self._role is Role.PRIMARY and epoch == self._epoch:
            view = self.peers[peer]
            view.confirmed = max(view.confirmed, sent_at)
            self._measure_lease()

    def _begin(self, now: float) -> None:
        """Notice a pause (R9) and a lost lease (R8) before anything else happens."""
        if self._started is None:
            self._started = self._none_since = now
        elif now - self._last_run > self.config.pause_after:
            self._hold_until = now + self.config.pause_after
            self._note(now, "pause", f"did not run for {now - self._last_run:.2f} s")
        self._last_run = now
        if self._role is Role.PRIMARY and now >= self._deadline(self._hold_until, math.inf):
            self._lease_from = now + self.config.pause_after
            self._measure_lease()

    def _end(self, now: float) -> list[Outbound]:
        self._measure_lease()
        quorum = self.has_quorum(now)
        if quorum != self._had_quorum:
            self._had_quorum = quorum
            what = "the lease" if self._role is Role.PRIMARY else "sight of a quorum"
            self._note(now, "quorum", f"{'has' if quorum else 'lost'} {what}")
        out, self._out = self._out, []
        return out

    # Messages

    def _on_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        sender = heartbeat.sender
        view = self.peers[sender]
        view.heard = now
        view.update(heartbeat)
        if heartbeat.role is Role.PRIMARY:
            self._on_claim(sender, heartbeat.epoch, None, now)
            return
        vote = self._vote
        if (
            vote is not None
            and (vote.candidate, vote.epoch) == (sender, heartbeat.epoch)
            and heartbeat.role is Role.REPLICA
        ):
            vote.released = True
        if sender == self._primary:
            resigned = heartbeat.epoch == self._primary_epoch
            self._forget_primary(
                now, f"{sender} says that it is {heartbeat.role}", sender if resigned else None
            )

    def _on_announce(self, announce: Announce, now: float) -> None:
        view = self.peers[announce.sender]
        view.heard = now
        view.role = Role.PRIMARY
        view.epoch = announce.epoch
        self._on_claim(announce.sender, announce.epoch, announce.new_primary_addr, now)

    def _on_claim(self, sender: str, epoch: int, addr: str | None, now: float) -> None:
        """A heartbeat, without `addr`, or an ANNOUNCE says that `sender` is primary (R7)."""
        if epoch > self._epoch:
            self._save(epoch, None if addr is None else sender, now)
            self._epoch = epoch
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
        if addr is not None and addr != self._primary_addr:
            self._primary_addr = addr
            self._note(now, "primary", f"primary {self._primary} is at {addr}")

    def _contend(self, sender: str, addr: str | None, now: float) -> None:
        """Two primaries of one epoch cannot be; if they are, only the better one stays (R7)."""
        loses = self._is_better(sender, self.peers[sender].offset)
        if self._is_news(f"conflict {sender}", self._epoch):
            self._note(
                now,
                "conflict",
                f"{sender} also claims to be primary of epoch {self._epoch}: a ballot was lost; "
                f"compare what both wrote. This one {'steps down' if loses else 'stays'}",
                critical=True,
            )
        if loses:
            self._follow(sender, self._epoch, addr, now)

    def _on_offer(self, offer: Offer, now: float) -> None:
        view = self.peers[offer.sender]
        view.heard = now
        ahead = offer.epoch > self._epoch
        if ahead and offer.sender == self._heir:
            # In the epoch that is given up: it also frees those who voted in it (R4.2).
            self._tell_all()
            self._send_heartbeats(now)
        refusal = self._answer(offer, now)
        # Only now: the answer depends on what the candidate claimed before (R4.4).
        if ahead:
            view.role = Role.CANDIDATE
            view.epoch = offer.epoch
        if refusal is not None and self._is_news(
            f"refused {offer.sender}", offer.epoch, refusal.rule
        ):
            self._note(
                now,
                "refused",
                f"refused OFFER {offer.epoch} of {offer.sender}: {refusal.why}",
                label=refusal.rule,
            )

    def _answer(self, offer: Offer, now: float) -> _Refusal | None:
        """Vote for the candidate or say why not (R3)."""
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
                why = f"{candidate} is the better candidate of epoch {epoch}"
                self._become_replica(now, why, "withdrawn")
                return self._vote_for(epoch, candidate, now)
        if epoch <= self._epoch:
            return _Refusal("R3.3", f"epoch {epoch} is not above {self._epoch}")
        pledge = self._pledge(epoch, candidate, now)
        if pledge is not None:
            return pledge
        if self._offset > offer.repl_offset and candidate != self._primary:
            return _Refusal(
                "R3.5", f"its offset {offer.repl_offset} is behind this node's, {self._offset}"
            )
        return self._vote_for(epoch, candidate, now)

    def _vote_for(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        if not self._save(epoch, candidate, now):
            return _Refusal("R3.6", "the ballot could not be saved")
        self._epoch = epoch
        if self._role is not Role.REPLICA:
            self._become_replica(now, f"voted for {candidate} in epoch {epoch}", "withdrawn")
        self._accept(epoch, candidate, now)
        self._note(now, "vote", f"voted for {candidate} in epoch {epoch}")
        return None

    def _accept(self, epoch: int, candidate: str, now: float) -> None:
        self._vote = _Vote(epoch, candidate, now)
        self._send(candidate, Accept(epoch, self.node_id))

    def _pledge(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        """Why this node may back nobody but another yet, or None (R4); the order decides."""
        assert self._started is not None
        down_after = self.config.down_after
        if self._role is Role.PRIMARY:
            if self.has_quorum(now):
                return _Refusal("R4.1", "this node is primary and holds the lease")
            return None
        vote = self._binding_vote(now)
        if vote is not None and vote.candidate != candidate:
            ago = now - vote.at
            return _Refusal("R4.2", f"voted for {vote.candidate} {ago:.2f} s ago")
        first = self._epoch == 1 and epoch == 2 and self._is_brand_new(now, range(3))
        if now - self._started < down_after and not first:
            ago = now - self._started
            return _Refusal("R4.3", f"started {ago:.2f} s ago, it may have forgotten a vote")
        if self._is_incumbent(candidate, now):
            return None
        if now < self._hold_until:
            return _Refusal("R4.5", "this process was paused until just now")
        if self._primary is not None and not self.peers.is_down(self._primary, now):
            ago = now - self.peers[self._primary].heard
            return _Refusal("R4.6", f"primary {self._primary} was heard {ago:.2f} s ago")
        return None

    def _is_incumbent(self, candidate: str, now: float) -> bool:
        """Whether `candidate` leads already and only renews (R4.4)."""
        if self._primary is not None:
            return candidate == self._primary
        view = self.peers[candidate]
        return view.role is Role.PRIMARY and not self.peers.is_down(candidate, now)

    def _is_brand_new(self, now: float, epochs: Container[int]) -> bool:
        """Whether nobody can have forgotten anything yet: no ballot was ever saved here,
        every other member is alive, none primary and none outside `epochs`."""
        return not self._ever_saved and all(
            not self.peers.is_down(view.node_id, now)
            and view.role is not Role.PRIMARY
            and view.epoch in epochs
            for view in self.peers
        )

    def _binding_vote(self, now: float) -> _Vote | None:
        """The vote that its candidate may still count on (R4.2)."""
        vote = self._vote
        if vote is None or vote.released or now - vote.at >= self.config.down_after:
            return None
        return vote

    def _on_accept(self, accept: Accept, now: float) -> None:
        """Count a vote (R6). It may have waited in a socket: it proves that its sender
        lived when the OFFER went out, not that it does now."""
        if accept.epoch != self._epoch or self._role is Role.REPLICA:
            return
        if now - self._offered_at >= self.config.election_timeout:
            return
        view = self.peers[accept.sender]
        view.heard = max(view.heard, self._offered_at)
        view.epoch = max(view.epoch, accept.epoch)
        view.confirmed = max(view.confirmed, self._offered_at)
        if self._role is Role.CANDIDATE:
            first = accept.sender not in self._accepted
            self._accepted.add(accept.sender)
            self._win_with_quorum(now)
            if first and accept.sender == self._resigned:
                # By now it has told the others, which refused the OFFER before that (R4.6).
                self._next_heartbeat = NEVER

    # What time brings

    def _follow_old_claim(self, now: float) -> None:
        """A primary of an older epoch is better than none (R7)."""
        if self._primary is not None or now - self._none_since < self.config.candidate_step:
            return
        claims = self.peers.claims_primary(now)
        if claims:
            newest = min(claims, key=lambda view: (-view.epoch, -view.offset, view.node_id))
            self._follow(newest.node_id, newest.epoch, None, now)

    def _consider_running(self, now: float) -> None:
        if not self._may_run(now):
            self._eligible_since = None
            return
        if self._eligible_since is None:
            self._eligible_since = now
        better = sum(
            view.node_id != self._resigned and view.is_better_than(self.node_id, self._offset)
            for view in self.peers.alive(now)
        )
        if now - self._eligible_since >= better * self.config.candidate_step:
            why = f"primary {self._primary} is down" if self._primary else "there is no primary"
            self._become_candidate(now, why)

    def _may_run(self, now: float) -> bool:
        """All of R5 but the delay for better candidates."""
        assert self._started is not None
        if self._primary is not None and not self.peers.is_down(self._primary, now):
            return False
        rests_until = max(self._backoff_until, self._yields_until, self._aside_until)
        if self.witness or now < self._hold_until or now < rests_until:
            return False
        if self._binding_vote(now) is not None or not self.peers.quorum_alive(now):
            return False
        down_after = self.config.down_after
        brand_new = self._is_brand_new(now, (1,))
        if self._primary is None:
            waited = self._no_wait or brand_new or now - self._none_since >= down_after
            if not waited or self.peers.claims_primary(now):
                return False
        if now - self._started < down_after and not brand_new:
            return False
        return not any(
            view.role is Role.CANDIDATE
            and view.epoch > self._epoch
            and now - view.heard < self.config.pause_after
            for view in self.peers
        )

    def _guard_lease(self, now: float) -> None:
        """A primary without its lease renews it in a higher epoch or steps down in time (R8)."""
        if self.has_quorum(now):
            self._leaseless_since = None
            return
        if self._leaseless_since is None:
            self._leaseless_since = now
        ahead = any(view.epoch > self._epoch for view in self.peers.alive(now))
        free = now >= self._hold_until and now >= self._backoff_until
        if ahead and free and self.peers.quorum_alive(now):
            self._become_candidate(now, "the lease is lost and others are in a higher epoch")
        elif now - self._leaseless_since >= self.config.down_after:
            self._become_replica(now, "no lease for down_after", "leaseless", no_wait=True)

    def _send_heartbeats(self, now: float) -> None:
        """What is repeated (R2)."""
        if self._heir is not None and now >= self._heir_until:
            self._tell_all()
        if now >= self._next_heartbeat:
            self._next_heartbeat = _next(self._next_heartbeat, self.config.hb_interval, now)
            self._send(self._heir or Outbound.BROADCAST, self._current_heartbeat())
            # The first OFFER left when the candidacy began.
            if self._role is Role.CANDIDATE and now > self._offered_at:
                self._broadcast(Offer(self._epoch, self.node_id, self._offset))
        if self._role is Role.PRIMARY and now >= self._next_announce:
            self._announce(now)

    # Changes of state

    def _become_candidate(self, now: float, why: str) -> None:
        """Offer the next epoch to all, once it is on disk (R5)."""
        epoch = 1 + max(self._epoch, self.peers.highest_epoch())
        self._eligible_since = None
        if epoch > U64_MAX:
            self._back_off(now)
            self._note(now, "candidacy", "cannot run: the epochs are used up", critical=True)
            return
        if not self._save(epoch, self.node_id, now):
            self._back_off(now)
            return
        if self._role is Role.PRIMARY:
            self._forget_primary(now, why)
        self._role = Role.CANDIDATE
        self._epoch = epoch
        self._vote = None
        self._accepted = {self.node_id}
        self._offered_at = now
        self.peers.forget_confirmations()
        self._tell_all()
        self._note(now, "candidacy", f"running in epoch {epoch}: {why}", label="running")
        self._broadcast(Offer(epoch, self.node_id, self._offset))
        self._win_with_quorum(now)

    def _win_with_quorum(self, now: float) -> None:
        if len(self._accepted) >= self.peers.quorum:
            self._become_primary(now)

    def _become_primary(self, now: float) -> None:
        """Elected (R6)."""
        self._role = Role.PRIMARY
        self._primary = self.node_id
        self._primary_epoch = self._epoch
        self._primary_addr = self._advertised_addr
        self._announced = True
        self._lease_from = NEVER
        self._leaseless_since = None
        voters = ", ".join(sorted(self._accepted))
        text = f"elected primary of epoch {self._epoch} by {voters}"
        self._note(now, "role", text, label="elected")
        self._announce(now)

    def _become_replica(self, now: float, why: str, label: str, *, no_wait: bool = False) -> None:
        """Stop leading or running. A candidate goes on following whom it followed."""
        was, self._role = self._role, Role.REPLICA
        self._accepted = set()
        self._lease_from = NEVER
        self._note(now, "role", f"{was} no more: {why}", label=label)
        if was is Role.PRIMARY:
            self._forget_primary(now, why)
            self._no_wait = no_wait

    def _follow(self, sender: str, epoch: int, addr: str | None, now: float) -> None:
        if self._role is not Role.REPLICA:
            self._become_replica(now, f"{sender} is primary of epoch {epoch}", "superseded")
        if (sender, epoch) != (self._primary, self._primary_epoch):
            self._note(now, "primary", f"following {sender}, primary of epoch {epoch}")
        if sender != self._primary:
            self._primary_addr = None
        self._primary = sender
        self._primary_epoch = epoch
        self._announced = addr is not None
        self._learn_address(addr, now)
        self._no_wait = False
        self._resigned = None
        self._yields_until = NEVER
        self._tell_all()

    def _forget_primary(self, now: float, why: str, resigned: str | None = None) -> None:
        """Know no primary from now on; `resigned` is who stepped down of its own accord (R7)."""
        if self._primary != self.node_id:
            self._note(now, "primary", f"no longer following {self._primary}: {why}")
        self._primary = None
        self._primary_epoch = 0
        self._primary_addr = None
        self._announced = False
        self._none_since = now
        self._no_wait = resigned is not None
        self._resigned = resigned

    def _give_up(self, now: float) -> None:
        votes = f"{len(self._accepted)} of {self.peers.quorum} votes"
        self._become_replica(now, f"{votes} for epoch {self._epoch} in time", "timeout")
        self._back_off(now)

    def _back_off(self, now: float) -> None:
        jitter = self._rng.uniform(0, self.config.election_backoff_jitter)
        self._backoff_until = now + self.config.election_backoff + jitter

    def _save(self, epoch: int, voted_for: str | None, now: float) -> bool:
        """Put the ballot on disk; whether it is there."""
        try:
            self._ballot.save(epoch, voted_for)
        except BallotError as error:
            if self._is_news("ballot", str(error)):
                self._note(
                    now,
                    "ballot",
                    f"{error}. This node cannot vote or run until that works",
                    critical=True,
                )
            return False
        self._noted.pop("ballot", None)
        self._ever_saved = True
        return True

    # Helpers

    def _measure_lease(self) -> None:
        runs_until = self._last_run + self.config.pause_after
        self._lease_until = self._deadline(self._counts_from(), runs_until)

    def _counts_from(self) -> float:
        return max(self._hold_until, self._lease_from)

    def _deadline(self, since: float, runs_until: float) -> float:
        """Until when a quorum backs this node, counting what was heard from `since` on."""
        return self.peers.lease_deadline(
            self._epoch,
            since=since,
            runs_until=runs_until,
            confirmed=self._role is Role.PRIMARY,
        )

    def _is_better(self, candidate: str, offset: int) -> bool:
        return is_better((candidate, offset), (self.node_id, self._offset))

    def _current_heartbeat(self) -> Heartbeat:
        """What to repeat: the same object while nothing changed, so that it is encoded once."""
        last = self._last_heartbeat
        current = (self._epoch, self._role, self._offset)
        if last is None or (last.epoch, last.role, last.repl_offset) != current:
            last = Heartbeat(self._epoch, self.node_id, self._role, self._offset)
            self._last_heartbeat = last
        return last

    def _announce(self, now: float) -> None:
        self._next_announce = now + self.config.announce_interval
        self._broadcast(Announce(self._epoch, self.node_id, self._advertised_addr))

    def _broadcast(self, message: Message) -> None:
        self._send(Outbound.BROADCAST, message)

    def _tell_all(self) -> None:
        """End a handover's silence towards all but its heir, with the next heartbeat at once."""
        if self._heir is not None:
            self._heir = None
            self._next_heartbeat = NEVER

    def _send(self, to: str, message: Message) -> None:
        self._out.append(Outbound(to, message))

    def _is_news(self, about: str, *what: object) -> bool:
        """Whether `what` differs from the last time: peers repeat themselves, and what they
        repeat must not push all else out of the events."""
        news = self._noted.get(about) != what
        self._noted[about] = what
        return news

    def _note(
        self, at: float, kind: str, text: str, critical: bool = False, label: str = ""
    ) -> None:
        self.event_count += 1
        self.events.append(Event(at, kind, text, critical, self._epoch, label))


def _next(due: float, interval: float, now: float) -> float:
    """The next time after `now` on the grid of `interval` on which `due` lies: a late
    tick does not stretch the interval."""
    following = due + interval
    return following if following > now else now + interval
