"""The responses of nodes, shown as cells of a table, as a state in one word, or as changes of
the state. All of it is printable."""

from __future__ import annotations

import contextlib
from typing import Final
from urllib.parse import urlsplit

import attrs

from kevy_elect.cli.printable import printable
from kevy_elect.messages import Role
from kevy_elect.replication import is_in_sync, lag, waits_for_server
from kevy_elect.status import DataStatus, Status

HEADER: Final = ("NODE", "ROLE", "EPOCH", "PRIMARY", "LEASE", "QUORUM", "DOWN")
ABOUT_HEADER: Final = ("NODE", "UP", "VERSION", "SENDS CLIENTS TO")
SERVER_HEADER: Final = ("NODE", "SERVER", "DATA EPOCH", "LENGTH", "BEHIND", "IN SYNC")

_UNITS: Final = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))

State = tuple[str, str]
"""A node's state in one word, and further details."""
STARTING: Final = ("starting", "")


@attrs.frozen
class Response:
    """The response of one node: its status, or the reason why there is none."""

    url: str
    status: Status | None = None
    error: str | None = None


# In a table


def cells(response: Response) -> tuple[str, ...]:
    """One line of the table: as many cells as HEADER has, or only the place and the error."""
    status = response.status
    if status is None:
        return printable(_place(response.url)), printable(f"error: {response.error}")
    return (
        printable(status.node_id),
        status.role.value,
        str(status.epoch),
        _shown(status.current_primary),
        _lease_left(status),
        "yes" if status.has_quorum else "no",
        _shown(",".join(status.down_peers)),
    )


def server_cells(status: Status, data: DataStatus) -> tuple[str, ...]:
    """One line of the table of data servers, for the server of this node."""
    behind, leads = lag(status), data.state == "primary"
    return (
        printable(status.node_id),
        printable(data.state),
        str(data.data_epoch or "?"),
        str(data.length),
        "-" if leads else "?" if behind is None else str(behind),
        "-" if leads else "yes" if is_in_sync(data) else "no",
    )


def _place(url: str) -> str:
    """Host and port, or `url` itself if it has none."""
    with contextlib.suppress(ValueError):
        return urlsplit(url).netloc or url
    return url


def _lease_left(status: Status) -> str:
    """The rest of a primary's lease."""
    if not status.can_write:
        return "-"
    left = status.lease_expires_in
    return "no end" if left is None else f"{left:.2f} s"


def _shown(text: str | None) -> str:
    return printable(text) if text else "-"


def about_cells(status: Status) -> tuple[str, ...]:
    """One line of the table of the nodes' processes."""
    up = "-" if status.uptime is None else said(status.uptime)
    return printable(status.node_id), up, printable(status.version), _shown(status.primary_addr)


def said(seconds: float) -> str:
    """A duration in words, with two units at most.

    >>> said(287)
    '4 min 47 s'
    """
    for unit, size, smaller, part in _UNITS:
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole:.0f} {unit} {rest // part:.0f} {smaller}"
    return f"{seconds:.0f} s"


# As a state in one word


def state_of(response: Response) -> State:
    """The state that a node reports, or `silent` and the reason."""
    status = response.status
    return ("silent", printable(response.error or "")) if status is None else _state(status)


def _state(status: Status) -> State:
    rest = f"epoch {status.epoch}"
    if status.role is Role.PRIMARY:
        rest += f", {_writing(status)}"
    elif status.role is Role.REPLICA:
        primary = status.current_primary
        rest += f", follows {printable(primary)}" if primary else ", knows no primary"
    if status.data is not None:
        rest += f", server {printable(status.data.state)}"
    return status.role.value, rest


def _writing(status: Status) -> str:
    if status.can_write:
        return "can write"
    return "cannot write" if waits_for_server(status) else "without the lease"


class Changes:
    """The changes of nodes from one state to the next."""

    def __init__(self) -> None:
        self._known: dict[str, State] = {}

    def note(self, node: str, now: State) -> str | None:
        """The change of this node to its state `now` in a few words; None without a change."""
        before = self._known.get(node)
        self._known[node] = now
        return None if now == before else change(before, now)


def change(before: State | None, now: State) -> str:
    """The change from one state of a node to the next, in a few words."""
    word, rest = now
    if before is not None and before[0] != word:
        word = f"{before[0]} -> {word}"
    return f"{word}, {rest}" if rest else word
