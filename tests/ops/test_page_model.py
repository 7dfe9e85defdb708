from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.elector import Elector
from kevy_elect.errors import StatusError
from kevy_elect.events import Cause, EventKind
from kevy_elect.local_server import join_offset
from kevy_elect.messages import Accept, Announce, Offer, Role
from kevy_elect.ops.page_model import (
    EVENTS,
    LONGEST,
    Happening,
    Known,
    epochs,
    headline,
    history,
    lane,
    shown,
    told,
)
from kevy_elect.status import PeerStatus, from_object
from tests.support import statuses
from tests.support.statuses import event, replica
from tests.support.transports import QUICK, heartbeat, rng


def page(node_id: str = "b", primary: str | None = "c", **more: Any) -> dict[str, Any]:
    """A status as a replica of c in epoch 3 tells it."""
    return replica(node_id, primary, peers=[], events=[]) | more


def writer(node_id: str, **more: Any) -> dict[str, Any]:
    return page(node_id, node_id, role="primary", can_write=True, lease_expires_in=0.4) | more


def known(found: dict[str, Any]) -> Known:
    """A node that said this at 10.0."""
    made = Known(found["node_id"], "http://192.0.2.1")
    made.say(from_object(found), 10.0, 10.0)
    return made


class StatusOfAnotherTests(SynchronousTestCase):
    """What another node says is taken as far as it makes sense, and no further."""

    def take(self, found: Any, node_id: str = "b") -> Known:
        known = Known(node_id, "http://192.0.2.2:8101")
        known.take(json.dumps(found).encode(), asked=10.0, now=10.1)
        return known

    def test_it_is_as_old_as_the_question(self) -> None:
        known = self.take(page(paused_for=3.5))
        self.assertEqual(known.at, 10.0)
        assert known.status is not None
        self.assertEqual((known.status.epoch, known.status.paused_for), (3, 3.5))

    def test_another_node_than_expected_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "'x' answers there: correct the address"):
            self.take(page("x"))

    def test_what_is_wrong_is_refused_whole(self) -> None:
        known = self.take(page(epoch=4))
        with self.assertRaisesRegex(StatusError, "events.0. is no JSON object"):
            known.take(json.dumps(page(epoch=5, events=[7])).encode(), 11.0, 11.1)
        assert known.status is not None
        self.assertEqual((known.status.epoch, known.at), (4, 10.0))

    def test_texts_are_bounded_where_they_are_shown(self) -> None:
        long = "x" * 10_000
        known = self.take(page(version=long, events=[event(text=long)]))
        assert known.status is not None
        self.assertEqual(len(shown(known.status)["version"]), LONGEST)
        self.assertEqual(len(known.events[0].text), LONGEST)

    def test_numbers_of_64_bits_stay_exact_in_a_browser(self) -> None:
        known = self.take(page(epoch=2**64 - 1, peers=[statuses.peer(epoch=2**53 + 1)]))
        assert known.status is not None
        found = shown(known.status)
        self.assertEqual(found["epoch"], "18446744073709551615")
        self.assertEqual(
            [found["peers"][0][each] for each in ("epoch", "offset")], [str(2**53 + 1), "7"]
        )

    def test_events_keep_their_times_from_answer_to_answer(self) -> None:
        known = self.take(page(events=[event(ago=1.0)]))
        (first,) = known.events
        for now, ago, at in ((11.0, 1.8, first.at), (100.0, 1.0, 99.0)):
            again = page(events=[event(ago=ago)])
            known.take(json.dumps(again).encode(), asked=now, now=now)
            self.assertEqual([event.at for event in known.events], [at])


