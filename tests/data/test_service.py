"""A data server that obeys is driven by an election that decides: one duty after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.data.record import HistoryRecord
from kevy_elect.data.server import DataServerError
from kevy_elect.data.service import DataService
from kevy_elect.directory import DirectoryLock
from kevy_elect.driving import Fencing, Frozen, Report, State
from kevy_elect.errors import BallotError, ConfigError
from kevy_elect.local_server import (
    FREEZE,
    STAY,
    UNKNOWN,
    Assignment,
    Duty,
    Histories,
    Task,
    join_offset,
)
from tests.support.data_servers import WARNS, Deciding, RecordingGuard
from tests.support.logs import logged
from tests.support.transports import QUICK


def promote(data_epoch: int) -> Duty:
    return Duty(Task.PROMOTE, data_epoch)


def follow(
    data_epoch: int, address: str = "a:1", heard_at: float = math.inf, said: int = 0
) -> Duty:
    return Duty(Task.FOLLOW, data_epoch, "a", address, heard_at=heard_at, said=said)


class Obedient:
    """A server in memory. What it is told is done when it is told, and answered at once, unless
    its answers are `held`."""

    name = "the server"
    starts_frozen_with = "'frozen yes'"
    lost: Callable[[], object]

    def __init__(self) -> None:
        self.now = Report(run="r1", takes_writes=False, history="h0", length=0)
        self.told: list[str] = []
        self.problem = ""
        self.held: list[Callable[[], None]] | None = None
        self._histories = 0

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> Deferred[None]:
        self.told.append("stop")
        return succeed(None)

    def change(self, **changes: object) -> None:
        self.now = attrs.evolve(self.now, **changes)

    def report(self) -> Deferred[Report]:
        return self._answer(self.now)

    def freeze(self) -> Deferred[Frozen]:
        before = self.now
        self._do("freeze", takes_writes=False, source="", in_sync=False)
        return self._answer(Frozen(before, self.now))

    def promote(self) -> Deferred[Report]:
        self._histories += 1
        self._do("promote", takes_writes=True, source="", history=f"h{self._histories}")
        return self._answer(self.now)

    def follow(self, address: str) -> Deferred[None]:
        self._do(f"follow {address}", takes_writes=False, source=address, in_sync=True)
        return self._answer(None)

    def release(self) -> None:
        """Give the answers that are held."""
        held, self.held = self.held or [], None
        for answer in held:
            answer()

    def _do(self, what: str, **changes: object) -> None:
        self.told.append(what)
        if not self.problem:
            self.change(**changes)

    def _answer(self, answer):  # type: ignore[no-untyped-def]
        if self.problem:
            return fail(DataServerError(self.problem))
        if self.held is None:
            return succeed(answer)
        later: Deferred[object] = Deferred()
        self.held.append(lambda: later.callback(answer))
        return later


class DrivenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.server = Obedient()
        self.election = Deciding(self.directory, Clock())
        self.service = DataService(self.election, self.server)  # type: ignore[arg-type]
        self.addCleanup(self.end)

    def end(self) -> None:
        self.server.problem = ""
        self.server.held = None
        if self.service.running:
            self.successResultOf(self.service.stopService())
        if self.election.directory is not None:
            self.election.directory.release()
        self.assertEqual(self.election.failures, [])

    def start(self, duty: Duty = STAY) -> None:
        self.election.wanted = duty
        self.service.startService()

    def live_again(self) -> None:
        """Another life of the node begins."""
        self.successResultOf(self.service.stopService())
        self.service = DataService(self.election, self.server)  # type: ignore[arg-type]

    def look(self) -> None:
        self.election.reactor.advance(QUICK.hb_interval)

    def silence(self, seconds: float) -> None:
        """For so long the server is looked at, and its primary not heard."""
        until = self.election.now() + seconds
        while self.election.now() <= until:
            self.look()

    def told(self) -> list[str]:
        told, self.server.told = self.server.told, []
        return told

    def heard(self) -> list[object]:
        heard, self.election.heard = self.election.heard, []
        return heard

    def lead(self, data_epoch: int = 3) -> None:
        self.start()
        self.election.want(promote(data_epoch))
        self.told()
        self.heard()


class DataServiceTests(DrivenTests):
    def test_whatever_it_is_found_as_it_is_frozen_first(self) -> None:
        self.server.change(takes_writes=True, length=7)
        self.start()
        self.assertEqual(self.told(), ["start", "freeze"])
        self.assertEqual(self.heard(), [("frozen", join_offset(0, 7), 0)])
        self.assertEqual(self.service.state, State.FROZEN)

    def test_one_that_follows_the_primary_already_goes_on(self) -> None:
        self.start(follow(3))
        self.live_again()
        self.told()
        self.start(follow(3))
        self.assertEqual(self.told(), ["start", "follow a:1"])

    def test_one_that_follows_it_since_an_earlier_reign_is_frozen_before_it_follows(self) -> None:
        """What it takes over is of the later one, and must not be taken for the earlier one's."""
        self.start(follow(3))
        self.told()
        self.election.want(follow(5))
        self.assertEqual(self.told(), ["freeze", "follow a:1"])

    def test_one_that_follows_another_is_frozen_before_it_follows(self) -> None:
        self.server.change(source="x:1", in_sync=True)
        self.start(follow(3))
        self.assertEqual(self.told(), ["start", "freeze", "follow a:1"])

    def test_it_is_promoted_and_the_history_remembered_before_it_counts(self) -> None:
        self.start()
        self.heard()
        self.election.want(promote(3))
        self.assertEqual(self.told(), ["start", "freeze", "promote"])
        self.assertEqual(self.heard(), ["released", "promoted"])
        assert self.election.directory is not None
        self.assertEqual(HistoryRecord(self.election.directory).histories.epochs["h1", "r1"], 3)

    def test_its_length_is_told_each_interval(self) -> None:
        self.lead(3)
        self.server.change(length=40)
        self.look()
        self.assertEqual(self.election.offset, join_offset(3, 40))

    def test_what_it_has_when_it_is_frozen_is_said_at_once(self) -> None:
        self.lead(3)
        self.server.change(length=40)
        self.election.want(FREEZE)
        self.assertEqual(self.election.said, [join_offset(3, 40)])

    def test_a_follower_looks_when_its_primary_has_more_and_says_at_once_that_it_has_it(
        self,
    ) -> None:
        self.server.change(history="theirs", length=9)
        self.start(follow(3))
        self.server.change(length=12)
        self.election.want(attrs.evolve(follow(3), said=join_offset(3, 12)))
        self.assertEqual(self.election.offset, join_offset(3, 12))
        self.assertEqual(self.election.said, [join_offset(3, 12)])
        self.look()
        self.assertEqual(self.election.said, [join_offset(3, 12)])

    def test_one_that_is_behind_says_so_in_the_next_heartbeat(self) -> None:
        self.server.change(history="theirs", length=9)
        self.start(follow(3))
        self.election.want(attrs.evolve(follow(3), said=join_offset(3, 12)))
        self.assertEqual((self.election.offset, self.election.said), (join_offset(3, 9), []))

    def test_a_history_that_gets_another_name_stays_of_its_epoch(self) -> None:
        """Redis gives it one when the first replica comes."""
        self.lead(3)
        self.server.change(history="other", length=40)
        self.look()
        self.assertEqual(self.election.offset, join_offset(3, 40))
        self.server.change(history="yet another", length=41)
        self.election.want(FREEZE)
        self.assertEqual(self.heard(), [("frozen", join_offset(3, 41), 3)])

    def test_a_follower_learns_the_epoch_of_what_it_has(self) -> None:
        self.server.change(history="theirs", length=9)
        self.start(follow(5))
        self.assertEqual(self.election.offset, join_offset(5, 9))
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), 5), self.heard())

    def test_a_follower_learns_it_later_too(self) -> None:
        self.server.change(history="theirs", length=9)
        self.start(follow(0))
        self.assertEqual(self.election.offset, join_offset(0, 9))
        self.election.want(follow(5))
        self.look()
        self.assertEqual(self.election.offset, join_offset(5, 9))

    def test_what_is_still_being_copied_does_not_count(self) -> None:
        self.start(follow(5))
        self.server.change(in_sync=False, is_copying=True, length=9)
        self.look()
        self.assertEqual(self.election.offset, 0)

    def test_a_freeze_overtakes_and_is_repeated_after_what_it_overtook(self) -> None:
        self.start()
        self.told()
        self.server.held = []
        self.election.want(promote(3))  # asks for a report
        self.election.want(FREEZE)
        self.assertEqual(self.told(), [])
        self.assertEqual(self.service.state, State.FROZEN)
        self.server.release()
        self.assertEqual(self.told(), [])

        self.server.held = []
        self.election.want(promote(3))
        first, self.server.held = self.server.held, []
        first[0]()  # the report; now the promotion is under way
        self.election.want(FREEZE)
        self.assertEqual(self.told(), ["promote", "freeze"])
        self.heard()
        self.server.release()
        self.assertEqual(self.told(), ["freeze"])
        self.assertNotIn("promoted", self.heard())
        self.assertEqual(self.service.state, State.FROZEN)

    def test_who_gives_up_the_role_waits_for_the_freeze(self) -> None:
        self.lead()
        self.server.held = []
        stopped = self.service.when_stopped()
        self.election.want(FREEZE)
        self.assertNoResult(stopped)
        self.server.release()
        self.successResultOf(stopped)
        self.successResultOf(self.service.when_stopped())

    def test_one_that_does_not_answer_is_lost_and_frozen_once_it_does(self) -> None:
        self.lead()
        self.server.problem = "gave no answer"
        self.look()
        self.assertEqual(self.heard(), ["lost"])
        self.look()
        self.look()
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.service.status().problem, "the server gave no answer")
        self.server.problem = ""
        self.look()
        self.assertEqual(self.service.state, State.FROZEN)
        self.assertEqual(self.service.status().problem, "")

    def test_a_promotion_that_fails_costs_the_role_and_is_frozen_at_once(self) -> None:
        self.start()
        self.told()
        self.server.held = []
        self.election.want(promote(3))
        self.server.problem = "says no"
        self.server.release()
        self.assertIn("lost", self.heard())
        self.assertEqual(self.told(), ["promote", "freeze"])

    def test_one_that_somebody_changed_by_hand_is_put_right(self) -> None:
        self.start(follow(3))
        self.told()
        for changes in (
            {"takes_writes": True, "source": ""},
            {"source": "x:1"},
            {"run": "r2", "source": "a:1"},
        ):
            self.server.change(**changes)
            self.look()
            self.assertIn("lost", self.heard())
            self.assertEqual(self.told()[-1], "follow a:1")
            self.assertEqual(self.service.state, State.FOLLOWING)

    def test_a_frozen_one_that_changed_is_no_longer_trusted(self) -> None:
        self.start()
        self.heard()
        self.server.change(length=5)
        self.look()
        self.assertEqual(self.heard(), ["lost", ("frozen", join_offset(0, 5), 0)])

    def test_one_that_was_restarted_is_of_an_unknown_history(self) -> None:
        self.lead(3)
        self.server.change(run="r2", takes_writes=False)
        self.look()
        self.assertEqual(self.heard(), ["lost", ("frozen", join_offset(0, 0), 3)])
        self.assertIn("was restarted, or changed unobserved", self.service.status().problem)

    def test_what_it_had_is_not_taken_for_lost_before_it_answers(self) -> None:
        self.lead(3)
        self.successResultOf(self.service.stopService())
        self.server.problem = "gave no answer"
        self.service.startService()
        self.assertEqual(self.election.offset, join_offset(3, 0))

    def test_a_record_that_cannot_be_saved_costs_the_role(self) -> None:
        self.start()
        self.told()
        self.heard()
        (self.directory / HistoryRecord.BESIDE).mkdir()
        self.election.want(promote(3))
        self.assertEqual(self.heard()[:1], ["lost"])
        self.assertEqual(self.told(), ["freeze"])

    def test_what_it_took_over_counts_although_nobody_saw_it_in_sync(self) -> None:
        """It may have confirmed it before it was seen."""
        self.start(follow(5))
        self.server.change(history="theirs", length=9, in_sync=False)
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), 5), self.heard())

    def test_so_it_does_for_the_next_life_of_the_node_if_it_was_seen_by_that_name(self) -> None:
        self.start(follow(5))
        self.server.change(history="theirs", length=9, in_sync=False)
        self.look()
        self.live_again()
        self.heard()
        self.start()
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), 5), self.heard())

    def test_what_nobody_saw_may_be_of_a_later_reign(self) -> None:
        self.start(follow(5))
        self.live_again()
        self.server.change(history="theirs", length=9, in_sync=False)
        self.heard()
        self.start()
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), UNKNOWN), self.heard())

    def test_what_it_first_took_over_from_a_silent_primary_may_be_of_a_later_reign(self) -> None:
        """That one may have been elected again by others; nobody fenced its server, which is back
        first."""
        self.start(follow(5, heard_at=0.0))
        self.server.change(in_sync=False)
        self.silence(QUICK.lease_margin)
        self.server.change(history="theirs", length=9, in_sync=True)
        self.look()
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), UNKNOWN), self.heard())

    def test_that_is_known_again_once_that_primary_states_more_data_of_that_epoch(self) -> None:
        """Whatever it says without more data, it may have said long ago."""
        self.test_what_it_first_took_over_from_a_silent_primary_may_be_of_a_later_reign()
        for said, known in ((8, UNKNOWN), (9, UNKNOWN), (10, 5)):
            now = self.election.now()
            self.election.want(follow(5, heard_at=now, said=join_offset(5, said)))
            self.look()
            self.look()
            self.election.want(FREEZE)
            self.assertIn(("frozen", join_offset(5, 9), known), self.heard(), said)

    def test_what_it_takes_over_once_more_in_one_reign_may_be_of_a_later_one(self) -> None:
        """A late heartbeat may have ended the silence of the primary."""
        self.start(follow(5))
        self.election.want(FREEZE)
        self.election.want(follow(5))
        self.server.change(history="theirs", length=9)
        self.look()
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 9), UNKNOWN), self.heard())

    def test_what_it_took_over_before_the_primary_fell_silent_stays_known(self) -> None:
        self.server.change(history="theirs", length=9)
        self.start(follow(5, heard_at=0.0))
        self.silence(2 * QUICK.lease_margin)
        self.server.change(length=12)
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(5, 12), 5), self.heard())

    def test_the_end_of_an_older_history_is_not_of_the_new_one(self) -> None:
        """A server calls its data by the new name while the rest of the old is on its way."""
        self.server.change(length=4)
        self.start(Duty(Task.FOLLOW, 5, "a", "a:1", 9))
        self.server.change(history="theirs", length=8)
        self.election.want(FREEZE)
        self.assertIn(("frozen", join_offset(0, 8), 5), self.heard())

    def test_a_stop_freezes_what_takes_writes_and_leaves_a_follower(self) -> None:
        self.lead()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.told(), ["freeze", "stop"])
        self.start(follow(3))
        self.told()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.told(), ["stop"])

    def test_the_end_of_the_election_freezes_at_once(self) -> None:
        self.lead()
        self.election.is_electing = False
        self.election.wanted = STAY
        self.election.observers[0](None, "the service stopped")
        self.assertEqual(self.told(), ["freeze"])

    def test_one_that_starts_by_taking_writes_is_told_of_once_with_the_remedy(self) -> None:
        warned = self.enterContext(logged(WARNS))
        self.server.change(takes_writes=True)
        self.start(promote(3))
        (line,) = warned
        self.assertIn("took writes before this node had commanded it", line)
        self.assertIn("it needs 'frozen yes'", line)
        self.election.want(FREEZE)
        self.assertEqual(warned, [line])

    def test_so_is_one_that_comes_back_so(self) -> None:
        self.start(follow(3))
        warned = self.enterContext(logged(WARNS))
        self.server.change(run="r2", takes_writes=True, source="")
        self.look()
        self.assertEqual(sum("before this node had commanded it" in line for line in warned), 1)

    def test_one_that_the_last_life_of_the_node_promoted_is_not(self) -> None:
        self.lead()
        self.live_again()
        self.server.change(takes_writes=True)  # nobody froze it when the node was killed
        warned = self.enterContext(logged(WARNS))
        self.start()
        self.assertEqual((self.told()[-1], warned), ("freeze", []))

    def test_it_needs_a_data_directory(self) -> None:
        assert self.election.directory is not None
        self.election.directory.release()
        self.election.directory = None
        self.assertRaises(ConfigError, self.service.startService)


class HistoryRecordTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lock = DirectoryLock(self.mktemp(), "a")
        self.addCleanup(self.lock.release)

    def test_it_survives(self) -> None:
        record = HistoryRecord(self.lock)
        self.assertEqual(record.histories, Histories())
        record.note("h", "r", 4)
        record.note("g", "r", 9)
        record.assign(Assignment("g", "r", 70, 11, 80))
        self.assertEqual(HistoryRecord(self.lock).histories, record.histories)
        record.keep(record.histories.take("f", "r"))
        self.assertEqual(record.histories.assignment, Assignment("g", "r", 70, 11, 80, "f"))
        self.assertEqual(HistoryRecord(self.lock).histories, record.histories)

    def test_the_last_ones_are_kept(self) -> None:
        record = HistoryRecord(self.lock)
        for epoch in range(1, 200):
            record.note(f"h{epoch}", "r", epoch)
        self.assertNotIn(("h1", "r"), record.histories.epochs)
        self.assertEqual(HistoryRecord(self.lock).histories.epochs["h199", "r"], 199)

    def test_what_is_no_record_is_refused(self) -> None:
        for text in (b"junk\n", b"4 h\n", b"99999999999999999999999 h r\n", b"\xff 1 2\n"):
            (self.lock.directory / HistoryRecord.FILE).write_bytes(text)
            self.assertRaises(BallotError, HistoryRecord, self.lock)


