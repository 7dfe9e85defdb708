"""D1 to D6: what a member owes to the data server that it drives."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import ConfigError
from kevy_elect.events import Cause
from kevy_elect.local_server import (
    FREEZE,
    LONGEST,
    NEWEST,
    STAY,
    UNKNOWN,
    Duty,
    Task,
    join_offset,
    split_offset,
)
from kevy_elect.messages import Accept, Heartbeat, Outbound, Role
from tests.support.nodes import (
    CONFIG,
    TICK,
    Node,
    accept,
    address,
    announce,
    candidate,
    offer,
    offers,
    primary,
    replica,
)


class Driving(Node):
    """A node with a data server that is as fast as it is told to be."""

    def __init__(self, node_id: str = "b", members: str = "abc", *, epoch: int = 3) -> None:
        super().__init__(node_id, members, epoch=epoch, drives_server=True)

    @property
    def duty(self) -> Duty:
        return self.elector.duty(self.now)

    def freeze(self, data_epoch: int = 0, length: int = 0) -> list[Outbound]:
        """The server was frozen, and has so much."""
        self.elector.server_frozen(join_offset(data_epoch, length), self.now)
        return self.tick()

    def lost(self, newest: int) -> list[Outbound]:
        """The server was frozen, and found empty; it once had this data epoch."""
        self.elector.server_frozen(0, self.now, newest)
        return self.tick()

    def unknown(self, data_epoch: int, length: int) -> list[Outbound]:
        """The server was frozen, and its data may be of any data epoch from this one on."""
        self.elector.server_frozen(join_offset(data_epoch, length), self.now, UNKNOWN)
        return self.tick()

    def promote(self) -> None:
        self.elector.server_promoted(self.now)
        self.tick()

    def lose(self) -> None:
        self.elector.server_lost(self.now, "the data server does not answer")
        self.tick()


def following(of: str = "a", epoch: int = 3, members: str = "abc") -> Driving:
    """A member whose server follows the primary's, of a reign that began in this epoch."""
    node = Driving(members=members, epoch=epoch)
    node.hear(announce(of, epoch))
    node.live(CONFIG.down_after, primary(of, epoch, join_offset(epoch, 7)), replica("c", epoch))
    node.elector.server_released()
    node.elector.set_repl_offset(join_offset(epoch, 7))
    node.sent.clear()
    return node


def orphaned(members: str = "abc") -> Driving:
    """One whose primary is DOWN, with a server that still follows it."""
    node = following(members=members)
    node.live(CONFIG.down_after, replica("c", 3))
    return node


def elected() -> Driving:
    """A primary of epoch 4 whose server is frozen with 9 of data epoch 3."""
    node = orphaned()
    while node.duty != FREEZE:
        node.live(TICK, replica("c", 3))
    node.freeze(3, 9)
    node.hear(accept("c", 4))
    assert node.role is Role.PRIMARY
    node.sent.clear()
    return node


def accepts(sent: list[Outbound]) -> list[Outbound]:
    return [out for out in sent if isinstance(out.message, Accept)]


