"""The members, the timings, and the checks of both."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import Final

import attrs

from kevy_elect.ballot import NOBODY
from kevy_elect.errors import ConfigError
from kevy_elect.messages import is_node_id

_RESERVED: Final = frozenset("*@,:")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
"""The characters of a host that is no IPv6 address."""
_CLIENT_ADDRESS: Final = re.compile(
    rf"(?:{_NAME.pattern}|\[(?P<ip>[A-Za-z0-9:.%_-]+)\]):(?P<port>[0-9]{{1,5}})"
)


@attrs.frozen
class PeerAddr:
    """One member: its id, its address for elections, and its address for clients."""

    node_id: str
    host: str
    elect_port: int
    client_port: int

    @classmethod
    def parse(cls, text: str) -> PeerAddr:
        """Read `id@host:elect_port[:client_port]`, with an IPv6 host in brackets.

        The default of the client port is the election port.
        Raises ConfigError, quoting `text`.
        """
        node_id, at, address = text.strip().partition("@")
        if not at:
            raise ConfigError(f"{text!r} is no peer: write id@host:elect_port[:client_port]")
        check_node_id(node_id)
        host, ports = _split_host(address, text)
        if not 1 <= len(ports) <= 2:
            raise ConfigError(f"{text!r} has no election port: write id@host:elect_port")
        elect_port, *rest = (_port(port, text) for port in ports)
        return cls(node_id, host, elect_port, rest[0] if rest else elect_port)

    @property
    def client_addr(self) -> str:
        """`host:port` for clients, as ANNOUNCE carries it."""
        return join_host_port(self.host, self.client_port)

    def __str__(self) -> str:
        address = f"{self.node_id}@{join_host_port(self.host, self.elect_port)}"
        return address if self.client_port == self.elect_port else f"{address}:{self.client_port}"


@attrs.frozen
class Cluster:
    """The fixed set of members, and which of them this node is. Every node needs the same set.

    Raises ConfigError if `node_id` is no member, or if ids or addresses are invalid or repeated.
    """

    node_id: str
    members: tuple[PeerAddr, ...]

    def __attrs_post_init__(self) -> None:
        if not self.members:
            raise ConfigError("the list of peers is empty: name every member, including this node")
        seen: dict[object, PeerAddr] = {}
        for member in self.members:
            for key, what in (
                (member.node_id, f"id {member.node_id!r}"),
                ((member.host, member.elect_port), "address"),
                ((member.host, member.client_port, "client"), "address for clients"),
            ):
                if key in seen:
                    raise ConfigError(
                        f"{member} and {seen[key]} have the same {what}: every member needs its own"
                    )
                seen[key] = member
        if self.node_id not in self.ids:
            raise ConfigError(
                f"{self.node_id!r} is not among the peers {', '.join(self.ids)}: "
                "the list names every member, including this node"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all members."""
        return tuple(member.node_id for member in self.members)

    @property
    def me(self) -> PeerAddr:
        """The entry of this node."""
        return next(member for member in self.members if member.node_id == self.node_id)

    @property
    def peers(self) -> tuple[PeerAddr, ...]:
        """All other members."""
        return tuple(member for member in self.members if member.node_id != self.node_id)

    @property
    def quorum(self) -> int:
        """The number of members that make a quorum, including this one."""
        return quorum(len(self.members))

    def warning(self) -> str | None:
        """A warning about this number of members, or None."""
        n = len(self.members)
        if n == 2:
            return (
                "2 members tolerate no failure: when either is gone, there is no primary. "
                "Add a third, for instance a --witness"
            )
        if n % 2 == 0:
            return (
                f"{n} members tolerate {n - self.quorum} failures, no more than {n - 1} would: "
                "an even member costs and gives nothing"
            )
        return None


def quorum(members: int) -> int:
    """The quorum of so many members: N // 2 + 1, including this one."""
    return members // 2 + 1


def _default_pause_after(config: ElectConfig) -> float:
    return 2 * config.hb_interval


def _default_lease_margin(config: ElectConfig) -> float:
    return max(config.down_after / 4, 4 * config.hb_interval)


def _default_candidate_step(config: ElectConfig) -> float:
    return 2 * config.hb_interval


