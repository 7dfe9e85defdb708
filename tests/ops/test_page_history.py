from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.elector import Elector
from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Accept, Announce, Offer, Role
from kevy_elect.ops.page_history import EVENTS, epochs, history, lane, lanes
from kevy_elect.ops.page_model import Happening, Known
from tests.support.statuses import follower, known
from tests.support.transports import QUICK, heartbeat, rng


class LaneTests(SynchronousTestCase):
    """The timeline of a node."""

    def test_roles_follow_each_other_without_a_gap(self) -> None:
        found = lane(
            [
                Happening("a", 1.0, "primary", "", epoch="2", cause="followed", member="b"),
                Happening("a", 2.0, "candidacy", "", epoch="3", cause="primary-down", member="b"),
                Happening("a", 2.5, "role", "", epoch="3", cause="elected"),
                Happening("a", 3.0, "quorum", "", epoch="3", cause="gained"),
                Happening("a", 9.0, "role", "", epoch="4", cause="superseded", member="b"),
            ]
        )
        self.assertEqual(
            [(span.role, span.epoch, span.since, span.until) for span in found],
            [
                ("replica", "", 1.0, 2.0),
                ("candidate", "3", 2.0, 2.5),
                ("primary", "3", 2.5, 9.0),
                ("replica", "", 9.0, None),
            ],
        )

    def test_a_renewed_term_is_another_epoch(self) -> None:
        found = lane(
            [
                Happening("a", 1.0, "role", "", epoch="2", cause="elected"),
                Happening("a", 5.0, "renewal", "", epoch="4", cause="elected"),
            ]
        )
        self.assertEqual([span.epoch for span in found], ["2", "4"])

    def test_a_node_that_remembers_nothing_has_an_empty_lane(self) -> None:
        self.assertEqual(lane([]), [])


class WholeLaneTests(SynchronousTestCase):
    """A lane does not end where a node's own memory does, nor go on where it is gone."""

    def lane(self, *everyone: Known, now: float = 30.0) -> list[tuple[str, float, float | None]]:
        """Of the first: role, and how long ago it began and ended."""
        known = epochs(event for each in everyone for event in each.events)
        found = lanes(everyone, known, now)[everyone[0].node_id]["spans"]
        return [(each["role"], each["since_ago"], each["until_ago"]) for each in found]

    def b(self, uptime: float | None = None, *events: Happening) -> Known:
        made = known(follower("b", uptime=uptime), at=30.0)
        made.events = list(events)
        return made

    def test_a_quiet_replica_has_been_one_since_its_start(self) -> None:
        self.assertEqual(self.lane(self.b(20.0)), [("replica", 20.0, None)])
        followed = Happening("b", 15.0, "primary", "", epoch="2", cause="followed", member="a")
        self.assertEqual(self.lane(self.b(20.0, followed)), [("replica", 20.0, None)])

    def test_one_that_is_gone_is_no_primary_any_more(self) -> None:
        dead = self.b(None, Happening("b", 5.0, "role", "", epoch="3", cause="elected"))
        dead.lost_at = 31.0
        self.assertEqual(self.lane(dead, now=33.0), [("primary", 28.0, 2.0), ("gone", 2.0, None)])

    def test_before_its_restart_others_tell_that_it_was_primary(self) -> None:
        a = known(follower("a"), at=30.0)
        a.events = [
            Happening("a", 3.0, "primary", "", epoch="2", cause="followed", member="b"),
            Happening("a", 12.0, "primary", "", epoch="2", cause="lost", member="b"),
            Happening("a", 13.0, "role", "", epoch="3", cause="elected"),
        ]
        restarted = self.b(10.0)
        self.assertEqual(
            self.lane(restarted, a), [("primary", 27.0, 18.0), ("replica", 10.0, None)]
        )

    def was_killed(self) -> list[Happening]:
        """Of b, which was primary from 5 on, and started again at 20."""
        return [
            Happening("b", 1.0, "service", "", cause="started"),
            Happening("b", 5.0, "role", "", epoch="3", cause="elected"),
            Happening("b", 20.0, "service", "", epoch="3", cause="started"),
        ]

    def test_one_that_was_killed_died_when_others_lost_it(self) -> None:
        a = known(follower("a"), at=30.0)
        a.events = [Happening("a", 12.0, "primary", "", epoch="3", cause="lost", member="b")]
        self.assertEqual(
            self.lane(self.b(10.0, *self.was_killed()), a),
            [
                ("replica", 29.0, 25.0),
                ("primary", 25.0, 18.0),
                ("gone", 18.0, 10.0),
                ("replica", 10.0, None),
            ],
        )

    def test_if_nobody_lost_it_its_restart_ends_its_role(self) -> None:
        self.assertEqual(
            self.lane(self.b(10.0, *self.was_killed())),
            [("replica", 29.0, 25.0), ("primary", 25.0, 10.0), ("replica", 10.0, None)],
        )

    def test_one_that_was_stopped_is_gone_until_it_starts(self) -> None:
        stopped = Happening("b", 15.0, "service", "", epoch="3", cause="stopped")
        *before, start = self.was_killed()
        self.assertEqual(
            self.lane(self.b(10.0, *before, stopped, start))[1:],
            [("primary", 25.0, 15.0), ("gone", 15.0, 10.0), ("replica", 10.0, None)],
        )

    def test_outages_that_were_watched_are_told(self) -> None:
        back = self.b(20.0)
        back.outages.append((22.0, 24.0))
        self.assertEqual(lanes([back], epochs(back.events), 30.0)["b"]["outages"], [[8.0, 6.0]])


