from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ops.page_headline import Headline, headline
from kevy_elect.ops.page_model import Happening, Known
from kevy_elect.status import PeerStatus, from_object
from tests.support import statuses
from tests.support.statuses import follower, known, writer


def text_of(found: Headline) -> str:
    """All that it says."""
    return " ".join((found.lead, *(each.text for each in found.remarks if each.text)))


def advice_of(found: Headline) -> str:
    return " ".join(each.advice for each in found.remarks if each.advice)


class HeadlineTests(SynchronousTestCase):
    """Who may write, in a sentence that holds for what is known, however old that is."""

    def say(self, mine: dict[str, Any], *others: dict[str, Any], now: float = 10.1) -> str:
        me, *rest = (known(found) for found in (mine, *others))
        found = headline(me, rest, now)
        self.level = found.level
        return text_of(found)

    def test_all_is_well(self) -> None:
        text = self.say(follower("a"), follower("b"), writer("c"))
        self.assertEqual((self.level, text), ("ok", "c is primary of epoch 3 and holds its lease."))

    def test_an_epoch_that_a_last_will_began_says_whose(self) -> None:
        text = self.say(follower("a"), follower("b"), writer("c", began_by_will_of="x"))
        said = "c is primary of epoch 3, by the last will of x, and holds its lease."
        self.assertEqual((self.level, text), ("ok", said))

    def test_maintenance_is_an_alarm_that_says_whose_and_how_it_ends(self) -> None:
        on = {"maintained_for": 60.0}
        me, *others = (known(each) for each in (follower("a", **on), writer("c", **on)))
        found = headline(me, others, 10.1)
        self.assertEqual(found.level, "alarm")
        self.assertIn(
            "c is primary of epoch 3 and holds its lease. Maintenance of a and c", text_of(found)
        )
        self.assertIn("kevy-elect maintenance off", advice_of(found))

    def test_clusters_of_several_names_are_told_apart(self) -> None:
        me = follower("a", cluster_name="orders")
        self.say(me, follower("b"), writer("c", cluster_name="orders"))
        self.assertEqual(self.level, "ok")
        text = self.say(me, follower("b"), writer("c", cluster_name="stock"))
        self.assertEqual(self.level, "warning")
        self.assertIn("The members differ in --cluster-name: orders on a; stock on c.", text)

    def test_a_lease_does_not_outlast_what_was_told_of_it(self) -> None:
        text = self.say(follower("a"), writer("c"), now=10.5)
        self.assertIn("whether c still holds its lease is not known here", text)
        self.assertEqual(self.level, "warning")

    def test_who_follows_another_is_named(self) -> None:
        text = self.say(follower("a"), follower("b", primary=None), writer("c"))
        self.assertIn("b does not follow it.", text)
        self.assertEqual(self.level, "warning")

    def test_who_was_asked_before_the_election_is_not_accused(self) -> None:
        me, b, leader = (known(one) for one in (follower("a"), follower("b"), follower("c")))
        for each in (me, b):
            each.say(from_object(follower(each.node_id, primary="x")), 10.0, 10.0)
        leader.say(from_object(writer("c")), 10.1, 10.1)
        self.assertEqual(headline(me, [b, leader], 10.2).level, "ok")
        b.say(from_object(follower("b", primary="x")), 10.15, 10.2)
        found = headline(me, [b, leader], 10.2)
        level, text = found.level, text_of(found)
        self.assertEqual(level, "warning")
        self.assertIn("b does not follow it.", text)
        self.assertNotIn("a does", text)

    def test_who_does_not_hear_a_node_that_runs_is_named(self) -> None:
        text = self.say(
            follower("a", down_peers=["b"]), follower("b", down_peers=["a"]), writer("c")
        )
        self.assertIn("a does not hear b. b does not hear a.", text)
        self.assertEqual(self.level, "warning")

    def test_who_cannot_be_reached_is_named(self) -> None:
        me, lost, leader = (known(one) for one in (follower("a"), follower("b"), writer("c")))
        lost.error = "connection refused"
        found = headline(me, [lost, leader], 10.1)
        level, text = found.level, text_of(found)
        self.assertEqual(level, "warning")
        self.assertIn("b cannot be reached.", text)

    def test_without_the_others_word_the_lease_is_not_known(self) -> None:
        found = headline(known(follower("a")), [Known("b"), Known("c")], 10.1)
        level, text = found.level, text_of(found)
        self.assertEqual(level, "ok")
        self.assertEqual(text, "a follows c; whether c holds its lease is not known here.")

    def test_a_primary_without_its_lease_is_an_alarm(self) -> None:
        leaseless = writer("c", can_write=False, has_quorum=False, lease_expires_in=0.0)
        self.assertIn("without its lease: nobody may write", self.say(follower("a"), leaseless))
        self.assertEqual(self.level, "alarm")

    def test_a_primary_that_gives_up_its_role_writes_nothing(self) -> None:
        self.assertIn("but writes nothing", self.say(follower("a"), writer("c", can_write=False)))
        self.assertEqual(self.level, "warning")

    def test_no_primary_is_an_alarm(self) -> None:
        alone = follower("a", primary=None, has_quorum=False, down_peers=["b", "c"])
        text = self.say(alone, follower("b", primary=None))
        self.assertIn("Nobody is primary: nobody may write. a hears too few members.", text)
        self.assertEqual(self.level, "alarm")

    def test_a_node_that_is_cut_off_does_not_speak_for_the_others(self) -> None:
        alone = follower("a", primary=None, has_quorum=False, down_peers=["b", "c"])
        text = self.say(alone)
        self.assertEqual(
            text, "a hears too few members and knows no primary; the others may have one."
        )
        self.assertEqual(self.level, "alarm")

    def test_a_word_from_before_the_election_does_not_deny_it(self) -> None:
        """c was just elected and has not answered since."""
        text = self.say(follower("a", epoch=4), follower("c", primary=None, epoch=3))
        self.assertEqual(
            text,
            "c was elected primary of epoch 4; whether it holds its lease is not known here yet.",
        )

    def test_a_primary_that_is_down_is_none(self) -> None:
        self.assertIn("Nobody is primary", self.say(follower("a", down_peers=["c"])))

    def test_a_primary_that_says_it_is_none_is_none(self) -> None:
        self.assertIn("Nobody is primary", self.say(follower("a"), follower("c", primary=None)))

    def test_a_candidacy_is_told(self) -> None:
        candidate = follower("b", role="candidate", primary=None)
        self.assertIn(
            "Nobody is primary: nobody may write. b asks for votes.",
            self.say(follower("a", primary=None), candidate),
        )

    def test_a_node_that_does_not_run_says_so(self) -> None:
        self.assertIn("does not run", self.say(follower("a", epoch=0)))

    def test_two_writers_at_one_time_are_an_alarm(self) -> None:
        me, one, other = (known(each) for each in (follower("a"), writer("b"), writer("c")))
        for now in (11.0, 12.0):
            one.say(from_object(writer("b", epoch=2, lease_expires_in=5.0)), now, now)
            other.say(from_object(writer("c", lease_expires_in=5.0)), now + 0.5, now + 0.5)
        found = headline(me, [one, other], 12.6)
        level, text = found.level, text_of(found)
        self.assertEqual(level, "alarm")
        self.assertIn("b (epoch 2) and c (epoch 3) both say that they may write", text)

    def test_one_writer_after_the_other_is_no_alarm(self) -> None:
        """A role handed over: what the former primary said last is older than its end."""
        me, former, target = (known(each) for each in (follower("a"), follower("b"), follower("c")))
        for now in (11.0, 12.0):
            former.say(from_object(writer("b", epoch=2, lease_expires_in=5.0)), now, now)
        target.say(from_object(writer("c", lease_expires_in=5.0)), 12.5, 12.5)
        found = headline(me, [former, target], 12.6)
        level, text = found.level, text_of(found)
        self.assertEqual((level, text), ("ok", "c is primary of epoch 3 and holds its lease."))