class D1Tests(SynchronousTestCase):
    """An OFFER is answered with what the frozen server has."""

    def test_an_offer_waits_until_the_server_is_frozen(self) -> None:
        node = orphaned()
        self.assertEqual(node.hear(offer("c", 5, join_offset(3, 9))), [])
        self.assertEqual(node.duty, FREEZE)
        self.assertIn(Outbound("c", Accept(5, "b")), node.freeze(3, 9))
        self.assertEqual(node.epoch, 5)

    def test_what_came_until_the_freeze_decides(self) -> None:
        node = orphaned()
        node.hear(offer("c", 5, join_offset(3, 9)))
        self.assertEqual(accepts(node.freeze(3, 10)), [])
        (refused,) = node.events("refused")
        self.assertEqual((refused.cause, refused.member), (Cause.R3_5, "c"))
        self.assertEqual(node.epoch, 3)

    def test_a_frozen_server_votes_at_once(self) -> None:
        node = orphaned()
        node.freeze(3, 9)
        self.assertEqual(
            node.hear(offer("c", 5, join_offset(3, 9))), [Outbound("c", Accept(5, "b"))]
        )

    def test_the_last_of_two_offers_is_judged(self) -> None:
        node = orphaned()
        node.hear(offer("c", 5, join_offset(3, 9)), offer("c", 6, join_offset(3, 10)))
        self.assertIn(Outbound("c", Accept(6, "b")), node.freeze(3, 10))

    def test_an_offer_that_is_not_repeated_is_not_answered(self) -> None:
        node = orphaned()
        node.hear(offer("c", 5, join_offset(3, 9)))
        node.now += 2 * CONFIG.hb_interval + 0.01
        self.assertEqual(accepts(node.freeze(3, 9)), [])

    def test_an_offer_that_is_refused_anyway_does_not_freeze(self) -> None:
        node = following()
        node.hear(offer("c", 5, join_offset(3, 9)))
        self.assertEqual(node.duty.task, Task.FOLLOW)

    def test_a_repeated_offer_that_waits_is_noted_once(self) -> None:
        node = orphaned()
        for _ in range(3):
            node.hear(offer("c", 5, join_offset(3, 9)))
        self.assertEqual([event.cause for event in node.events("refused")], [Cause.D1])

    def test_a_candidate_withdraws_only_with_a_frozen_server(self) -> None:
        node = orphaned()
        while not offers(node.live(TICK, replica("c", 3))):
            if node.duty == FREEZE:
                node.freeze(3, 9)
        node.elector.server_released()
        self.assertEqual(node.hear(offer("a", 4, join_offset(3, 9))), [])
        self.assertEqual(node.role, Role.CANDIDATE)
        self.assertIn(Outbound("a", Accept(4, "b")), node.freeze(3, 9))
        self.assertEqual(node.role, Role.REPLICA)

    def test_the_incumbent_waits_too(self) -> None:
        node = following()
        self.assertEqual(node.hear(offer("a", 5, join_offset(3, 9))), [])
        self.assertEqual(node.duty, FREEZE)
        self.assertIn(Outbound("a", Accept(5, "b")), node.freeze(3, 12))


class D2Tests(SynchronousTestCase):
    """A candidate freezes its server and asks before it runs."""

    def test_it_runs_once_its_server_is_frozen_and_with_what_that_has(self) -> None:
        node = orphaned()
        sent = node.live(CONFIG.down_after, replica("c", 3))
        self.assertEqual((offers(sent), node.duty), ([], FREEZE))
        (first,) = offers(node.freeze(3, 11))
        self.assertEqual(first.message, offer("b", 4, join_offset(3, 11)))

    def test_the_server_of_a_candidate_stays_frozen(self) -> None:
        node = orphaned()
        node.freeze(3, 11)
        node.live_until_it_runs(replica("c", 3))
        self.assertEqual(node.duty, FREEZE)

    def test_it_follows_again_if_a_primary_appears_before_it_runs(self) -> None:
        node = orphaned()
        while node.duty != FREEZE:
            node.live(TICK, replica("c", 3))
        node.hear(announce("c", 4), primary("c", 4, join_offset(4, 20)))
        node.tick()
        self.assertEqual(node.duty, Duty(Task.FOLLOW, 4, "c", address("c")))

    def test_a_primary_without_lease_runs_again_with_a_frozen_server_only(self) -> None:
        node = elected()
        node.promote()
        node.live(CONFIG.down_after / 2, replica("c", 4))
        node.now += CONFIG.down_after - 0.1
        sent = node.live(CONFIG.down_after / 2, replica("c", 6))
        self.assertEqual((offers(sent), node.duty, node.role), ([], FREEZE, Role.PRIMARY))
        self.assertEqual(len(offers(node.freeze(4, 30))), 1)


