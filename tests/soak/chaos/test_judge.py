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
    def test_one_after_another_is_right(self) -> None:
        verdict = judge([write("a", 1, 10), write("a", 1, 20), write("b", 2, 30)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.writes, verdict.epochs, verdict.highest_epoch), (3, 2, 2))
        self.assertAlmostEqual(verdict.closest or 0, 11e-9)

    def test_no_writes_are_no_violation(self) -> None:
        self.assertEqual(judge([]).violations, [])

    def test_two_writers_of_one_epoch(self) -> None:
        (violation,) = judge([write("a", 1, 10), write("b", 1, 20)]).violations
        self.assertIn("epoch 1 had several writers: a, b", violation)

    def test_an_older_epoch_asked_after_a_newer_one_was_answered(self) -> None:
        verdict = judge([write("a", 1, 10), write("b", 2, 20), write("a", 1, 30)])
        (violation,) = verdict.violations
        self.assertIn("may write in epoch 1", violation)

    def test_the_order_in_the_file_does_not_hide_it(self) -> None:
        verdict = judge([write("a", 1, 10), write("a", 1, 30), write("b", 2, 20)])
        self.assertEqual(len(verdict.violations), 1)

    def test_an_epoch_in_between_does_not_hide_it(self) -> None:
        writes = [write("b", 2, 11), write("c", 3, 20), write("a", 1, 30)]
        self.assertEqual(len(judge(writes).violations), 1)

    def test_a_question_that_may_have_been_answered_before_is_no_violation(self) -> None:
        held = write("a", 1, 10, answered=50)
        self.assertEqual(judge([write("b", 2, 20), held]).violations, [])


class StoreTests(SynchronousTestCase):
    def test_it_refuses_a_write_that_came_too_late(self) -> None:
        verdict = judge([write("a", 1, 10), write("b", 2, 30), write("a", 1, 20, done=40)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.late, verdict.fenced), (1, 1))
        self.assertEqual(len(verdict.accepted), 2)

    def test_a_late_one_that_was_still_the_first_is_taken(self) -> None:
        verdict = judge([write("a", 1, 10, done=40), write("b", 2, 30, done=41)])
        self.assertEqual((verdict.late, verdict.fenced), (1, 0))

    def test_one_that_never_told_its_end_may_be_refused(self) -> None:
        verdict = judge([write("b", 2, 30), write("a", 1, 20, done=None)])
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.late, verdict.fenced), (1, 1))

    def test_refusing_one_that_was_not_late_is_a_violation(self) -> None:
        verdict = judge([write("b", 2, 30), write("a", 1, 20)])
        (violation,) = verdict.violations
        self.assertIn("not late", violation)


class JournalTests(SynchronousTestCase):
    def test_the_next_line_tells_when_a_write_was_over(self) -> None:
        path = Path(self.mktemp())
        journal = Journal(path, "a")
        journal.append(epoch=3, asked=10, answered=11, last_done=0)
        journal.append(epoch=3, asked=20, answered=21, last_done=12)
        first, second = read(path)
        self.assertEqual((first.node, first.epoch, first.asked, first.answered), ("a", 3, 10, 11))
        self.assertEqual((first.done, second.done), (12, None))

    def test_two_processes_in_one_file(self) -> None:
        path = Path(self.mktemp())
        path.write_text("a 1 2 1 10 11 0\nb 2 3 1 30 31 0\na 1 2 2 20 21 12\n")
        self.assertEqual([each.done for each in read(path)], [12, None, None])

    def test_a_missing_line_is_noticed(self) -> None:
        path = Path(self.mktemp())
        path.write_text("a 1 2 1 10 11 0\na 1 2 3 30 31 22\n")
        self.assertRaises(ValueError, read, path)


class OutageTests(SynchronousTestCase):
    def test_the_longest_gap_that_touches_the_time(self) -> None:
        writes = [0.0, 1.0, 4.0, 5.0, 7.0, 17.0]
        self.assertEqual(longest_gap(writes, 2.0, 5.5), 3.0)
        self.assertEqual(longest_gap(writes, 4.5, 4.6), 1.0)
        self.assertEqual(longest_gap([], 0.0, 1.0), 0.0)

    def test_time_without_writes(self) -> None:
        self.assertEqual(time_without_writes([0.0, 0.1, 2.0, 2.1, 5.0], 1.0), 1.9 + 2.9)

    def test_spread(self) -> None:
        found = spread([float(i) for i in range(1, 101)])
        assert found is not None
        self.assertEqual((found.median, found.percentile99, found.maximum), (50.0, 99.0, 100.0))
        self.assertIsNone(spread([]))
