from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.local_server import join_offset
from kevy_elect.ops.page_model import LONGEST, Known
from kevy_elect.ops.page_nodes import View, view
from kevy_elect.status import PeerStatus
from tests.support import statuses
from tests.support.statuses import child, follower, known, writer


class NodeTests(SynchronousTestCase):
    """How b is shown, seen from a at 10.1."""

    def setUp(self) -> None:
        self.me = known(follower("a", peers=[statuses.peer(node_id="b")]))

    def see(self, **changes: Any) -> View:
        return view(known(follower("b", **changes)), self.me, 10.1)

    def lead(self, **changes: Any) -> View:
        return view(known(writer("b", **changes)), self.me, 10.1)

    def row(self, found: View, label: str) -> str:
        return next(row["text"] for row in found.rows if row["label"] == label)

    def lost(self, found: dict[str, Any], **peer: Any) -> Known:
        """A node that was lost at 10.05, after it had said this."""
        gone = known(found)
        gone.see(PeerStatus(**statuses.peer(link="waiting", incoming_age=None)), 10.05)
        return gone

    def test_a_replica(self) -> None:
        found = self.see()
        self.assertEqual((found.role, found.word, found.is_well), ("replica", "replica", True))
        self.assertEqual(self.row(found, "Follows"), "c; clients go to 127.0.0.1:6001")
        self.assertEqual(self.row(found, "Hears"), "all the others")
        self.assertEqual(self.row(found, "Can be primary"), "yes")
        self.assertIsNone(found.lease)
        self.assertAlmostEqual(found.up_for or 0, 90.1)

    def test_a_primary_and_what_is_left_of_its_lease(self) -> None:
        settings = {"down_after": 5.0, "ack_margin": 0.1}
        found = self.lead(lease_expires_in=3.0, settings=settings)
        self.assertEqual(found.word, "primary")
        assert found.lease is not None
        self.assertAlmostEqual(found.lease["ends_in"], 2.9)
        self.assertAlmostEqual(found.lease["lasts"], 4.9)
        self.assertEqual(self.lead(lease_expires_in=None).lease, {"ends_in": None, "lasts": None})

    def test_a_primary_that_may_not_write(self) -> None:
        found = self.lead(can_write=False, has_quorum=False, lease_expires_in=0.0)
        self.assertEqual((found.word, found.short), ("primary, writes nothing", "no lease"))
        assert found.lease is not None
        self.assertEqual(found.lease["ends_in"], 0.0)

    def test_a_primary_that_cannot_be_reached_keeps_the_lease_that_it_told(self) -> None:
        self.me = known(follower("a", peers=[statuses.peer(node_id="b", role="primary")]))
        found = view(self.lost(writer("b", lease_expires_in=1.8)), self.me, 10.1)
        self.assertEqual(found.word, "cannot be reached; it was the primary")
        self.assertEqual(
            (found.is_well, found.job, found.data, found.up_for), (False, "", "", None)
        )
        assert found.lease is not None
        self.assertAlmostEqual(found.lease["ends_in"], 1.7)

    def test_what_it_was_is_said_in_full(self) -> None:
        for found, word in (
            (follower("b"), "it was a replica"),
            (follower("b", witness=True), "it was a witness"),
            (follower("b", role="candidate"), "it asked for votes"),
        ):
            shown = view(self.lost(found), Known("a"), 10.1)
            self.assertEqual(shown.word, f"cannot be reached; {word}")

    def test_one_that_answers_though_it_is_not_heard(self) -> None:
        deaf = self.lost(follower("b"))
        deaf.at = 10.06
        found = view(deaf, self.me, 10.1)
        self.assertEqual((found.is_well, found.word), (True, "replica; a does not hear it"))

    def test_without_its_page_it_is_what_this_node_hears(self) -> None:
        heard = statuses.peer(node_id="b", role="primary", epoch=4)
        found = view(Known("b"), known(follower("a", peers=[heard])), 10.1)
        self.assertEqual((found.role, found.epoch, found.is_well), ("primary", "4", True))
        self.assertIn("not known to a", self.row(found, "Its page"))

    def test_one_that_was_never_heard(self) -> None:
        silent = statuses.peer(node_id="b", heard_ago=None, alive=False, incoming_age=None)
        me = known(follower("a", peers=[silent]))
        self.assertEqual(view(Known("b"), me, 10.1).word, "not heard yet")
        gone = Known("b", lost_at=10.0)
        self.assertEqual(view(gone, me, 10.1).word, "never heard")

    def test_what_is_heard_goes_before_an_older_word(self) -> None:
        heard = statuses.peer(node_id="b", role="primary", epoch=4)
        me = known(follower("a", epoch=4, peers=[heard]))
        self.assertEqual(view(known(follower("b")), me, 10.1).role, "primary")

    def test_why_its_page_does_not_answer(self) -> None:
        mute = known(follower("b"))
        mute.error = "no answer within 2 s"
        self.assertEqual(
            self.row(view(mute, self.me, 10.1), "Its page"),
            "no answer within 2 s; it answered last",
        )

    def test_who_is_not_heard_by_it(self) -> None:
        found = self.see(down_peers=["c"], has_quorum=True)
        self.assertEqual(self.row(found, "Hears"), "the others but c")
        found = self.see(down_peers=["a", "c"], has_quorum=False)
        few = "none of the others: too few to elect a primary"
        self.assertEqual(self.row(found, "Hears"), few)

    def test_when_it_can_be_primary(self) -> None:
        self.assertIn("never: it is a witness", self.row(self.see(witness=True), "Can be primary"))
        (row,) = (row for row in self.see(paused_for=30.0).rows if row["label"] == "Can be primary")
        self.assertEqual(row["text"], "again in")
        self.assertAlmostEqual(row["left"], 29.9)

    def test_without_its_data_server_it_cannot_be_primary(self) -> None:
        found = self.see(data=statuses.data(state="unknown"))
        text = "not while its data server is not known"
        self.assertEqual(self.row(found, "Can be primary"), text)

    def test_its_check(self) -> None:
        failing = self.see(check={"healthy": False, "problem": "HTTP status 500"})
        self.assertEqual(self.row(failing, "Health check"), "fails: HTTP status 500")
        self.assertEqual(
            self.row(self.see(check={"healthy": True, "problem": ""}), "Health check"), "succeeds"
        )

    def test_texts_are_bounded_and_numbers_of_64_bits_are_exact(self) -> None:
        found = self.see(version="x" * 10_000, epoch=2**64 - 1).told()
        self.assertEqual(len(found["version"]), LONGEST)
        self.assertEqual(found["epoch"], "18446744073709551615")

    def test_time_that_passes_is_no_news(self) -> None:
        first = self.see()
        later = view(known(follower("b"), at=11.0), self.me, 11.2)
        self.assertTrue(later.is_like(first))
        self.assertFalse(self.lead().is_like(first))


