"""The details of one node on the page, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from kevy_elect.messages import Role
from kevy_elect.ops.page_model import LONGEST, Known
from kevy_elect.ops.phrases import listed
from kevy_elect.replication import FENCED, is_in_sync, lag, waits_for_server
from kevy_elect.status import ChildStatus, DataStatus, PeerStatus, Status

_ROLES: Final = {
    Role.PRIMARY: "primary",
    Role.REPLICA: "replica",
    Role.CANDIDATE: "asks for votes",
}
_JOBS: Final = {
    "running": "runs",
    "starting": "is being started",
    "stopping": "is being stopped",
}
_WAITS: Final = "waits"
_SERVERS: Final = {
    "primary": "takes the clients' writes",
    "following": "follows",
    "frozen": "takes no writes",
    "unknown": "not known",
}


@attrs.frozen
class View:
    """The details of a node. Ages and ends are seconds from now."""

    node_id: str
    url: str | None
    role: str
    """A value of Role; empty if it is not known."""
    is_well: bool
    """Whether it is heard, and the shown values are current."""
    word: str
    """Its role, or its most important problem."""
    short: str
    """A short form of this for small screens."""
    lease: dict[str, Any] | None
    """The end of a primary's lease, or none, and its full length."""
    data: str
    """The state of its data server; empty without one."""
    data_is_well: bool
    job: str
    """Its children that run only on the primary; empty without any."""
    version: str
    epoch: str
    up_for: float | None
    age: float | None
    """The age of its answer."""
    rows: list[dict[str, Any]]
    """All known values: a label and a text each, and possibly a time that passes."""

    def told(self) -> dict[str, Any]:
        """The details as an object for JSON. Numbers of 64 bits are text, because browsers have 53
        bits."""
        found: dict[str, Any] = _bounded(attrs.asdict(self))
        return found

    def is_like(self, other: View | None) -> bool:
        """Whether nothing but time has passed."""
        return other is not None and _timeless(self) == _timeless(other)


def _bounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_bounded(each) for each in value]
    return value[:LONGEST] if isinstance(value, str) else value


def _timeless(view: View) -> tuple[Any, ...]:
    rows = [(row["label"], row["text"]) for row in view.rows]
    return (*attrs.astuple(attrs.evolve(view, lease=None, up_for=None, age=None, rows=[])), rows)


def view(known: Known, me: Known, now: float) -> View:
    """The details of a node, by its own answer or by what `me` hears of it."""
    status = known.status
    heard = None if known is me else _peer(me, known.node_id)
    fresh = known is me or known.is_fresh(now)
    lost = known.lost_at is not None
    role = _role(status, heard, fresh=fresh)
    data = None if status is None or not fresh else status.data
    jobs = status.children if status is not None and fresh else ()
    word, short = _word(known, me, role, fresh=fresh)
    return View(
        known.node_id,
        known.url,
        role or "",
        fresh or (known.error is None and not lost),
        word,
        short,
        _lease(known, role, now),
        "" if data is None or status is None else _server_in_short(data, lag(status)),
        data is None or not data.problem,
        _jobs_in_short(jobs, is_primary=role is Role.PRIMARY),
        "" if status is None else status.version,
        str(status.epoch) if status else str(heard.epoch) if _was_heard(heard) and heard else "",
        _up_for(known, now, is_well=fresh),
        None if known.at is None else max(0.0, now - known.at),
        list(_rows(known, me, heard, now)),
    )


def _peer(me: Known, node_id: str) -> PeerStatus | None:
    if me.status is None:
        return None
    return next((peer for peer in me.status.peers if peer.node_id == node_id), None)


def _was_heard(heard: PeerStatus | None) -> bool:
    return heard is not None and heard.heard_ago is not None


def _role(status: Status | None, heard: PeerStatus | None, *, fresh: bool) -> Role | None:
    """The role by its own answer, unless its heartbeats are newer."""
    if heard is None or not _was_heard(heard):
        return None if status is None else status.role
    if status is None or heard.epoch > status.epoch or (heard.alive and not fresh):
        return heard.role
    return status.role


