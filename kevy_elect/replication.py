"""How the data servers of a cluster compare, by the statuses of their nodes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kevy_elect.local_server import join_offset, split_offset
from kevy_elect.status import DataStatus, Status

FENCED: Final = {
    "supervisor": "its supervisor kills the data server",
    "guard": "its guard freezes the data server",
    "node": "the data server goes on taking writes",
}
"""What each kind of fencing comes to, in words."""


def lag(status: Status) -> int | None:
    """The length that this node's server has less than the primary's, as the primary last stated.

    None if this is not known: this node drives no server of known data, is primary itself or does
    not hear the primary, or the two servers are not known to be of one data epoch. The primary's
    statement is up to two hb_intervals old, so a primary that writes may be further ahead.
    """
    heard = (peer for peer in status.peers if peer.alive and peer.node_id == status.current_primary)
    primary, data = next(heard, None), status.data
    if primary is None or data is None or data.state == "unknown" or not data.data_epoch:
        return None
    own_epoch, own = split_offset(join_offset(data.data_epoch, data.length))
    epoch, length = split_offset(primary.offset)
    return max(0, length - own) if epoch == own_epoch else None


def is_in_sync(data: DataStatus) -> bool:
    """Whether this server is known to follow another, to have all data that the other sent, and to
    receive from it now."""
    return data.state == "following" and data.in_sync


def waits_for_server(status: Status) -> bool:
    """Whether this node is primary and backed by a quorum, but its server takes no writes: it is
    about to be promoted, or the node is giving up the role."""
    backed = status.current_primary == status.node_id and status.has_quorum
    return backed and status.data is not None and status.data.state != "primary"


def without_server(statuses: Iterable[Status]) -> list[str]:
    """The members, except witnesses, that drive no data server although others do."""
    found = list(statuses)
    if all(each.data is None for each in found):
        return []
    return [each.node_id for each in found if each.data is None and not each.witness]
