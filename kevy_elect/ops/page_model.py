"""What the page shows: each node in its own words, who may write, and the epochs so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs

from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Role
from kevy_elect.ops.phrases import do, listed
from kevy_elect.ops.server_remarks import Remark, server_remarks
from kevy_elect.replication import lag, waits_for_server
from kevy_elect.status import EventStatus, PeerStatus, Status, read

LONGEST: Final = 300
"""Characters of any text that is shown."""
EVENTS: Final = 256
"""Events that are shown in all."""

SAME_WITHIN: Final = 5.0
"""Seconds by which the time of an event may differ from one answer to the next."""
_WIDE: Final = ("epoch", "offset", "data_epoch", "length")
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
    lost_at: float | None = None
    """Since when this node has had no connection with it; None while it has one."""

    @property
    def is_silent(self) -> bool:
        """Whether it did not answer when it was asked last."""
        return self.url is not None and self.error is not None

    def see(self, peer: PeerStatus | None, now: float) -> None:
        """Take in how this node's own links with it are at `now`."""
        if peer is None or _is_linked(peer):
            self.lost_at = None
        elif self.lost_at is None:
            self.lost_at = now

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
        "lag": None if known.status is None else lag(known.status),
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


@attrs.frozen
class Headline:
    """The state of the cluster in words. Times are seconds of this node's clock.

    The texts hold no time that passes, so that they change, and are read out, only with
    the state.
    """

    level: Level
    text: str
    advice: str = "Nothing needs to be done."
    since: float | None = attrs.field(default=None, eq=lambda at: None if at is None else round(at))
    """Since when that is so, None if nobody told."""
    lease_end: float | None = None
    """When the lease ends with which the text breaks off, None if it ends with a full stop."""

    def told(self, now: float) -> dict[str, Any]:
        """For the page, ready for JSON."""
        return {
            "level": self.level,
            "text": self.text,
            "advice": self.advice,
            "since_ago": None if self.since is None else now - self.since,
            "lease_ends_in": None if self.lease_end is None else self.lease_end - now,
        }


def headline(me: Known, others: Sequence[Known], now: float) -> Headline:
    """What is so, as `me` and who answered tell it, since when, and what to do."""
    mine = me.status
    if mine is None or mine.epoch == 0:
        start = f"Read the log of {me.node_id}, repair what it names, and start it again."
        return Headline("alarm", f"The election of {me.node_id} does not run.", start)
    everyone = [me, *others]
    writers = [known for known in everyone if known.writes(now)]
    for one in writers:
        for other in writers:
            if one is not other and _wrote_together(one, other):
                return _rivalry(*sorted((one, other), key=lambda known: known.node_id))
    primary = next((known for known in others if known.node_id == _named(me, writers)), None)
    if primary is not None and primary.lost_at is not None:
        return _lost(primary, me, everyone, now)
    missing = _missing(others)
    if writers:
        writer = max(writers, key=lambda known: known.status.epoch if known.status else 0)
        return _with_writer(writer, everyone, missing)
    return _without_writer(me, everyone, missing)


def _named(me: Known, writers: Sequence[Known]) -> str | None:
    """The primary: who may write in the highest epoch, or else whom this node follows."""
    assert me.status is not None
    if writers:
        return max(writers, key=lambda known: known.status.epoch if known.status else 0).node_id
    return me.status.current_primary


def _lost(primary: Known, me: Known, everyone: Sequence[Known], now: float) -> Headline:
    """The primary cannot be reached from here; whether others reach it decides what that means."""
    name, lost_at = primary.node_id, primary.lost_at
    assert lost_at is not None
    hearers = [
        known.node_id
        for known in everyone
        if known is not me
        and known.node_id in _answering(everyone)
        and known.at is not None
        and known.at >= lost_at
        and (status := known.status) is not None
        and any(peer.node_id == name and _is_linked(peer) for peer in status.peers)
    ]
    if hearers:
        return Headline(
            "warning",
            f"{name}, the primary, cannot be reached from {me.node_id}; {listed(hearers)} "
            f"{'reaches' if len(hearers) == 1 else 'reach'} it.",
            f"Check the network and the firewall between {me.node_id} and {name}.",
            lost_at,
        )
    check = f"Wait: the others elect another primary. Then check the host and the log of {name}."
    if primary.writes(now) and primary.status is not None and primary.at is not None:
        left = primary.status.lease_expires_in
        end = None if left is None else primary.at + left
        text = f"{name}, the primary, cannot be reached; its lease ends in"
        return Headline("warning", text, check, lost_at, end)
    over = "its lease, as it was told last, is over"
    if primary.status is None:
        over = "when its lease ends is not known here"
    return Headline("alarm", f"{name}, the primary, cannot be reached; {over}.", check, lost_at)