class D3Tests(SynchronousTestCase):
    """The server follows no primary below the newest epoch that this node voted or ran in."""

    def test_after_a_vote_it_stays_frozen_until_that_primary_is_there(self) -> None:
        node = following()
        node.hear(offer("a", 5, join_offset(3, 9)))
        node.freeze(3, 9)
        node.hear(primary("a", 3, join_offset(3, 9)))
        self.assertEqual((node.primary, node.duty), ("a", FREEZE))
        node.hear(announce("a", 5), primary("a", 5, join_offset(3, 9)))
        self.assertEqual(node.duty, Duty(Task.FOLLOW, 3, "a", address("a")))

    def test_after_a_lost_election_likewise(self) -> None:
        node = orphaned()
        node.freeze(3, 11)
        node.live_until_it_runs(replica("c", 3))
        node.live(CONFIG.election_timeout, replica("c", 3))
        node.hear(announce("a", 3), primary("a", 3, join_offset(3, 9)))
        node.live(CONFIG.candidate_step, primary("a", 3, join_offset(3, 9)))
        self.assertEqual((node.role, node.primary, node.duty), (Role.REPLICA, "a", FREEZE))

    def test_a_primary_of_an_older_epoch_gets_no_vote_for_less_data(self) -> None:
        """It is followed for want of a better one (R7), and need not have what was confirmed
        since."""
        node = Driving(epoch=5)
        claim = primary("a", 3, join_offset(3, 9))
        node.hear(announce("a", 3))
        node.live(CONFIG.down_after, claim)
        node.freeze(4, 7)
        self.assertEqual(node.primary, "a")
        self.assertEqual(accepts(node.hear(offer("a", 6, join_offset(3, 9)))), [])
        self.assertEqual(node.events("refused")[-1].cause, Cause.R3_5)
        self.assertEqual(len(accepts(node.hear(offer("a", 6, join_offset(4, 7))))), 1)

    def test_a_restarted_member_remembers(self) -> None:
        node = Driving(epoch=5)
        node.hear(announce("a", 3), primary("a", 3, join_offset(3, 9)))
        node.live(CONFIG.down_after, primary("a", 3, join_offset(3, 9)))
        self.assertEqual((node.primary, node.duty), ("a", FREEZE))

    def test_nothing_is_taken_from_a_primary_that_is_down(self) -> None:
        """It may be elected again by others, and its data be of a later epoch than it seems."""
        node = following()
        node.live(CONFIG.down_after / 2)
        self.assertEqual(node.duty.task, Task.FOLLOW)
        node.live(CONFIG.down_after)
        self.assertEqual(node.duty, FREEZE)

    def test_nor_from_one_that_has_stepped_down(self) -> None:
        node = following()
        node.hear(replica("a", 3, join_offset(3, 9)))
        self.assertEqual((node.primary, node.duty), (None, FREEZE))

    def test_a_duty_tells_when_its_primary_was_heard(self) -> None:
        node = following()
        heard = node.now
        node.live(CONFIG.down_after / 2)
        self.assertEqual(node.duty.heard_at, heard)

    def test_what_comes_right_after_a_pause_may_be_old(self) -> None:
        node = following()
        before = node.now
        node.now += CONFIG.down_after / 2
        node.hear(primary("a", 3, join_offset(3, 9)))
        self.assertEqual(node.duty.heard_at, before)
        node.live(CONFIG.down_after, primary("a", 3, join_offset(3, 9)))
        self.assertEqual(node.duty.heard_at, node.now)


class D4Tests(SynchronousTestCase):
    def test_a_primary_renews_with_its_server_promoted_all_the_while(self) -> None:
        node = elected()
        node.promote()
        node.elector.set_connected("a", connected=True)
        ahead = (replica("a", 6), replica("c", 4))
        while not offers(node.live(TICK, *ahead)):
            self.assertTrue(node.can_write())
        node.hear(accept("c", 7))
        self.assertEqual((node.epoch, node.can_write()), (7, True))
        self.assertEqual(node.duty, Duty(Task.PROMOTE, 4))


