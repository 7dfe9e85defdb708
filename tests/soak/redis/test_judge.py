"""The judge finds lost writes and concurrent writers."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.soak.redis.judge import Write, judge, read


def writes(server: str, *at: float, confirmed: int = 1) -> list[Write]:
    return [Write(server, each, each + 0.01, f"{server}-{each}", confirmed) for each in at]


class JudgeTests(SynchronousTestCase):
    def test_a_lost_confirmed_write_is_a_violation(self) -> None:
        verdict = judge({"n1": writes("n1", 1.0, 1.1)}, {"n1-1.0"}, [])
        self.assertEqual(verdict.violations, ["n1-1.1 was confirmed on 1 replicas and is lost"])

    def test_an_unconfirmed_write_may_be_lost(self) -> None:
        verdict = judge({"n1": writes("n1", 1.0, confirmed=0)}, set(), [])
        self.assertEqual((verdict.violations, len(verdict.lost)), ([], 1))

    def test_an_unconfirmed_write_may_not_be_lost_in_a_switchover(self) -> None:
        verdict = judge({"n1": writes("n1", 1.0, confirmed=0)}, set(), [(0.9, 1.5)])
        self.assertEqual(len(verdict.violations), 1)

    def test_two_servers_that_take_writes_at_once_are_found(self) -> None:
        left = writes("n1", 1.0, 1.1, 1.2, 1.3), writes("n2", 1.15, 1.25, 1.35, 1.45)
        values = {write.value for each in left for write in each}
        verdict = judge({"n1": left[0], "n2": left[1]}, values, [])
        (overlap,) = verdict.overlaps
        self.assertAlmostEqual(overlap.seconds, 1.31 - 1.16)

    def test_successive_servers_are_no_violation(self) -> None:
        journals = {"n1": writes("n1", 1.0, 1.1), "n2": writes("n2", 1.2, 1.3)}
        values = {write.value for each in journals.values() for write in each}
        self.assertEqual(judge(journals, values, []).overlaps, [])

    def test_an_incomplete_line_is_no_write(self) -> None:
        path = Path(self.mktemp())
        path.write_text("1.0 1.1 n1-1 1\n1.2 1.3 n1-")
        self.assertEqual(read("n1", path), [Write("n1", 1.0, 1.1, "n1-1", 1)])
        self.assertEqual(read("n1", Path(self.mktemp())), [])