def _word(known: Known, me: Known, role: Role | None, *, fresh: bool) -> tuple[str, str]:
    """Its role or most important problem, and the short form."""
    status = known.status
    name = "" if role is None else _ROLES[role]
    if status is not None and status.witness and role is Role.REPLICA:
        name = "witness"
    if known.lost_at is not None and not fresh:
        if role is None:
            return "never heard", "not heard"
        was = {Role.CANDIDATE: "asked for votes", Role.PRIMARY: "was the primary"}
        return f"cannot be reached; it {was.get(role, f'was a {name}')}", "not reached"
    if known.lost_at is not None:
        return f"{name}; {me.node_id} does not hear it", name
    if role is None:
        return "not heard yet", "not heard yet"
    if fresh and status is not None and role is Role.PRIMARY and not status.can_write:
        return "primary, writes nothing", "no lease" if not status.has_quorum else "no writes"
    return name, name


def _lease(known: Known, role: Role | None, now: float) -> dict[str, Any] | None:
    status = known.status
    if status is None or known.at is None or role is not Role.PRIMARY:
        return None
    if status.role is not Role.PRIMARY:
        return None
    if status.lease_expires_in is None:
        return {"ends_in": None, "lasts": None} if status.can_write else None
    settings = status.settings
    lasts = settings.get("down_after", 0.0) - settings.get("ack_margin", 0.0)
    lasts = settings.get("lease_duration", lasts)
    left = known.at + status.lease_expires_in - now if status.can_write else 0.0
    return {"ends_in": max(0.0, left), "lasts": max(lasts, status.lease_expires_in)}


def _up_for(known: Known, now: float, *, is_well: bool) -> float | None:
    if known.status is None or known.at is None or known.status.uptime is None or not is_well:
        return None
    return known.status.uptime + now - known.at


# The details


def _rows(
    known: Known, me: Known, heard: PeerStatus | None, now: float
) -> Iterator[dict[str, Any]]:
    status = known.status
    if status is not None:
        yield _row("Epoch", str(status.epoch))
        yield _row("Follows", _followed(status))
        yield _row("Hears", _hearing(status))
        if status.data is not None:
            yield _row("Data server", _server(status.data, lag(status)))
        if status.children:
            yield _row("Job", _jobs(status.children, is_primary=status.role is Role.PRIMARY))
        if status.check is not None:
            yield _row("Health check", _checked(status.check.problem, healthy=status.check.healthy))
        yield _takes_over(status, known, now)
        if status.last_will is not None:
            yield _row("If it dies", _last_will(status))
        yield _row("Version", status.version)
    elif heard is not None and _was_heard(heard):
        yield _row("Epoch", str(heard.epoch))
    if heard is not None:
        yield _heard_by(me, heard, known, now)
    yield from _source(known, me, now)


def _row(
    label: str, text: str, ago: float | None = None, left: float | None = None
) -> dict[str, Any]:
    """`ago` or `left` is a time that follows the text, and passes."""
    return {"label": label, "text": text, "ago": ago, "left": left}


def _followed(status: Status) -> str:
    if status.current_primary is None:
        return "nobody: it knows no primary"
    itself = status.current_primary == status.node_id
    who = "nobody: it is primary itself" if itself else status.current_primary
    return f"{who}; clients go to {status.primary_addr}" if status.primary_addr else who


def _hearing(status: Status) -> str:
    others = len(status.members) - 1
    if not others:
        return "nobody: it is the only member"
    heard = "all the others"
    if len(status.down_peers) >= others:
        heard = "none of the others"
    elif status.down_peers:
        heard = f"the others but {listed(status.down_peers)}"
    if status.has_quorum:
        return heard
    few = "it has lost its lease" if status.role is Role.PRIMARY else "too few to elect a primary"
    return f"{heard}: {few}"