class HeadlineTests(SynchronousTestCase):
    """Who may write, in a sentence that holds for what is known, however old that is."""

    def say(self, mine: dict[str, Any], *others: dict[str, Any], now: float = 10.1) -> str:
        me, *rest = (self.known(found) for found in (mine, *others))
        found = headline(me, rest, now)
        self.level = found.level
        return found.text

    def known(self, found: dict[str, Any]) -> Known:
        return known(found)

    def test_all_is_well(self) -> None:
        text = self.say(page("a"), page("b"), writer("c"))
        self.assertEqual((self.level, text), ("ok", "c is primary of epoch 3 and holds its lease."))

    def test_a_lease_does_not_outlast_what_was_told_of_it(self) -> None:
        text = self.say(page("a"), writer("c"), now=10.5)
        self.assertIn("whether c still holds its lease is not known here", text)
        self.assertEqual(self.level, "warning")

    def test_who_follows_another_is_named(self) -> None:
        text = self.say(page("a"), page("b", primary=None), writer("c"))
        self.assertIn("b does not follow it.", text)
        self.assertEqual(self.level, "warning")

    def test_who_was_asked_before_the_election_is_not_accused(self) -> None:
        me, b, leader = (self.known(one) for one in (page("a"), page("b"), page("c")))
        for known in (me, b):
            known.say(from_object(page(known.node_id, primary="x")), 10.0, 10.0)
        leader.say(from_object(writer("c")), 10.1, 10.1)
        self.assertEqual(headline(me, [b, leader], 10.2).level, "ok")
        b.say(from_object(page("b", primary="x")), 10.15, 10.2)
        found = headline(me, [b, leader], 10.2)
        level, text = found.level, found.text
        self.assertEqual(level, "warning")
        self.assertIn("b does not follow it.", text)
        self.assertNotIn("a does", text)

    def test_who_does_not_hear_a_node_that_runs_is_named(self) -> None:
        text = self.say(page("a", down_peers=["b"]), page("b", down_peers=["a"]), writer("c"))
        self.assertIn("a does not hear b. b does not hear a.", text)
        self.assertEqual(self.level, "warning")

    def test_who_cannot_be_reached_is_named(self) -> None:
        me, lost, leader = (self.known(one) for one in (page("a"), page("b"), writer("c")))
        lost.error = "connection refused"
        found = headline(me, [lost, leader], 10.1)
        level, text = found.level, found.text
        self.assertEqual(level, "warning")
        self.assertIn("b cannot be reached.", text)

    def test_without_the_others_word_the_lease_is_not_known(self) -> None:
        found = headline(self.known(page("a")), [Known("b"), Known("c")], 10.1)
        level, text = found.level, found.text
        self.assertEqual(level, "ok")
        self.assertEqual(text, "a follows c; whether c holds its lease is not known here.")

    def test_a_primary_without_its_lease_is_an_alarm(self) -> None:
        leaseless = writer("c", can_write=False, has_quorum=False, lease_expires_in=0.0)
        self.assertIn("without its lease: nobody may write", self.say(page("a"), leaseless))
        self.assertEqual(self.level, "alarm")

    def test_a_primary_that_gives_up_its_role_writes_nothing(self) -> None:
        self.assertIn("but writes nothing", self.say(page("a"), writer("c", can_write=False)))
        self.assertEqual(self.level, "warning")

    def test_no_primary_is_an_alarm(self) -> None:
        alone = page("a", primary=None, has_quorum=False, down_peers=["b", "c"])
        self.assertEqual(self.say(alone), "Nobody is primary: nobody may write. a sees no quorum.")
        self.assertEqual(self.level, "alarm")

    def test_a_primary_that_is_down_is_none(self) -> None:
        self.assertIn("Nobody is primary", self.say(page("a", down_peers=["c"])))

    def test_a_primary_that_says_it_is_none_is_none(self) -> None:
        self.assertIn("Nobody is primary", self.say(page("a"), page("c", primary=None)))

    def test_a_candidacy_is_told(self) -> None:
        candidate = page("b", role="candidate", primary=None)
        self.assertIn(
            "Nobody is primary: nobody may write. b asks for votes.",
            self.say(page("a", primary=None), candidate),
        )

    def test_a_node_that_does_not_run_says_so(self) -> None:
        self.assertIn("does not run", self.say(page("a", epoch=0)))

    def test_two_writers_at_one_time_are_an_alarm(self) -> None:
        me, one, other = (self.known(each) for each in (page("a"), writer("b"), writer("c")))
        for now in (11.0, 12.0):
            one.say(from_object(writer("b", epoch=2, lease_expires_in=5.0)), now, now)
            other.say(from_object(writer("c", lease_expires_in=5.0)), now + 0.5, now + 0.5)
        found = headline(me, [one, other], 12.6)
        level, text = found.level, found.text
        self.assertEqual(level, "alarm")
        self.assertIn("b (epoch 2) and c (epoch 3) both say that they may write", text)

    def test_one_writer_after_the_other_is_no_alarm(self) -> None:
        """A role handed over: what the former primary said last is older than its end."""
        me, former, target = (self.known(each) for each in (page("a"), page("b"), page("c")))
        for now in (11.0, 12.0):
            former.say(from_object(writer("b", epoch=2, lease_expires_in=5.0)), now, now)
        target.say(from_object(writer("c", lease_expires_in=5.0)), 12.5, 12.5)
        found = headline(me, [former, target], 12.6)
        level, text = found.level, found.text
        self.assertEqual((level, text), ("ok", "c is primary of epoch 3 and holds its lease."))


