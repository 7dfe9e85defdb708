"""How the data servers of a cluster stand to one another, as statuses tell it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kevy_elect.local_server import join_offset, split_offset
from kevy_elect.status import DataStatus, Status


def lag(status: Status) -> int | None:
    """How much less this node's server has than the primary's, by what the primary said last.

    None if that is not known: this node drives no server that it knows or is primary itself, it
    does not hear the primary, or the two are not known to be of one data epoch. The primary spoke
    up to two hb_intervals ago, so one that writes may be further ahead than that.
    """
    heard = (peer for peer in status.peers if peer.alive and peer.node_id == status.current_primary)
    primary, data = next(heard, None), status.data
    if primary is None or data is None or data.state == "unknown" or not data.data_epoch:
        return None
    own_epoch, own = split_offset(join_offset(data.data_epoch, data.length))
    epoch, length = split_offset(primary.offset)
    return max(0, length - own) if epoch == own_epoch else None


def is_in_sync(data: DataStatus) -> bool:
    """Whether this server is known to follow another, to have all that this one sent, and to hear
    from it now."""
    return data.state == "following" and data.in_sync


def waits_for_server(status: Status) -> bool:
    """Whether this node is primary, a quorum backs it, and yet its server takes no writes: that
    is about to be promoted, or the role is being given up."""
    backed = status.current_primary == status.node_id and status.has_quorum
    return backed and status.data is not None and status.data.state != "primary"


def without_server(statuses: Iterable[Status]) -> list[str]:
    """The members that drive no data server although others do, and they are no witnesses."""
    found = list(statuses)
    if all(each.data is None for each in found):
        return []
    return [each.node_id for each in found if each.data is None and not each.witness]
