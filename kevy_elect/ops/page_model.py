"""What the page shows: each node in its own words, who may write, and the epochs so far.

Pure. What other nodes say is checked value by value, and what is wrong or missing is
None: nodes of other versions are shown as far as they are understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from kevy_elect.cli.status_client import Status, load
from kevy_elect.messages import U64_MAX, Role

LONGEST: Final = 300
"""Characters of any text that is shown."""
MOST: Final = 64
"""Peers or children of one node that are shown."""
EVENTS: Final = 256
"""Events that are kept of one node, and that are shown in all."""

SAME_WITHIN: Final = 5.0
"""Seconds by which the time of an event may differ from one answer to the next."""

Check = Callable[[Any], Any]
Level = Literal["ok", "warning", "alarm"]


# What a node says of itself, checked


def _text(value: Any) -> str | None:
    return value[:LONGEST] if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    """Seconds or a count. No bool, which is an int too, and nothing that JSON has not."""
    return value if type(value) in (int, float) and 0 <= value <= U64_MAX else None


def _exact(value: Any) -> str | None:
    """A number of 64 bits as text, since a browser's numbers have 53."""
    return str(value) if type(value) is int and 0 <= value <= U64_MAX else None


def _role(value: Any) -> str | None:
    return value if isinstance(value, str) and value in list(Role) else None


def _each(check: Check, most: int = MOST) -> Check:
    """Checks the items of a list and leaves out those that are wrong."""

    def checked(value: Any) -> list[Any] | None:
        if not isinstance(value, list | tuple):
            return None
        return [found for found in map(check, value[:most]) if found is not None]

    return checked


