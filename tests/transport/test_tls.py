"""TLS links: whose certificate is taken, and what is refused at either end."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import ConfigError
from kevy_elect.settings.links import ALPN, read_identity
from kevy_elect.transport.channel import MAX_PLAIN, PLAIN_SECURITY, Channel, ChannelError
from kevy_elect.transport.tls import TlsChannel, TlsSecurity
from tests.support.certificates import Authority


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


class TlsCase(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.authority = Authority(directory)
        self.other_authority = Authority(directory, "other")

    def security(
        self, node_id: str, *peers: str, authority: Authority | None = None
    ) -> TlsSecurity:
        return (authority or self.authority).security(node_id, *peers)

    def pair(self) -> tuple[Channel, Channel]:
        return self.security("a", "b").dials("b"), self.security("b", "a", "c").accepts()

    def shake(self, dialled: Channel, accepted: Channel) -> None:
        """Carry the handshake to its end, or raise what either end says of it."""
        there = dialled.start()
        while there:
            _, back = accepted.receive(there)
            _, there = dialled.receive(back) if back else (b"", b"")


class HandshakeTests(TlsCase):
    def test_each_end_knows_which_member_the_other_is(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)
        self.assertTrue(dialled.established and accepted.established)
        self.assertEqual((dialled.names, accepted.names), ({"b"}, {"a"}))
        self.assertRegex(accepted.key, "^[0-9a-f]{8}$")

    def test_plain_text_passes_sealed_in_both_directions(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)
        for one, other in ((dialled, accepted), (accepted, dialled)):
            sealed = one.seal(b"*0\r\n" * (MAX_PLAIN // 4))
            self.assertNotIn(b"*0\r\n", sealed)
            self.assertEqual(other.receive(sealed)[0], b"*0\r\n" * (MAX_PLAIN // 4))

    def test_a_dns_name_equal_to_the_id_does_as_well(self) -> None:
        files = self.authority.sign("b", [x509.DNSName("b")])
        identity = read_identity("b", *files, str(self.authority.path))
        dialled = self.security("a", "b").dials("b")
        self.shake(dialled, TlsSecurity(identity, ["a"]).accepts())
        self.assertTrue(dialled.established)

    def test_a_member_that_is_not_the_one_dialled_is_refused(self) -> None:
        dialled, accepted = self.security("a", "b", "c").dials("c"), self.security("b", "a")
        error = self.assertRaises(ChannelError, self.shake, dialled, accepted.accepts())
        self.assertEqual(error.kind, "unknown_key")
        self.assertIn("a certificate of b, not of c", str(error))

    def test_who_is_no_member_is_refused(self) -> None:
        accepted = self.security("b", "c").accepts()
        error = self.assertRaises(ChannelError, self.shake, self.security("a", "b").dials("b"),
                                  accepted)  # fmt: skip
        self.assertEqual(error.kind, "unknown_key")
        self.assertFalse(accepted.established)

    def test_a_certificate_of_another_authority_is_refused_by_both_ends(self) -> None:
        for dialler, acceptor in ((None, self.other_authority), (self.other_authority, None)):
            dialled = self.security("a", "b", authority=dialler).dials("b")
            accepted = self.security("b", "a", authority=acceptor).accepts()
            error = self.assertRaises(ChannelError, self.shake, dialled, accepted)
            self.assertEqual(error.kind, "bad_handshake")
            self.assertFalse(accepted.established)

    def raw(self, *files: str, accepted: bool, version: ssl.TLSVersion | None = None) -> Channel:
        """An end with a certificate that no node would start with, or with none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if accepted else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.authority.path)
        context.set_alpn_protocols([ALPN])
        if version is not None:
            context.maximum_version = version
        if files:
            context.load_cert_chain(*files)
        return TlsChannel(context, frozenset("ab"), frozenset(), accepted=accepted)

    def assert_refused(self, *files: str) -> None:
        """That neither a dialler nor an acceptor like this is believed."""
        accepted = self.security("b", "a").accepts()
        dialled = self.raw(*files, accepted=False)
        self.assertRaises(ChannelError, self.shake, dialled, accepted)
        self.assertFalse(accepted.established)
        dialled = self.security("a", "b").dials("b")
        if files:
            self.assertRaises(ChannelError, self.shake, dialled, self.raw(*files, accepted=True))
            self.assertFalse(dialled.established)

    def test_a_certificate_that_has_ended_is_refused_by_both_ends(self) -> None:
        for name in "ab":
            files = self.authority.sign(f"ended-{name}", [uri(f"kevy-elect:{name}")], days=-1)
            self.assert_refused(*files)

    def test_a_certificate_without_a_name_of_a_member_is_refused_by_both_ends(self) -> None:
        self.assert_refused(*self.authority.sign("none", []))
        self.assert_refused(*self.authority.sign("elsewhere", [x509.DNSName("a.example.org")]))

    def test_who_shows_no_certificate_is_refused(self) -> None:
        self.assert_refused()

    def test_an_older_version_is_refused(self) -> None:
        files = self.authority.member("a")
        accepted = self.security("b", "a").accepts()
        older = self.raw(*files, accepted=False, version=ssl.TLSVersion.TLSv1_2)
        self.assertRaises(ChannelError, self.shake, older, accepted)
        self.assertFalse(accepted.established)

    def test_a_handshake_that_arrives_byte_by_byte_is_understood(self) -> None:
        dialled, accepted = self.pair()
        there, back = dialled.start(), b""
        while there:
            back = b"".join(accepted.receive(bytes([byte]))[1] for byte in there)
            there = b"".join(dialled.receive(bytes([byte]))[1] for byte in back)
        self.assertTrue(dialled.established and accepted.established)

    def test_an_altered_handshake_is_refused_or_not_understood(self) -> None:
        first = self.security("a", "b").dials("b").start()
        acceptor = self.security("b", "a", "c")
        for place in range(0, len(first), 5):
            dialled, accepted = self.security("a", "b").dials("b"), acceptor.accepts()
            altered = bytearray(dialled.start())
            altered[place % len(altered)] ^= 1
            with contextlib.suppress(ChannelError):
                _, back = accepted.receive(bytes(altered))
                _, there = dialled.receive(back)
                accepted.receive(there)
            self.assertFalse(accepted.established)

    def test_plain_text_and_noise_are_refused(self) -> None:
        for said in (b"*0\r\n" * 10, b"\x00\x60" + bytes(96)):
            for end in self.pair():
                end.start()
                self.assertRaises(ChannelError, end.receive, said)