class HistoriesTests(SynchronousTestCase):
    """What a server was told last counts, whatever was seen of it since (D6)."""

    known = Histories().note("h", "r", 2).assign(Assignment("h", "r", 10, 5, 12))

    def assert_is(self, data_epoch: int, newest: int, *what: object) -> None:
        self.assertEqual(self.known.epoch_of(*what), data_epoch)  # type: ignore[arg-type]
        self.assertEqual(self.known.newest(*what), newest)  # type: ignore[arg-type]

    def test_what_has_not_changed_is_what_it_was(self) -> None:
        self.assert_is(2, 2, "h", "r", 10)

    def test_what_came_since_is_the_primarys(self) -> None:
        self.assert_is(5, 5, "g", "r", 12)

    def test_the_end_of_what_came_before_is_not(self) -> None:
        self.assert_is(2, 5, "g", "r", 11)

    def test_another_run_may_have_lost_it(self) -> None:
        self.assert_is(0, 5, "h", "s", 10)

    def test_what_changed_twice_may_be_of_any(self) -> None:
        """Its source was promoted again while the member was away, perhaps in a later epoch."""
        twice = self.known.take("g", "r")
        self.assertEqual((twice.epoch_of("g", "r", 12), twice.newest("g", "r", 12)), (5, 5))
        self.assertEqual((twice.epoch_of("f", "r", 13), twice.newest("f", "r", 13)), (5, UNKNOWN))
        told = twice.assign(Assignment("f", "r", 13, 7))
        self.assertEqual((told.epoch_of("f", "r", 13), told.newest("f", "r", 13)), (5, UNKNOWN))
        self.assertEqual(told.newest("f", "s", 0), 7)

    def test_nor_is_it_forgotten_when_that_run_is_told_something(self) -> None:
        told = self.known.assign(Assignment("h", "s", 0, 5))
        self.assertEqual(told.newest("h", "s", 0), 5)


