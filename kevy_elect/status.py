"""What a node tells over HTTP: `GET /status`, one JSON object, read-only."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from kevy_elect import __version__
from kevy_elect.service import ElectionService


def status(service: ElectionService) -> dict[str, Any]:
    """Everything a node knows about itself, its peers and its recent past, ready for JSON.

    Times are seconds. `lease_expires_in` is null where the lease never ends.
    """
    answer = attrs.asdict(service.state_snapshot())
    if math.isinf(answer["lease_expires_in"]):
        answer["lease_expires_in"] = None
    return answer | {
        "node_id": service.cluster.node_id,
        "members": list(service.cluster.ids),
        "version": __version__,
        "witness": service.witness,
        "peers": [attrs.asdict(peer) for peer in service.peer_status()],
        "settings": attrs.asdict(service.config),
        "events": [
            {"ago": ago, "kind": event.kind, "text": event.text, "critical": event.critical}
            for ago, event in service.recent_events()
        ],
    }


class StatusPage(Resource):
    isLeaf = True

    def __init__(self, service: ElectionService) -> None:
        super().__init__()
        self._service = service

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return json.dumps(status(self._service)).encode() + b"\n"


def site(service: ElectionService) -> Site:
    """The factory for a listening port that serves this service's status."""
    root = Resource()
    root.putChild(b"status", StatusPage(service))
    answer = Site(root, timeout=10)
    answer.noisy = False
    answer.log = lambda request: None  # type: ignore[method-assign]  # no line per request
    return answer