class DataServerTests(SynchronousTestCase):
    """What is wrong with the data servers that nodes drive, and what to do."""

    def setUp(self) -> None:
        self.b = known(page("b", data=statuses.following()))
        self.c = known(writer("c", data=statuses.data()))

    def say(self, **own: object) -> str:
        """The headline of a, whose data server is in this state."""
        me = known(page("a", data=statuses.following(**own)))
        self.found = headline(me, [self.b, self.c], 10.1)
        return self.found.text

    def test_all_is_well(self) -> None:
        self.assertEqual(self.say(), "c is primary of epoch 3 and holds its lease.")
        self.assertEqual(self.found.level, "ok")

    def test_one_that_is_not_known(self) -> None:
        text = self.say(state="unknown", problem="gave no answer")
        self.assertIn("The data server of a is not known: a neither votes nor runs.", text)
        self.assertNotIn("sync", text)
        self.assertEqual(self.found.level, "warning")
        self.assertIn("Start the data server of a", self.found.advice)

    def test_several_that_are_not_known(self) -> None:
        self.b = known(page("b", data=statuses.data(state="unknown")))
        text = self.say(state="unknown")
        self.assertIn("The data servers of a and b are not known: a and b neither vote", text)

    def test_one_that_lost_what_it_had_waits_for_the_primary(self) -> None:
        text = self.say(state="frozen", problem="whatever it says")
        self.assertIn("The data server of a may have lost what it had: a does not vote.", text)
        self.assertIn("Wait until it follows that of c", self.found.advice)

    def test_without_a_primary_all_are_needed_for_it_to_vote(self) -> None:
        self.c = known(page("c", primary=None, data=statuses.data(state="frozen")))
        me = known(page("a", primary=None, data=statuses.data(state="frozen", problem="restarted")))
        found = headline(me, [self.c], 10.1)
        self.assertEqual(found.level, "alarm")
        self.assertIn("a may have lost what it had: a does not vote.", found.text)
        self.assertIn("Start all members", found.advice)

    def test_one_that_is_not_in_sync(self) -> None:
        for change in ({"in_sync": False}, {"state": "frozen", "in_sync": False}):
            self.assertIn("The data server of a is not in sync.", self.say(**change))
            self.assertEqual(self.found.level, "warning")
            self.assertIn("from there to the data server of c", self.found.advice)

    def test_what_was_said_before_the_election_is_not_held_against_it(self) -> None:
        me = known(page("a", data=statuses.following(in_sync=False)))
        elected = Known("c", "http://192.0.2.1")
        elected.say(from_object(writer("c", data=statuses.data())), 10.1, 10.1)
        self.assertEqual(headline(me, [elected], 10.2).level, "ok")

    def test_it_is_told_even_where_the_primarys_page_is_not_known(self) -> None:
        me = known(page("a", data=statuses.following(state="unknown")))
        found = headline(me, [Known("c")], 10.1)
        self.assertEqual(found.level, "warning")
        self.assertIn("not known here. The data server of a is not known", found.text)

    def test_one_with_another_problem(self) -> None:
        text = self.say(problem="the record cannot be saved")
        self.assertIn("Something is wrong with the data server of a.", text)

    def test_a_member_without_one(self) -> None:
        self.b = known(page("b"))
        self.assertIn("b does not drive a data server, as others do.", self.say())
        self.assertIn("Give b one with --redis, or make it a witness.", self.found.advice)
        self.b = known(page("b", witness=True))
        self.say()
        self.assertEqual(self.found.level, "ok")

    def test_a_primary_whose_server_takes_no_writes(self) -> None:
        self.c = known(writer("c", can_write=False, data=statuses.data(state="frozen")))
        text = self.say()
        self.assertIn("c is primary of epoch 3, but its data server takes no writes yet", text)
        self.assertEqual(self.found.level, "warning")

    def test_the_page_is_told_how_far_it_is_behind_and_numbers_that_stay_exact(self) -> None:
        heard = statuses.peer(node_id="c", offset=join_offset(3, 1100))
        own = statuses.following(length=2**53 + 1, data_epoch=2)
        said = told(known(page("a", peers=[heard], data=own)), 10.1)
        found = [said["status"]["data"][each] for each in ("length", "data_epoch")]
        self.assertEqual((found, said["lag"]), ([str(2**53 + 1), "2"], None))
        said = told(known(page("a", peers=[heard], data=statuses.following())), 10.1)
        self.assertEqual(said["lag"], 100)