def _object(**checks: Check) -> Check:
    """Checks an object: all of `checks`, and nothing else, is in the result."""

    def checked(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            return None
        return {name: check(value.get(name)) for name, check in checks.items()}

    return checked


_PEER: Final = _object(
    node_id=_text,
    alive=_flag,
    heard_ago=_number,
    epoch=_exact,
    role=_role,
    link=_text,
    link_age=_number,
    incoming_age=_number,
    acknowledging=_flag,
)
_STATUS: Final = _object(
    node_id=_text,
    version=_text,
    role=_role,
    epoch=_exact,
    current_primary=_text,
    primary_addr=_text,
    has_quorum=_flag,
    can_write=_flag,
    lease_expires_in=_number,
    down_peers=_each(_text),
    witness=_flag,
    paused_for=_number,
    peers=_each(_PEER),
    children=_each(_object(name=_text, state=_text, restarts=_number, pid=_number)),
    settings=_object(
        hb_interval=_number, down_after=_number, lease_margin=_number, ack_margin=_number
    ),
)
_EVENTS: Final = _each(
    _object(ago=_number, kind=_text, text=_text, critical=_flag, epoch=_exact, label=_text), EVENTS
)


def shown(status: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a node's status that the page shows."""
    found: dict[str, Any] = _STATUS(status)
    return found


@attrs.frozen
class Happening:
    """An event of one node; `at` is in seconds of this node's clock, whosever it is."""

    node_id: str
    at: float = attrs.field(eq=False)
    kind: str
    text: str
    critical: bool = False
    epoch: str | None = None
    label: str = ""


def happenings(node_id: str, events: Any, now: float) -> list[Happening]:
    """The events of a status, oldest first."""
    return [
        Happening(
            node_id,
            now - event["ago"],
            event["kind"],
            event["text"],
            bool(event["critical"]),
            event["epoch"],
            event["label"] or "",
        )
        for event in _EVENTS(events) or ()
        if None not in (event["ago"], event["kind"], event["text"])
    ]


# What is known of a node


@attrs.define
class Known:
    """What is known of one node, and since when; times are seconds of this node's clock.

    `at` is when that was so at the latest, None if it never answered; `error` why it did
    not answer when it was asked last.
    """

    node_id: str
    url: str | None = None
    status: dict[str, Any] | None = None
    at: float | None = None
    error: str | None = None
    events: list[Happening] = attrs.field(factory=list)
    writes_since: float | None = None
    """Since when each of its answers has said that it may write, in one epoch."""

    def take(self, page: bytes, asked: float, now: float) -> None:
        """Take in the status page that answered at `now` a question of `asked`.

        Raises ValueError saying what is wrong with it.
        """
        told = load(page)
        whoever = Status.of(told).node_id
        if whoever != self.node_id:
            raise ValueError(f"{whoever[:LONGEST]!r} answers there: correct the address")
        self.say(shown(told), asked, now)
        self.note(happenings(self.node_id, told.get("events"), now))

    def say(self, status: dict[str, Any], asked: float, now: float) -> None:
        """Take in what the node said of itself: true at some time from `asked` to `now`."""
        before = self.status
        if not status["can_write"]:
            self.writes_since = None
        elif self.writes_since is None or before is None or before["epoch"] != status["epoch"]:
            self.writes_since = now
        self.status, self.at, self.error = status, asked, None

    def note(self, events: list[Happening]) -> None:
        """Take in its events. If they are the same as before they keep their times, which
        each answer would move a little."""
        same = events == self.events and all(
            abs(new.at - old.at) < SAME_WITHIN
            for new, old in zip(events[-1:], self.events[-1:], strict=True)
        )
        if not same:
            self.events = events

    def writes(self, now: float) -> bool:
        """Whether it may write, as far as its last word reaches."""
        status = self.status
        if status is None or self.at is None or not status["can_write"]:
            return False
        left = status["lease_expires_in"]
        return left is None or self.at + left > now


def told(known: Known, now: float) -> dict[str, Any]:
    """A node for the page, ready for JSON."""
    return {
        "node_id": known.node_id,
        "url": known.url,
        "status": known.status,
        "age": None if known.at is None else max(0.0, now - known.at),
        "error": known.error,
    }


# Who may write


def headline(me: Known, others: Sequence[Known], now: float) -> tuple[Level, str]:
    """The state of the cluster in a sentence or two, as `me` and who answered tell it.

    Holds no time that passes, so that it changes, and is read out, only with the state.
    """
    mine = me.status
    if mine is None or mine["epoch"] == "0":
        return "alarm", f"The election of {me.node_id} does not run."
    everyone = [me, *others]
    writers = [known for known in everyone if known.writes(now)]
    for one in writers:
        for other in writers:
            if one is not other and _wrote_together(one, other):
                return "alarm", _rivalry(*sorted((one, other), key=lambda known: known.node_id))
    silent = [known.node_id for known in others if known.url and known.error]
    missing = f" {_list(silent)} cannot be reached." if silent else ""
    if writers:
        writer = max(writers, key=lambda known: int(known.status["epoch"] if known.status else 0))
        return _with_writer(writer, everyone, missing)
    return _without_writer(me, everyone, missing)


def _wrote_together(one: Known, other: Known) -> bool:
    """Whether both said so throughout some time, and not one after the other."""
    return _wrote_after(one, other) and _wrote_after(other, one)


def _wrote_after(one: Known, other: Known) -> bool:
    """Whether `one` said so, too, after `other` and all along since it said so first."""
    since = other.writes_since
    return one.at is not None and since is not None and since < one.at


def _rivalry(one: Known, other: Known) -> str:
    assert one.status is not None
    assert other.status is not None
    return (
        f"{one.node_id} (epoch {one.status['epoch']}) and {other.node_id} "
        f"(epoch {other.status['epoch']}) both say that they may write. Compare what both wrote."
    )


def _with_writer(writer: Known, everyone: Sequence[Known], missing: str) -> tuple[Level, str]:
    assert writer.status is not None
    text = f"{writer.node_id} is primary of epoch {writer.status['epoch']} and holds its lease."
    answering = _answering(everyone)
    astray = [
        known.node_id
        for known in everyone
        if known.node_id in answering
        and answering[known.node_id]["current_primary"] != writer.node_id
        and not _is_older(known, writer)
    ]
    if astray:
        text += f" {_list(astray)} {_do(astray)} not follow it."
    deaf = [
        f" {node_id} does not hear {_list(unheard)}."
        for node_id, status in answering.items()
        if (unheard := [other for other in status["down_peers"] or () if other in answering])
    ]
    text += "".join(deaf) + missing
    return ("warning" if astray or deaf or missing else "ok"), text


def _is_older(known: Known, writer: Known) -> bool:
    """Whether its word is from before what is known of the writer's election."""
    since = writer.writes_since
    return known.at is not None and since is not None and known.at < since


def _answering(everyone: Sequence[Known]) -> dict[str, dict[str, Any]]:
    """What those say who answered when they were asked last."""
    return {
        known.node_id: known.status
        for known in everyone
        if known.status is not None and known.error is None
    }


def _without_writer(me: Known, everyone: Sequence[Known], missing: str) -> tuple[Level, str]:
    answering = _answering(everyone)
    for node_id, status in answering.items():
        if status["role"] == Role.PRIMARY:
            what = f"{node_id} is primary of epoch {status['epoch']}"
            if status["can_write"]:  # its word has outlasted its lease
                unsure = f"whether {node_id} still holds its lease is not known here"
                return "warning", f"{what}; {unsure}.{missing}"
            if status["has_quorum"]:
                return "warning", f"{what} but writes nothing: it is giving up its role.{missing}"
            return "alarm", f"{what} without its lease: nobody may write.{missing}"
    assert me.status is not None
    follows = me.status["current_primary"]
    if follows not in (None, *answering, *(me.status["down_peers"] or ())):
        return (
            "warning" if missing else "ok",
            f"{me.node_id} follows {follows}; whether {follows} holds its lease is not known "
            f"here.{missing}",
        )
    running = [node_id for node_id, status in answering.items() if status["role"] == Role.CANDIDATE]
    if running:
        return "alarm", f"Nobody is primary; {_list(running)} {_do(running)} run for it.{missing}"
    blind = "" if me.status["has_quorum"] else f" {me.node_id} sees no quorum."
    return "alarm", f"Nobody is primary: nobody may write.{blind}{missing}"


def _list(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


# What happened

_ELECTED: Final = re.compile(r"elected primary of epoch (\d+)\b")
_FOLLOWING: Final = re.compile(r"following (\S+), primary of epoch (\d+)")
_RUNNING: Final = re.compile(r"running in epoch (\d+): (.*)", re.DOTALL)


@attrs.define
class Epoch:
    """One epoch as all events together tell it."""

    number: str
    """Its decimal digits, or empty for events that do not name theirs."""
    events: list[Happening] = attrs.field(factory=list)
    primary: str | None = None
    elected_at: float | None = None
    why: str | None = None
    """Why the primary ran, in its own words, or who ran in vain; None if nobody told."""


def epochs(events: Iterable[Happening]) -> list[Epoch]:
    """The newest events by epoch, the newest epoch first, the oldest event first."""
    newest = sorted(events, key=lambda event: (event.at, event.node_id))[-EVENTS:]
    found: dict[str, Epoch] = {}
    for event in newest:
        number = event.epoch or ""
        found.setdefault(number, Epoch(number)).events.append(event)
    for epoch in found.values():
        _find_primary(epoch)
    return sorted(found.values(), key=lambda epoch: int(epoch.number or 0), reverse=True)


def _find_primary(epoch: Epoch) -> None:
    """Who won, when and why: in the winner's own words if they are there."""
    runs: dict[str, str] = {}
    for event in epoch.events:
        if ran := _RUNNING.fullmatch(event.text):
            runs[event.node_id] = ran[2]
        elif (won := _ELECTED.match(event.text)) and won[1] == epoch.number:
            epoch.primary, epoch.elected_at = event.node_id, event.at
        elif (
            epoch.primary is None
            and (follows := _FOLLOWING.fullmatch(event.text))
            and follows[2] == epoch.number
        ):
            epoch.primary, epoch.elected_at = follows[1], event.at
    if epoch.primary is not None:
        epoch.why = runs.get(epoch.primary)
    elif runs:
        epoch.why = "; ".join(f"{node_id} ran: {why}" for node_id, why in runs.items())


def history(events: Iterable[Happening], now: float) -> dict[str, Any]:
    """The epochs for the page, ready for JSON."""
    return {
        "epochs": [
            {
                "epoch": epoch.number or None,
                "primary": epoch.primary,
                "elected_ago": None if epoch.elected_at is None else now - epoch.elected_at,
                "why": epoch.why,
                "events": [
                    {
                        "node_id": event.node_id,
                        "ago": now - event.at,
                        "kind": event.kind,
                        "text": event.text,
                        "critical": event.critical,
                        "label": event.label,
                    }
                    for event in epoch.events
                ],
            }
            for epoch in epochs(events)
        ]
    }
