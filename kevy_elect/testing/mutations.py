"""Mutations: deliberate mistakes in the elector and in the wrapper, which the checkers must find.

Each removes one safeguard. A mutation that random schedules do not find shows that the schedules or
the checkers are too weak. It does not show that the safeguard is useless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs

from kevy_elect.ballot import Ballot
from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector, _Refusal, _Vote
from kevy_elect.events import Cause
from kevy_elect.local_server import Duty, join_offset, split_offset
from kevy_elect.messages import U64_MAX, Accept, Offer, Role
from kevy_elect.peers import NEVER
from kevy_elect.testing.schedules import Mode, Outcome, draw_schedule, run_schedule
from kevy_elect.testing.wrapper import Call, SimulatedWrapper


@attrs.frozen
class Mutation:
    """A mistake, and the clusters that show it: their number of nodes, their mode, and the number
    of seeds from 0 within which it must be found."""

    elector: type[Elector]
    within: int
    nodes: int = 3
    mode: Mode = Mode.ACKNOWLEDGED
    wrapper: type[SimulatedWrapper] = SimulatedWrapper

    @property
    def name(self) -> str:
        return self._mistaken.__name__.lstrip("_")

    @property
    def mistake(self) -> str:
        return (self._mistaken.__doc__ or "").rstrip(".")

    @property
    def _mistaken(self) -> type:
        return self.elector if self.wrapper is SimulatedWrapper else self.wrapper


@attrs.frozen
class Finding:
    """The first seed at which a mutation was found, and how; no outcome if it was not found."""

    mutation: Mutation
    outcome: Outcome | None


def find(mutation: Mutation, seeds: range | None = None) -> Finding:
    """Run schedules until one shows the mistake."""
    for seed in range(mutation.within) if seeds is None else seeds:
        schedule = draw_schedule(seed, mutation.nodes, mutation.mode)
        outcome = run_schedule(schedule, elector=mutation.elector, wrapper=mutation.wrapper)
        if outcome.ours:
            return Finding(mutation, outcome)
    return Finding(mutation, None)


def find_all() -> Iterator[Finding]:
    """Search for every mutation of the table."""
    return map(find, MUTATIONS)


class _Unpledged(Elector):
    """Ignores one item of R4."""

    RULE = ""

    def _pledge(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        refusal = super()._pledge(epoch, candidate, now)
        return None if refusal is not None and refusal.rule == self.RULE else refusal


class PrimaryVotes(_Unpledged):
    """A primary with its lease votes for another (R4.1)."""

    RULE = "R4.1"


class ForgetsVote(Elector):
    """A vote binds its voter to nothing (R4.2)."""

    def _binding_vote(self, now: float) -> _Vote | None:
        return None


class VotesAtOnce(_Unpledged):
    """A node votes as soon as it has started (R4.3)."""

    RULE = "R4.3"


class DeposesTheLiving(_Unpledged):
    """A node votes although its primary is alive (R4.6)."""

    RULE = "R4.6"


class VotesAgain(Elector):
    """A replica answers every OFFER of its epoch with an ACCEPT (R3.3)."""

    def _answer(self, offer: Offer, now: float) -> _Refusal | None:
        if offer.epoch == self.epoch and self.role is Role.REPLICA:
            return self._vote_for(offer.epoch, offer.sender, now)
        return super()._answer(offer, now)


class WithdrawsForAnyone(Elector):
    """A candidate withdraws in favour of a worse one (R3.2)."""

    def _is_better(self, candidate: str, offset: int) -> bool:
        return True


class VotesAndLeads(Elector):
    """A primary votes for another and stays primary (R3.6)."""

    def _vote_for(self, epoch: int, candidate: str, now: float) -> _Refusal | None:
        if self.role is not Role.PRIMARY:
            return super()._vote_for(epoch, candidate, now)
        if self._save(epoch, candidate, now):
            self._enter(epoch)
            self._accept(epoch, candidate, now)
        return None


@attrs.frozen
class _LossyBallot:
    """Saves if it `keeps`, and loads nothing in either case."""

    ballot: Ballot
    keeps: bool

    def load(self) -> tuple[int, str | None]:
        return 0, None

    def save(self, epoch: int, voted_for: str | None) -> None:
        if self.keeps:
            self.ballot.save(epoch, voted_for)


class NeverSaves(Elector):
    """The vote is not on disk when it is sent (R3.6)."""

    def __init__(self, *args: Any, ballot: Ballot, **kwargs: Any) -> None:
        super().__init__(*args, ballot=_LossyBallot(ballot, keeps=False), **kwargs)


class NeverLoads(Elector):
    """The ballot is forgotten at a restart."""

    def __init__(self, *args: Any, ballot: Ballot, **kwargs: Any) -> None:
        super().__init__(*args, ballot=_LossyBallot(ballot, keeps=True), **kwargs)


class CountsReplies(Elector):
    """Two ACCEPTs of one voter count as two (R6)."""

    def _on_accept(self, accept: Accept, now: float) -> None:
        run = self._candidacy
        if run is not None and accept.epoch == run.epoch and accept.sender in run.accepted:
            run.accepted.add(f"{accept.sender} again")
            self._win_with_quorum(now)
        super()._on_accept(accept, now)


class WinsTooLate(Elector):
    """A candidate that gave up still counts ACCEPTs (R6)."""

    def _give_up(self, now: float) -> None:
        run = self._candidacy
        super()._give_up(now)
        self._candidacy = run

    def _on_accept(self, accept: Accept, now: float) -> None:
        run = self._candidacy
        if self.role is Role.REPLICA and run is not None and accept.epoch == run.epoch:
            run.accepted.add(accept.sender)
            self.peers[accept.sender].confirmed = run.offered_at
            self._win_with_quorum(now)
        super()._on_accept(accept, now)


class NeverGivesUp(Elector):
    """A candidate without a quorum goes on for ever (R6)."""

    def _give_up(self, now: float) -> None:
        pass


class WritesWithoutLease(Elector):
    """Being primary is enough to write (R8)."""

    def can_write(self, now: float) -> bool:
        return self.role is Role.PRIMARY


class RegainsAtOnce(Elector):
    """A lost lease returns with the first message (R8)."""

    def _begin(self, now: float) -> None:
        super()._begin(now)
        self._lease.counts_from = NEVER
        self._changed()
        self._lease_until()


class IgnoresPauses(RegainsAtOnce):
    """Neither a pause (R9) nor the loss of a lease (R8) is noticed."""

    def _begin(self, now: float) -> None:
        super()._begin(now)
        self._hold_until = NEVER
        self._changed()
        self._lease_until()

    def _deadline(self, since: float, runs_until: float) -> float:
        return super()._deadline(since, math.inf)


class IgnoresEpochs(RegainsAtOnce):
    """A peer in a higher epoch backs the lease, and a lost lease returns at once (R8)."""

    def _deadline(self, since: float, runs_until: float) -> float:
        leads = self.role is Role.PRIMARY
        return self.peers.lease_deadline(U64_MAX, since=since, runs_until=runs_until, leads=leads)


class InfersLeases(Elector):
    """The lease is inferred from messages, although peers acknowledge (section 4)."""

    def set_acknowledging(self, peer: str, *, acknowledging: bool) -> None:
        pass


class AcknowledgesAnyEpoch(Elector):
    """A heartbeat of the primary is acknowledged in any epoch (section 4)."""

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        return self.role is Role.REPLICA and self.current_primary == sender


class ConfirmsOnArrival(Elector):
    """An ACK confirms the time at which it arrives, not that of its heartbeat (section 4)."""

    def confirm(self, peer: str, epoch: int, sent_at: float) -> None:
        super().confirm(peer, epoch, self._last_run)


class NeverRenews(Elector):
    """A primary with its lease never renews (R8)."""

    def _consider_renewing(self, now: float) -> None:
        pass


class RenewsAsCandidate(Elector):
    """A primary that renews is a candidate until it has won (R8)."""

    def _renew(self, now: float, ahead: str) -> None:
        self._become_candidate(now, f"{ahead} is ahead", Cause.OTHERS_AHEAD, ahead)


class CountsEverybody(Elector):
    """Members that do not acknowledge count although they should not (count_unacknowledged)."""

    def __init__(self, *args: Any, config: ElectConfig, **kwargs: Any) -> None:
        super().__init__(*args, config=attrs.evolve(config, count_unacknowledged=True), **kwargs)


class VotesUnfrozen(Elector):
    """An OFFER is answered while the data server still replicates (D1)."""

    def _waits_for_server(self, offer: Offer, now: float) -> _Refusal | None:
        server = self._server
        unfrozen = server is not None and not server.is_frozen
        return None if unfrozen else super()._waits_for_server(offer, now)


class RunsUnfrozen(Elector):
    """A candidate offers the last known data of its server (D2)."""

    def _is_ready_to_run(self, now: float) -> bool:
        return self._vouches_for(self.node_id, self.repl_offset, now)


class FollowsOlderData(Elector):
    """The data server follows a primary of an older epoch than that of its member's vote (D3)."""

    def duty(self, now: float) -> Duty:
        ballot_epoch, self._ballot_epoch = self._ballot_epoch, 0
        duty = super().duty(now)
        self._ballot_epoch = ballot_epoch
        return duty