class D5Tests(SynchronousTestCase):
    """A member whose server does not answer neither votes nor runs."""

    def test_it_does_not_vote(self) -> None:
        node = orphaned()
        node.hear(offer("c", 5, join_offset(9, 9)))
        node.lose()
        self.assertEqual(node.hear(offer("c", 5, join_offset(9, 9))), [])
        node.live(1.0, offer("c", 5, join_offset(9, 9)))
        self.assertEqual(node.epoch, 3)

    def test_it_does_not_run(self) -> None:
        node = orphaned()
        self.assertEqual(offers(node.live(4 * CONFIG.down_after, replica("c", 3))), [])

    def test_a_candidate_gives_up(self) -> None:
        node = orphaned()
        node.freeze(3, 11)
        node.live_until_it_runs(replica("c", 3))
        node.lose()
        node.hear(accept("c", 4))
        self.assertEqual(node.role, Role.REPLICA)

    def test_a_primary_steps_down(self) -> None:
        node = elected()
        node.promote()
        node.lose()
        self.assertEqual((node.role, node.can_write(), node.duty), (Role.REPLICA, False, FREEZE))

    def test_one_whose_server_lost_what_it_had_does_not_vote(self) -> None:
        """It may have confirmed what only c has; a knows the newest history, too."""
        node = orphaned()
        node.hear(replica("a", 3, join_offset(3, 7)), offer("c", 5, join_offset(3, 9)))
        self.assertEqual(accepts(node.lost(3)), [])
        self.assertEqual(node.events("refused")[-1].cause, Cause.D5)

    def test_nor_does_it_run(self) -> None:
        node = orphaned()
        node.lost(3)
        sent = node.live(4 * CONFIG.down_after, replica("a", 3), replica("c", 3, join_offset(3, 1)))
        self.assertEqual(offers(sent), [])

    def test_it_votes_for_the_only_one_that_has_the_newest_history(self) -> None:
        node = orphaned()
        self.assertEqual(accepts(node.lost(3)), [])
        said = replica("a", 3, 9), replica("c", 3, join_offset(3, 9))
        node.live(CONFIG.down_after, *said)
        self.assertEqual(
            accepts(node.hear(offer("c", 5, join_offset(3, 9)))), [Outbound("c", Accept(5, "b"))]
        )

    def test_but_not_by_what_they_said_before_it_was_lost(self) -> None:
        """A member may have confirmed more than it has told yet."""
        node = orphaned()
        node.hear(replica("a", 3, 9), offer("c", 5, join_offset(3, 9)))
        self.assertEqual(accepts(node.lost(3)), [])

    def test_a_member_tells_what_its_server_may_have_as_soon_as_it_follows(self) -> None:
        node = orphaned()
        node.freeze(2, 7)
        node.elector.server_released(3)
        beats = [out.message for out in node.live(CONFIG.hb_interval, replica("c", 3))]
        offsets = {beat.repl_offset for beat in beats if isinstance(beat, Heartbeat)}
        self.assertEqual(offsets, {join_offset(3, 0)})

    def test_a_primary_whose_server_lost_what_it_had_steps_down(self) -> None:
        """It was restarted while the lease was away, and frozen since."""
        node = elected()
        node.promote()
        node.elector.fence(node.now, closed=True)
        node.lost(4)
        self.assertEqual(node.role, Role.REPLICA)

    def test_of_three_members_a_candidate_with_as_much_has_all_of_any_epoch(self) -> None:
        """Both others voted in each reign that this member does not know of."""
        node = orphaned()
        node.unknown(4, 9)
        self.assertEqual(accepts(node.hear(offer("c", 5, join_offset(3, 20)))), [])
        self.assertEqual(accepts(node.hear(offer("c", 6, join_offset(5, 8)))), [])
        self.assertNotEqual(accepts(node.hear(offer("c", 7, join_offset(4, 9)))), [])

    def test_and_this_member_runs_with_it(self) -> None:
        node = orphaned()
        node.unknown(4, 9)
        self.assertNotEqual(offers(node.live(2 * CONFIG.down_after, replica("c", 3))), [])

    def test_of_more_it_is_taken_for_the_newest_that_another_has(self) -> None:
        node = orphaned("abcd")
        node.unknown(0, 9)
        others = replica("c", 3, 9), replica("d", 3)
        node.live(CONFIG.down_after, replica("a", 3, join_offset(4, 8)), *others)
        self.assertEqual(accepts(node.hear(offer("c", 5, join_offset(3, 20)))), [])
        self.assertEqual(accepts(node.hear(offer("a", 6, join_offset(4, 8)))), [])
        self.assertNotEqual(accepts(node.hear(offer("a", 7, join_offset(4, 9)))), [])

    def test_so_two_that_have_the_newest_can_both_be_elected(self) -> None:
        for each in "ac":
            node = orphaned("abcd")
            node.unknown(0, 9)
            best = join_offset(4, 9)
            others = replica("c", 3, best), replica("d", 3)
            node.live(CONFIG.down_after, replica("a", 3, best), *others)
            self.assertNotEqual(accepts(node.hear(offer(each, 5, best))), [])

    def test_but_not_while_a_member_of_more_than_three_is_away(self) -> None:
        node = orphaned("abcd")
        node.unknown(0, 9)
        best = join_offset(4, 9)
        node.live(CONFIG.down_after, replica("c", 3, best), replica("d", 3))
        self.assertEqual(accepts(node.hear(offer("c", 5, best))), [])

    def test_but_not_while_a_member_is_away(self) -> None:
        node = orphaned()
        node.hear(offer("c", 5, join_offset(3, 9)))
        self.assertEqual(accepts(node.lost(3)), [])

    def test_the_only_member_goes_on_with_whatever_it_has(self) -> None:
        node = Driving(members="b")
        node.lost(UNKNOWN)
        node.live(2 * CONFIG.down_after)
        self.assertEqual(node.role, Role.PRIMARY)

    def test_if_all_lost_it_they_go_on_with_what_they_have(self) -> None:
        node = orphaned()
        node.lost(3)
        sent = node.live(2 * CONFIG.down_after, replica("a", 3), replica("c", 3))
        self.assertNotEqual(offers(sent), [])

    def test_a_witness_drives_none(self) -> None:
        with self.assertRaisesRegex(ConfigError, "the witness b has no data"):
            Node(witness=True, drives_server=True)