def _missing(others: Sequence[Known]) -> str:
    lost = [known.node_id for known in others if known.lost_at is not None]
    mute = [known.node_id for known in others if known.is_silent and known.lost_at is None]
    text = f" {listed(lost)} cannot be reached." if lost else ""
    return text + (f" The page of {listed(mute)} cannot be reached." if mute else "")


def _is_linked(peer: PeerStatus) -> bool:
    """Whether anything of the peer is heard, and a connection is there on which it could be."""
    return peer.alive and (peer.link == "connected" or peer.incoming_age is not None)


def _wrote_together(one: Known, other: Known) -> bool:
    """Whether both said so throughout some time, and not one after the other."""
    return _wrote_after(one, other) and _wrote_after(other, one)


def _wrote_after(one: Known, other: Known) -> bool:
    """Whether `one` said so, too, after `other` and all along since it said so first."""
    since = other.writes_since
    return one.at is not None and since is not None and since < one.at


def _rivalry(one: Known, other: Known) -> Headline:
    assert one.status is not None
    assert other.status is not None
    return Headline(
        "alarm",
        f"{one.node_id} (epoch {one.status.epoch}) and {other.node_id} "
        f"(epoch {other.status.epoch}) both say that they may write.",
        f"Stop {one.node_id if one.status.epoch < other.status.epoch else other.node_id}. "
        "Compare what both wrote.",
    )


def _with_writer(writer: Known, everyone: Sequence[Known], missing: str) -> Headline:
    assert writer.status is not None
    text = f"{writer.node_id} is primary of epoch {writer.status.epoch} and holds its lease."
    answering = _answering(everyone)
    advice = []
    astray = [
        known.node_id
        for known in everyone
        if known.node_id in answering
        and answering[known.node_id].current_primary != writer.node_id
        and not _is_older(known, writer)
    ]
    if astray:
        text += f" {listed(astray)} {do(astray)} not follow it."
        advice.append(f"If that lasts, compare the settings and the log of {listed(astray)}.")
    for node_id, status in answering.items():
        if unheard := [other for other in status.down_peers if other in answering]:
            text += f" {node_id} does not hear {listed(unheard)}."
            advice.append(
                f"Check the network and the firewall from {listed(unheard)} to {node_id}."
            )
    recent = [known.node_id for known in everyone if not _is_older(known, writer)]
    remarks = list(server_remarks(answering, writer.node_id, recent))
    text += _texts(remarks)
    advice += [remark.advice for remark in remarks]
    if missing:
        text += missing
        silent = [each.node_id for each in everyone if each.is_silent or each.lost_at is not None]
        advice.append(f"Check the host and the log of {listed(silent)}.")
    since = _elected_at(writer, everyone)
    if not advice:
        return Headline("ok", text, since=since)
    return Headline("warning", text, " ".join(advice), since)


def _elected_at(writer: Known, everyone: Sequence[Known]) -> float | None:
    """When the primary was elected in its epoch: by its own word, or by that of a follower."""
    assert writer.status is not None
    epoch = str(writer.status.epoch)
    own = [e.at for e in writer.events if e.epoch == epoch and (e.kind, e.cause) in _WON]
    if own:
        return own[-1]
    told = (event for known in everyone for event in known.events)
    heard = [
        event.at
        for event in told
        if event.epoch == epoch and event.cause == Cause.FOLLOWED and event.member == writer.node_id
    ]
    return min(heard, default=None)


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