class TransportTests(TlsCase):
    def test_an_altered_bit_ends_the_channel(self) -> None:
        for place in (0, 3, 10, -1):
            dialled, accepted = self.pair()
            self.shake(dialled, accepted)
            sealed = bytearray(dialled.seal(b"*0\r\n"))
            sealed[place] ^= 1
            self.assertRaises(ChannelError, accepted.receive, bytes(sealed) + bytes(20000))

    def test_what_waits_for_the_rest_of_its_record_is_bounded(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)
        self.assertRaises(ChannelError, accepted.receive, b"\x17\x03\x03\xff\xff" + bytes(70000))

    def test_what_comes_with_the_end_of_the_handshake_is_not_left(self) -> None:
        dialled, accepted = self.pair()
        _, back = accepted.receive(dialled.start())
        _, there = dialled.receive(back)
        self.assertEqual(accepted.receive(there + dialled.seal(b"*0\r\n"))[0], b"*0\r\n")

    def test_nothing_is_taken_after_the_other_end_has_closed(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)
        assert isinstance(dialled, TlsChannel)
        sealed = dialled.seal(b"*0\r\n")
        with contextlib.suppress(ssl.SSLError):
            dialled._tls.unwrap()
        closing = dialled._outgoing.read()
        self.assertEqual(accepted.receive(sealed + closing + sealed)[0], b"*0\r\n")

    def test_any_split_of_a_stream_gives_the_same_plain_text(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)

        @settings(max_examples=30, deadline=None)
        @given(
            st.lists(st.binary(min_size=1, max_size=60), max_size=4), st.sets(st.integers(1, 300))
        )
        def check(plains: list[bytes], cuts: set[int]) -> None:
            sealed = b"".join(dialled.seal(plain) for plain in plains)
            edges = [0, *sorted(cut for cut in cuts if cut < len(sealed)), len(sealed)]
            parts = [accepted.receive(sealed[i:j])[0] for i, j in itertools.pairwise(edges)]
            self.assertEqual(b"".join(parts), b"".join(plains))

        check()