class FollowsTheSilent(Elector):
    """The data server follows a primary that is DOWN, and its data is trusted (D3, D6)."""

    def duty(self, now: float) -> Duty:
        if self.role is not Role.REPLICA or self.current_primary is None:
            return super().duty(now)
        view = self.peers[self.current_primary]
        heard, view.heard = view.heard, now
        duty = super().duty(now)
        view.heard = heard
        return duty


class VotesWithoutServer(Elector):
    """A member whose data server does not answer votes by its last data (D5)."""

    def _waits_for_server(self, offer: Offer, now: float) -> _Refusal | None:
        return None if self._is_lost else super()._waits_for_server(offer, now)

    _is_lost = False

    def server_lost(self, now: float, why: str) -> None:
        super().server_lost(now, why)
        self._is_lost = True

    def server_frozen(self, offset: int, now: float, newest: int = 0) -> None:
        super().server_frozen(offset, now, newest)
        self._is_lost = False

    def server_released(self, data_epoch: int = 0) -> None:
        super().server_released(data_epoch)
        self._is_lost = False


class VotesEmptied(Elector):
    """A member whose data server lost its data votes as if it had not (D5)."""

    def _vouches_for(self, candidate: str, offset: int, now: float) -> bool:
        return True


class VotesForLess(Elector):
    """Of three members, one whose data may be of any epoch votes by R3 alone (D5)."""

    def _has_it_all(self, candidate: str, offset: int) -> bool:
        return len(self.peers) == 2


