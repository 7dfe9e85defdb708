"""The state of the cluster in words: the primary, the problems, and the advice. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from kevy_elect.config import quorum
from kevy_elect.events import Cause, EventKind
from kevy_elect.messages import Role
from kevy_elect.ops.page_history import WON
from kevy_elect.ops.page_links import Link, links
from kevy_elect.ops.page_model import Known, is_heard, quiet_after
from kevy_elect.ops.phrases import do, either, listed
from kevy_elect.ops.server_remarks import Remark, server_remarks
from kevy_elect.replication import waits_for_server
from kevy_elect.settings.cluster_name import mixed_names
from kevy_elect.settings.timing_change import mixed_timings
from kevy_elect.status import Status

Level = Literal["ok", "warning", "alarm"]


@attrs.frozen
class Headline:
    """The state of the cluster in words. Times are seconds of this node's clock.

    The texts contain no time that passes. They change, and screen readers read them, only with the
    state.
    """

    level: Level
    lead: str
    """The most important fact."""
    remarks: tuple[Remark, ...] = ()
    """Further facts, each with its advice; one of both texts may be empty."""
    since: float | None = attrs.field(default=None, eq=lambda at: None if at is None else round(at))
    """The time since which the lead is true; None if it is not known."""
    lease_end: float | None = None
    """The end of the lease to which an unfinished lead refers; None for a complete sentence."""

    def told(self, now: float) -> dict[str, Any]:
        """The headline, as an object for JSON."""
        return {
            "level": self.level,
            "lead": self.lead,
            "remarks": [attrs.asdict(each) for each in self.remarks],
            "since_ago": None if self.since is None else now - self.since,
            "lease_ends_in": None if self.lease_end is None else self.lease_end - now,
        }


def headline(
    me: Known, others: Sequence[Known], now: float, found: Sequence[Link] | None = None
) -> Headline:
    """The state by the answers of `me` and the others, the time since then, and the advice.

    `found` are the links, if they are known already.
    """
    told = _name_apart(_headline(me, others, now, found), [me, *others])
    those = [
        known.node_id
        for known in (me, *others)
        if known.status is not None and known.status.maintained_for > 0
    ]
    if not those:
        return told
    remark = Remark(
        f"Maintenance of {listed(those)}: there is no failover.",
        "End it with kevy-elect maintenance off.",
    )
    return attrs.evolve(told, level="alarm", remarks=(remark, *told.remarks))


def _name_apart(told: Headline, everyone: Sequence[Known]) -> Headline:
    """Add a remark if nodes report clusters of several names."""
    names = {
        known.node_id: known.status.cluster_name for known in everyone if known.status is not None
    }
    sentence = mixed_names(names)
    if sentence is None:
        return told
    level: Level = "warning" if told.level == "ok" else told.level
    return attrs.evolve(told, level=level, remarks=(*told.remarks, _in_two(sentence)))


def _headline(
    me: Known, others: Sequence[Known], now: float, found: Sequence[Link] | None
) -> Headline:
    mine = me.status
    if mine is None or mine.epoch == 0:
        start = f"Read the log of {me.node_id}, repair what it names, and start it again."
        return Headline("alarm", f"The election of {me.node_id} does not run.", _to_do(start))
    everyone = [me, *others]
    writers = [known for known in everyone if known.writes(now)]
    for one in writers:
        for other in writers:
            if one is not other and _wrote_together(one, other):
                return _rivalry(*sorted((one, other), key=lambda known: known.node_id))
    primary = next((known for known in others if known.node_id == _named(me, writers)), None)
    if primary is not None and primary.lost_at is not None and not primary.is_fresh(now):
        return _lost(primary, me, everyone, now)
    missing = tuple(_missing(me, others, now))
    broken = [link for link in found or links(everyone, now) if link.is_broken]
    if writers:
        writer = max(writers, key=lambda known: known.status.epoch if known.status else 0)
        return _with_writer(writer, everyone, broken, missing)
    unheard = tuple(_unheard(_answering(everyone), broken))
    return _without_writer(me, everyone, (*unheard, *missing))


def _to_do(advice: str) -> tuple[Remark, ...]:
    return (Remark("", advice),)


def _named(me: Known, writers: Sequence[Known]) -> str | None:
    """The primary: the writer of the highest epoch, or else the one that this node follows."""
    assert me.status is not None
    if writers:
        return max(writers, key=lambda known: known.status.epoch if known.status else 0).node_id
    return me.status.current_primary


def _lost(primary: Known, me: Known, everyone: Sequence[Known], now: float) -> Headline:
    """The primary cannot be reached from this node. The meaning depends on whether others reach
    it."""
    name, lost_at = primary.node_id, primary.lost_at
    assert lost_at is not None
    hearers = [
        known.node_id
        for known in everyone
        if known is not me
        and known.error is None
        and known.at is not None
        and known.at >= lost_at
        and (status := known.status) is not None
        and any(
            peer.node_id == name and is_heard(peer, quiet_after(status)) for peer in status.peers
        )
    ]
    if hearers:
        reaches = either(hearers, "reaches", "reach")
        return Headline(
            "warning",
            f"{name}, the primary, cannot be reached from {me.node_id}; {listed(hearers)} "
            f"{reaches} it.",
            _to_do(f"Check the network and the firewall between {me.node_id} and {name}."),
            lost_at,
        )
    wait = "Wait: the others elect another primary."
    gone = [known.node_id for known in everyone if known.lost_at is not None]
    if len(everyone) - len(gone) < quorum(len(everyone)):
        wait = _find_quorum(len(everyone), gone)
    check = _to_do(f"{wait} Then check the host and the log of {name}.")
    if primary.writes(now) and primary.status is not None and primary.at is not None:
        left = primary.status.lease_expires_in
        end = None if left is None else primary.at + left
        text = f"{name}, the primary, cannot be reached; its lease ends in"
        return Headline("warning", text, check, lost_at, end)
    over = "its lease, as it was told last, is over"
    if primary.status is None:
        over = "when its lease ends is not known here"
    return Headline("alarm", f"{name}, the primary, cannot be reached; {over}.", check, lost_at)


def _missing(me: Known, others: Sequence[Known], now: float) -> Iterator[Remark]:
    """The members that cannot be reached, and those of which only the page cannot be reached."""
    silent = [known for known in others if not known.is_fresh(now)]
    if lost := [known.node_id for known in silent if known.lost_at is not None]:
        spare = len(others) + 1 - len(lost) - quorum(len(others) + 1)
        until = f" Until then {_tolerance(spare)}." if spare >= 0 else ""
        it, runs = either(lost, "it", "them"), either(lost, "it is", "they are")
        yield Remark(
            f"{listed(lost)} cannot be reached.",
            f"Check the host and the log of {listed(lost)}, and start {it} again unless {runs} "
            f"running.{until}",
        )
    if mute := [known.node_id for known in others if known.is_silent and known.lost_at is None]:
        one = either(mute, "page", "pages")
        yield Remark(
            f"The {one} of {listed(mute)} cannot be reached.",
            f"{me.node_id} hears {listed(mute)} all the same. Check --http there, and "
            "--http-peers here.",
        )


def _tolerance(spare: int) -> str:
    if spare == 0:
        return "no other member may fail"
    return "one more member may fail" if spare == 1 else f"{spare} more members may fail"


def _wrote_together(one: Known, other: Known) -> bool:
    """Whether both could write at the same time, by all of their answers."""
    return _wrote_after(one, other) and _wrote_after(other, one)


def _wrote_after(one: Known, other: Known) -> bool:
    """Whether `one` reported that it may write after `other` did, and since then without
    interruption."""
    since = other.writes_since
    return one.at is not None and since is not None and since < one.at


def _rivalry(one: Known, other: Known) -> Headline:
    assert one.status is not None
    assert other.status is not None
    return Headline(
        "alarm",
        f"{one.node_id} (epoch {one.status.epoch}) and {other.node_id} "
        f"(epoch {other.status.epoch}) both say that they may write.",
        _to_do(
            f"Stop {one.node_id if one.status.epoch < other.status.epoch else other.node_id}. "
            "Compare what both wrote."
        ),
    )


def _with_writer(
    writer: Known, everyone: Sequence[Known], broken: Sequence[Link], missing: tuple[Remark, ...]
) -> Headline:
    assert writer.status is not None
    answering = _answering(everyone)
    recent = [known.node_id for known in everyone if not _is_older(known, writer)]
    remarks = (
        *_astray(writer, answering, recent),
        *_unheard(answering, broken),
        *server_remarks(answering, writer.node_id, recent),
        *missing,
        *_mixed(answering),
    )
    dead = writer.status.began_by_will_of
    will = "" if dead is None else f", by the last will of {dead},"
    return Headline(
        "warning" if remarks else "ok",
        f"{writer.node_id} is primary of epoch {writer.status.epoch}{will} and holds its lease.",
        remarks,
        _elected_at(writer, everyone),
    )


def _astray(
    writer: Known, answering: Mapping[str, Status], recent: Sequence[str]
) -> Iterator[Remark]:
    astray = [
        node_id
        for node_id, status in answering.items()
        if status.current_primary != writer.node_id and node_id in recent
    ]
    if astray:
        yield Remark(
            f"{listed(astray)} {do(astray)} not follow it.",
            f"If that lasts, compare the settings and the log of {listed(astray)}.",
        )


def _unheard(answering: Mapping[str, Status], broken: Sequence[Link]) -> Iterator[Remark]:
    """The members that do not hear others; members that hear the same ones are in one remark."""
    silent = {(link.receiver, link.sender) for link in broken}
    silent |= {(node_id, down) for node_id, each in answering.items() for down in each.down_peers}
    groups: dict[tuple[str, ...], list[str]] = {}
    for node_id in answering:
        unheard = tuple(each for each in answering if (node_id, each) in silent)
        if unheard:
            groups.setdefault(unheard, []).append(node_id)
    for unheard, deaf in groups.items():
        mutual = all((other, node_id) in silent for other in unheard for node_id in deaf)
        works = "" if mutual else f" {_other_direction(unheard, deaf)} works."
        yield Remark(
            f"{listed(deaf)} {do(deaf)} not hear {listed(unheard)}.",
            f"Check the network and the firewall from {listed(unheard)} to {listed(deaf)}.{works}",
        )


def _other_direction(unheard: Sequence[str], deaf: Sequence[str]) -> str:
    return f"The other direction, from {listed(deaf)} to {listed(unheard)},"


def _mixed(answering: Mapping[str, Status]) -> Iterator[Remark]:
    """Settings that differ between members, one remark each."""
    for sentence in mixed_timings({each: status.settings for each, status in answering.items()}):
        yield _in_two(sentence)


def _in_two(warning: str) -> Remark:
    """The fact and the advice in a warning."""
    text, _, advice = warning.rpartition(". ")
    return Remark(f"{text[:1].upper()}{text[1:]}.", f"{advice}.")


def _elected_at(writer: Known, everyone: Sequence[Known]) -> float | None:
    """The time of the primary's election, by its own events or those of a follower."""
    assert writer.status is not None
    epoch = str(writer.status.epoch)
    own = [e.at for e in writer.events if e.epoch == epoch and (e.kind, e.cause) in WON]
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
    """Whether its answer is older than the writer's election."""
    since = writer.writes_since
    return known.at is not None and since is not None and known.at < since