class JobTests(SynchronousTestCase):
    """What runs only on the primary waits elsewhere: it is not stopped."""

    def jobs(self, found: dict[str, Any], *children: dict[str, Any]) -> tuple[str, str]:
        shown = view(known(found | {"children": list(children)}), known(follower("a")), 10.1)
        return shown.job, next(row["text"] for row in shown.rows if row["label"] == "Job")

    def test_that_of_a_replica_waits(self) -> None:
        short, long = self.jobs(follower("b"), child(state="stopped", pid=None))
        self.assertEqual(
            (short, long), ("counter waits", "counter waits until this node is primary")
        )

    def test_that_of_the_primary_runs(self) -> None:
        short, long = self.jobs(writer("b"), child(restarts=2))
        self.assertEqual(short, "counter runs")
        self.assertEqual(long, "counter runs, process 7, started again 2 times")

    def test_that_of_the_primary_may_be_stopped(self) -> None:
        self.assertEqual(self.jobs(writer("b"), child(state="stopped"))[0], "counter is stopped")

    def test_several(self) -> None:
        waiting = child(state="stopped", pid=None)
        self.assertEqual(self.jobs(follower("b"), waiting, waiting)[0], "all 2 wait")
        self.assertEqual(self.jobs(writer("b"), child(), child())[0], "all 2 run")
        self.assertEqual(self.jobs(writer("b"), child(), waiting)[0], "1 of 2 run")


class ServerTests(SynchronousTestCase):
    """The data server that a node drives, in short and in full."""

    def setUp(self) -> None:
        heard = statuses.peer(node_id="c", offset=join_offset(3, 1100))
        self.found = follower("b", peers=[heard])

    def server(self, **data: Any) -> tuple[str, str]:
        shown = view(known(self.found | {"data": data}), known(follower("a")), 10.1)
        return shown.data, next(row["text"] for row in shown.rows if row["label"] == "Data server")

    def test_one_that_follows(self) -> None:
        short, long = self.server(**statuses.following(length=1100))
        self.assertEqual(short, "in sync")
        follows = "Redis at 127.0.0.1:6379 follows 127.0.0.1:6001, in sync, nothing behind"
        self.assertEqual(long, f"{follows}; data epoch 3, length 1100")

    def test_one_that_is_behind(self) -> None:
        self.assertEqual(self.server(**statuses.following())[0], "100 behind")

    def test_one_that_is_not_in_sync(self) -> None:
        short, _ = self.server(**statuses.following(in_sync=False, data_epoch=2))
        self.assertEqual(short, "not in sync")

    def test_that_of_the_primary(self) -> None:
        self.found = writer("b")
        self.assertEqual(self.server(**statuses.data())[0], "takes writes")

    def test_what_fences_that_of_the_primary(self) -> None:
        self.found = writer("b")
        for fencing, words in (
            ("supervisor", "; should the node die or hang, its supervisor kills the data server"),
            ("guard", "; should the node die or hang, its guard freezes the data server"),
            ("node", "; should the node die or hang, the data server goes on taking writes"),
            ("of a later version", "length 1000"),
        ):
            long = self.server(**statuses.data(fencing=fencing))[1]
            self.assertTrue(long.endswith(words), long)

    def test_one_that_is_not_known(self) -> None:
        short, long = self.server(**statuses.data(state="unknown", problem="gave no answer"))
        self.assertEqual(
            (short, long), ("not known", "Redis at 127.0.0.1:6379: not known: gave no answer")
        )

    def test_numbers_of_64_bits_are_exact(self) -> None:
        long = self.server(**statuses.following(length=2**53 + 1))[1]
        self.assertIn(f"length {2**53 + 1}", long)
