"""Noise links: the published vectors, every way to break them, and who is let in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.messages import U64_MAX, Ack, Heartbeat, Role
from kevy_elect.transport.channel import MAX_PLAIN, Channel, ChannelError, PlainSecurity
from kevy_elect.transport.noise import (
    PROLOGUE,
    Cipher,
    Initiator,
    NoiseSecurity,
    Responder,
    public_bytes,
)

VECTORS = Path(__file__).parent / "vectors" / "noise.txt"


def private(secret: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(secret)


P: Final = 2**255 - 19
EIGHT: Final = (
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
)
"""The points of order 8 on the curve; on its twist and elsewhere there are none but these."""
SMALL_ORDER: Final = [number.to_bytes(32, "little") for number in (0, 1, *EIGHT, P - 1, P, P + 1)]
A, B, C = (private(bytes([number]) * 32) for number in (1, 2, 5))


@attrs.define
class Vectors:
    """One set of them: its named values, and the pairs of payload and wire."""

    values: dict[str, bytes] = attrs.Factory(dict)
    messages: list[tuple[bytes, bytes]] = attrs.Factory(list)


def vector_sets() -> list[Vectors]:
    """Two published sets, and one of ours."""
    sets: list[Vectors] = []
    for line in VECTORS.read_text().splitlines():
        name, *rest = line.split()
        if name == "#":
            continue
        if name == "init_prologue":
            sets.append(Vectors())
        if name == "message":
            sets[-1].messages.append((bytes.fromhex(rest[0]), bytes.fromhex(rest[1])))
        else:
            sets[-1].values[name] = bytes.fromhex(rest[-1])
    return sets


def halves(values: dict[str, bytes]) -> tuple[Initiator, Responder]:
    initiator = Initiator(
        private(values["init_static"]),
        values["init_remote_static"],
        lambda: private(values["init_ephemeral"]),
        values["init_prologue"],
    )
    responder = Responder(
        private(values["resp_static"]),
        lambda: private(values["resp_ephemeral"]),
        values.get("resp_prologue", values["init_prologue"]),
    )
    return initiator, responder


def security(own: X25519PrivateKey, **peers: X25519PrivateKey) -> NoiseSecurity:
    return NoiseSecurity(own, {name: [public_bytes(key)] for name, key in peers.items()})


def pair() -> tuple[Channel, Channel]:
    """The two ends of a connection that a dials to b."""
    return security(A, b=B).dials("b"), security(B, a=A, c=C).accepts()


def established() -> tuple[Channel, Channel]:
    dialled, accepted = pair()
    _, answer = accepted.receive(dialled.start())
    dialled.receive(answer)
    return dialled, accepted


class VectorTests(SynchronousTestCase):
    def test_the_published_handshakes_and_messages_are_met_byte_for_byte(self) -> None:
        *published, _ = vector_sets()
        self.assertEqual(len(published), 2)
        for vectors in published:
            initiator, responder = halves(vectors.values)
            (one, first), (two, second), *transport = vectors.messages
            self.assertEqual(initiator.first(one), first)
            self.assertEqual(responder.first(first), one)
            self.assertEqual(responder.second(two), second)
            self.assertEqual(initiator.second(second), two)
            self.assertEqual(initiator.transcript.hash, responder.transcript.hash)
            if "handshake_hash" in vectors.values:
                self.assertEqual(initiator.transcript.hash, vectors.values["handshake_hash"])
            there, back = initiator.transcript.split()
            opens_there, opens_back = responder.transcript.split()
            for number, (payload, sealed) in enumerate(transport):
                seals, opens = ((there, opens_there), (back, opens_back))[number % 2]
                self.assertEqual(seals.seal(payload), sealed)
                self.assertEqual(opens.open(sealed), payload)

    def test_our_own_handshake_and_frames_are_met_byte_for_byte(self) -> None:
        values = vector_sets()[-1].values
        self.assertEqual(values["init_prologue"], PROLOGUE)
        own = NoiseSecurity(
            private(values["init_static"]),
            {"b": [values["init_remote_static"]]},
            lambda: private(values["init_ephemeral"]),
        )
        other = NoiseSecurity(
            private(values["resp_static"]),
            {"a": [values["init_static_public"]]},
            lambda: private(values["resp_ephemeral"]),
        )
        dialled, accepted = own.dials("b"), other.accepts()
        first = dialled.start()
        self.assertEqual(first, b"\x00\x60" + values["handshake_1"])
        plain, second = accepted.receive(first)
        self.assertEqual((plain, second), (b"", b"\x00\x30" + values["handshake_2"]))
        self.assertEqual(dialled.receive(second), (b"", b""))
        heartbeat = wire.encode(Heartbeat(3, "n1", Role.REPLICA, 42))
        for channel, plain, name in (
            (dialled, b"*0\r\n", "init_to_resp_0"),
            (dialled, heartbeat, "init_to_resp_1"),
            (accepted, wire.encode_ack(Ack(3, 1)), "resp_to_init_0"),
        ):
            self.assertEqual(channel.seal(plain)[2:], values[name])

    def test_another_implementation_understands_both_ends(self) -> None:
        for we_dial in (True, False):
            oracle = NoiseConnection.from_name(b"Noise_IK_25519_ChaChaPoly_BLAKE2s")
            oracle.set_prologue(PROLOGUE)
            oracle.set_keypair_from_private_bytes(Keypair.STATIC, b"\x02" * 32)
            if we_dial:
                oracle.set_as_responder()
                channel = security(A, b=B).dials("b")
                oracle.start_handshake()
                oracle.read_message(channel.start()[2:])
                channel.receive(b"\x00\x30" + oracle.write_message())
            else:
                oracle.set_as_initiator()
                oracle.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, public_bytes(A))
                channel = security(A, b=B).accepts()
                oracle.start_handshake()
                _, answer = channel.receive(b"\x00\x60" + oracle.write_message())
                oracle.read_message(answer[2:])
            self.assertTrue(channel.established)
            self.assertEqual(channel.names, {"b"})
            self.assertEqual(oracle.decrypt(channel.seal(b"from us")[2:]), b"from us")
            sealed = oracle.encrypt(b"to us")
            plain, _ = channel.receive(len(sealed).to_bytes(2, "big") + sealed)
            self.assertEqual(plain, b"to us")


class BrokenHandshakeTests(SynchronousTestCase):
    def test_every_altered_bit_of_the_first_message_is_refused(self) -> None:
        first = pair()[0].start()
        for bit in range(16, 8 * len(first)):
            _, accepted = pair()
            altered = bytearray(first)
            altered[bit // 8] ^= 1 << bit % 8
            self.assertRaises(ChannelError, accepted.receive, bytes(altered))
            self.assertFalse(accepted.established)

    def test_every_altered_bit_of_the_second_message_is_refused(self) -> None:
        for bit in range(16, 8 * 50):
            dialled, accepted = pair()
            _, second = accepted.receive(dialled.start())
            altered = bytearray(second)
            altered[bit // 8] ^= 1 << bit % 8
            self.assertRaises(ChannelError, dialled.receive, bytes(altered))
            self.assertFalse(dialled.established)

    def test_a_truncated_message_is_refused_whatever_its_length(self) -> None:
        for length in range(96):
            _, accepted = pair()
            message = pair()[0].start()[2 : 2 + length]
            self.assertRaises(ChannelError, accepted.receive, length.to_bytes(2, "big") + message)

    def test_a_truncated_answer_is_refused_whatever_its_length(self) -> None:
        for length in range(48):
            dialled, accepted = pair()
            _, second = accepted.receive(dialled.start())
            cut = length.to_bytes(2, "big") + second[2 : 2 + length]
            self.assertRaises(ChannelError, dialled.receive, cut)
            self.assertFalse(dialled.established)

    def test_a_message_that_is_longer_than_it_says_is_refused(self) -> None:
        dialled, accepted = pair()
        _, second = accepted.receive(dialled.start())
        for end, message in ((security(B, a=A).accepts(), pair()[0].start()), (dialled, second)):
            longer = (len(message) - 1).to_bytes(2, "big") + message[2:] + b"x"
            self.assertRaises(ChannelError, end.receive, longer)

    def test_a_payload_in_a_handshake_message_is_ignored(self) -> None:
        initiator = Initiator(A, public_bytes(B))
        _, accepted = pair()
        message = initiator.first(b"to be ignored")
        plain, answer = accepted.receive(len(message).to_bytes(2, "big") + message)
        self.assertEqual(plain, b"")
        initiator.second(answer[2:])
        self.assertTrue(accepted.established)

    def test_keys_of_zeros_and_of_small_order_are_refused_by_both_ends(self) -> None:
        for key in SMALL_ORDER:
            _, accepted = pair()
            self.assertRaises(ChannelError, accepted.receive, b"\x00\x60" + key + bytes(64))
            dialled, _ = pair()
            dialled.start()
            self.assertRaises(ChannelError, dialled.receive, b"\x00\x30" + key + bytes(16))
            self.assertRaises(ChannelError, NoiseSecurity(A, {"b": [key]}).dials("b").start)

    def test_a_key_of_no_member_is_turned_away_without_an_answer(self) -> None:
        stranger = security(C, b=B).dials("b")
        error = self.assertRaises(
            ChannelError, security(B, a=A).accepts().receive, stranger.start()
        )
        self.assertEqual(error.kind, "unknown_key")

    def test_a_dialler_that_expects_another_acceptor_is_refused(self) -> None:
        dialled = security(A, c=C).dials("c")
        error = self.assertRaises(ChannelError, pair()[1].receive, dialled.start())
        self.assertEqual(error.kind, "bad_seal")

    def test_plain_text_in_place_of_a_handshake_is_never_answered(self) -> None:
        heartbeat = b"*0\r\n" + wire.encode(Heartbeat(3, "n1", Role.REPLICA, 42))
        for end in pair():
            # Its first two bytes are a length that is not there yet, and is not waited for long.
            self.assertEqual(end.receive(heartbeat), (b"", b""))
            self.assertRaises(ChannelError, end.receive, heartbeat * 400)
            self.assertFalse(end.established)


class TransportTests(SynchronousTestCase):
    def test_a_frame_too_long_is_refused_as_soon_as_its_length_is_there(self) -> None:
        for channel in (*pair(), *established()):
            for length in (MAX_PLAIN + 17, 0xFFFF):
                self.assertRaises(ChannelError, channel.receive, length.to_bytes(2, "big"))

    def test_a_frame_too_short_for_its_seal_is_refused(self) -> None:
        for length in range(16):
            _, accepted = established()
            self.assertRaises(ChannelError, accepted.receive, length.to_bytes(2, "big"))

    def test_the_longest_frame_passes(self) -> None:
        dialled, accepted = established()
        plain = b"x" * MAX_PLAIN
        self.assertEqual(accepted.receive(dialled.seal(plain)), (plain, b""))

    def test_frames_out_of_order_twice_or_left_out_are_refused(self) -> None:
        for order in ((1, 0), (0, 0), (0, 2)):
            dialled, accepted = established()
            frames = [dialled.seal(bytes([number])) for number in range(3)]
            self.assertRaises(
                ChannelError, accepted.receive, b"".join(frames[number] for number in order)
            )

    def test_every_altered_bit_of_a_frame_is_refused(self) -> None:
        for bit in range(16, 8 * (2 + 4 + 16)):
            dialled, accepted = established()
            frame = bytearray(dialled.seal(b"*0\r\n"))
            frame[bit // 8] ^= 1 << bit % 8
            self.assertRaises(ChannelError, accepted.receive, bytes(frame))

    def test_a_frame_does_not_open_at_its_own_end(self) -> None:
        dialled, _ = established()
        self.assertRaises(ChannelError, dialled.receive, dialled.seal(b"*0\r\n"))

    def test_a_replayed_first_message_opens_nothing_that_follows(self) -> None:
        dialled, accepted = pair()
        first = dialled.start()
        dialled.receive(accepted.receive(first)[1])
        recorded = first + dialled.seal(b"*0\r\n")
        replayed = security(B, a=A).accepts()
        self.assertRaises(ChannelError, replayed.receive, recorded)

    def test_the_last_nonce_is_never_used(self) -> None:
        cipher = Cipher(bytes(32))
        cipher._used = U64_MAX - 1
        cipher.seal(b"")
        for use in (cipher.seal, cipher.open):
            self.assertEqual(self.assertRaises(ChannelError, use, b"").kind, "exhausted")

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.binary(max_size=100), max_size=5),
        st.lists(st.integers(0, 700), max_size=20),
    )
    def test_any_split_of_a_stream_gives_the_same_plain_text(
        self, plains: list[bytes], cuts: list[int]
    ) -> None:
        dialled, accepted = pair()
        stream = dialled.start()
        # The dialler can seal only after the answer; what it sends is cut from there on.
        dialled.receive(accepted.receive(stream)[1])
        sealed = b"".join(dialled.seal(plain) for plain in plains)
        edges = [0, *sorted(cut for cut in cuts if cut < len(sealed)), len(sealed)]
        opened = b"".join(
            accepted.receive(sealed[start:end])[0] for start, end in itertools.pairwise(edges)
        )
        self.assertEqual(opened, b"".join(plains))

    def test_a_handshake_that_arrives_byte_by_byte_is_understood(self) -> None:
        dialled, accepted = pair()
        answer = b"".join(accepted.receive(bytes([byte]))[1] for byte in dialled.start())
        for byte in answer:
            dialled.receive(bytes([byte]))
        self.assertTrue(dialled.established and accepted.established)


class IdentityTests(SynchronousTestCase):
    def test_each_end_knows_which_member_the_other_is(self) -> None:
        dialled, accepted = established()
        self.assertEqual(dialled.names, {"b"})
        self.assertEqual(accepted.names, {"a"})
        self.assertEqual(accepted.key, public_bytes(A).hex()[:8])

    def test_two_members_with_one_key_are_both_proven(self) -> None:
        acceptor = security(B, a=A, c=A).accepts()
        acceptor.receive(security(A, b=B).dials("b").start())
        self.assertEqual(acceptor.names, {"a", "c"})

    def test_the_next_key_of_a_peer_is_dialled_at_the_next_attempt(self) -> None:
        old, new = public_bytes(B), public_bytes(C)
        ours = NoiseSecurity(A, {"b": [old, new]})
        dialled = [ours.dials("b").key for _ in range(3)]
        self.assertEqual(dialled, [key.hex()[:8] for key in (old, new, old)])

    def test_each_of_the_keys_listed_for_a_peer_is_accepted(self) -> None:
        ours = NoiseSecurity(B, {"a": [public_bytes(A), public_bytes(C)]})
        for key in (A, C):
            accepted = ours.accepts()
            accepted.receive(security(key, b=B).dials("b").start())
            self.assertEqual(accepted.names, {"a"})

    def test_a_channel_is_no_longer_trusted_once_its_key_is_not_listed(self) -> None:
        dialled, accepted = established()
        self.assertTrue(security(B, a=A).trusts(accepted))
        self.assertFalse(security(B, a=C).trusts(accepted))
        self.assertFalse(security(A, b=C).trusts(dialled))
        self.assertFalse(PlainSecurity().trusts(dialled))
        self.assertFalse(security(A, b=B).trusts(PlainSecurity().dials("b")))
