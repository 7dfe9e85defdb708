"""The judge of the chaos runs finds each violation in hand-made journals."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.chaos.journal import Journal, Write, read
from tests.soak.chaos.judge import judge
from tests.soak.chaos.outages import longest_gap, spread, time_without_writes


def write(node: str, epoch: int, asked: int, *, answered: int = 0, done: int | None = 0) -> Write:
    """A write that was asked for at that time. By default it is answered 1 and done 2 later."""
    answered = answered or asked + 1
    return Write(node, 1, epoch, 1, asked, answered, answered + 1 if done == 0 else done)


class QuestionTests(SynchronousTestCase):
    def test_successive_writers_are_no_violation(self) -> None:
        verdict = judge([write("a", 1, 10), write("a", 1, 20), write("b", 2, 30)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.writes, verdict.epochs, verdict.highest_epoch), (3, 2, 2))
        self.assertAlmostEqual(verdict.closest or 0, 11e-9)

    def test_no_writes_are_no_violation(self) -> None:
        self.assertEqual(judge([]).violations, [])

    def test_two_writers_of_one_epoch_are_a_violation(self) -> None:
        (violation,) = judge([write("a", 1, 10), write("b", 1, 20)]).violations
        self.assertIn("epoch 1 had several writers: a, b", violation)

    def test_a_yes_in_an_older_epoch_after_a_newer_one_is_a_violation(self) -> None:
        verdict = judge([write("a", 1, 10), write("b", 2, 20), write("a", 1, 30)])
        (violation,) = verdict.violations
        self.assertIn("may write in epoch 1", violation)

    def test_the_order_in_the_file_does_not_hide_a_violation(self) -> None:
        verdict = judge([write("a", 1, 10), write("a", 1, 30), write("b", 2, 20)])
        self.assertEqual(len(verdict.violations), 1)

    def test_an_epoch_in_between_does_not_hide_a_violation(self) -> None:
        writes = [write("b", 2, 11), write("c", 3, 20), write("a", 1, 30)]
        self.assertEqual(len(judge(writes).violations), 1)

    def test_a_question_that_may_have_been_answered_before_is_no_violation(self) -> None:
        held = write("a", 1, 10, answered=50)
        self.assertEqual(judge([write("b", 2, 20), held]).violations, [])


class StoreTests(SynchronousTestCase):
    def test_the_store_refuses_a_late_write(self) -> None:
        verdict = judge([write("a", 1, 10), write("b", 2, 30), write("a", 1, 20, done=40)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.late, verdict.fenced), (1, 1))
        self.assertEqual(len(verdict.accepted), 2)

    def test_the_store_takes_a_late_write_before_any_newer_one(self) -> None:
        verdict = judge([write("a", 1, 10, done=40), write("b", 2, 30, done=41)])
        self.assertEqual((verdict.late, verdict.fenced), (1, 0))

    def test_the_store_may_refuse_a_write_without_a_known_end(self) -> None:
        verdict = judge([write("b", 2, 30), write("a", 1, 20, done=None)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.late, verdict.fenced), (1, 1))

    def test_the_refusal_of_a_timely_write_is_a_violation(self) -> None:
        verdict = judge([write("b", 2, 30), write("a", 1, 20)])
        (violation,) = verdict.violations
        self.assertIn("not late", violation)


class JournalTests(SynchronousTestCase):
    def test_the_next_line_has_the_end_of_a_write(self) -> None:
        path = Path(self.mktemp())
        journal = Journal(path, "a")
        journal.append(epoch=3, asked=10, answered=11, last_done=0)
        journal.append(epoch=3, asked=20, answered=21, last_done=12)
        first, second = read(path)
        self.assertEqual((first.node, first.epoch, first.asked, first.answered), ("a", 3, 10, 11))
        self.assertEqual((first.done, second.done), (12, None))

    def test_two_processes_share_one_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text("a 1 2 1 10 11 0\nb 2 3 1 30 31 0\na 1 2 2 20 21 12\n")
        self.assertEqual([each.done for each in read(path)], [12, None, None])

    def test_a_missing_line_is_noticed(self) -> None:
        path = Path(self.mktemp())
        path.write_text("a 1 2 1 10 11 0\na 1 2 3 30 31 22\n")
        self.assertRaises(ValueError, read, path)


class OutageTests(SynchronousTestCase):
    def test_the_longest_gap_overlaps_the_time(self) -> None:
        writes = [0.0, 1.0, 4.0, 5.0, 7.0, 17.0]
        self.assertEqual(longest_gap(writes, 2.0, 5.5), 3.0)
        self.assertEqual(longest_gap(writes, 4.5, 4.6), 1.0)
        self.assertEqual(longest_gap([], 0.0, 1.0), 0.0)

    def test_time_without_writes_is_the_sum_of_long_gaps(self) -> None:
        self.assertEqual(time_without_writes([0.0, 0.1, 2.0, 2.1, 5.0], 1.0), 1.9 + 2.9)

    def test_spread_has_median_percentile_and_maximum(self) -> None:
        found = spread([float(i) for i in range(1, 101)])
        assert found is not None
        self.assertEqual((found.median, found.percentile99, found.maximum), (50.0, 99.0, 100.0))
        self.assertIsNone(spread([]))
