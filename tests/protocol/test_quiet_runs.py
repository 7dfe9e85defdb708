"""An elector that has nothing to do skips its rules: that is without effect, and every time
at which a rule may decide otherwise is named by `next_due`."""

from __future__ import annotations

from kevy_elect.elector import Elector
from kevy_elect.messages import Outbound
from kevy_elect.testing.schedules import Mode, draw_schedule, run_schedule
from tests.support.unmeasured import Unmeasured


class Regular(Elector):
    """Wants to run two or three times an interval, whatever is due."""

    def next_due(self, now: float) -> float:
        return now + 0.4 * self.config.hb_interval


class Thorough(Regular):
    """Goes through all rules, whether or not anything is due."""

    def _is_quiet(self, now: float) -> bool:
        return False


class Punctual(Elector):
    """Looks whether a rule acted before the time that was named for it."""

    found = 0

    def tick(self, now: float) -> list[Outbound]:
        quiet, before = self._is_quiet(now), self._all()
        if not quiet:
            return super().tick(now)
        Punctual.found += 1
        self._quiet_until = -1.0
        out = super().tick(now)
        assert not out, out
        assert self._all() == before, (before, self._all())
        return out

    def _all(self) -> tuple[object, ...]:
        vote = self._vote
        return (
            self._role,
            self._epoch,
            self._primary,
            self._primary_epoch,
            self._primary_addr,
            self._none_since,
            self._eligible_since,
            self._candidacy,
            self._backoff_until,
            self._hold_until,
            self._lease.counts_from,
            self._lease.lost_since,
            self._had_quorum,
            self.events.count,
            vote and (vote.epoch, vote.candidate, vote.released),
        )


class QuietRuns(Unmeasured):
    def test_what_is_skipped_is_without_effect(self) -> None:
        for mode in (Mode.ACKNOWLEDGED, Mode.PARTLY, Mode.INFERRED):
            for seed in range(20):
                schedule = draw_schedule(seed, 3 + 2 * (seed % 2), mode)
                quick = run_schedule(schedule, tracing=True, elector=Regular)
                thorough = run_schedule(schedule, tracing=True, elector=Thorough)
                self.assertEqual(quick.trace, thorough.trace, schedule)
                self.assertEqual(quick.settled_after, thorough.settled_after)

    def test_a_candidate_that_repeats_itself_is_waited_for(self) -> None:
        """Its heartbeats are never skipped: who just heard one does not run against it (R5)."""
        for seed in (1040, 1068, 1205):
            outcome = run_schedule(draw_schedule(seed, 5), elector=Punctual)
            self.assertEqual(outcome.violations, [])

    def test_no_rule_acts_before_its_time(self) -> None:
        before = Punctual.found
        for mode in (Mode.ACKNOWLEDGED, Mode.PARTLY, Mode.INFERRED):
            for seed in range(20):
                schedule = draw_schedule(seed, 3 + 2 * (seed % 2), mode)
                outcome = run_schedule(schedule, elector=Punctual)
                self.assertEqual(outcome.violations, [], schedule)
        self.assertGreater(Punctual.found - before, 10_000)
