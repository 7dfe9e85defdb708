"""down_after changes in two rolling steps (docs/protocol.md, section 2)."""

from __future__ import annotations

from itertools import pairwise

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.settings.timing_change import mixed_timings, step_problem

FIVE, EIGHT = ElectConfig(), ElectConfig(down_after=8.0)
BETWEEN = ElectConfig(down_after=8.0, lease_duration=4.9)
"""The promise of one, the lease of the other."""


class StepTests(SynchronousTestCase):
    def test_the_two_steps_of_growing_and_of_shrinking(self) -> None:
        for before, after in pairwise((FIVE, BETWEEN, EIGHT, BETWEEN, FIVE)):
            self.assertIsNone(step_problem(before, after))

    def test_growing_in_one_step(self) -> None:
        self.assertEqual(
            step_problem(FIVE, EIGHT),
            "a lease of 7.84 s is more than the other members promise while they have "
            "--down-after 5: change it in two steps. First give all members --down-after 8 with "
            "--lease-duration 4.9, then --lease-duration 7.84",
        )

    def test_shrinking_in_one_step(self) -> None:
        self.assertEqual(
            step_problem(EIGHT, FIVE),
            "--down-after 5 promises less than the lease of 7.84 s that the other members have: "
            "change it in two steps. First give all members --lease-duration 4.9, then "
            "--down-after 5",
        )

    def test_other_timings_change_in_one_step(self) -> None:
        other = attrs.evolve(FIVE, hb_interval=0.1, pause_after=0.3, election_timeout=1.0)
        for before, after in ((FIVE, FIVE), (FIVE, other), (other, FIVE)):
            self.assertIsNone(step_problem(before, after))

    @given(*[st.floats(1.0, 20.0)] * 2, *[st.floats(0.1, 1.0)] * 2)
    def test_whatever_may_be_done_leaves_no_lease_above_a_promise(
        self, one: float, other: float, part: float, rest: float
    ) -> None:
        """Nor does it need more than what the two advise."""
        try:
            before = ElectConfig(down_after=one, lease_duration=one * 0.98 * part)
            after = ElectConfig(down_after=other, lease_duration=other * 0.98 * rest)
        except ConfigError:
            return
        if step_problem(before, after) is None:
            longest = max(before.lease_duration, after.lease_duration)
            self.assertLess(longest, min(before.down_after, after.down_after))
        else:
            self.assertIsNotNone(step_problem(after, before))


def settings(config: ElectConfig) -> dict[str, float | bool]:
    return attrs.asdict(config)


class MixedTests(SynchronousTestCase):
    def test_the_same_timings(self) -> None:
        self.assertEqual(mixed_timings({}), [])
        self.assertEqual(mixed_timings({"a": settings(FIVE), "b": settings(FIVE)}), [])

    def test_a_step_under_way(self) -> None:
        told = {"a": settings(FIVE), "b": settings(BETWEEN), "c": settings(FIVE)}
        self.assertIn(
            "the members differ in down_after: 5 on a, c; 8 on b. Give all of them the same",
            mixed_timings(told),
        )
        self.assertFalse(any("two nodes could write" in each for each in mixed_timings(told)))

    def test_a_lease_that_outlasts_a_promise_comes_first(self) -> None:
        first, *_ = mixed_timings({"a": settings(EIGHT), "b": settings(FIVE)})
        self.assertEqual(
            first,
            "a has a lease of 7.84 s, and b promises only its down_after of 5 s: two nodes could "
            "write at once. Set --lease-duration on a below 5 before anything else",
        )

    def test_a_node_that_tells_no_lease_has_the_default(self) -> None:
        old = {"down_after": 8.0, "ack_margin": 0.16}
        first, *_ = mixed_timings({"a": old, "b": settings(FIVE)})
        self.assertIn("a has a lease of 7.84 s", first)

    def test_what_is_missing_or_no_timing(self) -> None:
        told: dict[str, dict[str, float | bool]] = {"a": {}, "b": {"x": True}, "c": {"x": False}}
        self.assertEqual(
            mixed_timings(told),
            ["the members differ in x: true on b; false on c. Give all of them the same"],
        )