def _default_announce_interval(config: ElectConfig) -> float:
    return 5 * config.hb_interval


def _default_ack_margin(config: ElectConfig) -> float:
    return config.down_after / 50


def _default_lease_duration(config: ElectConfig) -> float:
    least = config.down_after / 2  # the check of ack_margin refuses more
    return max(config.down_after - config.ack_margin, least)


@attrs.frozen(kw_only=True)
class ElectConfig:
    """The timings, in seconds. All nodes of a cluster should use the same.

    Raises ConfigError, naming the setting or the relation that does not hold.
    """

    hb_interval: float = 0.2
    """The interval of heartbeats to every peer (R2)."""
    down_after: float = 5.0
    """A peer that is silent this long is DOWN; at least 5 × hb_interval."""
    election_timeout: float = 3.0
    """A candidate without a quorum gives up after this time (R6); at least 2 × hb_interval."""
    election_backoff: float = 1.0
    """The shortest wait after a failed candidacy."""
    election_backoff_jitter: float = 4.0
    """Upper bound of a random time, uniform from 0, that is added to this wait; may be 0."""
    pause_after: float = attrs.Factory(_default_pause_after, takes_self=True)
    """A longer time between two runs of the elector means that this process was paused (R9);
    at least hb_interval, by default 2 × hb_interval."""
    lease_margin: float = attrs.Factory(_default_lease_margin, takes_self=True)
    """The lease ends this long before peers may replace this primary (R8); between
    hb_interval + pause_after and down_after / 2; by default the greater of
    down_after / 4 and 4 × hb_interval."""
    candidate_step: float = attrs.Factory(_default_candidate_step, takes_self=True)
    """A worse candidate waits this long for each better one (R5); by default 2 × hb_interval."""
    announce_interval: float = attrs.Factory(_default_announce_interval, takes_self=True)
    """The interval of a primary's ANNOUNCEs (R2); by default 5 × hb_interval."""
    ack_margin: float = attrs.Factory(_default_ack_margin, takes_self=True)
    """An acknowledged lease ends at least this long before a voter's promise, because clocks
    run at different rates; at most down_after / 2, by default down_after / 50."""
    lease_duration: float = attrs.Factory(_default_lease_duration, takes_self=True)
    """An acknowledgement backs the lease for this long (section 4); between
    2 × hb_interval + pause_after and down_after − ack_margin, which is the default.
    It is less only while down_after is being changed."""
    count_unacknowledged: bool = True
    """Whether members that do not acknowledge, those of the existing implementation, count
    for the lease. If they do not count, no two nodes of this implementation can write at once,
    and none can write if these nodes are fewer than a quorum (section 4)."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(ElectConfig):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                continue
            lowest_is_fine = field.name == "election_backoff_jitter" and value == 0
            if not (math.isfinite(value) and (value > 0 or lowest_is_fine)):
                text = f"{{{field.name}}} ({value:g} s) must be above 0 and finite"
                raise ConfigError(text, (field.name,))
        hb, down, margin = self.hb_interval, self.down_after, self.lease_margin
        self._at_least("down_after", down, 5 * hb, "5 × {hb_interval}", "hb_interval")
        self._at_least(
            "election_timeout", self.election_timeout, 2 * hb, "2 × {hb_interval}", "hb_interval"
        )
        self._at_least("pause_after", self.pause_after, hb, "{hb_interval}", "hb_interval")
        least, others = hb + self.pause_after, ("hb_interval", "pause_after")
        self._at_least("lease_margin", margin, least, "{hb_interval} + {pause_after}", *others)
        if _exceeds(margin, down / 2):
            raise ConfigError(
                f"{{lease_margin}} ({margin:g} s) must be at most {down / 2:g} s, which is "
                f"{{down_after}} / 2: lower {{lease_margin}} or {{hb_interval}}, or raise "
                "{down_after}",
                ("lease_margin", "down_after"),
                ("hb_interval",),
            )
        if _exceeds(self.ack_margin, down / 2):
            raise ConfigError(
                f"{{ack_margin}} ({self.ack_margin:g} s) must be at most {down / 2:g} s, which is "
                f"{{down_after}} / 2: lower {{ack_margin}} or raise {{down_after}}",
                ("ack_margin", "down_after"),
            )
        lease, longest = self.lease_duration, down - self.ack_margin
        if _exceeds(lease, longest):
            raise ConfigError(
                f"{{lease_duration}} ({lease:g} s) must be at most {{down_after}} − {{ack_margin}} "
                f"({longest:g} s): lower {{lease_duration}} or raise {{down_after}}",
                ("lease_duration", "down_after", "ack_margin"),
            )
        shortest = 2 * hb + self.pause_after
        if _exceeds(shortest, lease):
            raise ConfigError(
                f"{{lease_duration}} ({lease:g} s) must be at least 2 × {{hb_interval}} + "
                f"{{pause_after}} ({shortest:g} s): raise {{lease_duration}} or lower "
                "{hb_interval}",
                ("lease_duration", "hb_interval", "pause_after"),
            )

    @staticmethod
    def _at_least(name: str, value: float, least: float, relation: str, *others: str) -> None:
        if _exceeds(least, value):
            raise ConfigError(
                f"{{{name}}} ({value:g} s) must be at least {least:g} s, which is "
                f"{relation}: raise {{{name}}} or lower {{hb_interval}}",
                (name, *others),
            )


def _exceeds(a: float, b: float) -> bool:
    """Whether a > b by more than a rounding error of decimals: 3 × 0.1 is not above 0.3."""
    return a > b and not math.isclose(a, b, rel_tol=1e-9)


def check_node_id(node_id: str) -> None:
    """Raise ConfigError unless this is a valid node id."""
    if not is_node_id(node_id) or _RESERVED & set(node_id) or node_id == NOBODY:
        raise ConfigError(
            f"{node_id!r} is no node id: use 1 to 32 printable ASCII characters "
            f"without space, '*', '@', ',' and ':', and not {NOBODY!r} alone"
        )


def parse_advertised(text: str) -> str:
    """Check the `host:port` for ANNOUNCE, and return it.

    Raises ConfigError for a wildcard address, to which no client could connect.
    """
    host, port = split_address(text)
    if is_wildcard(host):
        raise ConfigError(f"{text!r} is a wildcard: clients need an address that they can reach")
    return join_host_port(host, port)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ConfigError."""
    host, ports = _split_host(text, text)
    if len(ports) != 1:
        raise ConfigError(f"{text!r} is no HOST:PORT")
    return host, _port(ports[0], text)