class DataServerTests(SynchronousTestCase):
    """What is wrong with the data servers that nodes drive, and what to do."""

    def setUp(self) -> None:
        self.b = known(follower("b", data=statuses.following()))
        self.c = known(writer("c", data=statuses.data()))

    def say(self, **own: object) -> str:
        """The headline of a, whose data server is in this state."""
        me = known(follower("a", data=statuses.following(**own)))
        self.found = headline(me, [self.b, self.c], 10.1)
        return text_of(self.found)

    def test_all_is_well(self) -> None:
        self.assertEqual(self.say(), "c is primary of epoch 3 and holds its lease.")
        self.assertEqual(self.found.level, "ok")

    def test_one_that_is_not_known(self) -> None:
        text = self.say(state="unknown", problem="gave no answer")
        self.assertIn("The data server of a is not known: a neither votes nor runs.", text)
        self.assertNotIn("sync", text)
        self.assertEqual(self.found.level, "warning")
        self.assertIn("Start the data server of a", advice_of(self.found))

    def test_several_that_are_not_known(self) -> None:
        self.b = known(follower("b", data=statuses.data(state="unknown")))
        text = self.say(state="unknown")
        self.assertIn("The data servers of a and b are not known: a and b neither vote", text)

    def test_one_that_lost_what_it_had_waits_for_the_primary(self) -> None:
        text = self.say(state="frozen", problem="whatever it says")
        self.assertIn("The data server of a may have lost what it had: a does not vote.", text)
        self.assertIn("Wait until it follows that of c", advice_of(self.found))

    def test_without_a_primary_all_are_needed_for_it_to_vote(self) -> None:
        self.c = known(follower("c", primary=None, data=statuses.data(state="frozen")))
        me = known(
            follower("a", primary=None, data=statuses.data(state="frozen", problem="restarted"))
        )
        found = headline(me, [self.c], 10.1)
        self.assertEqual(found.level, "alarm")
        self.assertIn("a may have lost what it had: a does not vote.", text_of(found))
        self.assertIn("Start all members", advice_of(found))

    def test_one_that_is_not_in_sync(self) -> None:
        for change in ({"in_sync": False}, {"state": "frozen", "in_sync": False}):
            self.assertIn("The data server of a is not in sync.", self.say(**change))
            self.assertEqual(self.found.level, "warning")
            self.assertIn("from there to the data server of c", advice_of(self.found))

    def test_what_was_said_before_the_election_is_not_held_against_it(self) -> None:
        me = known(follower("a", data=statuses.following(in_sync=False)))
        elected = Known("c", "http://192.0.2.1")
        elected.say(from_object(writer("c", data=statuses.data())), 10.1, 10.1)
        self.assertEqual(headline(me, [elected], 10.2).level, "ok")

    def test_it_is_told_even_where_the_primarys_page_is_not_known(self) -> None:
        me = known(follower("a", data=statuses.following(state="unknown")))
        found = headline(me, [Known("c")], 10.1)
        self.assertEqual(found.level, "warning")
        self.assertIn("not known here. The data server of a is not known", text_of(found))

    def test_one_with_another_problem(self) -> None:
        text = self.say(problem="the record cannot be saved")
        self.assertIn("Something is wrong with the data server of a.", text)

    def test_a_member_without_one(self) -> None:
        self.b = known(follower("b"))
        self.assertIn("b does not drive a data server, as others do.", self.say())
        self.assertIn("Give b one with --redis, or make it a witness.", advice_of(self.found))
        self.b = known(follower("b", witness=True))
        self.say()
        self.assertEqual(self.found.level, "ok")

    def test_a_primary_whose_server_takes_no_writes(self) -> None:
        self.c = known(writer("c", can_write=False, data=statuses.data(state="frozen")))
        text = self.say()
        self.assertIn("c is primary of epoch 3, but its data server takes no writes yet", text)
        self.assertEqual(self.found.level, "warning")