def _answering(everyone: Sequence[Known]) -> dict[str, Status]:
    """The statuses of the nodes that answered the last request."""
    return {
        known.node_id: known.status
        for known in everyone
        if known.status is not None and known.error is None
    }


def _without_writer(me: Known, everyone: Sequence[Known], missing: tuple[Remark, ...]) -> Headline:
    answering = _answering(everyone)
    assert me.status is not None
    follows = me.status.current_primary
    for node_id, status in answering.items():
        if status.role is Role.PRIMARY and not _is_past(me.status, status):
            return _unsure_primary(node_id, status, missing)
    if follows is not None and follows not in me.status.down_peers:
        if follows not in answering:
            return _following(me.node_id, follows, answering, missing)
        if _is_past(me.status, answering[follows]):
            return Headline(
                "warning",
                f"{follows} was elected primary of epoch {me.status.epoch}; whether it holds its "
                "lease is not known here yet.",
                missing,
            )
    remarks = tuple(server_remarks(answering, None, ()))
    asking = [node_id for node_id, status in answering.items() if status.role is Role.CANDIDATE]
    lead = "Nobody is primary: nobody may write."
    if asking:
        lead += f" {listed(asking)} {either(asking, 'asks', 'ask')} for votes."
    elif not me.status.has_quorum:
        lead = _blind(me.status, len(answering))
    advice: tuple[Remark, ...] = ()
    if not asking and not me.status.has_quorum:
        advice = _to_do(_find_quorum(len(me.status.members), me.status.down_peers))
    elif not any(each.advice for each in remarks):
        advice = _to_do(_wait(listed(asking or list(answering))))
    return Headline("alarm", lead, (*advice, *remarks, *missing), _lost_at(everyone))


