"""The status of a node: the one document of `/status` and of the admin socket.

The classes below are its schema. A node makes a `Status` and `dump`s it; a client `read`s it. A
document is accepted as a whole or not at all: if a value is missing or wrong, `read` raises
StatusError, which names the place and quotes nothing.

The reader ignores unknown values, so it can read documents of later versions. A value that a later
version adds needs a default here, so that documents of earlier versions can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Protocol, get_args, get_origin, get_type_hints

import attrs

from kevy_elect.errors import StatusError
from kevy_elect.messages import U64_MAX, Role

MAX_BYTES: Final = 256 * 1024
"""The most bytes of a document. One with 256 events and nine peers has about 60,000."""
MAX_VALUES: Final = 16 * 1024
"""The most commas and brackets in a document, because many of them take long to read. A document
with 256 events and nine peers has a fifth of this."""
MAX_ITEMS: Final = 512
"""The most items of a list or mapping. A node keeps 256 events."""
MAX_SECONDS: Final = 1e10
"""The greatest number of seconds of a time, about 300 years, so that dates can be computed."""


@attrs.frozen(kw_only=True)
class PeerStatus:
    """One peer as a node sees it: its last messages, and the connections with it."""

    node_id: str
    alive: bool
    heard_ago: float | None
    """Seconds since it was last heard; None if it never was."""
    epoch: int
    role: Role
    offset: int
    acknowledging: bool
    """Whether it answers heartbeats, so that its backing is known exactly (section 4)."""
    link: str
    """The state of the connection that the node dials: `connecting`, `connected` or `waiting`."""
    link_age: float
    """Seconds since the last change of `link`."""
    incoming_age: float | None
    """Seconds since the node accepted the connection on which it hears the peer; None without
    one."""
    queued: int
    """The number of messages that wait to be sent to it."""
    dropped: int
    """The number of messages that newer ones replaced before they were sent."""
    security: str = "plain"
    """How the link authenticates the peer: `plain` (not at all), `noise` or `tls`."""
    key: str = ""
    """The first eight digits of the key, or of the certificate's SHA-256, that the peer has proven
    on the connection that the node dials; empty without one."""

    @property
    def is_there(self) -> bool:
        """Whether it was heard recently and the connection that the node dials stands. It becomes
        DOWN later, but without a connection it is already a bad target of a handover."""
        return self.alive and self.link == "connected"


@attrs.frozen
class ChildStatus:
    """A child that runs only on the primary, at the time of the status."""

    name: str
    state: str
    """One of `stopped`, `starting`, `running` and `stopping`."""
    restarts: int = 0
    """How often it was started again after it ended by itself."""
    pid: int | None = None
    """The process id of a command; None for a child without a process."""


@attrs.frozen(kw_only=True)
class DataStatus:
    """The data server that a node drives, at the time of the status."""

    server: str
    """Its kind and address, for people."""
    state: str
    """One of `unknown`, `frozen`, `following` and `primary`."""
    problem: str
    """Why it does not do its duty; empty if it does."""
    data_epoch: int
    """The data epoch of its data; 0 if it is not known (D6)."""
    length: int
    """The length of its history."""
    source: str
    """The server from which it replicates; empty without one."""
    in_sync: bool
    """Whether it has all data that its source sent, and receives from it now."""
    fencing: str = ""
    """What keeps it from taking writes when this node cannot: `supervisor`, `guard` or `node`; see
    `driving.Fencing`. Empty if it is not reported."""


@attrs.frozen(kw_only=True)
class CheckStatus:
    """The result of a node's health check."""

    healthy: bool
    problem: str
    """The problem that its last run found; empty without one."""


@attrs.frozen(kw_only=True)
class EventStatus:
    """An event that a node noted, with the seconds since then."""

    ago: float
    kind: str
    text: str
    """A description for people. No program reads it."""
    critical: bool
    epoch: int
    cause: str | None = None
    member: str | None = None
    """The other member that it is about, if any."""
    reason: str = ""
    """The reason that the command gave, if any."""


@attrs.frozen(kw_only=True)
class DatedEvent(EventStatus):
    """An event with its date, so that it can be stored."""

    at: float
    """Seconds since 1970, by the clock of the node's machine."""


