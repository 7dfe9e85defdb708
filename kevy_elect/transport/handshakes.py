"""The processor time that peers may use before they are authenticated."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IAddress

from kevy_elect.transport.channel import Channel, ChannelError

SHARE: Final = 0.1
"""Seconds of processor time in a second that the handshakes of strangers may use in total."""
HOST_SHARE: Final = 0.05
"""The same for one host."""
MAX_HOSTS: Final = 256
"""Hosts with an account of their own. All others are bounded by SHARE alone."""
FLOOD: Final = "handshakes that proved nothing have taken too much of the processor"


class Stranger(Protocol):
    """A connection whose other end is not authenticated yet."""

    @property
    def host(self) -> str: ...


S = TypeVar("S", bound=Stranger)


@attrs.define
class _Allowance:
    """The rest of a share. It grows again, up to the share of one second."""

    share: float
    left: float
    since: float

    def left_at(self, now: float) -> float:
        self.left = min(self.share, self.left + self.share * (now - self.since))
        self.since = now
        return self.left

    def charge(self, seconds: float, now: float) -> None:
        self.left = self.left_at(now) - seconds


class Handshakes:
    """Accounts for the cost of handshakes by the dialling host.

    Each handshake is charged at first, because anybody can begin one, and an attacker can replay a
    recorded one. The charge is refunded once the other end has sent a message as a member. A host
    without a share left is refused for a moment, and so are all strangers together. The host of a
    member is bounded only by its own share, so that strangers elsewhere cannot keep it out.
    """

    def __init__(self) -> None:
        self.cpu: Callable[[], float] = time.thread_time
        """Seconds of processor time that this node has used so far."""
        self._all = _Allowance(SHARE, SHARE, 0.0)
        self._hosts: dict[object, _Allowance] = {}
        self._members: dict[str, object] = {}

    def admits(self, host: str, now: float) -> bool:
        """Whether a handshake with this host may begin or go on."""
        source = _source(host)
        allowance = self._hosts.get(source)
        if allowance is not None and allowance.left_at(now) <= 0:
            return False
        return source in self._members.values() or self._all.left_at(now) > 0

    def charge(self, host: str, seconds: float, now: float) -> None:
        """Charge so many seconds of processor time for a step of a handshake with this host."""
        source = _source(host)
        if source not in self._hosts:
            self._make_room(now)
            self._hosts[source] = _Allowance(HOST_SHARE, HOST_SHARE, now)
        self._hosts[source].charge(seconds, now)
        if source not in self._members.values():
            self._all.charge(seconds, now)

    def expect(self, member: str, host: str) -> None:
        """Record that this member is at this host."""
        self._members[member] = _source(host)

    def _make_room(self, now: float) -> None:
        """Remove a host that has its whole share, or else the one that was charged first."""
        if len(self._hosts) < MAX_HOSTS:
            return
        whole = [host for host, each in self._hosts.items() if each.left_at(now) >= each.share]
        for host in whole or [next(iter(self._hosts))]:
            del self._hosts[host]


class Handshake:
    """The handshake of one accepted connection, which is charged to the host that dialled."""

    def __init__(self, accounts: Handshakes, channel: Channel, host: str) -> None:
        self._accounts = accounts
        self._channel = channel
        self._host = host
        self._cost = 0.0

    def receive(self, data: bytes, now: float) -> tuple[bytes, bytes]:
        """Pass received bytes to the channel, as `Channel.receive` does, unless the host has used
        up its share of the processor. Raises ChannelError then, too."""
        accounts = self._accounts
        if not accounts.admits(self._host, now):
            raise ChannelError("flood", FLOOD)
        began = accounts.cpu()
        try:
            return self._channel.receive(data)
        finally:
            took = accounts.cpu() - began
            self._cost += took
            accounts.charge(self._host, took, now)

    def proven(self, now: float) -> None:
        """Refund the charge, because the other end has sent a message as a member."""
        self._accounts.charge(self._host, -self._cost, now)
        self._cost = 0.0


def host_of(peer: IAddress | None) -> str:
    """The host of the other end of a connection."""
    return str(getattr(peer, "host", peer))


def in_the_way(strangers: Sequence[S]) -> S:
    """Which of these to end if there are too many: the oldest, which comes first, of the host that
    has most. So a host cannot keep others out by many connections."""
    of = Counter(stranger.host for stranger in strangers)
    return max(strangers, key=lambda stranger: of[stranger.host])


def _source(host: str) -> object:
    """The unit that is charged for an address: for IPv6 a /64, since one machine can use all of
    it."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped) if address.ipv4_mapped else address.packed[:8]
