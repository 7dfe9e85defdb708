"""Links authenticated by a key of each member: Noise_IK_25519_ChaChaPoly_BLAKE2s.

Revision 34 of the Noise protocol, without pre-shared keys and without rekeying. The
names in this module are those of its specification: `e` and `s` are the ephemeral and
the static key, `es` is the secret that the dialler's `e` and the acceptor's `s` share.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from kevy_elect.messages import U64_MAX
from kevy_elect.transport.channel import MAX_PLAIN, Channel, ChannelError, Kind

SUITE: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE: Final = b"kevy-elect\x001"
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
FIRST_BYTES: Final = 2 * KEY_BYTES + 2 * TAG_BYTES
"""e, the sealed s and the seal of the empty payload."""
SECOND_BYTES: Final = KEY_BYTES + TAG_BYTES
MAX_FRAME: Final = MAX_PLAIN + TAG_BYTES
_LENGTH: Final = struct.Struct(">H")
_NONCE: Final = struct.Struct("<4xQ")

NewKey = Callable[[], X25519PrivateKey]


class Cipher:
    """The key of one direction, with the number of its uses."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._used = 0

    def seal(self, plain: bytes, bound_to: bytes = b"") -> bytes:
        """Encrypt and authenticate. Raises ChannelError once the counter is used up."""
        sealed = self._aead.encrypt(self._nonce(), plain, bound_to)
        self._used += 1
        return sealed

    def open(self, sealed: bytes, bound_to: bytes = b"") -> bytes:
        """Decrypt the next sealed message of the other end. Raises ChannelError for any other
        bytes."""
        nonce = self._nonce()
        try:
            plain = self._aead.decrypt(nonce, sealed, bound_to)
        except InvalidTag:
            raise ChannelError("bad_seal", "it was not sealed by the other end") from None
        self._used += 1
        return plain

    def _nonce(self) -> bytes:
        if self._used == U64_MAX:
            raise ChannelError("exhausted", "every nonce was used")
        return _NONCE.pack(self._used)