def _without_writer(me: Known, everyone: Sequence[Known], missing: str) -> Headline:
    answering = _answering(everyone)
    wait = "Wait a few seconds. If that lasts, read the log of {}."
    for node_id, status in answering.items():
        if status.role is Role.PRIMARY:
            what = f"{node_id} is primary of epoch {status.epoch}"
            advice = wait.format(node_id)
            if status.can_write:  # its word has outlasted its lease
                unsure = f"whether {node_id} still holds its lease is not known here"
                return Headline("warning", f"{what}; {unsure}.{missing}", advice)
            if waits_for_server(status):
                return _without_server(status, missing)
            if status.has_quorum:
                text = f"{what} but writes nothing: it is giving up its role.{missing}"
                return Headline("warning", text, advice)
            return Headline(
                "alarm",
                f"{what} without its lease: nobody may write.{missing}",
                _find_quorum(status),
            )
    assert me.status is not None
    follows = me.status.current_primary
    if follows is not None and follows not in (*answering, *me.status.down_peers):
        return _following(me.node_id, follows, answering, missing)
    remarks = list(server_remarks(answering, None, ()))
    missing = _texts(remarks) + missing
    servers = " ".join(remark.advice for remark in remarks)
    running = [node_id for node_id, status in answering.items() if status.role is Role.CANDIDATE]
    if running:
        return Headline(
            "alarm",
            f"Nobody is primary: nobody may write. {listed(running)} "
            f"{'asks' if len(running) == 1 else 'ask'} for votes.{missing}",
            servers or wait.format(listed(running)),
            _lost_at(everyone),
        )
    blind = "" if me.status.has_quorum else f" {me.node_id} sees no quorum."
    advice = _find_quorum(me.status) if blind else servers or wait.format(listed(list(answering)))
    text = f"Nobody is primary: nobody may write.{blind}{missing}"
    return Headline("alarm", text, advice, _lost_at(everyone))


def _following(name: str, primary: str, answering: Mapping[str, Status], missing: str) -> Headline:
    """This node follows one whose page it does not know."""
    remarks = list(server_remarks(answering, primary, ()))
    text = f"{name} follows {primary}; whether {primary} holds its lease is not known here."
    page = f"Open the page of {primary}, or give this node its address with --http-peers."
    return Headline(
        "warning" if missing or remarks else "ok",
        f"{text}{_texts(remarks)}{missing}",
        " ".join((*(remark.advice for remark in remarks), page)),
    )


def _texts(remarks: Sequence[Remark]) -> str:
    return "".join(f" {remark.text}" for remark in remarks)


def _without_server(primary: Status, missing: str) -> Headline:
    assert primary.data is not None
    return Headline(
        "warning",
        f"{primary.node_id} is primary of epoch {primary.epoch}, but its data server takes no "
        f"writes yet, or no longer.{missing}",
        f"Wait a few seconds. If that lasts, read the log of {primary.node_id}.",
    )


def _find_quorum(status: Status) -> str:
    quorum = len(status.members) // 2 + 1
    down = f": {listed(status.down_peers)} cannot be heard" if status.down_peers else ""
    return (
        f"Start the nodes that are down, or repair the network between them: {quorum} of "
        f"{len(status.members)} must hear each other{down}."
    )


def _lost_at(everyone: Sequence[Known]) -> float | None:
    """When the last primary was lost, as far as anyone noted it."""
    ends = (Cause.LOST, Cause.HANDED_OVER, Cause.RESIGNED, Cause.LEASELESS)
    kinds = (EventKind.PRIMARY, EventKind.ROLE, EventKind.QUORUM)
    lost = [
        event.at
        for known in everyone
        for event in known.events
        if event.kind in kinds and event.cause in ends
    ]
    return max(lost, default=None)


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
        if epoch.primary is not None:
            resigned.pop(epoch.primary, None)  # of an earlier term
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
        return f"{run.member} gave up the role or its process ended"
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


# The timeline


@attrs.define
class Span:
    """A role that a node had from one time to another; `until` is None while it lasts."""

    role: str
    epoch: str
    since: float
    until: float | None = None


def lane(events: Sequence[Happening]) -> list[Span]:
    """The roles of one node, the oldest first, as its own events, in order, tell them."""
    spans: list[Span] = []
    for event in events:
        role, epoch = _role_after(event, spans[-1] if spans else None)
        if spans and (spans[-1].role, spans[-1].epoch) == (role, epoch):
            continue
        if spans:
            spans[-1].until = event.at
        spans.append(Span(role, epoch, event.at))
    return spans


def _role_after(event: Happening, before: Span | None) -> tuple[str, str]:
    """Role and epoch; a replica's epoch, which follows the primary's, is left out."""
    if (event.kind, event.cause) in _WON:
        return Role.PRIMARY, event.epoch
    if event.kind == EventKind.CANDIDACY and event.cause != Cause.EPOCHS_USED_UP:
        return Role.CANDIDATE, event.epoch
    if event.kind == EventKind.ROLE or before is None:
        return Role.REPLICA, ""
    return before.role, before.epoch


def lanes(everyone: Iterable[Known], now: float) -> dict[str, Any]:
    """The lane of each node, ready for JSON."""
    return {
        known.node_id: [
            {
                "role": span.role,
                "epoch": span.epoch or None,
                "since_ago": now - span.since,
                "until_ago": None if span.until is None else now - span.until,
            }
            for span in lane(known.events)
        ]
        for known in everyone
    }