class LostPrimaryTests(SynchronousTestCase):
    """The truth at every instant after the primary b was killed at 10.1, seen from a."""

    def setUp(self) -> None:
        self.me, self.b, self.c = (Known(each, "http://192.0.2.1") for each in "abc")
        self.me.say(from_object(follower("a", "b")), 10.1, 10.1)
        self.b.say(from_object(writer("b", lease_expires_in=1.8)), 10.0, 10.0)
        self.c.say(from_object(follower("c", "b", peers=[statuses.peer()])), 10.0, 10.0)
        self.b.see(PeerStatus(**statuses.peer(link="waiting", incoming_age=None)), 10.1)

    def test_it_cannot_be_reached_and_its_lease_goes_on_to_its_end(self) -> None:
        found = headline(self.me, [self.b, self.c], 10.1)
        self.assertEqual(text_of(found), "b, the primary, cannot be reached; its lease ends in")
        self.assertAlmostEqual(found.told(10.1)["lease_ends_in"], 1.7)
        self.assertEqual((found.level, found.since), ("warning", 10.1))

    def test_a_lease_that_is_over_is_an_alarm(self) -> None:
        found = headline(self.me, [self.b, self.c], 12.0)
        self.assertIn("cannot be reached; its lease, as it was told last, is over.", text_of(found))
        self.assertEqual((found.level, found.lease_end), ("alarm", None))

    def test_who_still_reaches_it_is_named(self) -> None:
        status = from_object(follower("c", "b", peers=[statuses.peer()]))
        self.c.say(status, 10.2, 10.2)  # asked after the connection was lost
        found = headline(self.me, [self.b, self.c], 10.3)
        self.assertEqual(text_of(found), "b, the primary, cannot be reached from a; c reaches it.")
        self.assertIn("between a and b", advice_of(found))

    def test_who_has_lost_it_too_does_not_reach_it(self) -> None:
        gone = statuses.peer(link="waiting", incoming_age=None)
        self.c.say(from_object(follower("c", "b", peers=[gone])), 10.2, 10.2)
        self.assertIn("its lease ends in", text_of(headline(self.me, [self.b, self.c], 10.3)))

    def test_a_connection_that_is_back_ends_it(self) -> None:
        self.b.see(PeerStatus(**statuses.peer()), 10.2)
        self.assertIn("b is primary", text_of(headline(self.me, [self.b, self.c], 10.2)))

    def test_a_page_that_does_not_answer_is_no_lost_primary(self) -> None:
        self.b.see(PeerStatus(**statuses.peer()), 10.2)
        self.b.error = "no answer within 2 s"
        text = text_of(headline(self.me, [self.b, self.c], 10.2))
        self.assertIn("holds its lease. The page of b cannot be reached.", text)


