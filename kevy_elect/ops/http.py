"""What a node serves over HTTP, read-only: page, status, health checks and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import WrappingFactory
from twisted.web.pages import errorPage
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from kevy_elect.ops.health import routes
from kevy_elect.ops.own_status import own_status
from kevy_elect.ops.page import PageResource, StreamResource, Watch
from kevy_elect.service.election import ElectionService

MAX_READERS: Final = 16
"""Connections at a time, those of watchers included."""


class StatusPage(Resource):
    isLeaf = True

    def __init__(self, service: ElectionService) -> None:
        super().__init__()
        self._service = service

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return own_status(self._service).dump()


class _Unread(Request):
    """Throws away what is sent along, which would be put on the disk without a bound."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Nobody reads it."""


class _Bounded(WrappingFactory):
    """At most MAX_READERS at a time: who asks must not use up the process's descriptors.
    They end with the listening port, watchers included."""

    noisy = False

    def __init__(self, pages: Site, watch: Watch) -> None:
        super().__init__(pages)
        self._watch = watch

    def stopFactory(self) -> None:
        self._watch.stop()
        for connection in list(self.protocols):
            connection.abortConnection()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return None if len(self.protocols) >= MAX_READERS else super().buildProtocol(addr)


def _metrics(service: ElectionService) -> IResource:
    """The page for Prometheus, or without its library one that says what to install."""
    try:
        from kevy_elect.ops.metrics import MetricsPage
    except ImportError as error:
        remedy = f"{error}: pip install 'kevy-elect[metrics]', then restart this node"
        return errorPage(HTTPStatus.NOT_IMPLEMENTED, "No metrics here", remedy)
    return MetricsPage(service)


def site(service: ElectionService, others: Mapping[str, str] | None = None) -> WrappingFactory:
    """The factory for a listening port that serves this service's status, and the page that
    shows the cluster. `others` are the base URLs of other members' own, by their ids, such
    as `http://10.0.0.2:8101`.

    Raises ConfigError for a URL that cannot be asked, or of no member.
    """
    watch = Watch(service, others or {})
    root = Resource()
    root.putChild(b"", PageResource())
    root.putChild(b"watch", StreamResource(watch))
    root.putChild(b"status", StatusPage(service))
    root.putChild(b"metrics", _metrics(service))
    for name, check in routes(service).items():
        root.putChild(name, check)
    pages = Site(root, timeout=10)
    pages.noisy = False
    pages.requestFactory = _Unread
    pages.log = lambda request: None  # type: ignore[method-assign]  # no line per request
    return _Bounded(pages, watch)