class TrustTests(TlsCase):
    def test_a_channel_is_trusted_as_long_as_its_authority_is_listed(self) -> None:
        dialled, accepted = self.pair()
        self.shake(dialled, accepted)
        both = self.authority.directory / "both.pem"
        both.write_bytes(self.authority.path.read_bytes() + self.other_authority.path.read_bytes())
        added = read_identity("a", *self.authority.member("a"), str(both))
        self.assertTrue(TlsSecurity(added, ["b"]).trusts(dialled))
        other = self.security("a", "b", authority=self.other_authority)
        self.assertFalse(other.trusts(dialled))
        self.assertFalse(PLAIN_SECURITY.trusts(dialled))


class IdentityTests(TlsCase):
    def refusal(self, certificate: str, key: str, authority: str | None = None) -> str:
        authority = authority or str(self.authority.path)
        return str(self.assertRaises(ConfigError, read_identity, "a", certificate, key, authority))

    def test_it_says_when_the_certificate_ends(self) -> None:
        files = self.authority.member("a", days=3)
        identity = read_identity("a", *files, str(self.authority.path))
        self.assertLess(abs(identity.ends - time.time() - 3 * 86400), 60)
        self.assertEqual(identity, read_identity("a", *files, str(self.authority.path)))

    def test_a_certificate_that_has_ended_is_refused(self) -> None:
        self.assertIn("certificate has expired", self.refusal(*self.authority.member("a", days=-1)))

    def test_a_certificate_of_another_authority_is_refused(self) -> None:
        self.assertIn("would be refused", self.refusal(*self.other_authority.member("a")))

    def test_a_certificate_of_another_member_or_of_none_is_refused(self) -> None:
        self.assertIn("is of b: it needs", self.refusal(*self.authority.member("b")))
        self.assertIn("is of no member", self.refusal(*self.authority.sign("x", [])))
        for name in (uri("https://a"), x509.DNSName("a.example.org"), uri("kevy-elect:")):
            self.assertIn("it needs", self.refusal(*self.authority.sign("y", [name])))

    def test_files_that_do_not_fit_or_hold_something_else_are_named(self) -> None:
        certificate, key = self.authority.member("a")
        _, other_key = self.authority.member("b")
        self.assertIn("no certificate and its private key", self.refusal(certificate, other_key))
        self.assertIn("no certificate and its private key", self.refusal(key, key))
        self.assertIn("no certificate of an authority", self.refusal(certificate, key, key))
        self.assertIn("no-such cannot be read", self.refusal(certificate, "no-such"))

    def test_a_key_with_a_password_is_refused(self) -> None:
        certificate, key = self.authority.member("a")
        loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"secret")
        Path(key).write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        )
        self.assertIn("private key is encrypted", self.refusal(certificate, key))

    def test_a_key_that_others_may_use_is_refused(self) -> None:
        certificate, key = self.authority.member("a")
        os.chmod(key, 0o640)
        self.assertIn(f"{key} group or others may use it", self.refusal(certificate, key))