class LostPrimaryTests(SynchronousTestCase):
    """The truth at every instant after the primary b was killed at 10.1, seen from a."""

    def setUp(self) -> None:
        self.me, self.b, self.c = (Known(each, "http://192.0.2.1") for each in "abc")
        self.me.say(from_object(page("a", "b")), 10.1, 10.1)
        self.b.say(from_object(writer("b", lease_expires_in=1.8)), 10.0, 10.0)
        self.c.say(from_object(page("c", "b", peers=[statuses.peer()])), 10.0, 10.0)
        self.b.see(PeerStatus(**statuses.peer(link="waiting", incoming_age=None)), 10.1)

    def test_it_cannot_be_reached_and_its_lease_goes_on_to_its_end(self) -> None:
        found = headline(self.me, [self.b, self.c], 10.1)
        self.assertEqual(found.text, "b, the primary, cannot be reached; its lease ends in")
        self.assertAlmostEqual(found.told(10.1)["lease_ends_in"], 1.7)
        self.assertEqual((found.level, found.since), ("warning", 10.1))

    def test_a_lease_that_is_over_is_an_alarm(self) -> None:
        found = headline(self.me, [self.b, self.c], 12.0)
        self.assertIn("cannot be reached; its lease, as it was told last, is over.", found.text)
        self.assertEqual((found.level, found.lease_end), ("alarm", None))

    def test_who_still_reaches_it_is_named(self) -> None:
        status = from_object(page("c", "b", peers=[statuses.peer()]))
        self.c.say(status, 10.2, 10.2)  # asked after the connection was lost
        found = headline(self.me, [self.b, self.c], 10.3)
        self.assertEqual(found.text, "b, the primary, cannot be reached from a; c reaches it.")
        self.assertIn("between a and b", found.advice)

    def test_who_has_lost_it_too_does_not_reach_it(self) -> None:
        gone = statuses.peer(link="waiting", incoming_age=None)
        self.c.say(from_object(page("c", "b", peers=[gone])), 10.2, 10.2)
        self.assertIn("its lease ends in", headline(self.me, [self.b, self.c], 10.3).text)

    def test_a_connection_that_is_back_ends_it(self) -> None:
        self.b.see(PeerStatus(**statuses.peer()), 10.2)
        self.assertIn("b is primary", headline(self.me, [self.b, self.c], 10.2).text)

    def test_a_page_that_does_not_answer_is_no_lost_primary(self) -> None:
        self.b.see(PeerStatus(**statuses.peer()), 10.2)
        self.b.error = "no answer within 2 s"
        text = headline(self.me, [self.b, self.c], 10.2).text
        self.assertIn("holds its lease. The page of b cannot be reached.", text)


class AdviceTests(SynchronousTestCase):
    """Each state says what to do, and since when it is so."""

    def test_without_a_quorum_it_says_how_many_must_hear_each_other(self) -> None:
        me = known(page("a", primary=None, has_quorum=False, down_peers=["b", "c"]))
        advice = headline(me, [], 10.1).advice
        self.assertIn("2 of 3 must hear each other: b and c cannot be heard", advice)

    def test_a_term_began_when_its_primary_was_elected(self) -> None:
        me, leader = known(page("a")), known(writer("c"))
        leader.events = [Happening("c", 4.0, "role", "elected", epoch="3", cause="elected")]
        me.events = [Happening("a", 4.5, "primary", "", epoch="3", cause="followed", member="c")]
        self.assertEqual(headline(me, [leader], 10.1).since, 4.0)
        leader.events = []
        self.assertEqual(headline(me, [leader], 10.1).since, 4.5)


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
        told = history(self.note(a), 1.03)
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
        told = history([Happening("a", 1.0, "quorum", "lost the lease")], 2.0)
        self.assertIsNone(told["epochs"][0]["epoch"])
