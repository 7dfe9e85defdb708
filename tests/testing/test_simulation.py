"""Whole clusters in virtual time: random faults, deliberate mistakes, and scenarios."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector
from kevy_elect.messages import Role
from kevy_elect.testing import (
    NodeSnapshot,
    SimulatedCluster,
    Violation,
    __main__,
    default_checkers,
    explore,
    mutations,
)
from kevy_elect.testing.checkers import Whose
from kevy_elect.testing.mutations import MUTATIONS, AcknowledgesAnyEpoch, Mutation, find
from kevy_elect.testing.schedules import COARSE, Mode, draw_schedule, run_schedule
from kevy_elect.testing.wrapper import Execution
from tests.support.unmeasured import Unmeasured

DOWN = ElectConfig().down_after
HB = ElectConfig().hb_interval


class Preferring(Elector):
    """All members agree whom they prefer."""

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest, priorities={"n3": 9, "n2": 5})


class Differing(Elector):
    """Each member prefers itself, as no operator should have it."""

    def __init__(self, node_id: str, *args: Any, **rest: Any) -> None:
        super().__init__(node_id, *args, **rest, priorities={node_id: 9})


class PreferredMembersTests(Unmeasured):
    """Priorities change who runs first (R5), and no promise."""

    def run_schedules(self, seeds: int, elector: type[Elector]) -> None:
        for nodes in (3, 5):
            for seed in range(seeds):
                outcome = run_schedule(draw_schedule(seed, nodes), elector=elector)
                self.assertEqual(outcome.violations, [], f"seed {seed}, {nodes} nodes")

    def test_no_promise_is_broken(self) -> None:
        self.run_schedules(50, Preferring)

    def test_nor_if_their_lists_differ(self) -> None:
        self.run_schedules(50, Differing)

    def test_the_preferred_member_is_elected(self) -> None:
        for seed in range(10):
            cluster = SimulatedCluster(3, seed=seed, elector=Preferring)
            self.assertEqual(cluster.settle(), "n3")
            cluster.crash("n3")
            cluster.advance_until(cluster.writers)
            self.assertEqual(cluster.writers(), ["n2"])


class RandomFaults(Unmeasured):
    """Every promise holds after every event of a few hundred schedules."""

    def explore(self, seeds: int, nodes: int, mode: Mode = Mode.ACKNOWLEDGED) -> None:
        summary = explore.explore(range(seeds), nodes, mode)
        self.assertEqual(summary.schedules, seeds)
        self.assertEqual(summary.failures, ())
        self.assertEqual(set(summary.dual_writable.values()), {0.0})
        self.assertEqual(len(summary.settling), seeds)

    def test_three_nodes(self) -> None:
        self.explore(300, 3)

    def test_four_nodes(self) -> None:
        self.explore(100, 4)

    def test_five_nodes(self) -> None:
        self.explore(100, 5)

    def test_three_nodes_that_infer_their_leases(self) -> None:
        self.explore(100, 3, Mode.INFERRED)

    def test_five_nodes_that_infer_their_leases(self) -> None:
        self.explore(50, 5, Mode.INFERRED)

    def test_three_nodes_of_both_kinds(self) -> None:
        self.explore(100, 3, Mode.PARTLY)

    def test_four_nodes_of_both_kinds(self) -> None:
        self.explore(50, 4, Mode.PARTLY)

    def test_two_nodes(self) -> None:
        self.explore(100, 2)

    def test_ours_alone_count_beside_the_existing_implementation(self) -> None:
        """Then no two of ours ever write (count_unacknowledged)."""
        for nodes in (3, 5):
            summary = explore.explore(range(60), nodes, Mode.UNCOUNTED)
            self.assertEqual(summary.failures, ())
            self.assertEqual(summary.dual_writable[Whose.OURS], 0.0)

    def test_two_processes_find_what_one_finds(self) -> None:
        one, two = (explore.explore(range(60), 3, Mode.ACKNOWLEDGED, jobs) for jobs in (1, 2))
        self.assertEqual(one.settling, two.settling)


class Renewing(SynchronousTestCase):
    """R8: a primary brings back a member that stays in a higher epoch, and nobody notices."""

    def renewed(self, nodes: int, seed: int) -> tuple[SimulatedCluster, str, list[NodeSnapshot]]:
        """A cluster some time after a follower came back in epoch 9, and what was seen of its
        primary meanwhile. The checkers raise if that loses its lease for a moment."""
        cluster = SimulatedCluster(nodes, COARSE, seed=seed)
        leader = cluster.settle()
        cluster.advance(COARSE.down_after)
        ahead = next(name for name in cluster.nodes if name != leader)
        cluster.crash(ahead)
        cluster.replace_disk(ahead, 9)
        seen: list[NodeSnapshot] = []
        cluster.add_observer(leader, lambda snapshot, reason: seen.append(snapshot))
        cluster.restart(ahead)
        cluster.advance(2 * COARSE.down_after)
        return cluster, leader, seen

    def test_all_are_in_its_epoch_again_and_it_never_lost_the_role(self) -> None:
        for nodes in (3, 4, 5):
            for seed in range(5):
                cluster, leader, seen = self.renewed(nodes, seed)
                self.assertEqual(cluster.leader(), leader)
                self.assertEqual({node.machine.epoch for node in cluster.nodes.values()}, {10})
                self.assertTrue(all(snapshot.can_write for snapshot in seen), seen)
                self.assertEqual({snapshot.role for snapshot in seen}, {Role.PRIMARY})
                primary = cluster.nodes[leader]
                followers = [node for node in cluster.nodes.values() if node is not primary]
                self.assertTrue(all(node.backs(primary) for node in followers))


class Determinism(Unmeasured):
    def trace(self, seed: int) -> list[str]:
        return list(run_schedule(draw_schedule(seed, 3), tracing=True).trace)

    def test_one_seed_is_one_run(self) -> None:
        self.assertEqual(self.trace(7), self.trace(7))

    def test_another_seed_is_another_run(self) -> None:
        self.assertNotEqual(self.trace(7), self.trace(8))

    def test_it_does_not_matter_how_strings_hash(self) -> None:
        command = [sys.executable, "-m", "kevy_elect.testing", "--replay", "7", "--nodes", "5"]
        one, other = (
            subprocess.run(
                command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
            ).stdout
            for seed in ("1", "2")
        )
        self.assertIn(b"elected primary", one)
        self.assertEqual(one, other)

    def test_tracing_changes_nothing(self) -> None:
        schedule = draw_schedule(7, 3)
        one, other = (run_schedule(schedule, tracing=tracing) for tracing in (True, False))
        self.assertEqual(one.settled_after, other.settled_after)
        self.assertEqual(list(other.trace), [])

    def test_how_steps_are_cut_changes_nothing(self) -> None:
        one, other = SimulatedCluster(seed=5), SimulatedCluster(seed=5)
        one.advance(4)
        for _ in range(16):
            other.advance(0.25)
        self.assertEqual(one.trace, other.trace)


class AcknowledgingFromAHigherEpoch(Unmeasured):
    """Section 4 forbids it, however natural it looks. Five nodes: the primary is cut off for
    about down_after and comes back while another is elected. Who voted for that one is in a
    higher epoch and has not heard it lead yet: it still follows the old primary, and would
    back two at once."""

    def broken(self, elector: type[Elector]) -> int:
        """In how many of some runs two could write."""
        found = 0
        for seed in range(100):
            cluster = SimulatedCluster(5, COARSE, seed=seed, raising=False, elector=elector)
            cluster.tracing = False
            leader = cluster.settle()
            cluster.advance(1)
            cluster.isolate(leader)
            cluster.advance(COARSE.down_after + 0.2)
            cluster.heal()
            cluster.advance(3)
            found += any(violation.promise == "one writer" for violation in cluster.violations)
        return found

    def test_two_could_write(self) -> None:
        self.assertGreater(self.broken(AcknowledgesAnyEpoch), 0)

    def test_as_it_is_they_cannot(self) -> None:
        self.assertEqual(self.broken(Elector), 0)


class Mistakes(Unmeasured):
    """A mistake in the elector does not go unnoticed."""

    def assert_found(self, mistaken: type, promise: str) -> None:
        mutation = next(each for each in MUTATIONS if each.name == mistaken.__name__)
        outcome = find(mutation).outcome
        assert outcome is not None, f"{mutation.name} was not found"
        self.assertEqual(outcome.violations[0].promise, promise)

    def test_a_vote_that_is_not_saved(self) -> None:
        self.assert_found(mutations.NeverSaves, "one vote per epoch")

    def test_a_vote_that_binds_nobody(self) -> None:
        self.assert_found(mutations.ForgetsVote, "one writer")

    def test_a_vote_against_a_living_primary(self) -> None:
        self.assert_found(mutations.DeposesTheLiving, "one writer")

    def test_a_primary_that_votes_and_stays(self) -> None:
        self.assert_found(mutations.VotesAndLeads, "one primary per epoch")

    def test_a_primary_that_votes_despite_its_lease(self) -> None:
        self.assert_found(mutations.PrimaryVotes, "a healthy primary stays")

    def test_writing_without_a_lease(self) -> None:
        self.assert_found(mutations.WritesWithoutLease, "one writer")

    def test_an_inferred_lease_when_links_fail_in_one_direction(self) -> None:
        self.assert_found(mutations.InfersLeases, "one writer")

    def test_a_candidate_that_never_gives_up(self) -> None:
        self.assert_found(mutations.NeverGivesUp, "settling")

    def test_a_primary_that_never_renews(self) -> None:
        self.assert_found(mutations.NeverRenews, "no node is left behind")

    def test_a_renewal_with_a_gap(self) -> None:
        self.assert_found(mutations.RenewsAsCandidate, "a healthy primary stays")

    def test_members_that_count_although_they_should_not(self) -> None:
        self.assert_found(mutations.CountsEverybody, "one writer")

    def test_a_last_will_that_is_told_while_somebody_writes(self) -> None:
        self.assert_found(mutations.TellsFirst, "one writer")

    def test_a_next_life_that_does_not_wait_for_the_last_will(self) -> None:
        self.assert_found(mutations.StartsFirst, "one writer")

    def test_every_mistake_says_what_it_is(self) -> None:
        for mutation in MUTATIONS:
            self.assertRegex(mutation.mistake, r"\w", mutation.name)
        self.assertEqual(len({mutation.name for mutation in MUTATIONS}), len(MUTATIONS))


class Scenarios(SynchronousTestCase):
    """What a program that embeds an elector may rely on."""

    def settled(self, nodes: int = 3, **options: object) -> SimulatedCluster:
        cluster = SimulatedCluster(nodes, seed=1, **options)  # type: ignore[arg-type]
        self.assertEqual(cluster.settle(), "n1")
        return cluster

    def test_a_new_cluster_elects_at_once(self) -> None:
        cluster = self.settled()
        self.assertLess(cluster.now, 1.0)
        self.assertEqual(cluster.primaries(), ["n1"])
        self.assertEqual(cluster.writers(), ["n1"])

    def test_a_single_node_elects_itself(self) -> None:
        self.assertEqual(self.settled(1).writers(), ["n1"])

    def test_a_snapshot_says_what_a_node_thinks(self) -> None:
        cluster = self.settled()
        cluster.advance(1)
        self.assertEqual(
            cluster.snapshot("n2"),
            NodeSnapshot(
                node_id="n2",
                role=Role.REPLICA,
                epoch=2,
                current_primary="n1",
                primary_addr="n1:6379",
                has_quorum=True,
                can_write=False,
                down_peers=(),
            ),
        )

    def test_a_partitioned_primary_stops_writing_before_another_starts(self) -> None:
        cluster = self.settled()
        cluster.partition(["n1"], ["n2", "n3"])
        cluster.advance(DOWN)
        self.assertEqual(cluster.writers(), [])
        cluster.advance(DOWN / 2)
        self.assertEqual(cluster.writers(), ["n2"])
        self.assertEqual(cluster.snapshot("n1").down_peers, ("n2", "n3"))
        cluster.heal()
        self.assertEqual(cluster.settle(), "n2")

    def test_a_primary_that_nobody_hears_stops_writing_although_it_hears_all(self) -> None:
        cluster = self.settled()
        for peer in ("n2", "n3"):
            cluster.cut_one_way("n1", peer)
        cluster.advance(1.01 * (DOWN - DOWN / 50))  # ack_margin, by a slow clock
        self.assertEqual(cluster.snapshot("n1").down_peers, ())
        self.assertEqual(cluster.writers(), [])
        cluster.advance(DOWN)
        self.assertEqual(cluster.writers(), ["n2"])

    def test_a_replica_that_cannot_see_the_primary_changes_nothing(self) -> None:
        cluster = self.settled()
        cluster.cut("n1", "n3")
        for _ in range(50):
            cluster.advance(1)
            self.assertEqual(cluster.writers(), ["n1"])
        cluster.mend("n1", "n3")
        self.assertEqual(cluster.settle(), "n1")

    def test_an_isolated_node_never_raises_its_epoch(self) -> None:
        cluster = self.settled()
        cluster.isolate("n3")
        cluster.advance(60)
        self.assertEqual(cluster.snapshot("n3").epoch, 2)
        self.assertEqual(cluster.snapshot("n3").has_quorum, False)

    def test_a_short_pause_deposes_nobody(self) -> None:
        cluster = self.settled()
        cluster.pause("n1")
        cluster.advance(DOWN / 2)
        cluster.resume("n1")
        self.assertEqual(cluster.settle(), "n1")
        self.assertEqual(cluster.snapshot("n1").epoch, 2)

    def test_a_paused_primary_is_replaced_and_wakes_up_without_a_lease(self) -> None:
        cluster = self.settled()
        cluster.pause("n1")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.primaries(), ["n1", "n2"])
        self.assertEqual(cluster.writers(), ["n2"])
        cluster.resume("n1")
        self.assertEqual(cluster.settle(), "n2")

    def test_a_crashed_primary_is_replaced_and_comes_back_as_a_replica(self) -> None:
        cluster = self.settled()
        cluster.crash("n1")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.primaries(), ["n2"])
        cluster.restart("n1")
        self.assertEqual(cluster.settle(), "n2")
        self.assertEqual(cluster.snapshot("n1").epoch, 3)

    def test_a_primary_with_a_last_will_is_replaced_at_once(self) -> None:
        cluster = self.settled()
        cluster.advance(2 * DOWN)
        cluster.die("n1")
        self.assertLess(cluster.advance_until(lambda: cluster.writers() == ["n2"]), HB)

    def test_nobody_is_told_before_all_that_it_started_is_dead(self) -> None:
        cluster = self.settled()
        cluster.advance(2 * DOWN)
        cluster.die("n1", execution=Execution(killing=3.0))
        cluster.restart("n1")
        cluster.advance(2.9)
        self.assertEqual(cluster.writers(), ["n1"])  # its orphans, under its lease
        self.assertEqual([node.node_id for node in cluster.running()], ["n2", "n3"])
        cluster.advance(0.1 + 2 * HB)
        self.assertEqual(cluster.writers(), ["n2"])
        self.assertEqual(len(cluster.running()), 3)

    def test_a_last_will_that_reaches_one_of_two_changes_nothing_for_the_other(self) -> None:
        cluster = self.settled()
        cluster.advance(2 * DOWN)
        cluster.die("n1", execution=Execution(reached=["n2"]))
        cluster.advance(HB)
        took = HB + cluster.advance_until(cluster.writers)
        self.assertTrue(DOWN - 2 * HB < took < DOWN + 3 * HB, took)

    def test_the_ballot_survives_a_crash(self) -> None:
        cluster = self.settled()
        for node in ("n1", "n2", "n3"):
            cluster.crash(node)
        for node in ("n1", "n2", "n3"):
            cluster.restart(node)
            self.assertEqual(cluster.snapshot(node).epoch, 2)

    def test_a_crashed_node_has_no_state(self) -> None:
        cluster = self.settled()
        cluster.crash("n1")
        self.assertRaises(ValueError, cluster.snapshot, "n1")
        self.assertRaises(ValueError, cluster.crash, "n1")
        self.assertRaises(ValueError, cluster.pause, "n1")
        self.assertEqual([node.node_id for node in cluster.running()], ["n2", "n3"])

    def test_a_node_whose_disk_fails_follows_but_does_not_run(self) -> None:
        cluster = self.settled()
        cluster.fail_disk("n2")
        cluster.crash("n1")
        cluster.advance(3 * DOWN)
        self.assertEqual(cluster.primaries(), [])
        cluster.mend_disk("n2")
        cluster.advance(3 * DOWN)
        self.assertEqual(len(cluster.writers()), 1)

    def test_who_has_more_data_goes_first(self) -> None:
        cluster = self.settled()
        cluster.set_repl_offset("n3", 7)
        cluster.crash("n1")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.primaries(), ["n3"])

    def test_a_restart_keeps_the_data(self) -> None:
        cluster = self.settled()
        cluster.set_repl_offset("n2", 7)
        cluster.crash("n2")
        cluster.set_repl_offset("n2", 8)
        cluster.restart("n2")
        self.assertEqual(cluster.nodes["n2"].elector.repl_offset, 8)

    def test_a_witness_votes_and_never_runs(self) -> None:
        cluster = self.settled(witnesses=["n3"])
        cluster.crash("n1")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.primaries(), ["n2"])
        cluster.restart("n1")
        cluster.crash("n2")
        cluster.advance(4 * DOWN)
        self.assertEqual(cluster.primaries(), ["n1"])

    def test_a_broken_connection_is_dialled_again(self) -> None:
        cluster = self.settled()
        for peer in ("n2", "n3"):
            cluster.reset("n1", peer)
            cluster.reset(peer, "n1", straggle=1.0)
        cluster.advance(2 * DOWN)
        self.assertEqual((cluster.settle(), cluster.snapshot("n1").epoch), ("n1", 2))

    def test_silent_nodes_hold_inferred_leases(self) -> None:
        exact, inferred = self.settled(), self.settled(silent=["n1", "n2", "n3"])
        for cluster in (exact, inferred):
            cluster.isolate("n1")
            cluster.advance(DOWN - ElectConfig().lease_margin + HB)
        self.assertEqual(exact.writers(), ["n1"])
        self.assertEqual(inferred.writers(), [])

    def test_cutting_one_direction_can_fool_an_inferred_lease(self) -> None:
        """Which the checker measures and does not count: R8 does not promise more."""
        cluster = SimulatedCluster(seed=1, silent=["n1"])
        self.assertTrue(cluster.promises_one_writer)
        cluster.cut_one_way("n1", "n2")
        self.assertFalse(cluster.promises_one_writer)

    def test_recover_ends_all_faults(self) -> None:
        cluster = self.settled(5)
        cluster.crash("n1")
        cluster.pause("n2")
        cluster.fail_disk("n3")
        cluster.isolate("n4")
        cluster.advance(DOWN)
        cluster.recover()
        leader = cluster.settle()
        cluster.advance(DOWN)
        self.assertEqual(cluster.leader(), leader)

    def test_what_never_settles_says_so(self) -> None:
        cluster = SimulatedCluster(seed=1)
        cluster.crash("n1")
        cluster.crash("n2")
        error = self.assertRaises(Violation, cluster.settle, 20)
        self.assertIn("no primary that all follow in 20 s", str(error))


class AnswersOfAnEarlierConnection(SynchronousTestCase):
    def test_an_old_heartbeat_does_not_unseat_the_primary(self) -> None:
        """What n1 said as a replica reaches n3 after n3 has come to follow it.

        If n3 then forgot n1, it would vote for n2 while n1 still holds the lease
        that n3 has confirmed.
        """
        cluster = SimulatedCluster(seed=1, max_delay=HB / 2)
        cluster.settle()
        cluster.crash("n1")
        cluster.advance(2 * DOWN)
        cluster.restart("n1")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.leader(), "n2")

        connection = cluster.nodes["n1"].links["n3"].connection
        assert connection is not None
        while not connection.there.queue:
            cluster.advance(HB / 20)
        cluster.reset("n1", "n3", straggle=4 * DOWN)
        late = cluster.now + 4 * DOWN
        cluster.crash("n2")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.primaries(), ["n1"])
        cluster.restart("n2")
        cluster.advance(late - DOWN - HB - cluster.now)
        cluster.cut("n1", "n2")
        cluster.advance(late + 1e-6 - cluster.now)
        cluster.cut("n1", "n3")
        cluster.advance(2 * DOWN)
        self.assertEqual(cluster.violations, [])


class Observers(SynchronousTestCase):
    def test_an_observer_hears_of_every_change_and_why(self) -> None:
        cluster = SimulatedCluster(seed=1)
        heard: list[tuple[NodeSnapshot, str]] = []
        cluster.add_observer("n1", lambda snapshot, reason: heard.append((snapshot, reason)))
        cluster.settle()
        cluster.isolate("n1")
        cluster.advance(3 * DOWN)
        roles = [snapshot.role for snapshot, _ in heard]
        self.assertEqual(list(dict.fromkeys(roles)), [Role.REPLICA, Role.CANDIDATE, Role.PRIMARY])
        self.assertIs(roles[-1], Role.REPLICA)
        reasons = " / ".join(reason for _, reason in heard)
        self.assertIn("elected primary of epoch 2", reasons)
        self.assertIn("no lease for down_after", reasons)

    def test_nothing_is_heard_without_a_change(self) -> None:
        cluster = SimulatedCluster(seed=1)
        cluster.settle()
        cluster.advance(2)
        heard: list[NodeSnapshot] = []
        cluster.add_observer("n2", lambda snapshot, _: heard.append(snapshot))
        cluster.advance(10)
        self.assertEqual(heard, [])

    def test_an_observer_outlives_a_restart(self) -> None:
        cluster = SimulatedCluster(seed=1)
        cluster.settle()
        heard: list[str | None] = []
        cluster.add_observer("n3", lambda snapshot, _: heard.append(snapshot.current_primary))
        cluster.crash("n3")
        cluster.restart("n3")
        cluster.settle()
        self.assertEqual(heard[-1], "n1")


class Checking(SynchronousTestCase):
    def test_advance_raises_what_the_checkers_find(self) -> None:
        cluster = SimulatedCluster(seed=1, elector=mutations.NeverSaves)
        error = self.assertRaises(Violation, cluster.advance, 1)
        self.assertEqual(error.promise, "one vote per epoch")

    def test_or_collects_it(self) -> None:
        cluster = SimulatedCluster(seed=1, elector=mutations.NeverSaves, raising=False)
        cluster.advance(1)
        self.assertEqual({v.promise for v in cluster.violations}, {"one vote per epoch"})

    def test_a_healthy_primary_is_watched_nearly_all_the_time(self) -> None:
        checkers = default_checkers()
        healthy = checkers[-1]
        cluster = SimulatedCluster(seed=1, checkers=checkers)
        cluster.advance(20)
        cluster.crash("n3")
        cluster.advance(20)
        cluster.crash("n2")
        self.assertGreater(getattr(healthy, "watched"), 38)  # noqa: B009

    def test_the_trace_tells_the_story(self) -> None:
        cluster = SimulatedCluster(seed=1)
        cluster.settle()
        cluster.crash("n1")
        cluster.advance(2 * DOWN)
        story = "\n".join(cluster.trace)
        for line in (
            "n1   sends OFFER 2, offset 0 to *",
            "n1   elected primary of epoch 2 by",
            "*    crash n1",
            "n2   running in epoch 3: primary n1 is down",
            "n3   sends ACCEPT 3 to n2",
        ):
            self.assertIn(line, story)


class CommandLine(SynchronousTestCase):
    def run_main(self, *arguments: str) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = __main__.main(arguments)
        return status, output.getvalue()

    def test_it_counts(self) -> None:
        status, output = self.run_main("--seeds", "5", "--nodes", "3,4", "--partly")
        self.assertEqual(status, 0)
        self.assertIn("3 nodes, partly: 5 schedules", output)
        self.assertIn("4 nodes, partly: 5 schedules", output)
        self.assertIn("violations: 0", output)

    def test_it_shows_one_schedule(self) -> None:
        status, output = self.run_main("--replay", "3", "--nodes", "3", "--inferred")
        self.assertEqual(status, 0)
        self.assertIn("elected primary of epoch 2", output)
        self.assertIn("*    recover", output)

    def test_it_says_how_to_replay_a_violation(self) -> None:
        mistaken = functools.partial(run_schedule, elector=mutations.NeverSaves)
        self.patch(explore, "run_schedule", mistaken)
        status, output = self.run_main("--seeds", "1", "--start", "4", "--nodes", "3", "--inferred")
        self.assertEqual(status, 1)
        self.assertIn("python -m kevy_elect.testing --replay 4 --nodes 3 --inferred", output)

    def test_it_lists_mistakes(self) -> None:
        few = tuple(Mutation(elector, 5) for elector in (mutations.NeverSaves, Elector))
        self.patch(mutations, "MUTATIONS", few)
        status, output = self.run_main("--mutations")
        self.assertEqual(status, 1)
        self.assertIn("one vote per epoch", output)
        self.assertIn("NOT FOUND", output)

    def test_the_coarse_timings_are_the_narrowest(self) -> None:
        self.assertEqual(COARSE.down_after, 5 * COARSE.hb_interval)
        self.assertEqual(COARSE.pause_after, 1.5 * COARSE.hb_interval)
