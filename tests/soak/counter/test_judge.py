"""The judge of the counter finds each violation in hand-made journals."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.counter import journal
from tests.soak.counter.counter import NOTHING, Count, Counter
from tests.soak.counter.journal import (
    BUSY,
    COMPANY,
    DONE,
    REFUSED,
    START,
    STOP,
    TURN,
    Journal,
    Line,
)
from tests.soak.counter.judge import Verdict, judge


def line(who: str, epoch: int, word: str, at: int, count: Count = NOTHING) -> Line:
    return Line(who, f"1@{epoch}", epoch, word, at, at, count)


def turn(who: str, epoch: int, at: int, read: Count, wrote: int) -> list[Line]:
    """A turn that begins at that time and ends 5 later."""
    return [
        line(who, epoch, TURN, at, read),
        line(who, epoch, DONE, at + 5, Count(epoch, wrote)),
    ]


def asked(who: str, epoch: int, word: str, at: int, answered: int, count: Count) -> Line:
    return Line(who, f"1@{epoch}", epoch, word, at, answered, count)


def told(lines: list[Line], final: Count, *, asks: bool = False) -> Verdict:
    return judge(lines, final, asks=asks)


GOOD = [
    line("a", 1, START, 10),
    *turn("a", 1, 20, NOTHING, 1),
    *turn("a", 1, 30, Count(1, 1), 2),
    line("a", 1, STOP, 40),
    line("b", 2, START, 50),
    *turn("b", 2, 60, Count(1, 2), 3),
]


class AtWorkTests(SynchronousTestCase):
    def test_successive_children_are_no_violation(self) -> None:
        verdict = told(GOOD, Count(2, 3))
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.lives, verdict.epochs, verdict.late), (2, 2, 0))
        self.assertAlmostEqual(verdict.closest or 0, 10e-9)
        self.assertEqual([round(each * 1e9) for each in verdict.acknowledged], [25, 35, 65])

    def test_no_lines_are_no_violation(self) -> None:
        self.assertEqual(told([], NOTHING).violations, [])

    def test_an_increment_that_was_never_acknowledged_is_no_violation(self) -> None:
        lines = [*turn("a", 1, 20, NOTHING, 1), line("a", 1, TURN, 30, Count(1, 1))]
        later = turn("b", 2, 60, Count(1, 2), 3)
        self.assertEqual(told(lines + later, Count(2, 3)).violations, [])

    def test_two_children_at_work_are_a_violation(self) -> None:
        lines = [*GOOD, line("a", 1, START, 51)]
        (violation,) = told(lines, Count(2, 3)).violations
        self.assertIn("two at work: a 1@1", violation)
        self.assertIn("b 1@2", violation)

    def test_a_third_child_does_not_hide_a_violation(self) -> None:
        lines = [
            line("a", 1, START, 10),
            line("b", 2, START, 20),
            line("b", 2, STOP, 21),
            line("c", 3, START, 30),
            line("a", 1, STOP, 40),
        ]
        self.assertEqual(len(told(lines, NOTHING).violations), 2)

    def test_two_runs_on_one_node_are_a_violation(self) -> None:
        lines = [line("a", 1, START, 10), line("a", 2, START, 20), line("a", 1, STOP, 30)]
        self.assertEqual(len(told(lines, NOTHING).violations), 1)

    def test_a_stopped_child_is_at_work_until_its_last_line(self) -> None:
        lines = [*GOOD[:-4], line("b", 2, START, 39), line("a", 1, STOP, 40)]
        self.assertEqual(len(told(lines, Count(1, 2)).violations), 1)

    def test_a_process_that_the_next_child_finds_is_a_violation(self) -> None:
        (violation,) = told([*GOOD, line("b", 2, COMPANY, 66)], Count(2, 3)).violations
        self.assertIn("earlier run was still there", violation)


class LossTests(SynchronousTestCase):
    def test_a_repeated_number_is_a_violation(self) -> None:
        lines = [*turn("a", 1, 20, NOTHING, 1), *turn("b", 2, 60, NOTHING, 1)]
        violations = told(lines, Count(2, 1)).violations
        self.assertIn("1 acknowledged increments were lost", violations[0])
        self.assertIn("after 1 had been acknowledged", violations[1])

    def test_a_child_that_reads_an_old_number_is_a_violation(self) -> None:
        lines = [*GOOD, line("b", 2, TURN, 70, Count(1, 2))]
        self.assertTrue(
            any("after 3 had been" in each for each in told(lines, Count(2, 3)).violations)
        )

    def test_missing_last_increments_are_a_violation(self) -> None:
        (violation,) = told(GOOD, Count(2, 2)).violations
        self.assertIn("ends at 2, 3 was acknowledged", violation)

    def test_an_increment_of_another_child_in_between_is_a_violation(self) -> None:
        lines = [*GOOD, *turn("b", 2, 70, Count(2, 4), 5)]
        (violation,) = told(lines, Count(2, 5)).violations
        self.assertIn("b 1@2 wrote 2 3 and read 2 4", violation)


class EpochTests(SynchronousTestCase):
    def test_an_older_epoch_over_a_newer_one_is_a_violation(self) -> None:
        lines = [*turn("b", 2, 20, NOTHING, 1), *turn("a", 1, 60, Count(2, 1), 2)]
        violations = told(lines, Count(1, 2)).violations
        self.assertIn("epoch 1 is about to write over epoch 2", violations[0])
        self.assertIn("the epoch falls: 1 for 2 after 2", violations[1])

    def test_a_fallen_epoch_at_the_end_is_a_violation(self) -> None:
        (violation,) = told(GOOD, Count(1, 4)).violations
        self.assertIn("the epoch falls: 1 for 4 after 2", violation)


class QuestionTests(SynchronousTestCase):
    """If the children ask, their answers count, and not the times of their writes."""

    def test_a_late_write_is_counted_and_no_violation(self) -> None:
        late = [
            asked("a", 1, TURN, 20, 21, NOTHING),
            asked("b", 2, BUSY, 50, 51, NOTHING),
            line("a", 1, DONE, 60, Count(1, 1)),
            asked("b", 2, TURN, 70, 71, Count(1, 1)),
            line("b", 2, DONE, 75, Count(2, 2)),
        ]
        verdict = told(late, Count(2, 2), asks=True)
        self.assertEqual(verdict.violations, [])
        self.assertEqual((verdict.late, verdict.refused, verdict.busy), (1, 0, 1))
        self.assertEqual(len(told(late, Count(2, 2)).violations), 1)

    def test_a_last_refusal_is_no_violation(self) -> None:
        lines = [
            *turn("b", 2, 50, NOTHING, 1),
            asked("a", 1, REFUSED, 20, 21, Count(2, 1)),
        ]
        verdict = told(lines, Count(2, 1), asks=True)
        self.assertEqual(verdict.violations, [])
        self.assertEqual(verdict.refused, 1)

    def test_a_refusal_after_a_yes_in_an_older_epoch_is_a_violation(self) -> None:
        lines = [
            *turn("b", 2, 50, NOTHING, 1),
            asked("a", 1, REFUSED, 20, 21, Count(2, 1)),
            asked("a", 1, REFUSED, 52, 53, Count(2, 1)),
        ]
        self.assertIn("two at work", told(lines, Count(2, 1), asks=True).violations[0])

    def test_an_answer_that_may_have_come_before_is_no_violation(self) -> None:
        lines = [asked("a", 1, BUSY, 10, 60, NOTHING), asked("b", 2, BUSY, 20, 21, NOTHING)]
        self.assertEqual(told(lines, NOTHING, asks=True).violations, [])

    def test_late_writes_without_a_check_lose_increments(self) -> None:
        lines = [
            asked("a", 1, TURN, 20, 21, NOTHING),
            asked("b", 2, TURN, 50, 51, NOTHING),
            line("b", 2, DONE, 55, Count(2, 1)),
            line("a", 1, DONE, 60, Count(1, 1)),
        ]
        violations = told(lines, Count(1, 1), asks=True).violations
        self.assertIn("1 acknowledged increments were lost", violations[0])
        self.assertIn("the epoch falls", violations[1])


class FilesTests(SynchronousTestCase):
    def test_a_journal_is_read_as_it_was_written(self) -> None:
        path = Path(self.mktemp())
        told = Journal(path, "a", 3)
        told.tell(START)
        told.tell(TURN, Count(2, 7), 10, 11)
        told.close()
        started, began = journal.read(path)
        self.assertEqual((started.word, started.counter), (START, NOTHING))
        self.assertGreater(started.asked, 0)
        self.assertEqual(began, Line("a", started.life, 3, TURN, 10, 11, Count(2, 7)))

    def test_the_counter_keeps_what_was_written(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        counter = Counter(directory)
        self.assertEqual(counter.read(), NOTHING)
        counter.write(Count(3, 4))
        self.assertEqual(Counter(directory).read(), Count(3, 4))

    def test_only_one_process_changes_the_counter_at_a_time(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        with Counter(directory).alone():
            self.assertRaises(BlockingIOError, Counter(directory).alone().__enter__)
        with Counter(directory).alone():
            pass
