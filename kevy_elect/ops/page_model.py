"""What the page shows: each node in its own words, who may write, and the epochs so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Role
from kevy_elect.status import EventStatus, Status, read

LONGEST: Final = 300
"""Characters of any text that is shown."""
EVENTS: Final = 256
"""Events that are shown in all."""

SAME_WITHIN: Final = 5.0
"""Seconds by which the time of an event may differ from one answer to the next."""
_WIDE: Final = ("epoch", "offset")
"""Numbers of 64 bits, which a browser gets as text: its own have 53."""

Level = Literal["ok", "warning", "alarm"]


@attrs.frozen
class Happening:
    """An event of one node; `at` is in seconds of this node's clock, whosever it is."""

    node_id: str
    at: float = attrs.field(eq=False)
    kind: str
    text: str
    critical: bool = False
    epoch: str = ""
    cause: str | None = None
    member: str | None = None
    reason: str = ""


def happenings(node_id: str, events: Iterable[EventStatus], now: float) -> list[Happening]:
    """The events of a status, oldest first."""
    return [
        Happening(
            node_id,
            now - event.ago,
            event.kind[:LONGEST],
            event.text[:LONGEST],
            event.critical,
            str(event.epoch),
            _short(event.cause),
            _short(event.member),
            event.reason[:LONGEST],
        )
        for event in events
    ]


def _short(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST]


# What is known of a node


@attrs.define
class Known:
    """What is known of one node, and since when; times are seconds of this node's clock.

    `at` is when that was so at the latest, None if it never answered; `error` why it did
    not answer when it was asked last.
    """

    node_id: str
    url: str | None = None
    status: Status | None = None
    at: float | None = None
    error: str | None = None
    events: list[Happening] = attrs.field(factory=list)
    writes_since: float | None = None
    """Since when each of its answers has said that it may write, in one epoch."""

    def take(self, document: bytes, asked: float, now: float) -> None:
        """Take in the status that answered at `now` a question of `asked`.

        Raises ValueError for that of another node, StatusError for what is none.
        """
        status = read(document)
        if status.node_id != self.node_id:
            raise ValueError(f"{status.node_id[:LONGEST]!r} answers there: correct the address")
        self.say(status, asked, now)
        self.note(happenings(self.node_id, status.events, now))

    def say(self, status: Status, asked: float, now: float) -> None:
        """Take in what the node said of itself: true at some time from `asked` to `now`."""
        before = self.status
        if not status.can_write:
            self.writes_since = None
        elif self.writes_since is None or before is None or before.epoch != status.epoch:
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
        if status is None or self.at is None or not status.can_write:
            return False
        left = status.lease_expires_in
        return left is None or self.at + left > now


def told(known: Known, now: float) -> dict[str, Any]:
    """A node for the page, ready for JSON."""
    return {
        "node_id": known.node_id,
        "url": known.url,
        "status": None if known.status is None else shown(known.status),
        "age": None if known.at is None else max(0.0, now - known.at),
        "error": known.error,
    }


def shown(status: Status) -> dict[str, Any]:
    """A status for the page, which is told the events apart."""
    found: dict[str, Any] = _for_browser(attrs.evolve(status, events=()).as_object())
    return found


def _for_browser(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: str(each) if name in _WIDE else _for_browser(each) for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_for_browser(each) for each in value]
    return value[:LONGEST] if isinstance(value, str) else value


# Who may write


def headline(me: Known, others: Sequence[Known], now: float) -> tuple[Level, str]:
    """The state of the cluster in a sentence or two, as `me` and who answered tell it.

    Holds no time that passes, so that it changes, and is read out, only with the state.
    """
    mine = me.status
    if mine is None or mine.epoch == 0:
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
        writer = max(writers, key=lambda known: known.status.epoch if known.status else 0)
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
        f"{one.node_id} (epoch {one.status.epoch}) and {other.node_id} "
        f"(epoch {other.status.epoch}) both say that they may write. Compare what both wrote."
    )


def _with_writer(writer: Known, everyone: Sequence[Known], missing: str) -> tuple[Level, str]:
    assert writer.status is not None
    text = f"{writer.node_id} is primary of epoch {writer.status.epoch} and holds its lease."
    answering = _answering(everyone)
    astray = [
        known.node_id
        for known in everyone
        if known.node_id in answering
        and answering[known.node_id].current_primary != writer.node_id
        and not _is_older(known, writer)
    ]
    if astray:
        text += f" {_list(astray)} {_do(astray)} not follow it."
    deaf = [
        f" {node_id} does not hear {_list(unheard)}."
        for node_id, status in answering.items()
        if (unheard := [other for other in status.down_peers if other in answering])
    ]
    text += "".join(deaf) + missing
    return ("warning" if astray or deaf or missing else "ok"), text


def _is_older(known: Known, writer: Known) -> bool:
    """Whether its word is from before what is known of the writer's election."""
    since = writer.writes_since
    return known.at is not None and since is not None and known.at < since