class HistoryTests(SynchronousTestCase):
    """The epochs, read from what real electors note."""

    def note(self, elector: Elector) -> list[Happening]:
        return [
            Happening(
                elector.node_id,
                event.at,
                event.kind,
                event.text,
                event.critical,
                str(event.epoch),
                event.cause,
                event.member,
                event.reason,
            )
            for event in elector.events
        ]

    def elector(self, node_id: str) -> Elector:
        made = Elector(
            node_id, "abc", f"127.0.0.1:{node_id}", config=QUICK, ballot=MemoryBallot(), rng=rng()
        )
        made.tick(0.0)
        return made

    def elected(self) -> Elector:
        """Node a, primary of epoch 2 by the vote of b, at 0.02."""
        a = self.elector("a")
        for peer in "bc":
            a.on_message(peer, heartbeat(peer), 0.01)
        a.tick(0.01)
        a.on_message("b", Accept(2, "b"), 0.02)
        self.assertIs(a.role, Role.PRIMARY)
        return a

    def test_an_epoch_has_its_primary_its_time_and_its_reason(self) -> None:
        newest = epochs(self.note(self.elected()))[0]
        self.assertEqual((newest.number, newest.primary, newest.elected_at), ("2", "a", 0.02))
        self.assertEqual(newest.why, "there was no primary")

    def test_an_epoch_without_primary_tells_who_ran_in_vain(self) -> None:
        found = self.note(self.elected())
        newest = epochs(event for event in found if event.kind == "candidacy")[0]
        self.assertIsNone(newest.primary)
        self.assertEqual(newest.why, "a ran: there was no primary")

    def test_after_a_handover_the_reason_says_who_handed_over_to_whom(self) -> None:
        a, b = self.elected(), self.elector("b")
        b.on_message("a", Announce(2, "a", "127.0.0.1:1"), 0.02)
        b.on_message("c", heartbeat("c"), 0.02)
        a.hand_over("b", 1.0, within=1.0, rest=0.0)
        self.hear_of_it(b)
        found = epochs(self.note(a) + self.note(b))[0]
        self.assertEqual((found.number, found.why), ("3", "b ran: a handed the role over to b"))

    def hear_of_it(self, b: Elector) -> None:
        """Node b, long started, hears that a is primary no more, and runs."""
        b.tick(1.0)
        for step in range(200):
            now = 1.0 + step * 0.02
            b.on_message("c", heartbeat("c", 2), now)
            b.on_message("a", heartbeat("a", 2), now)
            b.tick(now)

    def test_after_a_resignation_the_reason_is_the_one_that_was_given(self) -> None:
        for reword in (str, str.upper):
            a, b = self.elected(), self.elector("b")
            b.on_message("a", Announce(2, "a", "127.0.0.1:1"), 0.02)
            a.step_down(1.0, 10.0, "the operator asked for it")
            self.hear_of_it(b)
            happened = self.note(a) + self.note(b)
            happened = [attrs.evolve(each, text=reword(each.text)) for each in happened]
            why = "b ran: a stepped down: the operator asked for it"
            self.assertEqual(epochs(happened)[0].why, why)

    def test_a_dead_primary_has_not_said_why(self) -> None:
        b = self.elector("b")
        b.on_message("a", Announce(2, "a", "127.0.0.1:1"), 0.02)
        self.hear_of_it(b)
        why = "b ran: a gave up the role or its process ended"
        self.assertEqual(epochs(self.note(b))[0].why, why)

    def test_who_died_with_a_last_will_has(self) -> None:
        run = self.happened("b", 3.0, EventKind.CANDIDACY, "4", Cause.LAST_WILL, "a")
        self.assertEqual(epochs([run])[0].why, "b ran: a died, as its last will said")

    def test_a_resignation_of_an_earlier_term_is_not_the_reason(self) -> None:
        told = [
            self.happened("a", 1.0, EventKind.ROLE, "2", Cause.RESIGNED),
            self.happened("a", 2.0, EventKind.ROLE, "3", Cause.ELECTED),
            self.happened("b", 3.0, EventKind.CANDIDACY, "4", Cause.PRIMARY_GONE, "a"),
            self.happened("b", 3.1, EventKind.ROLE, "4", Cause.ELECTED),
        ]
        self.assertEqual(epochs(told)[0].why, "a gave up the role or its process ended")

    def happened(
        self, node_id: str, at: float, kind: str, epoch: str, cause: str, member: str | None = None
    ) -> Happening:
        return Happening(node_id, at, kind, "", epoch=epoch, cause=cause, member=member)

    def test_a_follower_knows_who_won_but_not_why(self) -> None:
        c = self.elector("c")
        c.on_message("a", Announce(2, "a", "127.0.0.1:1"), 0.05)
        newest = epochs(self.note(c))[0]
        self.assertEqual((newest.number, newest.primary, newest.why), ("2", "a", None))

    def test_the_winners_own_word_goes_before_a_followers(self) -> None:
        c = self.elector("c")
        c.on_message("a", Announce(2, "a", "127.0.0.1:1"), 0.015)  # by another clock
        newest = epochs(self.note(c) + self.note(self.elected()))[0]
        self.assertEqual((newest.elected_at, newest.why), (0.02, "there was no primary"))

    def test_a_refused_vote_is_there_with_its_rule_and_reason(self) -> None:
        a = self.elected()
        a.on_message("c", Offer(3, "c", 0), 0.03)
        told = history(epochs(self.note(a)), 1.03)
        refused = [
            event for each in told["epochs"] for event in each["events"] if event["cause"] == "R4.1"
        ]
        self.assertEqual([event["kind"] for event in refused], ["refused"])
        self.assertIn("refused OFFER 3 of c", refused[0]["text"])
        self.assertAlmostEqual(refused[0]["ago"], 1.0)

    def test_the_newest_come_first_and_the_oldest_are_left_out(self) -> None:
        events = [
            Happening("a", float(at), "vote", f"voted for b in epoch {at}", epoch=str(at))
            for at in range(1000)
        ]
        found = epochs(events)
        self.assertEqual([each.number for each in found], [str(999 - i) for i in range(EVENTS)])

    def test_events_that_name_no_epoch_are_kept_apart(self) -> None:
        told = history(epochs([Happening("a", 1.0, "quorum", "lost the lease")]), 2.0)
        self.assertIsNone(told["epochs"][0]["epoch"])