class AdviceTests(SynchronousTestCase):
    """Each state says what to do, and since when it is so."""

    def test_without_a_quorum_it_says_how_many_must_hear_each_other(self) -> None:
        me = known(follower("a", primary=None, has_quorum=False, down_peers=["b", "c"]))
        advice = advice_of(headline(me, [], 10.1))
        self.assertIn("2 of 3 must hear each other: b and c cannot be heard", advice)

    def test_a_term_began_when_its_primary_was_elected(self) -> None:
        me, leader = known(follower("a")), known(writer("c"))
        leader.events = [Happening("c", 4.0, "role", "elected", epoch="3", cause="elected")]
        me.events = [Happening("a", 4.5, "primary", "", epoch="3", cause="followed", member="c")]
        self.assertEqual(headline(me, [leader], 10.1).since, 4.0)
        leader.events = []
        self.assertEqual(headline(me, [leader], 10.1).since, 4.5)


class CutLinkTests(SynchronousTestCase):
    """Members that run and do not hear each other are told from those that are gone."""

    def setUp(self) -> None:
        self.a, self.b, self.c = (
            known(found)
            for found in (
                follower("a", "b", peers=[self.hears("b"), self.hears("c", heard_ago=3.2)]),
                writer("b", peers=[self.hears("a"), self.hears("c")]),
                follower("c", "b", peers=[self.hears("a"), self.hears("b")]),
            )
        )

    def hears(self, node_id: str, **changes: object) -> dict[str, Any]:
        return statuses.peer(node_id=node_id, **changes)

    def test_one_direction_is_named_and_the_other_is_said_to_work(self) -> None:
        (remark,) = headline(self.a, [self.b, self.c], 10.1).remarks
        self.assertEqual(remark.text, "a does not hear c.")
        self.assertIn("The other direction, from a to c, works.", remark.advice)

    def test_a_node_that_answers_is_not_out_of_reach(self) -> None:
        silent = PeerStatus(**self.hears("c", heard_ago=3.2))
        self.c.see(silent, 10.1, quiet=1.0)
        found = headline(self.a, [self.b, self.c], 10.1)
        self.assertNotIn("cannot be reached", text_of(found))

    def test_a_primary_that_answers_keeps_its_lease_though_it_is_not_heard(self) -> None:
        self.b.see(PeerStatus(**self.hears("b", heard_ago=3.2)), 10.1, quiet=1.0)
        text = text_of(headline(self.a, [self.b, self.c], 10.1))
        self.assertIn("b is primary of epoch 3 and holds its lease.", text)

    def test_those_who_hear_the_same_are_named_together(self) -> None:
        a, c = (known(follower(each, "b", down_peers=["d"])) for each in "ac")
        d = known(follower("d", "b", down_peers=["a", "c"]))
        b = known(writer("b"))
        remarks = [each.text for each in headline(a, [b, c, d], 10.1).remarks]
        self.assertEqual(remarks, ["a and c do not hear d.", "d does not hear a and c."])

    def test_settings_that_differ_are_named(self) -> None:
        other = follower("c", "b", settings={"hb_interval": 0.2, "down_after": 8.0})
        found = headline(known(follower("a", "b")), [known(writer("b")), known(other)], 10.1)
        self.assertEqual(found.level, "warning")
        self.assertIn("The members differ in down_after: 5 on a, b; 8 on c.", text_of(found))
        self.assertIn("Give all of them the same.", advice_of(found))

    def test_how_many_more_may_fail_is_told(self) -> None:
        gone = Known("c", "http://192.0.2.3")
        gone.see(PeerStatus(**self.hears("c", link="waiting", incoming_age=None)), 10.0)
        found = headline(known(follower("a", "b")), [known(writer("b")), gone], 10.1)
        self.assertIn("c cannot be reached.", text_of(found))
        self.assertIn("Until then no other member may fail.", advice_of(found))
