"""The HTTP site of a node, read-only: page, status, health checks and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus

from twisted.protocols.policies import WrappingFactory
from twisted.web.pages import errorPage
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from kevy_elect.ops.connections import Copy, FewReaders, Pages
from kevy_elect.ops.health import QUESTIONS, routes
from kevy_elect.ops.own_status import own_status
from kevy_elect.ops.page import PageResource, StreamResource, Watch
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.service.election import ElectionService
from kevy_elect.transport.tls_streams import TlsFactory


class StatusPage(Resource):
    isLeaf = True

    def __init__(self, service: ElectionService) -> None:
        super().__init__()
        self._status = Copy(lambda: own_status(service).dump(), service.now)

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        return self._status()


def _metrics(service: ElectionService) -> IResource:
    """The page for Prometheus, or without its library a page that says how to install it."""
    try:
        from kevy_elect.ops.metrics import MetricsPage
    except ImportError as error:
        remedy = f"{error}: pip install 'kevy-elect[metrics]', then restart this node"
        return errorPage(HTTPStatus.NOT_IMPLEMENTED, "No metrics here", remedy)
    return MetricsPage(service)


def site(
    service: ElectionService,
    others: Mapping[str, str] | None = None,
    *,
    hosts: Iterable[str] = (),
    access: PageAccess | None = None,
) -> WrappingFactory:
    """The factory for a listening port that serves this service's status, and the page of the
    cluster.

    `others` are the base URLs of the other members, by their ids, such as `http://10.0.0.2:8101`;
    this node's own is allowed, too, and not asked. The site answers requests for addresses,
    localhost, the members' hosts, and the names in `hosts`. `access` restricts all pages except the
    health checks, and may serve them by TLS. Without it everybody may read, without TLS.

    Raises ConfigError for an invalid URL, or for a URL of an unknown member.
    """
    access = access or PageAccess()
    watch = Watch(service, others or {}, access)
    root = Resource()
    root.putChild(b"", PageResource())
    root.putChild(b"watch", StreamResource(watch))
    root.putChild(b"status", StatusPage(service))
    root.putChild(b"metrics", _metrics(service))
    for name, check in routes(service).items():
        root.putChild(name, check)
    names = {*hosts, *(member.host for member in service.cluster.members)}
    pages = Pages(root, names, service.reactor, access, unguarded=QUESTIONS)
    return TlsFactory(FewReaders(pages, watch.stop), lambda: access.present.serving)