class _Transcript:
    """The transcript of both ends and the secrets that they share so far."""

    def __init__(self, prologue: bytes, acceptor: bytes) -> None:
        self.hash = self._chain = hashlib.blake2s(SUITE).digest()
        self._cipher: Cipher | None = None
        self.mix(prologue)
        self.mix(acceptor)

    def mix(self, said: bytes) -> None:
        self.hash = hashlib.blake2s(self.hash + said).digest()

    def mix_shared(self, private: X25519PrivateKey, public: bytes) -> None:
        """Mix in the shared secret of the two keys. Raises ChannelError if it is not secret."""
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise ChannelError("bad_handshake", "a key of small order") from None
        self._chain, key = _derive(self._chain, shared)
        self._cipher = Cipher(key)

    def seal(self, plain: bytes) -> bytes:
        assert self._cipher is not None
        sealed = self._cipher.seal(plain, self.hash)
        self.mix(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        assert self._cipher is not None
        plain = self._cipher.open(sealed, self.hash)
        self.mix(sealed)
        return plain

    def split(self) -> tuple[Cipher, Cipher]:
        """The ciphers from dialler to acceptor and back."""
        there, back = _derive(self._chain, b"")
        return Cipher(there), Cipher(back)


class Initiator:
    """The dialler's half of the handshake."""

    def __init__(
        self,
        own: X25519PrivateKey,
        acceptor: bytes,
        new_key: NewKey = X25519PrivateKey.generate,
        prologue: bytes = PROLOGUE,
    ) -> None:
        self._s = own
        self._acceptor = acceptor
        self._e = new_key()
        self.transcript = _Transcript(prologue, acceptor)

    def first(self, payload: bytes = b"") -> bytes:
        """-> e, es, s, ss"""
        transcript, e = self.transcript, public_bytes(self._e)
        transcript.mix(e)
        transcript.mix_shared(self._e, self._acceptor)
        s = transcript.seal(public_bytes(self._s))
        transcript.mix_shared(self._s, self._acceptor)
        return e + s + transcript.seal(payload)

    def second(self, message: bytes) -> bytes:
        """<- e, ee, se. Returns the payload."""
        transcript, e = self.transcript, message[:KEY_BYTES]
        transcript.mix(e)
        transcript.mix_shared(self._e, e)
        transcript.mix_shared(self._s, e)
        return transcript.open(message[KEY_BYTES:])


class Responder:
    """The acceptor's half of the handshake."""

    dialler: bytes
    """The static key of the dialler, once `first` has read it."""

    def __init__(
        self,
        own: X25519PrivateKey,
        new_key: NewKey = X25519PrivateKey.generate,
        prologue: bytes = PROLOGUE,
    ) -> None:
        self._s = own
        self._new_key = new_key
        self.transcript = _Transcript(prologue, public_bytes(own))

    def first(self, message: bytes) -> bytes:
        """-> e, es, s, ss. Returns the payload."""
        e, rest = message[:KEY_BYTES], message[KEY_BYTES:]
        s, payload = rest[: KEY_BYTES + TAG_BYTES], rest[KEY_BYTES + TAG_BYTES :]
        transcript = self.transcript
        transcript.mix(e)
        transcript.mix_shared(self._s, e)
        self.dialler = transcript.open(s)
        transcript.mix_shared(self._s, self.dialler)
        self._dialler_e = e
        return transcript.open(payload)

    def second(self, payload: bytes = b"") -> bytes:
        """<- e, ee, se"""
        transcript, own = self.transcript, self._new_key()
        e = public_bytes(own)
        transcript.mix(e)
        transcript.mix_shared(own, self._dialler_e)
        transcript.mix_shared(own, self.dialler)
        return e + transcript.seal(payload)


class _NoiseChannel:
    """Frames of a 16-bit length and a Noise message, in handshake and transport alike."""

    kind: Kind = "noise"
    names: frozenset[str] | None = frozenset()
    other = b""
    """The other end's static key, once it is known."""
    _sending: Cipher
    _receiving: Cipher

    def __init__(self) -> None:
        self.established = False
        self._unread = bytearray()

    @property
    def key(self) -> str:
        return self.other.hex()[:8]

    def start(self) -> bytes:
        return b""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        if self.established and not self._unread and _is_one_frame(data):  # the usual case
            return self._receiving.open(data[_LENGTH.size :]), b""
        self._unread += data
        plain, answer = bytearray(), bytearray()
        while (message := self._next_message()) is not None:
            if self.established:
                plain += self._receiving.open(message)
            else:
                answer += self._shake(message)
        return bytes(plain), bytes(answer)

    def seal(self, plain: bytes) -> bytes:
        return _framed(self._sending.seal(plain))

    def _next_message(self) -> bytes | None:
        unread = self._unread
        if len(unread) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(unread)
        if not TAG_BYTES <= length <= MAX_FRAME:
            raise ChannelError("bad_frame", f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(unread) < end:
            return None
        message = bytes(unread[_LENGTH.size : end])
        del unread[:end]
        return message

    def _shake(self, message: bytes) -> bytes:
        """Take the other end's handshake message; returns the answer."""
        raise NotImplementedError


class DialledChannel(_NoiseChannel):
    """The dialler's end, which accepts only the owner of one key."""

    def __init__(self, initiator: Initiator, acceptor: bytes, names: frozenset[str]) -> None:
        super().__init__()
        self._initiator = initiator
        self.other = acceptor
        self.names = names

    def start(self) -> bytes:
        return _framed(self._initiator.first())

    def _shake(self, message: bytes) -> bytes:
        _check_size(message, SECOND_BYTES)
        self._initiator.second(message)
        self._sending, self._receiving = self._initiator.transcript.split()
        self.established = True
        return b""


class AcceptedChannel(_NoiseChannel):
    """The acceptor's end, which accepts only the keys of members.

    An attacker can replay a first message. A connection is therefore authenticated only when its
    first plain text arrives.
    """

    def __init__(self, responder: Responder, owners: Callable[[bytes], frozenset[str]]) -> None:
        super().__init__()
        self._responder = responder
        self._owners = owners

    def _shake(self, message: bytes) -> bytes:
        _check_size(message, FIRST_BYTES)
        responder = self._responder
        responder.first(message)
        self.other = responder.dialler
        self.names = self._owners(self.other)
        if not self.names:
            raise ChannelError("unknown_key", f"no member has the key {self.key}…")
        answer = _framed(responder.second())
        self._receiving, self._sending = responder.transcript.split()
        self.established = True
        return answer


class NoiseSecurity:
    """The node's own key and the keys of its peers; a peer has several during a change of its
    key."""

    kind: Kind = "noise"
    ends = None

    def __init__(
        self,
        own: X25519PrivateKey,
        peer_keys: Mapping[str, Sequence[bytes]],
        new_key: NewKey = X25519PrivateKey.generate,
    ) -> None:
        self._own = own
        self._peer_keys = {peer: tuple(keys) for peer, keys in peer_keys.items()}
        self._new_key = new_key
        # The first key is tried first, and the next one at the next attempt.
        self._next: dict[str, Iterator[bytes]] = {
            peer: itertools.cycle(keys) for peer, keys in self._peer_keys.items()
        }

    def dials(self, peer: str) -> Channel:
        """The channel to `peer`. Raises KeyError if `peer` has no key, which the settings
        prevent."""
        acceptor = next(self._next[peer])
        initiator = Initiator(self._own, acceptor, self._new_key)
        return DialledChannel(initiator, acceptor, frozenset({peer}))

    def accepts(self) -> Channel:
        return AcceptedChannel(Responder(self._own, self._new_key), self.owners)

    def owners(self, key: bytes) -> frozenset[str]:
        """The peers that have this key. Its run time does not depend on the key."""
        return frozenset(
            [
                peer
                for peer, keys in self._peer_keys.items()
                if sum([hmac.compare_digest(key, known) for known in keys])
            ]
        )

    def trusts(self, channel: Channel) -> bool:
        if not isinstance(channel, _NoiseChannel) or not channel.names:
            return False
        return channel.names <= self.owners(channel.other)

    def credentials(self, channels: Mapping[str, Channel]) -> dict[str, Any]:
        peers = {
            peer: channel.other.hex()
            for peer, channel in channels.items()
            if isinstance(channel, _NoiseChannel)
        }
        return {"private": self._own.private_bytes_raw().hex(), "peers": peers}


def public_bytes(private: X25519PrivateKey) -> bytes:
    """The public half of a key, 32 bytes."""
    return private.public_key().public_bytes_raw()


def _derive(chain: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF of two outputs, as Noise defines it."""
    mixed = hmac.digest(chain, secret, "blake2s")
    one = hmac.digest(mixed, b"\x01", "blake2s")
    return one, hmac.digest(mixed, one + b"\x02", "blake2s")


def _is_one_frame(data: bytes) -> bool:
    """Whether these bytes are a frame of an established channel and nothing else."""
    length = len(data) - _LENGTH.size
    return TAG_BYTES <= length <= MAX_FRAME and data[: _LENGTH.size] == _LENGTH.pack(length)


def _framed(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


def _check_size(message: bytes, at_least: int) -> None:
    if len(message) < at_least:
        raise ChannelError("bad_handshake", f"{len(message)} bytes where {at_least} belong")
