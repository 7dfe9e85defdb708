"""HTTP connections with bounds: one request each, few at a time, and not for long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.protocols.basic import LineReceiver
from twisted.protocols.policies import WrappingFactory
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HTTPRequest
from twisted.web.pages import errorPage
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from kevy_elect.config import is_address, parse_host
from kevy_elect.ops.page_access import PageAccess

MAX_READERS: Final = 16
"""The most connections at a time, including those of watchers."""
PATIENCE: Final = 10.0
"""Seconds within which a request must arrive, and then its answer must be read."""
KEPT: Final = 0.1
"""Seconds for which a copy of an answer is sent instead of a new one."""


@attrs.define
class Copy:
    """An answer that is costly to compute. Requests within KEPT seconds get a copy."""

    compose: Callable[[], bytes]
    now: Callable[[], float]
    _answer: bytes = b""
    _composed_at: float | None = None

    def __call__(self) -> bytes:
        now = self.now()
        if self._composed_at is None or now - self._composed_at >= KEPT:
            self._answer, self._composed_at = self.compose(), now
        return self._answer


class UnreadRequest(Request):
    """A request whose body is discarded; otherwise it would be stored on the disk without a
    bound."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Discard the bytes."""


class OneRequest(HTTPChannel):
    """Answers one request and closes. Twisted would answer all requests of one read in one turn of
    the reactor, and keep the answers until they are read.

    The request must arrive within PATIENCE seconds, and a finished answer must be read within as
    many.
    """

    transport: ITCPTransport
    answering = False
    """Whether an answer has begun and not ended."""
    ended = False
    """Whether it was ended to make room for another."""

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])
        return False

    def dataReceived(self, data: bytes) -> None:
        """Process `data`. This does not extend the time for the rest."""
        LineReceiver.dataReceived(self, data)

    def allContentReceived(self) -> None:
        self.answering = True
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        self.answering = False
        super().requestDone(request)
        self.setTimeout(PATIENCE)

    def timeoutConnection(self) -> None:
        self.end()

    def end(self) -> None:
        """End the connection without waiting for its reader."""
        self.ended = True
        self.transport.abortConnection()


class Pages(Site):
    """A site whose connections answer one request each, and which does not log requests.

    It answers only requests for addresses, localhost and the given names. Otherwise a web page
    elsewhere could point its own name at this port, and read the pages through the browsers of its
    visitors.
    """

    protocol = OneRequest  # type: ignore[assignment]
    requestFactory = UnreadRequest
    noisy = False

    def __init__(
        self,
        root: IResource,
        names: Iterable[str],
        reactor: Any,
        access: PageAccess | None = None,
        unguarded: Iterable[bytes] = (),
    ) -> None:
        """Only requests that `access` admits are answered, except those for `unguarded` pages, by
        name."""
        super().__init__(root, timeout=PATIENCE, reactor=reactor)
        self._access = access or PageAccess()
        self._unguarded = frozenset(unguarded)
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    def getResourceFor(self, request: Request) -> IResource:
        if not all(map(self._answers_to, request.requestHeaders.getRawHeaders("host") or ())):
            return errorPage(
                HTTPStatus.MISDIRECTED_REQUEST,
                "Not by this name",
                "Ask by an address, or have this node answer to the name: --http-host NAME",
            )
        guarded = request.path.removeprefix(b"/") not in self._unguarded
        if guarded and not self._access.admits(request.getHeader(b"authorization")):
            return Unauthorized()
        found: IResource = super().getResourceFor(request)
        return found

    def _answers_to(self, host: str) -> bool:
        name = parse_host(host.strip().lower()).rstrip(".")
        return name in self._names or is_address(name)

    def log(self, request: HTTPRequest) -> None:
        """Log nothing, because others cause requests at will."""


class FewReaders(WrappingFactory):
    """Admits at most MAX_READERS connections, because clients must not use up the process's
    descriptors.

    A further connection replaces the oldest one without an answer in progress, so idle connections
    keep no client out. It is refused if all have one. All end with the listening port, after
    `stop()` is called.
    """

    noisy = False

    def __init__(self, pages: Pages, stop: Callable[[], object]) -> None:
        super().__init__(pages)
        self._stop = stop

    def stopFactory(self) -> None:
        self._stop()
        for channel in self._open():
            channel.end()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        open_now = self._open()
        if len(open_now) >= MAX_READERS:
            oldest = next((each for each in open_now if not each.answering), None)
            if oldest is None:
                return None
            oldest.end()
        return super().buildProtocol(addr)

    def _open(self) -> list[OneRequest]:
        channels = [connection.wrappedProtocol for connection in self.protocols]
        return [channel for channel in channels if not channel.ended]


class Unauthorized(Resource):
    """The answer to a request without the token."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        request.setResponseCode(HTTPStatus.UNAUTHORIZED)
        schemes = [b'Bearer realm="kevy-elect"', b'Basic realm="kevy-elect", charset="UTF-8"']
        request.responseHeaders.setRawHeaders(b"www-authenticate", schemes)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        if request.method == b"HEAD":
            return b""
        return b"this node requires its token: send it as a bearer token or as a password\n"