def _answering(everyone: Sequence[Known]) -> dict[str, Status]:
    """What those say who answered when they were asked last."""
    return {
        known.node_id: known.status
        for known in everyone
        if known.status is not None and known.error is None
    }


def _without_writer(me: Known, everyone: Sequence[Known], missing: str) -> tuple[Level, str]:
    answering = _answering(everyone)
    for node_id, status in answering.items():
        if status.role is Role.PRIMARY:
            what = f"{node_id} is primary of epoch {status.epoch}"
            if status.can_write:  # its word has outlasted its lease
                unsure = f"whether {node_id} still holds its lease is not known here"
                return "warning", f"{what}; {unsure}.{missing}"
            if status.has_quorum:
                return "warning", f"{what} but writes nothing: it is giving up its role.{missing}"
            return "alarm", f"{what} without its lease: nobody may write.{missing}"
    assert me.status is not None
    follows = me.status.current_primary
    if follows not in (None, *answering, *me.status.down_peers):
        return (
            "warning" if missing else "ok",
            f"{me.node_id} follows {follows}; whether {follows} holds its lease is not known "
            f"here.{missing}",
        )
    running = [node_id for node_id, status in answering.items() if status.role is Role.CANDIDATE]
    if running:
        return "alarm", f"Nobody is primary; {_list(running)} {_do(running)} run for it.{missing}"
    blind = "" if me.status.has_quorum else f" {me.node_id} sees no quorum."
    return "alarm", f"Nobody is primary: nobody may write.{blind}{missing}"


def _list(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


# What happened

_WON: Final = ((EventKind.ROLE, Cause.ELECTED), (EventKind.RENEWAL, Cause.ELECTED))


@attrs.define
class Epoch:
    """One epoch as all events together tell it."""

    number: str
    """Its decimal digits, or empty for events that do not name theirs."""
    events: list[Happening] = attrs.field(factory=list)
    primary: str | None = None
    elected_at: float | None = None
    why: str | None = None
    """Why the primary ran, or who ran in vain; None if nobody told."""


def epochs(events: Iterable[Happening]) -> list[Epoch]:
    """The newest events by epoch, the newest epoch first, the oldest event first."""
    newest = sorted(events, key=lambda event: (event.at, event.node_id))[-EVENTS:]
    found: dict[str, Epoch] = {}
    for event in newest:
        found.setdefault(event.epoch, Epoch(event.epoch)).events.append(event)
    resigned: dict[str, Happening] = {}  # by node, in the epochs so far
    for epoch in sorted(found.values(), key=lambda epoch: int(epoch.number or 0)):
        _find_primary(epoch, resigned)
        resigned |= {event.node_id: event for event in epoch.events if _is_resignation(event)}
    return sorted(found.values(), key=lambda epoch: int(epoch.number or 0), reverse=True)


def _find_primary(epoch: Epoch, resigned: Mapping[str, Happening]) -> None:
    """Who won, when and why: in the winner's own events if they are there."""
    runs: dict[str, str] = {}
    for event in epoch.events:
        if event.kind == EventKind.CANDIDACY:
            runs[event.node_id] = _motive(event, resigned)
        elif (event.kind, event.cause) in _WON:
            epoch.primary, epoch.elected_at = event.node_id, event.at
            if event.kind == EventKind.RENEWAL:
                runs[event.node_id] = "it renewed its term, since others were in a higher epoch"
        elif epoch.primary is None and event.cause == Cause.FOLLOWED:
            epoch.primary, epoch.elected_at = event.member, event.at
    if epoch.primary is not None:
        epoch.why = runs.get(epoch.primary)
    elif runs:
        epoch.why = "; ".join(f"{node_id} ran: {why}" for node_id, why in runs.items())


def _is_resignation(event: Happening) -> bool:
    return event.kind == EventKind.ROLE and event.cause in (Cause.HANDED_OVER, Cause.RESIGNED)


def _motive(run: Happening, resigned: Mapping[str, Happening]) -> str:
    """Why a candidate ran: its cause, and what its former primary tells of how its term ended."""
    if run.cause == Cause.PRIMARY_DOWN:
        return f"{run.member} was down"
    if run.cause == Cause.OTHERS_AHEAD:
        return "its lease was lost and others were in a higher epoch"
    if run.cause != Cause.PRIMARY_GONE:
        return "there was no primary"
    end = resigned.get(run.member or "")
    if end is None:
        return f"{run.member} gave up the role or was restarted"
    why = f": {end.reason}" if end.reason else ""
    if end.cause == Cause.HANDED_OVER:
        return f"{run.member} handed the role over to {end.member}{why}"
    return f"{run.member} stepped down{why}"


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
                        "cause": event.cause,
                        "member": event.member,
                    }
                    for event in epoch.events
                ],
            }
            for epoch in epochs(events)
        ]
    }
