from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ops.page_links import Link, State, links
from kevy_elect.ops.page_model import Known
from kevy_elect.status import PeerStatus
from tests.support import statuses
from tests.support.statuses import follower, known


class LinkTests(SynchronousTestCase):
    """The link from a to b, as both tell of it at 10.0."""

    def link(
        self, at_sender: dict[str, Any], at_receiver: dict[str, Any], now: float = 10.1
    ) -> Link:
        a = known(follower("a", peers=[statuses.peer(node_id="b", **at_sender)]))
        b = known(follower("b", peers=[statuses.peer(node_id="a", **at_receiver)]))
        return self.between(a, b, now)

    def between(self, a: Known, b: Known, now: float = 10.1) -> Link:
        return next(each for each in links([a, b], now) if each.sender == "a")

    def test_one_that_is_heard(self) -> None:
        found = self.link({"security": "noise", "key": "1a2b3c4d"}, {})
        self.assertEqual((found.state, found.heard_at, found.confirms), ("heard", None, True))
        self.assertEqual((found.security, found.key), ("noise", "1a2b3c4d"))
        self.assertEqual((found.dialled_at, found.accepted_at), (-2.0, -1.0))

    def test_one_that_is_silent(self) -> None:
        found = self.link({}, {"heard_ago": 3.0})
        self.assertEqual((found.state, found.heard_at), ("silent", 7.0))
        self.assertEqual(self.link({}, {"heard_ago": None}).state, "silent")

    def test_one_without_a_connection_is_down_however_lately_it_was_heard(self) -> None:
        found = self.link({}, {"incoming_age": None, "heard_ago": 0.1})
        self.assertEqual((found.state, found.heard_at), ("down", 9.9))

    def test_nothing_is_said_of_confirmed_leases_unless_it_is_heard(self) -> None:
        for at_receiver in ({"incoming_age": None}, {"heard_ago": 3.0}):
            self.assertIsNone(self.link({"acknowledging": True}, at_receiver).confirms)

    def test_one_whose_receiver_does_not_answer_is_known_from_its_sender(self) -> None:
        a = known(follower("a", peers=[statuses.peer(node_id="b", link="waiting")]))
        b = Known("b")
        self.assertEqual(self.between(a, b).state, "down")
        a = known(follower("a", peers=[statuses.peer(node_id="b")]))
        self.assertEqual(self.between(a, b).state, "unknown")

    def test_what_was_said_before_a_node_was_lost_is_not_believed(self) -> None:
        a = known(follower("a", peers=[statuses.peer(node_id="b")]))
        b = known(follower("b", peers=[statuses.peer(node_id="a")]))
        gone = PeerStatus(**statuses.peer(node_id="b", link="waiting", incoming_age=None))
        b.see(gone, 10.1)
        self.assertEqual(self.between(a, b, 10.2).state, State.UNKNOWN)

    def test_what_is_old_is_not_believed(self) -> None:
        self.assertEqual(self.link({}, {}, now=20.0).state, "unknown")

    def test_times_that_an_answer_shifts_are_no_news(self) -> None:
        silent = self.link({}, {"heard_ago": 3.0})
        self.assertTrue(silent.is_like(self.link({}, {"heard_ago": 3.4})))
        self.assertFalse(silent.is_like(self.link({}, {"heard_ago": 9.0})))
        self.assertFalse(silent.is_like(self.link({}, {})))

    def test_every_direction_of_every_link_is_there(self) -> None:
        everyone = [known(follower(each)) for each in "abc"]
        found = {(each.sender, each.receiver) for each in links(everyone, 10.0)}
        self.assertEqual(found, {(x, y) for x in "abc" for y in "abc" if x != y})

    def test_it_is_told_in_ages(self) -> None:
        told = self.link({}, {"heard_ago": 3.0}).told(10.5)
        self.assertEqual((told["from"], told["to"], told["state"]), ("a", "b", "silent"))
        self.assertEqual((told["heard_ago"], told["dialled_ago"]), (3.5, 12.5))