@attrs.frozen(kw_only=True)
class Status:
    """The state of a node, of its peers as it sees them, and its last events. Times are seconds."""

    node_id: str
    version: str
    members: tuple[str, ...]
    witness: bool
    role: Role
    epoch: int
    current_primary: str | None
    primary_addr: str | None
    has_quorum: bool
    can_write: bool
    lease_expires_in: float | None
    """Seconds until the lease ends; 0 without a lease; None for the lease of a cluster of one,
    which does not end."""
    down_peers: tuple[str, ...]
    paused_for: float
    """Seconds until it stands for election again; 0 if it does now."""
    last_will: bool | None
    """Whether the others would be notified at once if this process died now as primary. None if it
    does not run under a wrapper that is alive and could notify them."""
    settings: Mapping[str, float | bool]
    """The timings in force, and the other settings that must be equal on all members."""
    peers: tuple[PeerStatus, ...]
    children: tuple[ChildStatus, ...]
    events: tuple[EventStatus, ...]
    """The events that it noted last, the oldest first."""
    data: DataStatus | None = None
    """The data server that it drives."""
    maintained_for: float = 0.0
    """Seconds until its maintenance ends; 0 without maintenance (M3)."""
    check: CheckStatus | None = None
    """The result of its health check; None without one."""
    uptime: float | None = None
    """Seconds since its election started; None if the node does not state it."""
    cluster_name: str = ""
    """The operator's name of the cluster; empty without a name."""
    began_by_will_of: str | None = None
    """The member whose last will it heard just before the epoch of its primary began."""

    def as_object(self) -> dict[str, Any]:
        """The document as an object for JSON."""
        return attrs.asdict(self)

    def dump(self) -> bytes:
        """The document in bytes."""
        return json.dumps(self.as_object(), allow_nan=False).encode() + b"\n"


class View(Protocol):
    """A node's knowledge of the primary, from a Status or a snapshot of its elector."""

    @property
    def current_primary(self) -> str | None:
        """The id of the primary, or None."""

    @property
    def primary_addr(self) -> str | None:
        """The address of the primary for clients, or None."""

    @property
    def has_quorum(self) -> bool:
        """Whether a quorum backs the node."""

    @property
    def can_write(self) -> bool:
        """Whether the node is primary with its lease."""

    @property
    def down_peers(self) -> tuple[str, ...]:
        """The ids of peers that are DOWN."""


def address_for_clients(node_id: str, view: View) -> str | None:
    """The address to which the node of this id may send clients at this moment, or None.

    It is the primary's if the node sees a quorum and knows the primary's address, and the primary
    is this node with its lease or was heard less than down_after ago.
    """
    primary = view.current_primary
    if primary is None or not view.has_quorum:
        return None
    there = view.can_write if primary == node_id else primary not in view.down_peers
    return view.primary_addr if there else None


def read(document: bytes) -> Status:
    """The status that this document contains. Raises StatusError; the origin may be untrusted."""
    if len(document) > MAX_BYTES:
        raise StatusError(f"it is longer than {MAX_BYTES} bytes")
    if sum(map(document.count, b",[{")) > MAX_VALUES:
        raise StatusError(f"it has more than {MAX_VALUES} values")
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise StatusError("it is no JSON") from None
    return from_object(found)


def from_object(found: object) -> Status:
    """The status that this parsed JSON contains. Raises StatusError."""
    status: Status = _record(Status, found, "")
    return status


def dated_event(found: object) -> DatedEvent:
    """The event that this parsed JSON contains. Raises StatusError."""
    event: DatedEvent = _record(DatedEvent, found, "")
    return event


# Checks of values against the types of the schema


def _checked(kind: Any, value: object, where: str) -> Any:
    """`value`, if it is of this type. Raises StatusError, naming the place `where`."""
    if attrs.has(kind):
        return _record(kind, value, where)
    if kind in _CHECKS:
        what, check = _CHECKS[kind]
        if not check(value):
            raise StatusError(f"{where} is no {what}")
        return kind(value)
    outer, inner = get_origin(kind), get_args(kind)
    if outer is tuple:
        items = _bounded(list, "list", value, where)
        return tuple(_checked(inner[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    if outer is Mapping:
        items = _bounded(dict, "object", value, where)
        return {name: _checked(inner[1], items[name], f"a value of {where}") for name in items}
    assert outer is UnionType
    return _alternative(inner, value, where)


def _record(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise StatusError(f"{where or 'it'} is no JSON object")
    found = {}
    for name, (inner, required) in _fields(kind).items():
        place = f"{where}.{name}" if where else name
        if name in value:
            found[name] = _checked(inner, value[name], place)
        elif required:
            raise StatusError(f"{place} is missing")
    return kind(**found)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each field of a class, and whether a document must contain it."""
    types = get_type_hints(kind)
    return {
        each.name: (types[each.name], each.default is attrs.NOTHING) for each in attrs.fields(kind)
    }


def _bounded(kind: type, what: str, value: object, where: str) -> Any:
    if not isinstance(value, kind):
        raise StatusError(f"{where} is no {what}")
    if len(value) > MAX_ITEMS:  # type: ignore[arg-type]
        raise StatusError(f"{where} has more than {MAX_ITEMS} items")
    return value


def _alternative(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if NoneType in kinds and value is None:
        return None
    if bool in kinds and isinstance(value, bool):
        return value
    return _checked(kinds[0], value, where)


def _is_role(value: object) -> bool:
    return isinstance(value, str) and value in list(Role)


# JSON's true is not a number here, unlike Python's True. NaN fails every comparison.
_CHECKS: Final[dict[Any, tuple[str, Callable[[Any], bool]]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("count of 64 bits", lambda value: type(value) is int and 0 <= value <= U64_MAX),
    float: (
        "number of seconds",
        lambda value: type(value) in (int, float) and 0 <= value <= MAX_SECONDS,
    ),
    Role: ("role", _is_role),
}
