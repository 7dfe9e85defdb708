from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import StatusError
from kevy_elect.ops.page_model import FRESH, LONGEST, Known, quiet_after
from kevy_elect.status import PeerStatus, from_object
from tests.support import statuses
from tests.support.statuses import event, follower, known


class StatusOfAnotherTests(SynchronousTestCase):
    """What another node says is taken as far as it makes sense, and no further."""

    def take(self, found: Any, node_id: str = "b") -> Known:
        known = Known(node_id, "http://192.0.2.2:8101")
        known.take(json.dumps(found).encode(), asked=10.0, now=10.1)
        return known

    def test_it_is_as_old_as_the_question(self) -> None:
        known = self.take(follower(paused_for=3.5))
        self.assertEqual(known.at, 10.0)
        assert known.status is not None
        self.assertEqual((known.status.epoch, known.status.paused_for), (3, 3.5))

    def test_another_node_than_expected_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "'x' answers there: correct the address"):
            self.take(follower("x"))

    def test_what_is_wrong_is_refused_whole(self) -> None:
        known = self.take(follower(epoch=4))
        with self.assertRaisesRegex(StatusError, "events.0. is no JSON object"):
            known.take(json.dumps(follower(epoch=5, events=[7])).encode(), 11.0, 11.1)
        assert known.status is not None
        self.assertEqual((known.status.epoch, known.at), (4, 10.0))

    def test_texts_of_events_are_bounded(self) -> None:
        known = self.take(follower(events=[event(text="x" * 10_000)]))
        self.assertEqual(len(known.events[0].text), LONGEST)

    def test_events_keep_their_times_from_answer_to_answer(self) -> None:
        known = self.take(follower(events=[event(ago=1.0)]))
        (first,) = known.events
        for now, ago, at in ((11.0, 1.8, first.at), (100.0, 1.0, 99.0)):
            again = follower(events=[event(ago=ago)])
            known.take(json.dumps(again).encode(), asked=now, now=now)
            self.assertEqual([event.at for event in known.events], [at])


class HeardTests(SynchronousTestCase):
    """Whether this node hears another, and whether that one's own word is of now."""

    def setUp(self) -> None:
        self.b = known(follower("b"))

    def see(self, now: float, **changes: object) -> float | None:
        self.b.see(PeerStatus(**statuses.peer(**changes)), now, quiet=1.0)
        return self.b.lost_at

    def test_a_lost_connection_is_noticed_at_once(self) -> None:
        self.assertIsNone(self.see(10.0))
        self.assertEqual(self.see(10.5, link="waiting", incoming_age=None), 10.5)
        self.assertEqual(self.see(11.0, link="waiting", incoming_age=None), 10.5)

    def test_silence_began_when_it_was_heard_last(self) -> None:
        self.assertIsNone(self.see(10.0, heard_ago=0.9))
        self.assertAlmostEqual(self.see(10.2, heard_ago=1.1) or 0, 9.1)

    def test_outages_are_remembered(self) -> None:
        self.see(10.5, link="waiting", incoming_age=None)
        self.see(12.0)
        self.assertEqual(list(self.b.outages), [(10.5, 12.0)])

    def test_its_word_is_old_after_a_while_and_once_it_is_lost(self) -> None:
        self.assertTrue(self.b.is_fresh(10.0 + FRESH - 0.1))
        self.assertFalse(self.b.is_fresh(10.0 + FRESH + 0.1))
        self.see(10.5, link="waiting", incoming_age=None)
        self.assertFalse(self.b.is_fresh(10.6))
        self.b.say(from_object(follower("b")), 10.7, 10.8)  # its page answers all the same
        self.assertTrue(self.b.is_fresh(10.8))

    def test_the_page_speaks_of_silence_before_a_peer_is_down(self) -> None:
        for settings, quiet in (
            ({"hb_interval": 0.2, "down_after": 5.0}, 1.0),
            ({"hb_interval": 1.0, "down_after": 10.0}, 5.0),
            ({"hb_interval": 0.05, "down_after": 0.5}, 0.5),
        ):
            self.assertEqual(quiet_after(from_object(follower(settings=settings))), quiet)