class GuardTests(DrivenTests):
    """What a guard is told, and says."""

    def setUp(self) -> None:
        super().setUp()
        self.guard = RecordingGuard()
        self.service = DataService(self.election, self.server, self.guard)  # type: ignore[arg-type]

    def test_it_has_a_time_while_the_server_takes_writes(self) -> None:
        self.lead()
        self.assertEqual(self.guard.told, ["start", "release", "keep"])
        self.assertEqual(
            (self.election.survivor, self.service.status().fencing), (7, Fencing.GUARD)
        )
        self.election.want(FREEZE)
        self.assertEqual((self.guard.told.pop(), self.election.survivor), ("release", 0))

    def test_a_lease_that_is_short_at_first_is_not_over_at_once(self) -> None:
        self.patch(self.election, "lease_left", lambda: 0.1)
        self.lead()
        self.assertAlmostEqual(self.guard.margin, 0.05)

    def test_what_the_guard_has_frozen_takes_no_writes_and_the_role_is_given_up(self) -> None:
        self.lead()
        self.told()
        self.server.held = []
        self.guard.acted()
        self.assertEqual(self.heard()[0], "lost")
        self.assertIn("frozen by its guard", self.service.status().problem)
        self.assertEqual(self.told(), ["freeze"])

    def test_what_it_says_of_a_server_that_takes_no_writes_is_old(self) -> None:
        self.start()
        self.heard()
        self.guard.acted()
        self.assertEqual((self.heard(), self.service.state), ([], State.FROZEN))

    def test_a_server_that_was_frozen_at_the_end_is_not_frozen_by_the_guard_again(self) -> None:
        self.lead()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.guard.told[-2:], ["release", "stop"])

    def test_one_that_could_not_be_frozen_is_left_to_the_guard(self) -> None:
        self.lead()
        self.server.problem = "does not answer"
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.guard.told[-2:], ["keep", "stop"])
