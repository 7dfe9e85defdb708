"""What a node tells over HTTP: `GET /status`, one JSON object, read-only."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from kevy_elect import __version__
from kevy_elect.service import ElectionService

MAX_READERS: Final = 16
"""Connections to the page at a time."""


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


class _Unread(Request):
    """Throws away what is sent along, which would be put on the disk without a bound."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Nobody reads it."""


class _Bounded(WrappingFactory):
    """At most MAX_READERS at a time: who asks must not use up the process's descriptors."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return None if len(self.protocols) >= MAX_READERS else super().buildProtocol(addr)


def site(service: ElectionService) -> WrappingFactory:
    """The factory for a listening port that serves this service's status."""
    root = Resource()
    root.putChild(b"status", StatusPage(service))
    pages = Site(root, timeout=10)
    pages.noisy = False
    pages.requestFactory = _Unread
    pages.log = lambda request: None  # type: ignore[method-assign]  # no line per request
    return _Bounded(pages)