class ComparesLengths(Elector):
    """Offsets are compared by length, without their histories (D6)."""

    def _answer(self, offer: Offer, now: float) -> _Refusal | None:
        if self.role is not Role.REPLICA:
            return super()._answer(offer, now)
        offset, (theirs, _) = self._offset, split_offset(offer.repl_offset)
        self._offset = join_offset(theirs, split_offset(offset)[1])
        refusal = super()._answer(offer, now)
        self._offset = offset
        return refusal


class TellsFirst(SimulatedWrapper):
    """The others are notified while processes of the dead node still write (a last will)."""

    def _work(self, killing: float, calls: list[Call], straggle: float | None) -> None:
        notified_by = self._tell(0.0, calls)
        self._later(killing, self._kill)
        self._later(max(killing, notified_by), partial(self._end, straggle))


class StartsFirst(SimulatedWrapper):
    """A node starts again before the others are notified of its death (a last will)."""

    def when_done(self, then: Callable[[], object]) -> None:
        then()


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(VotesAgain, 200),
    Mutation(WithdrawsForAnyone, 200),
    Mutation(VotesAndLeads, 200),
    Mutation(NeverSaves, 10),
    Mutation(NeverLoads, 1000),
    Mutation(PrimaryVotes, 50),
    Mutation(ForgetsVote, 100),
    Mutation(VotesAtOnce, 1500),
    Mutation(DeposesTheLiving, 50),
    Mutation(CountsReplies, 200, nodes=5),
    Mutation(WinsTooLate, 2500),
    Mutation(NeverGivesUp, 50),
    Mutation(WritesWithoutLease, 50),
    Mutation(RegainsAtOnce, 500, mode=Mode.INFERRED),
    Mutation(IgnoresPauses, 100, mode=Mode.INFERRED),
    Mutation(IgnoresEpochs, 100, mode=Mode.INFERRED),
    Mutation(InfersLeases, 100),
    Mutation(AcknowledgesAnyEpoch, 300),
    Mutation(ConfirmsOnArrival, 1000),
    Mutation(NeverRenews, 50),
    Mutation(RenewsAsCandidate, 50),
    Mutation(CountsEverybody, 50, mode=Mode.UNCOUNTED),
    Mutation(VotesUnfrozen, 1000, mode=Mode.DATA_SERVERS),
    Mutation(RunsUnfrozen, 2000, mode=Mode.DATA_SERVERS),
    Mutation(FollowsOlderData, 1500, mode=Mode.DATA_SERVERS),
    Mutation(FollowsTheSilent, 6000, mode=Mode.DATA_SERVERS),
    Mutation(VotesWithoutServer, 1500, mode=Mode.DATA_SERVERS),
    Mutation(VotesEmptied, 1500, mode=Mode.DATA_SERVERS),
    Mutation(ComparesLengths, 1000, mode=Mode.DATA_SERVERS),
    Mutation(Elector, 500, wrapper=TellsFirst),
    Mutation(Elector, 500, wrapper=StartsFirst),
)
"""In the order of the rules."""
