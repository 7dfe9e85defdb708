"""The page's remarks on data servers that are not in their required state. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum, auto

import attrs

from kevy_elect.ops.phrases import do, either, listed
from kevy_elect.replication import is_in_sync, without_server
from kevy_elect.status import Status


@attrs.frozen
class Remark:
    """A fact about the cluster, and the advice about it."""

    text: str
    advice: str


class Trouble(Enum):
    """The trouble of a data server, the worst first."""

    UNKNOWN = auto()
    LOST = auto()
    """It has less data than its node knows that it had."""
    FAILING = auto()
    LATE = auto()
    """It does not have all data of the primary's server."""
    MISSING = auto()
    """Its node drives no server, and others do."""


def server_remarks(
    statuses: Mapping[str, Status], writer: str | None, recent: Collection[str]
) -> Iterator[Remark]:
    """The remarks about the servers in these statuses, by member.

    `writer` is the primary that holds its lease, if there is one. `recent` are the members whose
    answers are newer than its election.
    """
    found = {node_id: _trouble(status, writer, recent) for node_id, status in statuses.items()}
    found |= dict.fromkeys(without_server(statuses.values()), Trouble.MISSING)
    for trouble in Trouble:
        if names := [node_id for node_id, each in found.items() if each is trouble]:
            yield _remark(trouble, names, writer)


def _trouble(status: Status, writer: str | None, recent: Collection[str]) -> Trouble | None:
    data = status.data
    if data is None:
        return None
    if data.state == "unknown":
        return Trouble.UNKNOWN
    if data.problem:  # a frozen server has no other trouble
        return Trouble.LOST if data.state == "frozen" else Trouble.FAILING
    if writer in (None, status.node_id) or status.node_id not in recent:
        return None
    return None if is_in_sync(data) else Trouble.LATE


def _remark(trouble: Trouble, names: Sequence[str], writer: str | None) -> Remark:
    who, does = listed(names), do(names)
    servers = f"data {either(names, 'server', 'servers')} of {who}"
    match trouble:
        case Trouble.UNKNOWN:
            votes = either(names, "neither votes nor runs", "neither vote nor run")
            text = f"The {servers} {either(names, 'is', 'are')} not known: {who} {votes}."
            return Remark(text, f"Start the {servers}, or repair what keeps {who} from it.")
        case Trouble.LOST:
            text = f"The {servers} may have lost what it had: {who} {does} not vote."
            return Remark(text, _after_loss(writer))
        case Trouble.FAILING:
            text = f"Something is wrong with the {servers}."
            return Remark(text, f"Repair what is said of it at {who} below.")
        case Trouble.LATE:
            text = f"The {servers} {either(names, 'is', 'are')} not in sync."
            check = f"check the network from there to the data server of {writer}"
            return Remark(text, f"Wait. If that lasts, {check}, and the log of the {servers}.")
        case Trouble.MISSING:
            text = f"{who} {does} not drive a data server, as others do."
            return Remark(text, f"Give {who} one with --redis, or make it a witness.")


def _after_loss(writer: str | None) -> str:
    if writer is not None:
        return f"Wait until it follows that of {writer}, which sends all again."
    return "Start all members: once all are there, they elect whoever has most."