def parse_host(text: str) -> str:
    """The host of `host:port` or of a bare host; an IPv6 address without brackets."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def is_client_address(text: str) -> bool:
    """Whether `text` is a `host:port` for clients: a name, or an IPv6 address in
    brackets, without characters that a shell or a page could interpret."""
    found = _CLIENT_ADDRESS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return False
    return found["ip"] is None or isinstance(_ip(found["ip"]), ipaddress.IPv6Address)


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, and no name."""
    return _ip(host) is not None


def is_wildcard(host: str) -> bool:
    """Whether `host` stands for every address of the machine."""
    address = _ip(host)
    return host in ("", "*", "0") or (address is not None and address.is_unspecified)


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only."""
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split_host(address: str, whole: str) -> tuple[str, list[str]]:
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or not isinstance(_ip(host), ipaddress.IPv6Address):
            raise ConfigError(f"{whole!r}: write an IPv6 address between the brackets")
        if not rest.startswith(":"):
            raise ConfigError(f"{whole!r} has no port after the address")
        return host, rest[1:].split(":")
    host, *ports = address.split(":")
    if len(ports) > 2:
        raise ConfigError(f"{whole!r}: write an IPv6 address in brackets, as in [::1]:7101")
    if host != "*" and not (_NAME.fullmatch(host) and _is_name(host)):
        raise ConfigError(f"{whole!r} has no valid host before its port")
    return host, ports


def _is_name(host: str) -> bool:
    """Whether `host` is valid for a resolver: without empty and overlong labels."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return len(host) <= 253


def _port(text: str, whole: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise ConfigError(f"{whole!r}: {text!r} is no port between 1 and 65535")
