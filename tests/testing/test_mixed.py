"""Clusters of ours and of the existing implementation."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Heartbeat, Role
from kevy_elect.testing import SimulatedCluster, Violation, mixed
from kevy_elect.testing.checkers import OneWriter, Whose, whose
from kevy_elect.testing.legacy import LegacyNode
from kevy_elect.testing.mixed import VARIANTS, End, Mishap, run
from kevy_elect.testing.network import Backlog
from kevy_elect.testing.schedules import Mode, draw_schedule, run_schedule
from tests.support.unmeasured import Unmeasured

ALL_REMEDIES, NO_HEARTBEAT_FIRST, NO_SILENCE, NO_RENEWING = VARIANTS


class MixedClusters(Unmeasured):
    def ends(self, mishap: Mishap, ours: int, theirs: int, remedies: mixed.Remedies) -> set[End]:
        return {run(seed, ours + theirs, theirs, mishap, remedies) for seed in range(20)}

    def test_a_restarted_node_of_theirs_follows_a_healthy_primary_of_ours(self) -> None:
        for ours, theirs in ((2, 1), (1, 2), (3, 2), (1, 4)):
            ends = self.ends(Mishap.RESTART_OF_THEIRS, ours, theirs, ALL_REMEDIES)
            self.assertEqual(ends, {End.WELL})

    def test_r2_an_announce_before_any_heartbeat_would_make_it_run(self) -> None:
        ends = self.ends(Mishap.RESTART_OF_THEIRS, 1, 2, NO_HEARTBEAT_FIRST)
        self.assertIn(End.DEPOSED, ends)

    def test_after_the_crash_of_ours_the_others_agree(self) -> None:
        for ours, theirs in ((2, 1), (1, 2)):
            self.assertEqual(self.ends(Mishap.CRASH, ours, theirs, ALL_REMEDIES), {End.WELL})

    def test_r2_silence_leaves_nobody_leaderless_when_ours_steps_down(self) -> None:
        for ours, theirs in ((1, 2), (2, 3), (1, 4)):
            ends = self.ends(Mishap.STEP_DOWN, ours, theirs, ALL_REMEDIES)
            self.assertEqual(ends, {End.WELL})
        self.assertIn(End.LEADERLESS, self.ends(Mishap.STEP_DOWN, 1, 2, NO_SILENCE))

    def test_r8_one_of_theirs_in_a_higher_epoch_is_brought_back(self) -> None:
        for ours, theirs in ((2, 1), (3, 2)):
            self.assertEqual(self.ends(Mishap.CUT, ours, theirs, ALL_REMEDIES), {End.WELL})
            self.assertIn(End.LEFT_BEHIND, self.ends(Mishap.CUT, ours, theirs, NO_RENEWING))

    def test_where_it_is_not_well_theirs_disagree(self) -> None:
        for ours, theirs in ((1, 2), (2, 3)):
            ends = self.ends(Mishap.CUT, ours, theirs, ALL_REMEDIES)
            self.assertLessEqual(ends, mixed.FINE)

    def test_the_table_has_every_mix(self) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            mixed.main(["--seeds", "1"])
        for mix in ("2 + 1", "1 + 2", "4 + 1", "3 + 2", "2 + 3", "1 + 4"):
            self.assertEqual(output.getvalue().count(f"| {mix} |"), len(VARIANTS))


class WhoseNodes(SynchronousTestCase):
    """A promise that theirs break is not ours."""

    def cluster(self) -> tuple[SimulatedCluster, OneWriter]:
        writer = OneWriter()
        return SimulatedCluster("abcde", seed=1, legacy="abc", checkers=[writer]), writer

    def test_violations_say_whose_nodes_broke_what(self) -> None:
        nodes = self.cluster()[0].nodes
        self.assertEqual(whose([nodes["d"], nodes["e"]]), Whose.OURS)
        self.assertEqual(whose([nodes["a"], nodes["b"]]), Whose.THEIRS)
        self.assertEqual(whose([nodes["a"], nodes["e"]]), Whose.BOTH)
        self.assertEqual(Violation(0.0, "", "", Whose.THEIRS).by, Whose.THEIRS)

    def test_two_primaries_of_theirs_are_measured_and_nobodys_fault_of_ours(self) -> None:
        cluster, writer = self.cluster()
        self.assertEqual(cluster.settle(), "a")
        cluster.isolate("a")
        cluster.advance(20)
        self.assertEqual(cluster.writers(), ["a", "b"])
        self.assertGreater(writer.longest[Whose.THEIRS], 5)
        self.assertEqual(writer.longest[Whose.OURS], 0.0)
        self.assertEqual(cluster.violations, [])

    def test_nodes_run_what_they_are_said_to(self) -> None:
        cluster, _ = self.cluster()
        machines = {name: type(node.machine) for name, node in cluster.nodes.items()}
        self.assertEqual({name for name in machines if machines[name] is LegacyNode}, set("abc"))
        error = self.assertRaises(TypeError, getattr, cluster.nodes["a"], "elector")
        self.assertIn("existing implementation", str(error))

    def test_schedules_go_through_all_mixes(self) -> None:
        drawn = [draw_schedule(seed, 5, Mode.MIXED) for seed in range(4)]
        self.assertEqual([len(schedule.legacy) for schedule in drawn], [1, 2, 3, 4])

    def test_what_ours_promise_by_themselves_holds_beside_theirs(self) -> None:
        """Elections and votes; what else is promised needs members that all promise it."""
        for seed in range(60):
            outcome = run_schedule(draw_schedule(seed, 3, Mode.MIXED))
            self.assertEqual({v.promise for v in outcome.ours} - {"settling"}, set())


class TheirTransport(SynchronousTestCase):
    def test_a_full_backlog_drops_what_is_new(self) -> None:
        backlog = Backlog()
        for epoch in range(1, 301):
            backlog.put(Heartbeat(epoch, "a", Role.REPLICA, 0))
        self.assertEqual(len(backlog), 256)
        self.assertEqual(backlog.take(), Heartbeat(1, "a", Role.REPLICA, 0))

    def test_unknown_nodes_of_a_kind_are_refused(self) -> None:
        error = self.assertRaises(ValueError, SimulatedCluster, "abc", legacy="d")
        self.assertIn("d: not among the nodes a, b, c", str(error))