class D6Tests(SynchronousTestCase):
    """A history counts before a length."""

    def test_the_newer_history_is_more_than_any_length_of_an_older_one(self) -> None:
        self.assertGreater(join_offset(4, 0), join_offset(3, 10**30))
        self.assertGreater(join_offset(4, 2), join_offset(4, 1))
        self.assertEqual(split_offset(join_offset(4, 77)), (4, 77))

    def test_both_parts_saturate(self) -> None:
        self.assertEqual(split_offset(join_offset(2**63, 2**63)), (NEWEST, LONGEST))

    def test_what_is_elected_is_of_the_epoch_that_it_won(self) -> None:
        node = elected()
        self.assertEqual(node.elector.repl_offset, join_offset(4, 9))
        node.elector.set_repl_offset(join_offset(3, 12))  # asked before the promotion
        self.assertEqual(node.elector.repl_offset, join_offset(4, 12))

    def test_followers_learn_the_history_from_a_heartbeat_of_the_primary(self) -> None:
        node = following()
        node.hear(announce("a", 6))
        self.assertEqual(node.duty, FREEZE)
        node.hear(candidate("a", 6, join_offset(3, 9)), primary("a", 6, join_offset(6, 9)))
        self.assertEqual(node.duty, Duty(Task.FOLLOW, 6, "a", address("a")))


class PromotionTests(SynchronousTestCase):
    def test_a_primary_writes_once_its_server_is_promoted(self) -> None:
        node = elected()
        self.assertEqual((node.duty, node.can_write()), (Duty(Task.PROMOTE, 4), False))
        node.promote()
        self.assertTrue(node.can_write())

    def test_a_server_is_frozen_as_soon_as_the_lease_is_lost(self) -> None:
        node = elected()
        node.promote()
        node.live(CONFIG.down_after)
        self.assertEqual((node.role, node.duty), (Role.PRIMARY, FREEZE))

    def test_it_is_promoted_again_once_the_lease_is_back(self) -> None:
        node = elected()
        node.promote()
        node.live(CONFIG.down_after)
        node.freeze(4, 30)
        node.live(CONFIG.down_after / 4, replica("c", 4))
        self.assertEqual((node.duty, node.can_write()), (Duty(Task.PROMOTE, 4), False))

    def test_a_closed_fence_freezes(self) -> None:
        node = elected()
        node.promote()
        node.elector.fence(node.now, closed=True)
        self.assertEqual(node.duty, FREEZE)
        node.elector.fence(node.now, closed=False)
        self.assertEqual(node.duty, Duty(Task.PROMOTE, 4))

    def test_one_that_is_no_longer_primary_when_it_is_promoted_writes_nothing(self) -> None:
        node = elected()
        node.elector.step_down(node.now, 1.0, "told")
        node.promote()
        self.assertEqual((node.can_write(), node.duty), (False, FREEZE))
        self.assertFalse(node.elector._server is None or node.elector._server.is_promoted)

    def test_a_member_without_a_server_has_no_duty(self) -> None:
        self.assertEqual(Node().elector.duty(1000.0), STAY)
