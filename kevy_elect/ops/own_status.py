"""The status of this node, from its service."""

from __future__ import annotations

import math

import attrs

from kevy_elect import __version__
from kevy_elect.events import EVENTS_KEPT, Event
from kevy_elect.service.election import ElectionService
from kevy_elect.status import EventStatus, Status


def own_status(election: ElectionService, *, events: bool = True) -> Status:
    """The status of this node at this moment, with its recent events or without."""
    snapshot = attrs.asdict(election.state_snapshot())
    if math.isinf(snapshot["lease_expires_in"]):
        snapshot["lease_expires_in"] = None
    return Status(
        **snapshot,
        node_id=election.cluster.node_id,
        version=__version__,
        members=election.cluster.ids,
        witness=election.witness,
        paused_for=election.paused_for(),
        maintained_for=election.maintained_for(),
        last_will=election.last_will,
        began_by_will_of=election.began_by_will_of,
        settings=attrs.asdict(election.config),
        peers=tuple(election.peer_status()),
        children=tuple(election.children()),
        events=_events(election) if events else (),
        data=None if election.data is None else election.data.status(),
        check=None if election.health_check is None else election.health_check.status(),
        uptime=election.running_for(),
        cluster_name=election.cluster_name,
    )


def event_status(ago: float, event: Event) -> EventStatus:
    """An event of `ago` seconds ago, for the status."""
    return EventStatus(
        ago=ago,
        kind=event.kind,
        text=event.text,
        critical=event.critical,
        epoch=event.epoch,
        cause=event.cause,
        member=event.member,
        reason=event.reason,
    )


def _events(election: ElectionService) -> tuple[EventStatus, ...]:
    """The newest, of which the oldest may be from before the start."""
    now, recent = election.now(), election.recent_events()
    left_out = max(0, len(election.earlier) + len(recent) - EVENTS_KEPT)
    earlier = (
        attrs.evolve(event, ago=max(0.0, now - at)) for at, event in election.earlier[left_out:]
    )
    return (*earlier, *(event_status(ago, event) for ago, event in recent))
