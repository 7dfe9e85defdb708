"""What a node tells of itself, ready for JSON."""

from __future__ import annotations

import math
from typing import Any

import attrs

from kevy_elect import __version__
from kevy_elect.service.election import ElectionService


def status(service: ElectionService) -> dict[str, Any]:
    """Everything a node knows about itself, its peers and its recent past, ready for JSON.

    Times are seconds. `lease_expires_in` is null where the lease never ends.
    """
    return state(service) | {
        "events": [
            {
                "ago": ago,
                "kind": event.kind,
                "text": event.text,
                "critical": event.critical,
                "epoch": event.epoch,
                "label": event.label,
            }
            for ago, event in service.recent_events()
        ],
    }


def state(service: ElectionService) -> dict[str, Any]:
    """The status without the past."""
    answer = attrs.asdict(service.state_snapshot())
    if math.isinf(answer["lease_expires_in"]):
        answer["lease_expires_in"] = None
    return answer | {
        "node_id": service.cluster.node_id,
        "members": list(service.cluster.ids),
        "version": __version__,
        "witness": service.witness,
        "peers": [attrs.asdict(peer) for peer in service.peer_status()],
        "children": [attrs.asdict(child) for child in service.children()],
        "paused_for": service.paused_for(),
        "settings": attrs.asdict(service.config),
    }
