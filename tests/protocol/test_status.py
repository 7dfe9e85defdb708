"""The status document: written by a node, read by whoever asks it, taken whole or not at all."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import StatusError
from kevy_elect.messages import U64_MAX, Role
from kevy_elect.status import MAX_BYTES, MAX_ITEMS, MAX_VALUES, Status, from_object, read
from tests.support.statuses import child, document, event, peer


def dumped(**changes: object) -> bytes:
    return json.dumps(document(**changes)).encode()


WRONG = (
    ("node_id", 1, "node_id is no text"),
    ("node_id", None, "node_id is no text"),
    ("role", "king", "role is no role"),
    ("role", ["primary"], "role is no role"),
    ("epoch", True, "epoch is no count of 64 bits"),
    ("epoch", "3", "epoch is no count of 64 bits"),
    ("epoch", 3.0, "epoch is no count of 64 bits"),
    ("epoch", -1, "epoch is no count of 64 bits"),
    ("epoch", U64_MAX + 1, "epoch is no count of 64 bits"),
    ("current_primary", {}, "current_primary is no text"),
    ("lease_expires_in", "soon", "lease_expires_in is no number of seconds"),
    ("lease_expires_in", -0.1, "lease_expires_in is no number of seconds"),
    ("lease_expires_in", float("nan"), "lease_expires_in is no number of seconds"),
    ("lease_expires_in", float("inf"), "lease_expires_in is no number of seconds"),
    ("lease_expires_in", 10**400, "lease_expires_in is no number of seconds"),
    ("paused_for", None, "paused_for is no number of seconds"),
    ("has_quorum", 1, "has_quorum is no true or false"),
    ("can_write", None, "can_write is no true or false"),
    ("down_peers", "c", "down_peers is no list"),
    ("down_peers", ["c", 1], r"down_peers\[1\] is no text"),
    ("members", ["a"] * (MAX_ITEMS + 1), f"members has more than {MAX_ITEMS} items"),
    ("settings", [], "settings is no object"),
    ("settings", {"down_after": "5"}, "a value of settings is no number of seconds"),
    ("peers", ["b"], r"peers\[0\] is no JSON object"),
    ("peers", [peer(), peer(role="king")], r"peers\[1\].role is no role"),
    ("peers", [{}], r"peers\[0\].node_id is missing"),
    ("children", [child(pid=1.5)], r"children\[0\].pid is no count of 64 bits"),
    ("events", [event(ago=1e11)], r"events\[0\].ago is no number of seconds"),
)


class ReadTests(SynchronousTestCase):
    def test_all_of_it_is_read(self) -> None:
        status = read(dumped(down_peers=["c"], children=[child()]))
        self.assertEqual((status.role, status.epoch), (Role.PRIMARY, 3))
        self.assertEqual(status.down_peers, ("c",))
        self.assertEqual((status.peers[0].node_id, status.peers[0].role), ("b", Role.REPLICA))
        self.assertEqual(status.children[0].pid, 7)
        self.assertEqual((status.events[0].cause, status.events[0].member), ("elected", None))
        self.assertEqual(status.settings["down_after"], 5.0)

    def test_what_was_dumped_is_read_again(self) -> None:
        whole = {"children": [child(), child(pid=None)], "settings": {"x": True, "y": 0.5}}
        for changes in ({}, whole, {"lease_expires_in": None, "epoch": U64_MAX}):
            status = from_object(document(**changes))
            self.assertEqual(read(status.dump()), status)
            self.assertEqual(json.loads(status.dump()), document(**changes))

    def test_one_wrong_value_makes_it_none(self) -> None:
        for name, value, problem in WRONG:
            with self.assertRaisesRegex(StatusError, f"^no valid status: {problem}$"):
                read(dumped(**{name: value}))

    def test_one_missing_value_makes_it_none(self) -> None:
        # Not told by nodes of an earlier version.
        untold = {"data", "check", "uptime", "maintained_for", "cluster_name", "began_by_will_of"}
        for name in document().keys() - untold:
            found = document()
            del found[name]
            with self.assertRaisesRegex(StatusError, f"{name} is missing"):
                from_object(found)

    def test_what_is_not_known_is_left_out(self) -> None:
        """A node of a later version says more."""
        more = document(news=[1], peers=[peer(news={})])
        self.assertEqual(from_object(more), from_object(document()))

    def test_no_status_at_all(self) -> None:
        for text in (b"", b"<html>", b"\xff\xfe\xff", b"[" * 100_000, b"9" * 100_000, b"[]", b"3"):
            self.assertRaises(StatusError, read, text)

    def test_its_size_is_bounded(self) -> None:
        with self.assertRaisesRegex(StatusError, f"longer than {MAX_BYTES} bytes"):
            read(dumped() + b" " * MAX_BYTES)

    def test_so_is_what_there_is_to_read_in_it(self) -> None:
        """These took 33 ms, and 8 MB."""
        for text in (b"[" + b"{}," * 80_000 + b"{}]", b"[" + b"0," * 100_000 + b"0]"):
            with self.assertRaisesRegex(StatusError, f"more than {MAX_VALUES} values"):
                read(text)

    def test_an_error_quotes_nothing(self) -> None:
        hostile = "\x1b[2J"
        for found in (document(role=hostile), document(settings={hostile: hostile}), [hostile]):
            error = self.assertRaises(StatusError, from_object, found)
            self.assertNotIn(hostile, str(error))

    @given(st.binary())
    def test_any_bytes(self, text: bytes) -> None:
        self.assertRaises(StatusError, read, text)

    @given(
        st.sampled_from([field.name for field in attrs.fields(Status)]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(sorted(peer() | event() | child())), inner)
            ),
        ),
    )
    def test_any_value_is_taken_or_refused(self, name: str, value: Any) -> None:
        """And what is taken can be dumped."""
        try:
            status = from_object(document(**{name: value}))
        except StatusError:
            return
        self.assertEqual(read(status.dump()), status)
