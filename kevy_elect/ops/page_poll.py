"""Asks the other nodes for their status over HTTP, while a page is shown."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from kevy_elect.config import Cluster, ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.ops.page_model import LONGEST, Known
from kevy_elect.service.timers import timers
from kevy_elect.status import MAX_BYTES
from kevy_elect.transport.tls_streams import TlsFactory

ASK_EVERY: Final = 1.0
"""Seconds between two requests to one node, by default; the next one waits for the answer. They are
fewer if the lease is shorter than the age of an answer."""
ANSWER_WITHIN: Final = 2.0
"""Seconds for the connection, and again for the whole answer."""
_LATE: Final = f"no answer within {ANSWER_WITHIN:g} s"
LONGEST_ANSWER: Final = MAX_BYTES + 4096
"""The most bytes of a status and its headers."""


class Others:
    """The other members. Those with a URL are asked between `start` and `stop`. `answered(node_id)`
    is called after each answer or failure."""

    log = Logger()

    def __init__(
        self,
        cluster: Cluster,
        config: ElectConfig,
        urls: Mapping[str, str],
        *,
        reactor: Any,
        clock: Callable[[], float],
        answered: Callable[[str], object],
        access: PageAccess | None = None,
        every: float | None = None,
    ) -> None:
        """`every` are the seconds between two requests to one node; by default they suit a page
        that shows the lease.

        Raises ConfigError for a URL that is not http:// or https://, or of an unknown member.
        This node's own URL is allowed, so that all nodes may have the same list; it is not
        asked."""
        for node_id, url in urls.items():
            if node_id not in cluster.ids:
                raise ConfigError(f"{node_id!r} is not among the peers {', '.join(cluster.ids)}")
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"{url!r} of {node_id} is no address: write http://host:port")
        self._known = {
            peer.node_id: Known(peer.node_id, urls.get(peer.node_id)) for peer in cluster.peers
        }
        self._reactor = reactor
        self._clock = clock
        self._answered = answered
        self._access = access or PageAccess()
        self._interval = every or min(ASK_EVERY, max(0.2, config.down_after / 4))
        self._loops: list[LoopingCall] = []
        self._open: dict[str, Deferred[None]] = {}
        self._asked: dict[str, float] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(self._known.values())

    def __getitem__(self, node_id: str) -> Known:
        return self._known[node_id]

    def start(self) -> None:
        """Ask every node at once, and then repeatedly."""
        for known in self:
            if known.url is not None:
                loop = LoopingCall(self._ask, known)
                loop.clock = timers(self._reactor)
                self._loops.append(loop)
                loop.start(self._interval).addErrback(self._broken)

    def ask(self) -> None:
        """Ask every node soon, because something has changed. Does nothing while stopped."""
        if self._loops:
            for known in self:
                if known.url is not None:
                    self._ask(known)

    def stop(self) -> None:
        """Stop asking, and drop open requests. The last answers are kept, and get older."""
        loops, self._loops = self._loops, []
        for loop in loops:
            if loop.running:
                loop.stop()
        for asking in list(self._open.values()):
            asking.cancel()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("another node is asked no more", failure)

    def _ask(self, known: Known) -> Deferred[None] | None:
        now = self._clock()
        asking = self._open.get(known.node_id)
        if asking is not None and not asking.called:
            return None
        if now - self._asked.get(known.node_id, -math.inf) < self._interval / 2:
            return None  # a page that is opened often causes no more requests
        self._asked[known.node_id] = now
        asking = self._open[known.node_id] = Deferred.fromCoroutine(self._put_question(known, now))
        return asking

    async def _put_question(self, known: Known, asked: float) -> None:
        try:
            document = await self._get(f"{known.url}/status")
            known.take(document, asked, self._clock())
        except Exception as error:  # any error of the network or the other node
            if not self._loops:
                return
            known.error = _problem(error)
        self._answered(known.node_id)

    async def _get(self, url: str) -> bytes:
        question = _Question(self._reactor, self._access.present.asking)
        authorization = self._access.authorization
        headers = None if authorization is None else Headers({b"authorization": [authorization]})
        agent = Agent.usingEndpointFactory(self._reactor, question)
        try:
            response = await agent.request(b"GET", url.encode(), headers)
            document = await question.read(response)
        except Exception:
            if question.why_ended is None:
                raise
            raise ValueError(question.why_ended) from None
        if response.code == HTTPStatus.UNAUTHORIZED:
            raise ValueError("it requires another token than this node has")
        if response.code != HTTPStatus.OK:
            raise ValueError(f"HTTP status {response.code}")
        return document


def _problem(error: BaseException) -> str:
    """The problem in words; twisted.web wraps the cause."""
    while getattr(error, "reasons", None):
        error = cast(Any, error).reasons[0].value
    if isinstance(error, TimeoutError):
        return _LATE
    if isinstance(error, ConnectError) and isinstance(error.__doc__, str):
        return error.__doc__.strip().rstrip(".").lower()
    return (str(error) or type(error).__name__)[:LONGEST]


@implementer(IAgentEndpointFactory)
class _Question:
    """One request, by a connection of its own with a bound of bytes and seconds.

    A connection attempt ends by itself, except for the resolver, whose threads cannot be ended. The
    next request waits for it, so the number of threads is bounded.
    """

    def __init__(self, reactor: Any, tls: ssl.SSLContext | None) -> None:
        self.reactor = reactor
        self._tls = tls
        self.why_ended: str | None = None
        self._connection: _Connection | None = None

    def endpointForURI(self, uri: URI) -> Any:
        host = uri.host.strip(b"[]")
        self._host = host.decode() if uri.scheme == b"https" else None
        self._endpoint: Any = HostnameEndpoint(self.reactor, host, uri.port, timeout=ANSWER_WITHIN)
        return self

    def connect(self, factory: Any) -> Deferred[IProtocol]:
        factory.noisy = False
        inner: WrappingFactory[Any] = _Connections(factory, self)
        connecting: Deferred[Any]
        if self._host is None:
            connecting = self._endpoint.connect(inner)
        else:
            context = self._tls or ssl.create_default_context()
            tls = TlsFactory(inner, lambda: context, self._host, self._broken)
            connecting = self._endpoint.connect(tls)
            connecting.addCallback(lambda connection: connection.wrappedProtocol)
        return connecting.addCallback(self._connected)

    def _broken(self, why: str) -> None:
        self.why_ended = self.why_ended or f"no TLS with it: {why}"

    def _connected(self, connection: _Connection) -> IProtocol:
        self._connection = connection
        return connection.wrappedProtocol

    def read(self, response: IResponse) -> Deferred[bytes]:
        """The body. Its cancellation ends the connection, unlike that of twisted.web's readBody."""
        assert self._connection is not None
        body = _Body(self._connection.abort)
        response.deliverBody(body)
        return body.complete


class _Connection(ProtocolWrapper):
    def connectionMade(self) -> None:
        self._question = cast(_Connections, self.factory).question
        self._left = LONGEST_ANSWER
        self._timer = timers(self._question.reactor).callLater(ANSWER_WITHIN, self._end, _LATE)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            super().dataReceived(data)
        else:
            self._end(f"the answer is longer than {LONGEST_ANSWER} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer.active():
            self._timer.cancel()
        super().connectionLost(reason)

    def _end(self, why: str) -> None:
        self._question.why_ended = why
        self.abort()

    def abort(self) -> None:
        cast(Any, self.transport).abortConnection()


class _Connections(WrappingFactory):
    protocol = _Connection
    noisy = False

    def __init__(self, factory: IProtocolFactory, question: _Question) -> None:
        super().__init__(factory)
        self.question = question


class _Body(Protocol):
    def __init__(self, abort: Callable[[], None]) -> None:
        self.complete: Deferred[bytes] = Deferred(lambda _: abort())
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.complete.called:
            return
        if reason.check(ResponseDone):
            self.complete.callback(b"".join(self._parts))
        else:
            self.complete.errback(reason)
