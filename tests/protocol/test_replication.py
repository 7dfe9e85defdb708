"""How data servers stand to one another, by what their nodes say."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.local_server import LONGEST, NEWEST, join_offset
from kevy_elect.replication import is_in_sync, lag, waits_for_server, without_server
from kevy_elect.status import Status, from_object
from tests.support.statuses import data, document, following, peer, replica


def status(found: dict[str, Any]) -> Status:
    return from_object(found)


def follower(data_epoch: int = 3, length: int = 1000, **primary: object) -> Status:
    """b, whose server has so much, and which hears the primary a with this."""
    heard = peer(node_id="a", role="primary") | primary
    own = following(data_epoch=data_epoch, length=length)
    return status(replica("b", peers=[peer(node_id="c"), heard], data=own))


class LagTests(SynchronousTestCase):
    def test_it_is_what_the_primary_has_more_in_the_same_data_epoch(self) -> None:
        self.assertEqual(lag(follower(length=900, offset=join_offset(3, 1000))), 100)

    def test_one_that_is_ahead_of_what_the_primary_said_last_lacks_nothing(self) -> None:
        self.assertEqual(lag(follower(length=1001, offset=join_offset(3, 1000))), 0)

    def test_lengths_of_different_histories_are_not_compared(self) -> None:
        self.assertIsNone(lag(follower(data_epoch=2, offset=join_offset(3, 1000))))
        self.assertIsNone(lag(follower(data_epoch=0, offset=join_offset(0, 1000))))

    def test_a_data_epoch_beyond_what_an_offset_can_say(self) -> None:
        said = join_offset(NEWEST + 5, LONGEST)
        self.assertEqual(lag(follower(data_epoch=NEWEST + 5, offset=said)), LONGEST - 1000)

    def test_a_primary_that_is_not_heard_tells_nothing(self) -> None:
        said = join_offset(3, 1000)
        self.assertIsNone(lag(follower(offset=said, alive=False)))
        self.assertIsNone(lag(status(replica("b", primary=None, data=following()))))

    def test_a_server_that_is_not_known_may_have_lost_all(self) -> None:
        heard = peer(node_id="a", offset=join_offset(3, 1000))
        own = following(state="unknown")
        self.assertIsNone(lag(status(replica("b", peers=[heard], data=own))))

    def test_a_primary_and_one_without_a_server_have_none(self) -> None:
        self.assertIsNone(lag(status(document(data=data()))))
        self.assertIsNone(lag(status(replica("b", peers=[peer(node_id="a")]))))


class ServerTests(SynchronousTestCase):
    def test_a_primary_waits_for_a_server_that_takes_no_writes(self) -> None:
        for state in ("frozen", "unknown", "following"):
            found = document(can_write=False, data=data(state=state))
            self.assertTrue(waits_for_server(status(found)))

    def test_only_one_that_is_known_to_follow_is_in_sync(self) -> None:
        for state, in_sync in (("following", True), ("unknown", True), ("following", False)):
            own = status(replica("b", data=following(state=state, in_sync=in_sync))).data
            assert own is not None
            self.assertEqual(is_in_sync(own), (state, in_sync) == ("following", True))

    def test_others_do_not_wait(self) -> None:
        for found in (
            document(can_write=False),
            document(data=data()),
            document(can_write=False, has_quorum=False, data=data(state="frozen")),
            replica("b", data=data(state="frozen")),
        ):
            self.assertFalse(waits_for_server(status(found)))

    def test_whoever_drives_none_beside_others_is_named_unless_it_is_a_witness(self) -> None:
        with_server, without = document(data=data()), replica("b")
        witness = replica("c", witness=True)
        named = without_server(map(status, (with_server, without, witness)))
        self.assertEqual(named, ["b"])
        self.assertEqual(without_server(map(status, (without, witness))), [])
