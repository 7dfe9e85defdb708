"""What a node says of itself: the one document that `/status` and the admin socket give.

The classes below are its schema. A node makes a `Status` and `dump`s it; whoever asks
`read`s it. A document is taken whole or not at all: whatever is missing or wrong in it
makes `read` raise StatusError, which names the place and quotes nothing. What the reader
does not know is left out, so nodes of a later version can be read; a value that a later
version adds needs a default here, so nodes of an earlier one can be read too.
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
"""Of a whole document; 256 events and nine peers are some 60,000."""
MAX_VALUES: Final = 16 * 1024
"""Commas and brackets in it, of which that takes a fifth. Reading more of them takes long."""
MAX_ITEMS: Final = 512
"""Of any list or mapping in it; a node remembers 256 events."""
MAX_SECONDS: Final = 1e10
"""Of any time, some 300 years: it can be taken from a date."""


@attrs.frozen(kw_only=True)
class PeerStatus:
    """One peer as a node sees it: what was heard of it, and the link to it."""

    node_id: str
    alive: bool
    heard_ago: float | None
    """Seconds; None if never."""
    epoch: int
    role: Role
    offset: int
    acknowledging: bool
    """Whether it answers heartbeats, so that its backing is known exactly (section 4)."""
    link: str
    """The connection that the node dials: `connecting`, `connected` or `waiting`."""
    link_age: float
    """Seconds since that began."""
    incoming_age: float | None
    """Seconds since the connection on which it is heard was accepted; None without one."""
    queued: int
    """Messages that wait for it."""
    dropped: int
    """Messages that newer ones replaced before they could be sent."""
    security: str = "plain"
    """What the link proves the peer by: `plain` (nothing), `noise` or `tls`."""
    key: str = ""
    """The first eight digits of the key, or of the certificate's SHA-256, that the peer has
    proven on the connection that the node dials; empty without one."""


@attrs.frozen
class ChildStatus:
    """One child that runs only on the primary, as it is now."""

    name: str
    state: str
    """One of `stopped`, `starting`, `running` and `stopping`."""
    restarts: int = 0
    """How often it was started again after it had ended by itself."""
    pid: int | None = None
    """Of a command that runs as a process."""


@attrs.frozen(kw_only=True)
class DataStatus:
    """The data server that a node drives, as it is now."""

    server: str
    """What it is and where, for people."""
    state: str
    """One of `unknown`, `frozen`, `following` and `primary`."""
    problem: str
    """Why it is not what it has to be; empty if it is."""
    data_epoch: int
    """Of the history that its data is part of; 0 if that is not known (D6)."""
    length: int
    """How much of that history it has."""
    source: str
    """Where it replicates from; empty if from nobody."""
    in_sync: bool
    """Whether it has all that its source sent, and hears from it now."""


@attrs.frozen(kw_only=True)
class CheckStatus:
    """What the health check of a node says."""

    healthy: bool
    problem: str
    """What was wrong when it ran last; empty if nothing was."""


@attrs.frozen(kw_only=True)
class EventStatus:
    """Something that a node noted, and how many seconds ago."""

    ago: float
    kind: str
    text: str
    """For people; no program reads it."""
    critical: bool
    epoch: int
    cause: str | None = None
    member: str | None = None
    """The other member that it is about."""
    reason: str = ""
    """The reason that was given with the command, if any."""


@attrs.frozen(kw_only=True)
class DatedEvent(EventStatus):
    """An event with its time of day, so that it can be kept."""

    at: float
    """Seconds since 1970, by the clock of the node's machine."""


@attrs.frozen(kw_only=True)
class Status:
    """All that a node says of itself, its peers and its recent past. Times are seconds."""

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
    """0 without a lease; None for one without end, that of a cluster of one."""
    down_peers: tuple[str, ...]
    paused_for: float
    """For so long it does not stand for election; 0 if it does."""
    last_will: bool | None
    """Whether the others would be notified at once if this process died now: if it is primary. None
    if it runs below no parent that lives and could tell them."""
    settings: Mapping[str, float | bool]
    """The timings in force, and what else all members should have alike."""
    peers: tuple[PeerStatus, ...]
    children: tuple[ChildStatus, ...]
    events: tuple[EventStatus, ...]
    """What it noted lately, the oldest first."""
    data: DataStatus | None = None
    """The data server that it drives."""
    maintained_for: float = 0.0
    """For so long it takes over from nobody by itself; 0 if it does."""
    check: CheckStatus | None = None
    """What its health check says; None without one."""
    uptime: float | None = None
    """For so long its election has been running; None if it does not say."""
    cluster_name: str = ""
    """What its operator calls the cluster; empty without a name."""

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)

    def dump(self) -> bytes:
        """The document."""
        return json.dumps(self.as_object(), allow_nan=False).encode() + b"\n"


class View(Protocol):
    """What a node knows of the primary, as a Status or a snapshot of its elector has it."""

    @property
    def current_primary(self) -> str | None: ...
    @property
    def primary_addr(self) -> str | None: ...
    @property
    def has_quorum(self) -> bool: ...
    @property
    def can_write(self) -> bool: ...
    @property
    def down_peers(self) -> tuple[str, ...]: ...


def address_for_clients(node_id: str, view: View) -> str | None:
    """Where the node of this id may send clients at this moment, or None.

    It names the primary only if a quorum is in sight, the primary's address is known, and the
    primary is this node with its lease or was heard less than down_after ago.
    """
    primary = view.current_primary
    if primary is None or not view.has_quorum:
        return None
    there = view.can_write if primary == node_id else primary not in view.down_peers
    return view.primary_addr if there else None


def read(document: bytes) -> Status:
    """Read a document of whatever origin. Raises StatusError."""
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
    """The status that is read from JSON already. Raises StatusError."""
    status: Status = _record(Status, found, "")
    return status


def dated_event(found: object) -> DatedEvent:
    """The event that is read from JSON already. Raises StatusError."""
    event: DatedEvent = _record(DatedEvent, found, "")
    return event


# The check of a value against its type in the schema


def _checked(kind: Any, value: object, where: str) -> Any:
    """`value` as one of this type; raises StatusError."""
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
    """Type of each field of a class, and whether a document must have it."""
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


# JSON's true is no number here, though Python's is an int. NaN fails every comparison.
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