def _server(data: DataStatus, behind: int | None) -> str:
    text = _SERVERS.get(data.state, data.state)
    if data.state == "following":
        text += f" {data.source}, {'in sync' if data.in_sync else 'not in sync'}"
        if behind is not None:
            text += f", {behind:,} behind" if behind else ", nothing behind"
    text = f"{data.server} {text}" if data.state != "unknown" else f"{data.server}: {text}"
    if data.state != "unknown":
        if data.data_epoch:
            text += f"; data epoch {data.data_epoch}, length {data.length}"
        else:
            text += "; data epoch not known"
    if data.state == "primary" and data.fencing in FENCED:
        text += f"; should the node die or hang, {FENCED[data.fencing]}"
    return f"{text}: {data.problem}" if data.problem else text


def _server_in_short(data: DataStatus, behind: int | None) -> str:
    if data.problem and data.state != "unknown":
        return "something is wrong"
    if data.state == "following":
        if behind:
            return f"{behind:,} behind"
        return "in sync" if is_in_sync(data) else "not in sync"
    return {"primary": "takes writes"}.get(data.state, _SERVERS.get(data.state, data.state))


def _job(child: ChildStatus, *, is_primary: bool) -> str:
    if child.state == "stopped":
        return "is stopped" if is_primary else _WAITS
    return _JOBS.get(child.state, child.state)


def _jobs(children: Sequence[ChildStatus], *, is_primary: bool) -> str:
    """A replica's job is not stopped, but waits for its turn."""
    texts = []
    for child in children:
        text = f"{child.name} {_job(child, is_primary=is_primary)}"
        if child.state == "stopped" and not is_primary:
            text += " until this node is primary"
        if child.pid is not None:
            text += f", process {child.pid}"
        if child.restarts:
            times = "once" if child.restarts == 1 else f"{child.restarts} times"
            text += f", started again {times}"
        texts.append(text)
    return "; ".join(texts)


def _jobs_in_short(children: Sequence[ChildStatus], *, is_primary: bool) -> str:
    if not children:
        return ""
    states = dict.fromkeys(_job(child, is_primary=is_primary) for child in children)
    if len(children) == 1:
        return f"{children[0].name} {next(iter(states))}"
    if len(states) == 1:
        only = next(iter(states))
        all_do = {"runs": "run", _WAITS: "wait"}.get(only)
        return f"all {len(children)} {all_do}" if all_do else f"{len(children)}: {only}"
    runs = sum(child.state == "running" for child in children)
    return f"{runs} of {len(children)} run"


def _checked(problem: str, *, healthy: bool) -> str:
    return ("succeeds" if healthy else "fails") + (f": {problem}" if problem else "")


def _takes_over(status: Status, known: Known, now: float) -> dict[str, Any]:
    label = "Can be primary"
    if status.witness:
        return _row(label, "never: it is a witness, which only votes")
    if status.data is not None and status.data.state == "unknown":
        return _row(label, "not while its data server is not known")
    if status.paused_for and known.at is not None:
        left = max(0.0, known.at + status.paused_for - now)
        return _row(label, "again in", left=left)
    if status.role is Role.PRIMARY:
        waits = "it is, but its data server takes no writes"
        return _row(label, waits if waits_for_server(status) else "it is")
    return _row(label, "yes")


def _last_will(status: Status) -> str:
    if status.last_will:
        return "the others are told at once"
    return "no word is needed, since it is not primary"


def _heard_by(me: Known, heard: PeerStatus, known: Known, now: float) -> dict[str, Any]:
    label = f"Heard by {me.node_id}"
    if heard.heard_ago is None or me.at is None:
        return _row(label, "never")
    ago = heard.heard_ago + max(0.0, now - me.at)
    return _row(label, "last" if known.lost_at is not None else "", ago=ago)


def _source(known: Known, me: Known, now: float) -> Iterator[dict[str, Any]]:
    """The source of the details, and its age."""
    if known is me:
        return
    if known.url is None:
        yield _row("Its page", f"not known to {me.node_id}: give it with --http-peers")
        return
    ago = None if known.at is None else max(0.0, now - known.at)
    if known.error is not None:
        last = "; it answered last" if ago is not None else "; it never answered"
        yield _row("Its page", f"{known.error}{last}", ago=ago)
    elif ago is not None:
        yield _row("Its page", "answered", ago=ago)
    else:
        yield _row("Its page", "has not been asked yet")
