"""Messages to bytes and back, with the recorded cases in vectors/wire.json."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.errors import ConfigError, FrameError
from kevy_elect.messages import U64_MAX, Accept, Ack, Announce, Heartbeat, Message, Offer, Role
from kevy_elect.wire import Decoder

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "wire.json").read_text()
)

HB = b"*5\r\n$2\r\nHB\r\n$1\r\n3\r\n$2\r\nn1\r\n$7\r\nreplica\r\n$2\r\n42\r\n"
HB_MESSAGE = Heartbeat(3, "n1", Role.REPLICA, 42)

MESSAGES: list[Message] = [
    HB_MESSAGE,
    Offer(4, "n2", 7),
    Accept(4, "n1"),
    Announce(4, "n2", "10.0.0.2:6004"),
]

settled = settings(derandomize=True, deadline=None, database=None, max_examples=100)


def message_of(case: dict[str, Any]) -> Message:
    match case:
        case {"type": "HB"}:
            return Heartbeat(case["epoch"], case["id"], Role(case["role"]), case["offset"])
        case {"type": "OFFER"}:
            return Offer(case["epoch"], case["id"], case["offset"])
        case {"type": "ACCEPT"}:
            return Accept(case["epoch"], case["id"])
        case _:
            return Announce(case["epoch"], case["id"], case["addr"])


def expected(case: dict[str, Any]) -> object:
    if "error" in case:
        return case["error"]
    return None if "more" in case else (message_of(case["message"]), case["used"])


def at_once(data: bytes) -> object:
    """What `decode` makes of these bytes: its result, or the kind of error."""
    try:
        return wire.decode(data)
    except FrameError as error:
        return error.kind


def byte_by_byte(data: bytes) -> object:
    """The same from a Decoder that gets them one at a time."""
    decoder = Decoder(wire.MESSAGES)
    try:
        for byte in data:
            decoder.feed(bytes([byte]))
            message = decoder.next_message()
            if message is not None:
                return message, decoder.used
    except FrameError as error:
        return error.kind
    return None


def drain(decoder: Decoder[Message]) -> Iterator[Message]:
    while (message := decoder.next_message()) is not None:
        yield message


def decode_all(chunks: Iterable[bytes]) -> list[Message]:
    decoder = Decoder(wire.MESSAGES)
    messages: list[Message] = []
    for chunk in chunks:
        decoder.feed(chunk)
        messages += drain(decoder)
    return messages


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


class RecordedCases(SynchronousTestCase):
    def test_encode(self) -> None:
        for case in VECTORS["encode"]:
            self.assertEqual(wire.encode(message_of(case["message"])).hex(), case["wire"])

    def test_decode(self) -> None:
        for case in VECTORS["decode"]:
            self.assertEqual(at_once(bytes.fromhex(case["in"])), expected(case), case["name"])

    def test_decode_byte_by_byte(self) -> None:
        for case in VECTORS["decode"]:
            self.assertEqual(byte_by_byte(bytes.fromhex(case["in"])), expected(case), case["name"])

    def test_whatever_was_encoded_decodes(self) -> None:
        for case in VECTORS["encode"]:
            data = bytes.fromhex(case["wire"])
            self.assertEqual(at_once(data), (message_of(case["message"]), len(data)))


class Decoding(SynchronousTestCase):
    def test_the_example_of_the_protocol(self) -> None:
        self.assertEqual(wire.encode(HB_MESSAGE), HB)
        self.assertEqual(wire.decode(HB), (HB_MESSAGE, len(HB)))

    def test_any_kind_of_buffer(self) -> None:
        for buffer in (HB, bytearray(HB), memoryview(HB)):
            self.assertEqual(wire.decode(buffer), (HB_MESSAGE, len(HB)))

    def test_many_frames_in_one_read(self) -> None:
        stream = b"".join(map(wire.encode, MESSAGES * 250))
        self.assertEqual(decode_all([stream]), MESSAGES * 250)

    def test_frames_cut_anywhere(self) -> None:
        stream = b"".join(map(wire.encode, MESSAGES))
        for cut in range(len(stream) + 1):
            self.assertEqual(decode_all([stream[:cut], stream[cut:]]), MESSAGES)

    def test_empty_arrays_say_nothing(self) -> None:
        self.assertIsNone(wire.decode(b"*0\r\n" * 3))
        self.assertEqual(wire.decode(b"*0\r\n*0\r\n" + HB), (HB_MESSAGE, 8 + len(HB)))
        self.assertEqual(decode_all([b"*0\r\n", HB, b"*0\r\n", HB]), [HB_MESSAGE] * 2)

    def test_used_counts_all_complete_frames(self) -> None:
        decoder = Decoder(wire.MESSAGES)
        decoder.feed(HB + b"*0\r\n" + HB + HB[:9])
        self.assertEqual(list(drain(decoder)), [HB_MESSAGE] * 2)
        self.assertEqual(decoder.used, 2 * len(HB) + 4)

    def test_messages_before_the_bad_bytes_are_delivered(self) -> None:
        decoder = Decoder(wire.MESSAGES)
        decoder.feed(HB + b"GET / HTTP/1.1\r\n")
        self.assertEqual(decoder.next_message(), HB_MESSAGE)
        self.assertRaises(FrameError, decoder.next_message)


class Bounds(SynchronousTestCase):
    """A frame is refused as soon as a header breaks a bound, never after buffering it."""

    def refused_at(self, data: bytes) -> int:
        """How many bytes it took."""
        decoder = Decoder(wire.MESSAGES)
        for count, byte in enumerate(data, 1):
            decoder.feed(bytes([byte]))
            try:
                self.assertIsNone(decoder.next_message())
            except FrameError as error:
                self.assertEqual(error.kind, "bad")
                return count
        self.fail(f"{data[:40]!r} was not refused")
        return 0

    def test_more_than_16_elements(self) -> None:
        self.assertEqual(self.refused_at(b"*17\r\n"), len(b"*17"))
        self.assertEqual(self.refused_at(b"*1000000000\r\n"), len(b"*10") + 1)

    def test_more_than_512_bytes_an_element(self) -> None:
        self.assertEqual(self.refused_at(b"*1\r\n$513\r\n"), len(b"*1\r\n$513"))
        self.assertEqual(self.refused_at(b"*1\r\n$99999\r\n"), len(b"*1\r\n$999"))

    def test_more_than_20_digits(self) -> None:
        self.assertEqual(self.refused_at(b"*" + b"0" * 1000), 1 + 21)
        self.assertEqual(self.refused_at(b"*1\r\n$" + b"0" * 1000), 5 + 21)
        self.assertIsNone(wire.decode(b"*" + b"0" * 20))

    def test_a_marker_that_is_none(self) -> None:
        for data in (b"\r\n", b"GET", b"+OK", b"*1\r\n:", b"*1\r\n*", b"*3\r\n$6\r\nACCEPT\r\n+"):
            self.assertEqual(self.refused_at(data + b"x" * 50), len(data) if data[0] == 42 else 1)

    def test_a_line_end_that_is_none(self) -> None:
        self.assertEqual(self.refused_at(b"*5\n"), 3)
        self.assertEqual(self.refused_at(b"*5\rx"), 4)
        self.assertEqual(self.refused_at(b"*1\r\n$2\r\nHBx\r"), 11)
        self.assertEqual(self.refused_at(b"*1\r\n$2\r\nHB\rx"), 12)

    def test_counts_that_are_none(self) -> None:
        for data in (b"*-", b"*+", b"* ", b"*x", b"*\r", b"*1\r\n$-", b"*1\r\n$\r", b"*5 "):
            self.assertEqual(self.refused_at(data + b"1\r\n"), len(data))

    def test_the_largest_frame_is_still_no_message_and_stays_in_bounds(self) -> None:
        element = b"$512\r\n" + b"x" * 512 + b"\r\n"
        decoder = Decoder(wire.MESSAGES)
        decoder.feed(b"*16\r\n" + 15 * element + element[:-1])
        self.assertIsNone(decoder.next_message())
        self.assertLess(decoder.undecoded, wire.MAX_UNDECODED)
        decoder.feed(b"\n")
        error = self.assertRaises(FrameError, decoder.next_message)
        self.assertEqual(error.kind, "wrong_shape")

    def test_the_bounds_are_those_of_the_protocol(self) -> None:
        self.assertEqual((wire.MAX_ELEMENTS, wire.MAX_ELEMENT), (16, 512))
        self.assertEqual((wire.MAX_DIGITS, wire.MAX_UNDECODED), (20, 16384))


class CountingBuffer(bytearray):
    """Counts the bytes that are copied out of it, moved in it or searched."""

    touched = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.touched += len(found) if isinstance(key, slice) else 1
        return found

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        self.touched += len(self)

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(sub, start, end)
        stop = len(self) if end is None else min(end, len(self))
        self.touched += (found if found >= 0 else stop) - start + 1
        return found


class LinearWork(SynchronousTestCase):
    def touched(self, data: bytes) -> int:
        """How many bytes the decoder looks at when these arrive one at a time."""
        decoder = Decoder(wire.MESSAGES)
        buffer = decoder._buffer = CountingBuffer()
        for byte in data:
            decoder.feed(bytes([byte]))
            list(drain(decoder))
        return buffer.touched

    def assert_linear(self, data: bytes) -> None:
        once, twice = self.touched(data), self.touched(data * 2)
        self.assertLess(once, 30 * len(data))
        self.assertLess(twice, 2.1 * once)

    def test_small_frames(self) -> None:
        self.assert_linear(HB * (16384 // len(HB)))

    def test_one_element_as_large_as_may_be(self) -> None:
        frame = wire.encode(Announce(1, "a", "h" * 512))
        self.assert_linear(frame * (16384 // len(frame)))

    def test_empty_arrays(self) -> None:
        self.assert_linear(b"*0\r\n" * 4096)


class EncodingRefuses(SynchronousTestCase):
    """What no peer would take back is a fault of this program."""

    def refuses(self, *messages: Message) -> None:
        for message in messages:
            self.assertRaises(ConfigError, wire.encode, message)

    def test_numbers_out_of_range(self) -> None:
        for number in (-1, U64_MAX + 1):
            self.refuses(
                Heartbeat(number, "a", Role.REPLICA, 0),
                Heartbeat(1, "a", Role.REPLICA, number),
                Offer(number, "a", 0),
                Offer(1, "a", number),
                Accept(number, "a"),
                Announce(number, "a", "h:1"),
            )

    def test_ids_that_are_none(self) -> None:
        for node_id in ("", "a" * 33, "a b", "a\r\n", "ä", "a\x7f"):
            self.refuses(
                Heartbeat(1, node_id, Role.REPLICA, 0),
                Offer(1, node_id, 0),
                Accept(1, node_id),
                Announce(1, node_id, "h:1"),
            )

    def test_addresses_that_are_none(self) -> None:
        for addr in ("", "h:1\r\n", "h :1", "h" * 513, "ü:1"):
            self.refuses(Announce(1, "a", addr))


class Replies(SynchronousTestCase):
    """What the other end of a connection may answer (section 4)."""

    WIRE = b"*3\r\n$3\r\nACK\r\n$1\r\n3\r\n$2\r\n42\r\n"

    def test_encode(self) -> None:
        self.assertEqual(wire.encode_ack(Ack(3, 42)), self.WIRE)
        for number in (-1, U64_MAX + 1):
            self.assertRaises(ConfigError, wire.encode_ack, Ack(number, 1))
            self.assertRaises(ConfigError, wire.encode_ack, Ack(1, number))

    def test_decode_at_any_split(self) -> None:
        for cut in range(len(self.WIRE) + 1):
            decoder = Decoder(wire.REPLIES)
            decoder.feed(self.WIRE[:cut])
            first = decoder.next_message()
            decoder.feed(self.WIRE[cut:])
            self.assertEqual(first or decoder.next_message(), Ack(3, 42))

    def test_an_ack_is_no_message(self) -> None:
        self.assertEqual(at_once(self.WIRE), "wrong_shape")

    def test_a_message_is_no_reply(self) -> None:
        decoder = Decoder(wire.REPLIES)
        decoder.feed(HB)
        error = self.assertRaises(FrameError, decoder.next_message)
        self.assertEqual(error.kind, "wrong_shape")

    def test_the_greeting_says_nothing(self) -> None:
        self.assertEqual(wire.GREETING, b"*0\r\n")
        self.assertEqual(wire.decode(wire.GREETING + HB), (HB_MESSAGE, 4 + len(HB)))


number = st.integers(0, U64_MAX)
text = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
node_id = st.text(text, min_size=1, max_size=32)
message = st.one_of(
    st.builds(Heartbeat, number, node_id, st.sampled_from(Role), number),
    st.builds(Offer, number, node_id, number),
    st.builds(Accept, number, node_id),
    st.builds(Announce, number, node_id, st.text(text, min_size=1, max_size=512)),
)
nearly_frames = st.lists(
    st.one_of(
        st.sampled_from([b"*", b"$", b"\r\n", b"*5\r\n", b"*0\r\n", b"$2\r\nHB\r\n", b"$512\r\n"]),
        st.sampled_from([b"\r", b"\n", b"0", b"00000000000000000000", b"17", HB, HB[:20]]),
        st.binary(max_size=600),
    ),
    max_size=40,
)


class Properties(SynchronousTestCase):
    @settled
    @given(message)
    def test_what_was_encoded_decodes_to_the_same(self, sent: Message) -> None:
        data = wire.encode(sent)
        self.assertEqual(wire.decode(data + b"*"), (sent, len(data)))

    @settled
    @given(st.lists(message, max_size=8), st.lists(st.integers(0, 10**6), max_size=20))
    def test_any_split_gives_back_the_sequence(self, sent: list[Message], cuts: list[int]) -> None:
        stream = b"".join(map(wire.encode, sent))
        self.assertEqual(decode_all(split(stream, cuts)), sent)

    @settled
    @given(message, st.integers(0, 10**6))
    def test_every_proper_prefix_needs_more(self, sent: Message, cut: int) -> None:
        data = wire.encode(sent)
        self.assertIsNone(wire.decode(data[: cut % len(data)]))

    @settled
    @given(nearly_frames)
    def test_any_bytes_raise_nothing_but_frame_error_and_stay_in_bounds(
        self, chunks: list[bytes]
    ) -> None:
        decoder = Decoder(wire.MESSAGES)
        for chunk in chunks:
            decoder.feed(chunk)
            try:
                list(drain(decoder))
            except FrameError as error:
                self.assertIn(error.kind, {"bad", "wrong_shape", "bad_numeric", "bad_role"})
                return
            self.assertLess(decoder.undecoded, wire.MAX_UNDECODED)

    @settled
    @given(nearly_frames)
    def test_the_outcome_does_not_depend_on_the_split(self, chunks: list[bytes]) -> None:
        data = b"".join(chunks)
        self.assertEqual(byte_by_byte(data), at_once(data))
