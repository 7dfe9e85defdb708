"""The events by epoch, and the role of each node over time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from kevy_elect.events import EVENTS_KEPT, SERVICE, STARTED, STOPPED, Cause, EventKind
from kevy_elect.messages import Role
from kevy_elect.ops.page_model import Happening, Known

EVENTS: Final = 256
"""The most events that are shown in total."""
GONE: Final = "gone"
"""The entry in place of a role while a node is not heard."""

WON: Final = ((EventKind.ROLE, Cause.ELECTED), (EventKind.RENEWAL, Cause.ELECTED))
"""Kind and cause of the events by which a node reports that it is primary."""


@attrs.define
class Epoch:
    """One epoch, by the events of all nodes."""

    number: str
    """Its decimal digits; empty for events without an epoch."""
    events: list[Happening] = attrs.field(factory=list)
    primary: str | None = None
    elected_at: float | None = None
    why: str | None = None
    """The reason why the primary ran, or the failed candidates; None if no event has it."""


def epochs(events: Iterable[Happening]) -> list[Epoch]:
    """The newest events by epoch, the newest epoch first, the oldest event first."""
    newest = sorted(events, key=lambda event: (event.at, event.node_id))[-EVENTS:]
    found: dict[str, Epoch] = {}
    for event in newest:
        found.setdefault(event.epoch, Epoch(event.epoch)).events.append(event)
    resigned: dict[str, Happening] = {}  # by node, in the epochs so far
    for epoch in sorted(found.values(), key=lambda epoch: int(epoch.number or 0)):
        _find_primary(epoch, resigned)
        if epoch.primary is not None:
            resigned.pop(epoch.primary, None)  # of an earlier term
        resigned |= {event.node_id: event for event in epoch.events if _is_resignation(event)}
    return sorted(found.values(), key=lambda epoch: int(epoch.number or 0), reverse=True)


def _find_primary(epoch: Epoch, resigned: Mapping[str, Happening]) -> None:
    """Find the winner, the time and the reason: in the winner's own events if they are known."""
    runs: dict[str, str] = {}
    for event in epoch.events:
        if event.kind == EventKind.CANDIDACY:
            runs[event.node_id] = _motive(event, resigned)
        elif (event.kind, event.cause) in WON:
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
    """The reason of a candidacy: its cause, and the former primary's reason for the end of its
    role."""
    if run.cause == Cause.PRIMARY_DOWN:
        return f"{run.member} was down"
    if run.cause == Cause.LAST_WILL:
        return f"{run.member} died, as its last will said"
    if run.cause == Cause.OTHERS_AHEAD:
        return "its lease was lost and others were in a higher epoch"
    if run.cause != Cause.PRIMARY_GONE:
        return "there was no primary"
    end = resigned.get(run.member or "")
    if end is None:
        return f"{run.member} gave up the role or its process ended"
    why = f": {end.reason}" if end.reason else ""
    if end.cause == Cause.HANDED_OVER:
        return f"{run.member} handed the role over to {end.member}{why}"
    return f"{run.member} stepped down{why}"


def history(known_epochs: Sequence[Epoch], now: float) -> dict[str, Any]:
    """The epochs, as an object for JSON."""
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
                    }
                    for event in epoch.events
                ],
            }
            for epoch in known_epochs
        ]
    }


# The timeline


@attrs.define
class Span:
    """The time for which a node had a role; `until` is None while it lasts."""

    role: str
    epoch: str
    since: float
    until: float | None = None


def lane(events: Sequence[Happening], lost: Sequence[float] = ()) -> list[Span]:
    """The roles of one node by its own events in order, the oldest first.

    `lost` has the times at which others noted that they no longer follow the node: a process that
    was killed could not note its end.
    """
    spans: list[Span] = []
    for event in events:
        if (event.kind, event.cause) == (SERVICE, STARTED) and spans and spans[-1].role != GONE:
            died = min((at for at in lost if spans[-1].since < at < event.at), default=None)
            if died is not None:
                spans[-1].until = died
                spans.append(Span(GONE, "", died))
        role, epoch = _role_after(event, spans[-1] if spans else None)
        if spans and (spans[-1].role, spans[-1].epoch) == (role, epoch):
            continue
        if spans:
            spans[-1].until = event.at
        spans.append(Span(role, epoch, event.at))
    return spans


def _role_after(event: Happening, before: Span | None) -> tuple[str, str]:
    """Role and epoch. A replica's epoch is left out, because it follows the primary's."""
    if event.kind == SERVICE:
        return (GONE if event.cause == STOPPED else Role.REPLICA), ""
    if (event.kind, event.cause) in WON:
        return Role.PRIMARY, event.epoch
    if event.kind == EventKind.CANDIDACY and event.cause != Cause.EPOCHS_USED_UP:
        return Role.CANDIDATE, event.epoch
    if event.kind == EventKind.ROLE or before is None or before.role == GONE:
        return Role.REPLICA, ""
    return before.role, before.epoch


def lanes(everyone: Sequence[Known], known_epochs: Sequence[Epoch], now: float) -> dict[str, Any]:
    """The lane of each node, as an object for JSON: its spans, the oldest first, and its
    outages."""
    return {
        known.node_id: {
            "spans": [
                {
                    "role": span.role,
                    "epoch": span.epoch or None,
                    "since_ago": now - span.since,
                    "until_ago": None if span.until is None else now - span.until,
                }
                for span in whole_lane(known, known_epochs, now)
            ],
            "outages": [[now - since, now - until] for since, until in known.outages],
        }
        for known in everyone
    }


def whole_lane(known: Known, known_epochs: Sequence[Epoch], now: float) -> list[Span]:
    """The roles of a node by its own events, and before these by the events of others."""
    losses = _losses(known.node_id, known_epochs)
    spans = lane(known.events, losses)
    started = _started_at(known)
    if started is not None and (not spans or started < spans[0].since):
        if spans and spans[0].role == Role.REPLICA:
            spans[0].since = started
        else:
            spans.insert(0, Span(Role.REPLICA, "", started, spans[0].since if spans else None))
    before = spans[0].since if spans else now
    spans = [*_terms(known.node_id, known_epochs, losses, before), *spans]
    if known.lost_at is not None and not known.is_fresh(now):
        since = known.lost_at
        if spans and spans[-1].until is None:
            since = spans[-1].until = max(since, spans[-1].since)
        spans.append(Span(GONE, "", since))
    return spans


def _started_at(known: Known) -> float | None:
    """The start of its election, if it states it and remembers all events since then."""
    status = known.status
    if status is None or status.uptime is None or known.at is None:
        return None
    return None if len(known.events) >= EVENTS_KEPT else known.at - status.uptime


def _terms(
    node_id: str, known_epochs: Sequence[Epoch], losses: Sequence[float], before: float
) -> list[Span]:
    """The times at which this node was primary, by the events of others before `before`."""
    terms = []
    end: float = before
    for epoch in known_epochs:  # the newest first
        if epoch.elected_at is None:
            continue
        if epoch.primary == node_id and epoch.elected_at < before:
            lost = [at for at in losses if epoch.elected_at < at < end]
            until = min([*lost, end])
            terms.append(Span(Role.PRIMARY, epoch.number, epoch.elected_at, until))
        end = min(end, epoch.elected_at)
    return terms[::-1]


def _losses(node_id: str, known_epochs: Sequence[Epoch]) -> list[float]:
    """When others noted that they no longer follow this node."""
    return [
        event.at
        for each in known_epochs
        for event in each.events
        if (event.kind, event.cause, event.member) == (EventKind.PRIMARY, Cause.LOST, node_id)
    ]