def _blind(status: Status, answering: int) -> str:
    """The sentence of a node that hears too few members to know whether others have a primary."""
    who = status.node_id
    if len(status.members) - answering >= quorum(len(status.members)):
        return f"{who} hears too few members and knows no primary; the others may have one."
    return f"Nobody is primary: nobody may write. {who} hears too few members."


def _is_past(mine: Status, told: Status) -> bool:
    """Whether this node follows a primary of a later epoch than the one in that status."""
    return mine.current_primary is not None and told.epoch < mine.epoch


def _wait(names: str) -> str:
    return f"Wait a few seconds. If that lasts, read the log of {names}."


def _unsure_primary(node_id: str, status: Status, missing: tuple[Remark, ...]) -> Headline:
    """A primary that may not write, or whose lease has ended since its answer."""
    what = f"{node_id} is primary of epoch {status.epoch}"
    wait = _to_do(_wait(node_id))
    if status.can_write:
        unsure = f"whether {node_id} still holds its lease is not known here"
        return Headline("warning", f"{what}; {unsure}.", (*wait, *missing))
    if waits_for_server(status):
        lead = f"{what}, but its data server takes no writes yet, or no longer."
        return Headline("warning", lead, (*wait, *missing))
    if status.has_quorum:
        lead = f"{what} but writes nothing: it is giving up its role."
        return Headline("warning", lead, (*wait, *missing))
    lead = f"{what} without its lease: nobody may write."
    find = _find_quorum(len(status.members), status.down_peers)
    return Headline("alarm", lead, (*_to_do(find), *missing))


def _following(
    name: str, primary: str, answering: Mapping[str, Status], missing: tuple[Remark, ...]
) -> Headline:
    """This node follows a primary whose page it does not know."""
    remarks = (*server_remarks(answering, primary, ()), *missing)
    page = f"Open the page of {primary}, or give this node its address with --http-peers."
    return Headline(
        "warning" if remarks else "ok",
        f"{name} follows {primary}; whether {primary} holds its lease is not known here.",
        (*remarks, *_to_do(page)),
    )


def _find_quorum(members: int, gone: Sequence[str]) -> str:
    down = f": {listed(gone)} cannot be heard" if gone else ""
    return (
        f"Start the nodes that are down, or repair the network between them: "
        f"{quorum(members)} of {members} must hear each other{down}."
    )


def _lost_at(everyone: Sequence[Known]) -> float | None:
    """The time at which the last primary was lost, by any node's events."""
    ends = (Cause.LOST, Cause.HANDED_OVER, Cause.RESIGNED, Cause.LEASELESS)
    kinds = (EventKind.PRIMARY, EventKind.ROLE, EventKind.QUORUM)
    lost = [
        event.at
        for known in everyone
        for event in known.events
        if event.kind in kinds and event.cause in ends
    ]
    return max(lost, default=None)
