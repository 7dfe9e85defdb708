"""Whole clusters whose members drive data servers, in virtual time (D1 to D6)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.elector import Elector
from kevy_elect.testing import explore, mutations
from kevy_elect.testing.checkers import default_checkers
from kevy_elect.testing.data.checkers import (
    ConfirmedSurvives,
    OnlyPrimariesServe,
    SwitchoverKeepsAll,
)
from kevy_elect.testing.data.cluster import DataCluster, Pace
from kevy_elect.testing.schedules import COARSE, Mode, draw_schedule, run_schedule
from tests.support.unmeasured import Unmeasured

DOWN = COARSE.down_after
SURVIVES = ConfirmedSurvives.promise
QUICK = Pace()


class RandomFaults(Unmeasured):
    """Nothing that clients were told is confirmed is lost, and no server is left behind."""

    def explore(self, seeds: int, nodes: int) -> None:
        summary = explore.explore(range(seeds), nodes, Mode.DATA_SERVERS)
        self.assertEqual(summary.failures, ())
        self.assertEqual(len(summary.settling), seeds)

    def test_three_nodes(self) -> None:
        self.explore(100, 3)

    def test_five_nodes(self) -> None:
        self.explore(30, 5)

    def test_one_seed_is_one_run(self) -> None:
        schedule = draw_schedule(7, 3, Mode.DATA_SERVERS)
        one, other = (run_schedule(schedule, tracing=True).trace for _ in range(2))
        self.assertEqual(one, other)
        self.assertIn("the server takes writes", "\n".join(one))


class Mistakes(Unmeasured):
    """Each rule that is taken out is missed at some seed, where all is well with it."""

    def assert_found(self, mistaken: type[Elector], seed: int) -> None:
        schedule = draw_schedule(seed, 3, Mode.DATA_SERVERS)
        broken = run_schedule(schedule, elector=mistaken).violations
        self.assertIn(SURVIVES, {violation.promise for violation in broken})
        self.assertEqual(run_schedule(schedule).violations, [])

    def test_a_vote_before_the_server_is_frozen(self) -> None:
        self.assert_found(mutations.VotesUnfrozen, 637)

    def test_a_candidate_that_runs_before_its_server_is_frozen(self) -> None:
        self.assert_found(mutations.RunsUnfrozen, 321)

    def test_a_server_that_follows_an_older_primary_than_it_voted_for(self) -> None:
        self.assert_found(mutations.FollowsOlderData, 928)

    def test_a_server_that_goes_on_following_a_primary_that_is_down(self) -> None:
        self.assert_found(mutations.FollowsTheSilent, 3791)

    def test_a_vote_without_the_server(self) -> None:
        self.assert_found(mutations.VotesWithoutServer, 1372)

    def test_a_vote_of_a_member_whose_server_lost_what_it_had(self) -> None:
        self.assert_found(mutations.VotesEmptied, 1159)

    def test_a_vote_for_less_than_what_may_be_of_any_epoch(self) -> None:
        self.assert_found(mutations.VotesForLess, 23848)

    def test_lengths_of_different_histories_compared(self) -> None:
        self.assert_found(mutations.ComparesLengths, 704)


class Scenarios(SynchronousTestCase):
    def cluster(self, pace: Pace = QUICK, seed: object = 1) -> DataCluster:
        self.survives, self.switched = ConfirmedSurvives(), SwitchoverKeepsAll()
        checkers = [*default_checkers(), self.survives, self.switched, OnlyPrimariesServe()]
        return DataCluster(3, COARSE, pace=pace, seed=seed, checkers=checkers)

    def test_clients_write_and_followers_confirm(self) -> None:
        cluster = self.cluster()
        leader = cluster.settle()
        cluster.advance(10)
        self.assertEqual([n for n, s in cluster.servers.items() if s.takes_writes], [leader])
        self.assertTrue(cluster.are_in_sync())
        self.assertGreater(len(self.survives.all), 10)

    def test_what_an_unfenced_primary_confirms_is_on_the_next_ones_server(self) -> None:
        cluster = self.cluster()
        leader = cluster.settle()
        cluster.advance(DOWN)
        cluster.crash(leader)
        before = len(self.survives.all)
        cluster.advance(DOWN / 2)
        self.assertGreater(len(self.survives.all), before)
        cluster.advance(2 * DOWN)
        self.assertTrue(cluster.servers[leader].takes_writes)
        (new,) = cluster.primaries()
        self.assertLessEqual(self.survives.all, set(cluster.servers[new].log))
        cluster.recover()
        cluster.settle()
        cluster.stop_clients()
        cluster.advance_until(cluster.are_alike, 3 * DOWN)

    def test_a_primary_that_is_elected_again_unheard_feeds_no_follower(self) -> None:
        """A follower has nothing of the primary's data yet when it loses all links. The others
        elect that primary again, and its node dies. Nobody fences its server, which the follower's
        reaches first. What it got would be confirmed, of the later epoch, and pass for the
        earlier one's, so that one that has less of the later one's would be elected."""
        cluster = self.cluster()
        leader = cluster.settle()
        cluster.advance(DOWN)
        late, other = (name for name in cluster.nodes if name != leader)
        cluster.kill_server(late)
        cluster.cut(leader, late)
        cluster.cut(other, late)
        cluster.start_server(late)
        cluster.advance(DOWN / 2)
        cluster.order(cluster.nodes[other], lambda elector, now: elector.stand_aside(now, 4 * DOWN))
        cluster.step_down(leader)
        cluster.advance_until(lambda: cluster.writers() == [], DOWN)
        cluster.advance_until(lambda: cluster.writers() == [leader], 4 * DOWN)
        cluster.advance(DOWN / 2)
        cluster.cut(leader, other)
        cluster.crash(leader)
        cluster.mend(leader, late)
        cluster.advance(DOWN / 2)
        self.assertTrue(cluster.servers[leader].takes_writes)
        self.assertEqual(cluster.servers[late].log, [])
        cluster.mend(other, late)
        cluster.advance(5 * DOWN)  # long enough to elect the other one
        cluster.recover()
        cluster.settle()
        cluster.stop_clients()
        cluster.advance_until(cluster.are_alike, 3 * DOWN)

    def test_a_switchover_loses_nothing_that_was_acknowledged(self) -> None:
        for seed in range(5):
            cluster = self.cluster(Pace(writing=0.05, lag=0.2), seed)
            leader = cluster.settle()
            cluster.advance(2 * DOWN)
            target = next(name for name in cluster.nodes if name != leader)
            cluster.switch_over(target)
            cluster.advance(DOWN)
            self.assertEqual((cluster.leader(), self.switched.checked), (target, 1))

    def test_an_emptied_server_is_filled_again(self) -> None:
        cluster = self.cluster(Pace(copying=1.0))
        leader = cluster.settle()
        cluster.advance(DOWN)
        emptied = next(name for name in cluster.nodes if name != leader)
        cluster.kill_server(emptied)
        self.assertFalse(cluster.servers[emptied].running)
        cluster.start_server(emptied)
        self.assertEqual(cluster.servers[emptied].log, [])
        cluster.advance_until(cluster.are_in_sync, DOWN)

    def test_one_server_at_a_time_loses_its_memory(self) -> None:
        cluster = self.cluster()
        cluster.settle()
        cluster.advance(DOWN)
        for name in cluster.nodes:
            cluster.kill_server(name)
        self.assertEqual(sum(not server.running for server in cluster.servers.values()), 1)
