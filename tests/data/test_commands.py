"""A store that is driven by commands, whose ends a test decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.children import supervised
from kevy_elect.data.commands import DEADLINES, RETRY, Commands
from kevy_elect.data.server import DataServerError
from kevy_elect.driving import Frozen, Report
from kevy_elect.service.fake import FakeElection

ALL = ("freeze", "demote", "promote", "follow", "offset-command")
TOOK = 0.25


class FakeRun:
    """A run of a command of one word, which takes TOOK seconds and comes to what is set here."""

    told: list[str]
    environments: list[Mapping[str, str]]
    status: dict[str, int]
    offset: bytes

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_output: Callable[[int, bytes], object],
        **how: Any,
    ) -> None:
        self.started: Deferred[None] = Deferred()
        self.gone: Deferred[int] = Deferred()
        self._name, self._on_output = command[0], on_output
        self._offset = FakeRun.offset
        self._call = how["reactor"].callLater(TOOK, self._end)
        if self._name != "offset-command":
            FakeRun.told.append(self._name)
            FakeRun.environments.append(environment)

    def stop_at(self, when: float) -> None:
        self._call.cancel()
        self.gone.callback(137)

    def _end(self) -> None:
        if self._name == "offset-command":
            self._on_output(1, self._offset)
        self.gone.callback(FakeRun.status.get(self._name, 0))


class CommandsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(supervised, "Run", FakeRun)
        FakeRun.told, FakeRun.environments, FakeRun.status, FakeRun.offset = [], [], {}, b"5"
        self.election = FakeElection("a")

    def begin(self, *names: str) -> Commands:
        store = Commands(self.election, {name: (name,) for name in names or ALL})
        store.start()
        self.addCleanup(store.stop)
        return store

    def done(self, deferred: Deferred[Any], within: float = 1.0) -> Any:
        """What it comes to."""
        self.election.advance(within)
        return self.successResultOf(deferred)

    def failed(self, deferred: Deferred[Any]) -> str:
        self.election.advance(1.0)
        return str(self.failureResultOf(deferred, DataServerError).value)

    def test_what_nobody_knows_is_demoted_and_frozen(self) -> None:
        store = self.begin()
        frozen: Frozen = self.done(store.freeze())
        self.assertEqual(FakeRun.told, ["demote", "freeze"])
        self.assertEqual((frozen.after.takes_writes, frozen.after.length), (False, 5))
        self.assertEqual(self.done(store.report()), frozen.after)

    def test_what_is_known_is_told_what_ends_that(self) -> None:
        store = self.begin()
        self.done(store.freeze())
        self.done(store.follow("b.example:1"))
        FakeRun.told.clear()
        before = self.done(store.freeze()).before
        self.assertEqual((before.source, before.in_sync), ("b.example:1", True))
        self.assertTrue(self.done(store.promote()).takes_writes)
        self.assertTrue(self.done(store.freeze()).before.takes_writes)
        self.assertEqual(FakeRun.told, ["freeze", "promote", "demote"])

    def test_freeze_ends_the_writes_of_clients_where_nothing_else_does(self) -> None:
        store = self.begin("freeze", "promote", "follow", "offset-command")
        self.done(store.freeze())
        self.done(store.promote())
        self.done(store.freeze())
        self.assertEqual(FakeRun.told, ["freeze", "promote", "freeze"])

    def test_without_freeze_a_replica_counts_as_it_was_when_it_was_to_be_frozen(self) -> None:
        store = self.begin("demote", "promote", "follow", "offset-command")
        self.done(store.freeze())
        self.done(store.follow("b.example:1"))
        FakeRun.told.clear()
        frozen = self.done(store.freeze()).after
        FakeRun.offset = b"9"
        self.election.advance(3)
        self.assertEqual(self.done(store.report()), frozen)
        self.assertEqual(FakeRun.told, [])
        self.done(store.promote())
        self.election.advance(2)
        self.assertEqual(self.done(store.report()).length, 9)

    def test_with_freeze_what_arrives_all_the_same_is_seen(self) -> None:
        store = self.begin()
        frozen = self.done(store.freeze()).after
        FakeRun.offset = b"9"
        self.election.advance(2)
        self.assertNotEqual(self.done(store.report()), frozen)

    def test_a_frozen_store_is_asked_anew_and_an_older_answer_does_not_count(self) -> None:
        store = self.begin()
        self.election.advance(0.9)
        FakeRun.offset = b"6"
        freezing = store.freeze()  # and at 1.0 a question of the other kind
        self.election.advance(0.2)
        FakeRun.offset = b"7"
        self.assertEqual(self.done(freezing, within=0.6).after.length, 7)
        self.assertEqual(self.done(store.report()).length, 7)

    def test_commands_are_told_whom_to_follow_and_in_which_epoch(self) -> None:
        store = self.begin()
        self.election.follow("b")
        self.done(store.follow("10.0.0.2:5"))
        (told,) = FakeRun.environments
        self.assertEqual(told["KEVY_PRIMARY_ADDR"], "10.0.0.2:5")
        self.assertEqual((told["KEVY_PRIMARY_ID"], told["KEVY_EPOCH"]), ("b", "1"))

    def test_a_report_waits_for_the_first_answer_and_then_for_none(self) -> None:
        store = self.begin()
        reporting = store.report()
        self.assertNoResult(reporting)
        report: Report = self.done(reporting)
        self.assertEqual((report.length, report.takes_writes, report.source), (5, False, ""))
        self.assertEqual(self.successResultOf(store.report()), report)

    def test_a_freeze_takes_the_limits_of_its_commands_at_most(self) -> None:
        for names, limits in (ALL, "freeze offset-command"), (ALL[1:], "offset-command"):
            expected = sum(DEADLINES[limit] for limit in limits.split())
            self.assertEqual(self.begin(*names).freezes_within, expected)

    def test_a_failure_says_which_command_it_was(self) -> None:
        store = self.begin()
        for what, do in (("freeze", store.freeze), ("promote", store.promote)):
            FakeRun.status = {what: 3}
            problem = f"failed at --{what}: '{what}' exited with status 3"
            self.assertEqual(self.failed(do()), problem)
        self.assertFalse(store._known().takes_writes)

    def test_a_promotion_that_failed_may_have_succeeded(self) -> None:
        store = self.begin()
        self.done(store.freeze())
        FakeRun.status = {"promote": 3}
        self.failed(store.promote())
        FakeRun.told.clear()
        self.done(store.freeze())
        self.assertEqual(FakeRun.told, ["demote", "freeze"])

    def test_no_offset_is_no_report(self) -> None:
        store = self.begin()
        self.done(store.report())
        FakeRun.offset = b"much"
        self.election.advance(2)
        self.assertIn("does not report how much data it has", self.failed(store.report()))
        FakeRun.offset = b"6"
        self.election.advance(2)
        self.assertEqual(self.done(store.report()).length, 6)

    def test_what_failed_is_not_tried_again_at_once(self) -> None:
        store = self.begin()
        FakeRun.status = {"follow": 1}
        following = store.follow("b:1")
        self.election.advance(TOOK)
        self.failureResultOf(following, DataServerError)
        again = store.follow("b:1")
        again.addErrback(lambda _: None)
        self.election.advance(RETRY / 2)
        self.assertEqual(FakeRun.told, ["follow"])
        self.election.advance(RETRY)
        self.assertEqual(FakeRun.told, ["follow", "follow"])

    def test_a_stop_ends_what_runs(self) -> None:
        store = self.begin()
        following = store.follow("b:1")
        self.successResultOf(store.stop())
        self.failureResultOf(following, DataServerError)

    def test_another_offset_command_is_asked_next(self) -> None:
        store = self.begin()
        self.done(store.report())
        store.use(["other"])
        self.election.advance(2)
        self.assertIn("other", FakeRun.told)
