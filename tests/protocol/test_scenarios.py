"""Several nodes and what can happen to them, as scripts.

Every checker watches every step of each.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.events import EVENTS_KEPT
from kevy_elect.messages import Accept, Announce, Message, Offer, Outbound, Role
from tests.support.clusters import MOMENT, Cluster
from tests.support.nodes import (
    CONFIG,
    EVERYBODY,
    TICK,
    Node,
    accept,
    announce,
    candidate,
    elected,
    follower,
    heartbeats,
    offer,
    offers,
    primary,
    replica,
    running,
)

DOWN = CONFIG.down_after
STEP = CONFIG.candidate_step
ROUND_TRIP = 2 * Cluster.DELAY
SEVERAL_ELECTIONS = 10 * DOWN


def settled(members: str = "abc", *, witnesses: str = "") -> tuple[Cluster, str]:
    """A cluster that has been running for a while, and its primary."""
    net = Cluster(members, witnesses=witnesses)
    leader = net.elect()
    net.advance(2 * DOWN)
    return net, leader


class Starting(SynchronousTestCase):
    def test_a_new_cluster_elects_the_best_at_once(self) -> None:
        net = Cluster("abc")
        took = net.advance_until(net.agreed, within=MOMENT + TICK)
        self.assertLess(took, DOWN / 4)
        self.assertEqual(net.snapshot("a").role, Role.PRIMARY)
        self.assertEqual(net.epochs(), {"a": 2, "b": 2, "c": 2})
        net.advance(MOMENT)
        for node in net.nodes.values():
            self.assertEqual(node.elector.primary_addr, "a:6379")

    def test_the_one_with_most_data(self) -> None:
        net = Cluster("abcde", offsets={"d": 7, "b": 6})
        self.assertEqual(net.elect(), "d")

    def test_one_member(self) -> None:
        net = Cluster("a")
        net.advance(TICK)
        self.assertEqual(net.writers(), ["a"])
        net.advance(DOWN)
        self.assertEqual(net.elected, {2: "a"})
        net.crash("a")
        net.restart("a")
        self.assertEqual(net.writers(), [])
        net.elect()
        self.assertEqual(net.elected, {2: "a", 3: "a"})

    def test_two_members(self) -> None:
        net, leader = settled("ab")
        self.assertEqual(leader, "a")
        net.crash("b")
        net.advance_until(lambda: not net.writers(), within=DOWN)
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.snapshot("a").role, Role.REPLICA)
        net.restart("b")
        net.elect()

    def test_four_members_in_halves_have_no_primary(self) -> None:
        net, leader = settled("abcd")
        net.cut("a", "c")
        net.cut("a", "d")
        net.cut("b", "c")
        net.cut("b", "d")
        net.advance_until(lambda: not net.writers(), within=DOWN)
        epochs = net.epochs()
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), [])
        self.assertEqual(net.epochs(), epochs)
        net.heal()
        net.elect()
        self.assertEqual(leader, "a")

    def test_four_members_do_without_one(self) -> None:
        net, leader = settled("abcd")
        net.crash(leader)
        self.assertEqual(net.elect(), "b")

    def test_a_witness_helps_to_elect(self) -> None:
        net, _ = settled("abc", witnesses="c")
        net.crash("a")
        self.assertEqual(net.elect(), "b")
        net.crash("b")
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.snapshot("c").role, Role.REPLICA)
        net.restart("a")
        self.assertEqual(net.elect(), "a")
        self.assertNotIn("c", net.elected.values())

    def test_a_cluster_that_was_stopped_starts_again(self) -> None:
        net, _ = settled()
        net.crash("a")
        net.crash("b")
        net.crash("c")
        net.advance(60)
        for node_id in "cab":
            net.restart(node_id)
        took = net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        self.assertGreaterEqual(took, DOWN)
        self.assertLess(took, DOWN + MOMENT)


class FailingPrimaries(SynchronousTestCase):
    def test_a_primary_that_dies_is_replaced_after_down_after(self) -> None:
        net, leader = settled()
        net.crash(leader)
        took = net.advance_until(net.agreed, within=DOWN + MOMENT)
        self.assertEqual(net.writers(), ["b"])
        self.assertGreater(took, DOWN - CONFIG.hb_interval)

    def test_a_primary_that_restarts_as_replica_is_not_waited_for(self) -> None:
        net, leader = settled()
        net.crash(leader)
        net.advance(1)
        net.restart(leader)
        took = net.advance_until(net.agreed, within=MOMENT)
        self.assertLess(took, DOWN / 4)
        self.assertEqual(net.writers(), ["b"])
        self.assertEqual(net.elected, {2: "a", 3: "b"})

    def test_a_primary_cut_off_loses_its_lease_before_another_is_elected(self) -> None:
        net, leader = settled()
        net.isolate(leader)
        net.advance_until(lambda: not net.writers(), within=DOWN - CONFIG.ack_margin)
        self.assertEqual(net.snapshot("b").role, Role.REPLICA)
        net.advance_until(lambda: net.writers() == ["b"], within=CONFIG.hb_interval + MOMENT)
        net.heal()
        net.advance(SEVERAL_ELECTIONS)
        self.assertTrue(net.agreed())
        self.assertEqual(net.writers(), ["b"])
        self.assertEqual(net.snapshot("b").epoch, 3)

    def test_an_old_primary_that_never_got_the_announce(self) -> None:
        net, leader = settled()
        net.lose(lambda _, to, message: to == leader and isinstance(message, Announce))
        net.isolate(leader)
        net.advance_until(lambda: net.writers() == ["b"], within=2 * DOWN)
        net.heal()
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        old = net.snapshot(leader)
        self.assertEqual((old.role, old.current_primary), (Role.REPLICA, "b"))
        self.assertIsNone(net.nodes[leader].elector.primary_addr)
        net.lose(None)
        net.advance(CONFIG.announce_interval + MOMENT)
        self.assertEqual(net.nodes[leader].elector.primary_addr, "b:6379")

    def test_a_voter_that_never_got_the_announce(self) -> None:
        net = Cluster("abc")
        net.lose(lambda _, to, message: to == "b" and isinstance(message, Announce))
        net.elect()
        self.assertEqual(net.nodes["b"].disk.load(), (2, "a"))
        self.assertEqual(
            (net.snapshot("b").current_primary, net.nodes["b"].elector.primary_epoch), ("a", 2)
        )
        self.assertIsNone(net.nodes["b"].elector.primary_addr)
        net.advance(3 * DOWN)
        self.assertEqual(net.writers(), ["a"])
        net.lose(None)
        net.advance(CONFIG.announce_interval + MOMENT)
        self.assertEqual(net.nodes["b"].elector.primary_addr, "a:6379")
        self.assertEqual(net.elected, {2: "a"})

    def test_a_primary_that_votes_does_not_stay_primary(self) -> None:
        old = elected("a", epoch=3)
        old.live(DOWN)
        for peer in "bc":
            old.elector.set_acknowledging(peer, acknowledging=True)  # so that they are told
        self.assertEqual(old.hear(offer("b", 4)), [Outbound("b", Accept(4, "a"))])
        self.assertEqual((old.role, old.primary), (Role.REPLICA, None))
        said = {out.message for out in heartbeats(old.live(DOWN, candidate("b", 4)))}
        self.assertEqual(said, {replica("a", 4)})


class HealthyPrimaries(SynchronousTestCase):
    """A healthy primary is never deposed by a node that merely cannot see it."""

    def test_a_cut_link_to_one_replica_deposes_nobody(self) -> None:
        net, leader = settled()
        net.cut(leader, "b")
        for _ in range(40):
            net.advance(1)
            self.assertEqual(net.writers(), [leader])
            self.assertEqual((net.snapshot(leader).epoch, net.snapshot("c").epoch), (2, 2))
            self.assertEqual(net.snapshot("c").current_primary, leader)
        # It was b that tried, and c that knew better.
        self.assertGreater(net.snapshot("b").epoch, 2)
        self.assertIn("refused OFFER 3 of b: primary a was heard", net.texts("c", "refused")[0])
        net.heal()
        net.advance(2)
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        self.assertEqual(net.elected, {2: leader})

    def test_the_one_that_ran_in_vain_is_led_again_when_it_is_needed(self) -> None:
        net, leader = settled()
        net.cut(leader, "b")
        net.advance(20)
        net.heal()
        net.elect()
        net.crash("c")  # now only b can back the primary, from its higher epoch
        net.advance(2 * DOWN)
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), [leader])
        self.assertGreaterEqual(net.snapshot(leader).epoch, net.snapshot("b").epoch)

    def test_an_isolated_replica_returns_after_many_times_down_after(self) -> None:
        net, leader = settled()
        net.isolate("c")
        net.advance(100 * DOWN)
        self.assertEqual(net.epochs(), {"a": 2, "b": 2, "c": 2})
        net.heal()
        for _ in range(20):
            net.advance(1)
            self.assertTrue(net.agreed())
        self.assertEqual(net.writers(), [leader])
        self.assertEqual(net.epochs(), {"a": 2, "b": 2, "c": 2})

    def test_a_restarted_replica_disturbs_nobody(self) -> None:
        net, leader = settled()
        for _ in range(5):
            net.crash("b")
            net.restart("b")
            net.advance(DOWN / 2)
            self.assertEqual(net.writers(), [leader])
        self.assertTrue(net.agreed())
        self.assertEqual(net.epochs(), {"a": 2, "b": 2, "c": 2})


class SteppingDown(SynchronousTestCase):
    def test_another_is_elected_without_waiting_and_the_one_rests(self) -> None:
        net, leader = settled()
        net.step_down(leader, rest=10 * DOWN)
        self.assertEqual(net.writers(), [])
        net.advance(MOMENT + CONFIG.hb_interval + STEP)
        (successor,) = net.writers()
        self.assertNotEqual(successor, leader)
        net.crash(successor)
        net.advance(2 * DOWN)
        self.assertNotIn(leader, net.writers())

    def test_one_that_rests_runs_again_afterwards(self) -> None:
        net, leader = settled()
        net.step_down(leader, rest=2 * DOWN)
        net.advance(DOWN)
        (successor,) = net.writers()
        net.crash(successor)
        net.advance(2 * DOWN)
        self.assertEqual(net.writers(), [leader])

    def test_a_replica_that_steps_down_only_rests(self) -> None:
        node = follower("b", of="a")
        node.elector.step_down(node.now, DOWN, "whatever")
        self.assertEqual((node.elector.current_primary, node.role), ("a", Role.REPLICA))


class BestCandidates(SynchronousTestCase):
    """Those that should go first but cannot win do not block the others for ever."""

    def test_one_that_still_hears_the_primary(self) -> None:
        net, leader = settled("abcde")
        net.cut(leader, "c")
        net.cut(leader, "d")
        net.cut(leader, "e")
        net.advance_until(lambda: net.writers() == ["c"], within=DOWN + STEP + MOMENT)
        self.assertEqual(net.elected, {2: "a", 3: "c"})
        net.heal()
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), ["c"])
        self.assertEqual(set(net.elected.values()), {"a", "c"})

    def test_one_that_hears_nobody(self) -> None:
        net, leader = settled("abcde")
        for other in "cde":
            net.cut_one_way(other, "b")
        net.advance(CONFIG.hb_interval)  # it has to find that out before the others vote
        net.crash(leader)
        took = net.advance_until(lambda: net.writers() == ["c"], within=DOWN + STEP + MOMENT)
        self.assertGreater(took, DOWN + STEP - CONFIG.hb_interval)
        self.assertEqual(net.snapshot("b").epoch, 2)
        net.heal()
        net.advance_until(net.agreed, within=DOWN)
        self.assertEqual(net.writers(), ["c"])


class Duels(SynchronousTestCase):
    def test_two_candidates_of_one_epoch_settle_in_a_round_trip(self) -> None:
        a, b = running("a", epoch=3), running("b", epoch=3)
        # Their OFFERs cross ...
        to_a, to_b = b.hear(offer("a", 3)), a.hear(offer("b", 3))
        self.assertEqual((to_a, to_b), ([Outbound("a", Accept(3, "b"))], []))
        # ... and the answer to one of them decides.
        told = [primary("a", 3), announce("a", 3)]
        self.assertEqual(a.hear(to_a[0].message), [Outbound(EVERYBODY, each) for each in told])
        b.hear(announce("a", 3))
        self.assertEqual((a.role, b.role, b.primary), (Role.PRIMARY, Role.REPLICA, "a"))

    def test_in_a_cluster_too(self) -> None:
        net, leader = settled("abcde")
        net.crash(leader)
        net.cut("b", "c")
        net.lose(lambda _, __, message: isinstance(message, Offer))
        net.advance(DOWN + MOMENT)
        for rival in "bc":
            self.assertEqual(
                (net.snapshot(rival).role, net.snapshot(rival).epoch), (Role.CANDIDATE, 3)
            )
        net.heal()
        net.lose(None)
        net.advance_until(net.agreed, within=CONFIG.hb_interval + MOMENT)
        self.assertEqual(list(net.elected), [2, 3])  # by whose OFFER comes first

    def test_with_a_cut_link_between_them_the_others_decide(self) -> None:
        net, leader = settled("abcde")
        net.crash(leader)
        net.cut("b", "c")
        took = net.advance_until(lambda: bool(net.writers()), within=SEVERAL_ELECTIONS)
        two_elections = CONFIG.election_timeout + CONFIG.election_backoff
        self.assertLess(took, DOWN + two_elections + CONFIG.election_backoff_jitter + MOMENT)
        self.assert_one_wins_for_good(net)

    def test_and_if_the_votes_are_split_a_later_epoch_does(self) -> None:
        net, leader = settled("abcde")
        net.crash(leader)
        net.cut("b", "c")

        def split(sender: str, to: str, message: Message) -> bool:
            first = isinstance(message, Offer) and message.epoch == 3
            return first and sender + to in ("be", "cd")

        net.lose(split)
        net.advance(DOWN + MOMENT)
        self.assertEqual(
            (net.snapshot("b").role, net.snapshot("c").role),
            (Role.CANDIDATE, Role.CANDIDATE),
        )
        self.assertEqual((net.snapshot("b").epoch, net.snapshot("c").epoch), (3, 3))
        self.assertEqual(net.nodes["d"].disk.load(), (3, "b"))
        self.assertEqual(net.nodes["e"].disk.load(), (3, "c"))
        net.advance_until(lambda: bool(net.writers()), within=SEVERAL_ELECTIONS)
        self.assertNotIn(3, net.elected)
        self.assert_one_wins_for_good(net)

    def assert_one_wins_for_good(self, net: Cluster) -> None:
        (winner,) = net.writers()
        for _ in range(20):
            net.advance(1)
            self.assertEqual(net.writers(), [winner])
        for voter in "de":
            self.assertEqual(net.snapshot(voter).current_primary, winner)
        net.heal()
        # The loser still waits for the old primary, which it did not see replaced, to say so.
        net.restart("a")
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), [winner])


class Pauses(SynchronousTestCase):
    def test_old_heartbeats_in_the_sockets_give_no_lease(self) -> None:
        net, leader = settled()
        net.pause(leader)
        net.advance(CONFIG.hb_interval * 3)  # these wait in its sockets ...
        net.isolate(leader)
        net.advance_until(lambda: net.writers() == ["b"], within=2 * DOWN)
        net.advance(60)
        net.resume(leader)  # ... and are read now
        self.assertEqual(net.snapshot(leader).role, Role.PRIMARY)
        for _ in range(80):
            self.assertFalse(net.snapshot(leader).can_write)
            self.assertFalse(net.snapshot(leader).has_quorum)
            net.advance(TICK)
        self.assertEqual(net.snapshot(leader).role, Role.REPLICA)
        net.heal()
        net.advance_until(net.agreed, within=SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), ["b"])

    def test_a_paused_primary_that_was_replaced_follows(self) -> None:
        net, leader = settled()
        net.pause(leader)
        net.advance(60)
        self.assertEqual(net.writers(), ["b"])
        net.resume(leader)
        net.advance(2)
        self.assertTrue(net.agreed())
        self.assertEqual(net.writers(), ["b"])

    def test_a_short_pause_costs_neither_an_acknowledged_lease_nor_the_role(self) -> None:
        net, leader = settled()
        net.pause(leader)
        net.advance(CONFIG.pause_after + 2 * TICK)
        self.assertEqual(net.writers(), [leader])
        net.resume(leader)
        self.assertEqual(net.writers(), [leader])
        net.advance_until(net.agreed, within=DOWN)
        self.assertEqual(net.elected, {2: leader})

    def test_a_paused_replica_does_not_run_when_it_resumes(self) -> None:
        net, leader = settled()
        net.pause("b")
        net.advance(60)
        net.resume("b")
        net.advance(DOWN)
        self.assertTrue(net.agreed())
        self.assertEqual(net.epochs(), {"a": 2, "b": 2, "c": 2})
        self.assertEqual(net.writers(), [leader])


class RestartedVoters(SynchronousTestCase):
    def test_it_does_not_vote_twice_in_an_epoch_nor_too_soon_in_the_next(self) -> None:
        first = follower("c", of="a", epoch=3)
        first.live(DOWN, replica("b", 3))
        self.assertEqual(first.hear(offer("b", 4)), [Outbound("b", Accept(4, "c"))])
        again = Node("c", ballot=first.ballot)
        self.assertEqual(again.epoch, 4)
        again.hear(offer("a", 4), offer("b", 4))
        again.live(DOWN - TICK, replica("a", 3), candidate("b", 4))
        again.hear(offer("a", 5))
        self.assertEqual([out for out in again.sent if isinstance(out.message, Accept)], [])
        again.live(TICK, replica("a", 3), replica("b", 4))
        self.assertEqual(again.hear(offer("a", 4)), [])
        self.assertEqual(again.hear(offer("a", 5)), [Outbound("a", Accept(5, "c"))])

    def test_quick_restarts_of_all_voters_make_no_two_writers(self) -> None:
        # The candidate that they voted for is cut off at once; the others must not elect again
        # before its lease is over. The checkers would notice.
        net, leader = settled("abcde")
        net.crash(leader)
        net.advance_until(lambda: net.writers() == ["b"], within=2 * DOWN)
        net.isolate("b")
        for voter in "cde":
            net.crash(voter)
            net.restart(voter)
        net.advance_until(lambda: net.writers() not in ([], ["b"]), within=SEVERAL_ELECTIONS)


class FullDisks(SynchronousTestCase):
    def test_it_neither_offers_nor_accepts_but_beats_and_follows(self) -> None:
        net, leader = settled("abcde")
        net.fail_disk("b")
        net.crash(leader)
        net.advance_until(lambda: net.writers() == ["c"], within=DOWN + STEP + MOMENT)
        net.advance(MOMENT)
        self.assertTrue(net.agreed())  # b follows
        self.assertEqual((net.snapshot("b").current_primary, net.snapshot("b").epoch), ("c", 3))
        self.assertEqual(net.nodes["b"].disk.load()[0], 2)
        net.advance(2 * DOWN)
        self.assertNotIn("b", net.snapshot("c").down_peers)  # and beats
        critical = [event for event in net.nodes["b"].elector.events if event.critical]
        self.assertIn("the simulated disk refuses to save", critical[0].text)
        net.mend_disk("b")
        net.crash("c")
        self.assertEqual(net.elect(), "b")

    def test_its_vote_is_missing(self) -> None:
        net, leader = settled()
        net.fail_disk("c")
        net.crash(leader)
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), [])
        self.assertIn("the ballot could not be saved", net.texts("c", "refused")[0])
        net.mend_disk("c")
        net.elect()

    def test_a_primary_whose_disk_fills_up_stays(self) -> None:
        net, leader = settled()
        net.fail_disk(leader)
        net.advance(SEVERAL_ELECTIONS)
        self.assertEqual(net.writers(), [leader])
        self.assertEqual(net.elected, {2: leader})

    def test_a_ballot_of_its_own_is_all_that_a_new_life_knows(self) -> None:
        net, _ = settled()
        net.crash("c")
        net.restart("c")
        self.assertEqual(net.snapshot("c").epoch, 2)
        net.advance(TICK + ROUND_TRIP)
        net.advance_until(net.agreed, within=DOWN)


class Events(SynchronousTestCase):
    def test_a_refused_offer_says_why(self) -> None:
        node = follower("c", of="a")
        node.now += 0.13
        node.hear(offer("b", 7))
        self.assertEqual(
            node.texts("refused"), ["refused OFFER 7 of b: primary a was heard 0.13 s ago"]
        )

    def test_every_reason_has_its_words(self) -> None:
        leader = elected("a", epoch=3)
        leader.hear(offer("b", 7))
        started = Node("c", epoch=3)
        started.now += 0.5
        started.hear(offer("b", 7))
        voter = Node("c")
        voter.hear(replica("a", 1), replica("b", 1), offer("a", 2))
        voter.now += 0.25
        voter.hear(offer("b", 3))
        behind = follower("c", of="a", offset=9)
        behind.hear(replica("a", 4), offer("b", 7, 8))
        paused = follower("c", of="a")
        paused.sleep(5)
        paused.hear(offer("b", 7))
        old = follower("c", of="a")
        old.hear(offer("b", 3))
        texts = [node.texts("refused") for node in (leader, started, voter, behind, paused, old)]
        self.assertEqual(
            texts,
            [
                ["refused OFFER 7 of b: this node is primary and holds the lease"],
                ["refused OFFER 7 of b: started 0.50 s ago, it may have forgotten a vote"],
                ["refused OFFER 3 of b: voted for a 0.25 s ago"],
                ["refused OFFER 7 of b: its offset 8 is behind this node's, 9"],
                ["refused OFFER 7 of b: this process did not run until just now"],
                ["refused OFFER 3 of b: epoch 3 is not above 3"],
            ],
        )

    def test_a_repeated_offer_is_recorded_once(self) -> None:
        node = follower("c", of="a")
        for _ in range(10):
            node.live(CONFIG.hb_interval, primary("a", 3), offer("b", 7))
        self.assertEqual(len(node.events("refused")), 1)
        node.hear(offer("b", 8))
        self.assertEqual(len(node.events("refused")), 2)

    def test_candidacies_and_changes_of_role(self) -> None:
        node = follower("b", of="a")
        node.live(DOWN, replica("c", 3))
        self.assertIn("running in epoch 4: primary a is down", node.texts("candidacy"))
        node.hear(accept("c", 4))
        self.assertIn("elected primary of epoch 4 by b, c", node.texts("role"))
        node.hear(announce("c", 5))
        self.assertIn("primary no more: c is primary of epoch 5", node.texts("role"))
        self.assertIn("following c, primary of epoch 5", node.texts("primary"))

    def test_they_tell_when(self) -> None:
        node = follower("c", of="a")
        node.now += 1
        node.hear(offer("b", 7))
        self.assertEqual([event.at for event in node.events("refused")], [node.now])

    def test_the_newest_256_are_kept(self) -> None:
        node = follower("c", of="a")
        before = node.elector.events.count
        for epoch in range(10, 310):
            node.hear(offer("b", epoch))
        self.assertEqual(EVENTS_KEPT, 256)
        self.assertEqual(len(node.elector.events), 256)
        self.assertEqual(node.elector.events.count, before + 300)
        self.assertIn("OFFER 309 of b", node.elector.events[-1].text)
        self.assertIn("OFFER 54 of b", node.elector.events[0].text)

    def test_a_quiet_cluster_records_nothing(self) -> None:
        net, _ = settled()
        before = [node.elector.events.count for node in net.nodes.values()]
        net.advance(60)
        self.assertEqual([node.elector.events.count for node in net.nodes.values()], before)

    def test_one_that_cannot_save_says_so_once_for_a_repeated_offer(self) -> None:
        node = follower("c", of="a")
        node.hear(replica("a", 4))
        node.ballot.full = True
        for _ in range(10):
            node.now += TICK
            node.hear(offer("b", 7))
        self.assertEqual(len(node.events("refused")), 1)
        self.assertEqual({event.critical for event in node.events("ballot")}, {True})
        self.assertEqual(offers(node.sent), [])
