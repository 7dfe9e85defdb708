"""The answers to clients of Redis Sentinel, in which this cluster is the only monitored primary.

docs/clients.md says which clients work with it. `sentinel_port` is the port for their requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from kevy_elect.config import PeerAddr
from kevy_elect.ops.resp import Error
from kevy_elect.service.election import ElectionService
from kevy_elect.status import address_for_clients

REDIS_VERSION: Final = "7.0.0"
"""The version that clients use to decide which commands exist."""
SWITCH: Final = "+switch-master"
REPLICA: Final = "+slave"
DOWN: Final = "+sdown"
UP: Final = "-sdown"
CHANNELS: Final = (SWITCH, REPLICA, DOWN, UP)
"""All channels on which this node publishes."""

Fields = dict[str, str]
"""The fields of an instance, in a fixed order, because some clients read them by position."""


@attrs.frozen
class Place:
    """The address of an instance in the form of Redis: host without brackets, and port as text."""

    host: str
    port: str

    @classmethod
    def of(cls, address: str) -> Place:
        host, _, port = address.rpartition(":")
        return cls(host.strip("[]"), port)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


NOWHERE: Final = Place("0.0.0.0", "0")
"""The address of the primary before the first one was known."""


@attrs.frozen
class Published:
    """A message to the subscribers of its channel."""

    channel: str
    text: str


class Sentinel:
    """Answers by the election's present snapshot, and finds what has changed.

    The primary has an address only while this node is sure of it: this node sees a quorum, and the
    primary is this node with its lease or was heard less than down_after ago.
    """

    def __init__(
        self, election: ElectionService, name: str, peers: Mapping[str, str] | None = None
    ) -> None:
        """`peers` are the Sentinel ports of the other members, `host:port` by their ids."""
        self.name = name
        self._election = election
        self._me = election.cluster.node_id
        self._sentinels = {
            node_id: Place.of(address)
            for node_id, address in (peers or {}).items()
            if node_id != self._me
        }
        self._last = NOWHERE
        self._down: frozenset[str] = frozenset()

    # The present state

    def primary(self) -> Place | None:
        """The address of the primary, if this node is sure of it."""
        address = address_for_clients(self._me, self._election.state_snapshot())
        return None if address is None else Place.of(address)

    def _places(self) -> dict[str, Place]:
        """The address for clients of each member that serves clients, including this one.

        A member without a client port in its entry serves none; a witness needs no such port.
        """
        return {
            member.node_id: Place.of(self._address(member))
            for member in self._election.cluster.members
            if self._serves(member)
        }

    def _address(self, member: PeerAddr) -> str:
        return self._election.advertise if member.node_id == self._me else member.client_addr

    def _serves(self, member: PeerAddr) -> bool:
        if member.node_id == self._me:
            return not self._election.witness
        return member.client_port != member.elect_port

    def _replicas(self) -> dict[str, Place]:
        """The addresses of the members that are not primary, by their ids."""
        places = self._places()
        places.pop(self._election.state_snapshot().current_primary or "", None)
        return places

    # The replies to `SENTINEL name …`

    def address(self) -> list[str] | None:
        """The reply to GET-MASTER-ADDR-BY-NAME."""
        place = self.primary()
        return None if place is None else [place.host, place.port]

    def master(self) -> Fields:
        """The reply to MASTER. Without a primary it is down, both subjectively and objectively."""
        election, snapshot, place = self._election, self._election.state_snapshot(), self.primary()
        fields = _instance(
            self.name,
            place or self._last,
            snapshot.current_primary or "",
            "s_down,o_down,master" if place is None else "master",
        )
        return fields | {
            "role-reported": "master",
            "config-epoch": str(snapshot.epoch),
            "down-after-milliseconds": str(round(election.config.down_after * 1000)),
            "num-slaves": str(len(self._replicas())),
            "num-other-sentinels": str(len(self._sentinels)),
            "quorum": str(election.cluster.quorum),
        }

    def masters(self) -> list[Fields]:
        """The reply to MASTERS."""
        return [self.master()]

    def replicas(self) -> list[Fields]:
        """The reply to REPLICAS and SLAVES."""
        place = self.primary()
        link = {
            "master-link-status": "err" if place is None else "ok",
            "master-host": (place or self._last).host,
            "master-port": (place or self._last).port,
            "slave-priority": "100",
        }
        offsets = {peer.node_id: peer.offset for peer in self._election.peer_status()}
        offsets[self._me] = self._election.repl_offset
        down = self._election.state_snapshot().down_peers
        return [
            _instance(
                str(at),
                at,
                node_id,
                "s_down,slave,disconnected" if node_id in down else "slave",
            )
            | link
            | {"slave-repl-offset": str(offsets.get(node_id, 0))}
            for node_id, at in self._replicas().items()
        ]

    def sentinels(self) -> list[Fields]:
        """The reply to SENTINELS: the known Sentinel ports of the other members."""
        down = self._election.state_snapshot().down_peers
        return [
            _instance(
                run_id(node_id),
                place,
                node_id,
                "s_down,sentinel,disconnected" if node_id in down else "sentinel",
            )
            for node_id, place in self._sentinels.items()
        ]

    def ask(self, words: list[str]) -> Any:
        """The reply to `SENTINEL` with these arguments."""
        verb = words[0].lower() if words else ""
        if verb == "masters" and len(words) == 1:
            return self.masters()
        if verb == "myid" and len(words) == 1:
            return run_id(self._me)
        about: dict[str, Callable[[], Any]] = {
            "get-master-addr-by-name": self.address,
            "master": self.master,
            "replicas": self.replicas,
            "slaves": self.replicas,
            "sentinels": self.sentinels,
        }
        if verb not in about or len(words) != 2:
            return Error("ERR unknown subcommand or wrong number of arguments of SENTINEL")
        if words[1] != self.name:
            unknown = Error("ERR No such master with that name")
            return None if verb == "get-master-addr-by-name" else unknown
        return about[verb]()

    def info(self) -> str:
        """The reply to INFO, the same for every section."""
        place = self.primary()
        return "".join(
            f"{line}\r\n"
            for line in (
                "# Server",
                f"redis_version:{REDIS_VERSION}",
                "redis_mode:sentinel",
                f"run_id:{run_id(self._me)}",
                "",
                "# Sentinel",
                "sentinel_masters:1",
                f"master0:name={self.name},status={'odown' if place is None else 'ok'},"
                f"address={place or self._last},slaves={len(self._replicas())},"
                f"sentinels={1 + len(self._sentinels)}",
            )
        )

    # Changes

    def news(self) -> list[Published]:
        """The changes since the last call."""
        return [*self._members_news(), *self._primary_news()]

    def _primary_news(self) -> Iterator[Published]:
        place = self.primary()
        if place is None or place == self._last:
            return
        before = place if self._last is NOWHERE else self._last
        self._last = place
        words = (self.name, before.host, before.port, place.host, place.port)
        yield Published(SWITCH, " ".join(words))
        for each in self._replicas().values():
            yield Published(REPLICA, self._about(each))

    def _members_news(self) -> Iterator[Published]:
        down = frozenset(self._election.state_snapshot().down_peers)
        changed, self._down = down ^ self._down, down
        places = self._places()
        for node_id in sorted(changed):
            if node_id in places and places[node_id] != self._last:
                yield Published(DOWN if node_id in down else UP, self._about(places[node_id]))

    def _about(self, replica: Place) -> str:
        at, last = replica, self._last
        return f"slave {at} {at.host} {at.port} @ {self.name} {last.host} {last.port}"


def run_id(node_id: str) -> str:
    """40 hexadecimal digits, always the same for a member."""
    return hashlib.sha1(f"kevy-elect:{node_id}".encode()).hexdigest()


def _instance(name: str, place: Place, node_id: str, flags: str) -> Fields:
    return {
        "name": name,
        "ip": place.host,
        "port": place.port,
        "runid": run_id(node_id),
        "flags": flags,
    }
