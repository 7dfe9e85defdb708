"""The outgoing connection to one peer, which is redialled for ever."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHostResolution,
    IPushProducer,
    IResolutionReceiver,
    ITCPTransport,
)
from twisted.internet.protocol import ReconnectingClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kevy_elect import wire
from kevy_elect.acks import Ledger
from kevy_elect.config import ElectConfig, PeerAddr
from kevy_elect.messages import Ack, Heartbeat, Message
from kevy_elect.transport.channel import (
    HANDSHAKE_TIMEOUT,
    PLAIN,
    PLAIN_SECURITY,
    Channel,
    ChannelError,
    Kind,
    Security,
)
from kevy_elect.transport.framing import FrameProtocol
from kevy_elect.transport.outbox import Outbox

CONNECT_TIMEOUT: Final = 0.5
"""Seconds to wait for one address of a peer."""
REDIAL_AFTER: Final = 0.1
"""Seconds before the first attempt after a failure."""
RESOLVE_TIMEOUT: Final = 0.5
"""Seconds to wait for the resolution of a name before the last known addresses are tried."""


class Connected(Protocol):
    """Called when the connection to a peer begins or ends."""

    def __call__(self, peer: str, *, connected: bool) -> None: ...


@implementer(IPushProducer)
class Outgoing(FrameProtocol[Ack]):
    """One dialled connection. It feeds its transport as a streaming producer does. When the peer
    stops reading, the transport pauses it. Messages then wait in the outbox, where newer ones
    replace older ones, instead of in the transport.

    It greets, and reads the ACKs. Each confirms that the peer had read that many of its heartbeats
    and backs their sender (section 4).
    """

    grammar = wire.REPLIES

    def __init__(self, link: PeerLink, channel: Channel) -> None:
        super().__init__(channel)
        self.member = link.peer.node_id
        self.paused_since: float | None = None
        self._link = link
        self.ledger = Ledger()
        self._last: tuple[Message, bytes] | None = None

    @property
    def takes(self) -> bool:
        """Whether a message would be sent at once."""
        return self.channel.established and self.paused_since is None

    def connectionMade(self) -> None:
        self._link.tune(self.transport)
        # A TCP transport is also a consumer, which its interface does not say.
        cast(Any, self.transport).registerProducer(self, streaming=True)
        self._link.opened(self)
        self.open_channel()

    def channelEstablished(self) -> None:
        self.write(wire.GREETING)
        self._link.connected()

    def channelFailed(self, error: ChannelError) -> None:
        self._link.refused(error)

    def send(self, message: Message) -> None:
        if isinstance(message, Heartbeat):
            self.ledger.sent(message, self._link.now())
        # A heartbeat is the same object until it changes.
        if self._last is None or self._last[0] is not message:
            self._last = message, wire.encode(message)
        self.write(self._last[1])

    def messageReceived(self, ack: Ack) -> None:
        """Move the peer's confirmation to the sending time of the acknowledged heartbeat."""
        sent_at = self.ledger.confirmed_by(ack)
        if sent_at is not None:
            self._link.acknowledged(ack.epoch, sent_at)

    def pauseProducing(self) -> None:
        if self.paused_since is None:
            self.paused_since = self._link.now()

    def resumeProducing(self) -> None:
        self.paused_since = None
        self._link.drain()

    def stopProducing(self) -> None:
        """Do nothing: the link gets the end from `connectionLost`."""

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self._link.disconnected()


class PeerLink(ReconnectingClientFactory):
    """Keeps one connection to `peer` and sends messages, or the newest of each kind.

    A lost or failed connection is dialled again after about 0.1 s, growing to at
    most min(1 s, down_after / 4). Each attempt resolves the name again, within at most 0.5 s,
    and tries all its addresses in turn, 0.5 s each. `confirm(peer, epoch, sent_at)` is called
    for each heartbeat that the peer acknowledged (section 4), and `connection(peer, connected=…)`
    when there is a connection and when it is lost. `state` is one of `stopped`,
    `connecting`, `connected` and `waiting`. `security` makes the channels; a handshake
    may take 2 s.
    """

    noisy = False
    maxDelay: float  # type: ignore[assignment]  # an int in the base by accident
    connector: Any = None
    state_since = 0.0
    log = Logger()

    def __init__(
        self,
        peer: PeerAddr,
        config: ElectConfig,
        *,
        reactor: Any,
        clock: Callable[[], float],
        rng: random.Random,
        confirm: Callable[[str, int, float], None],
        connection: Connected,
        security: Security = PLAIN_SECURITY,
    ) -> None:
        self.peer = peer
        self._security = security
        self._confirm = confirm
        self._connection = connection
        self.outbox = Outbox()
        self.now = clock
        self.state = "stopped"
        self.use_timings(config)
        self._reactor = reactor
        self._rng = rng
        self._life = 0  # incremented at each stop: a resolver's answer may come after it
        self._resolving = False  # at most one question to the resolver is open
        self._answer_due: float | None = None  # the time limit of the resolver's answer
        self._redial_at = 0.0
        self._known: Sequence[str] = ()  # the resolver's last answer
        self._addresses: list[str] = []
        self._stream: Outgoing | None = None
        self._connected_at = 0.0
        self._problem = ""  # the reason why this link ended the connection, if it did
        self._renewing = False  # it ended the connection to dial again with other keys
        # Whether the connection lasts: one that the peer ends at once is dialled and logged less
        # often.
        self._lasting = False
        self._unreachable = False
        self._gone: Deferred[None] | None = None

    def use_timings(self, config: ElectConfig) -> None:
        """Use other timings from now on. A connection keeps its time-out."""
        self._config = config
        self.maxDelay = min(1.0, config.down_after / 4)
        self.initialDelay = self.delay = min(REDIAL_AFTER, self.maxDelay)

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self.state_since = self.now()

    @property
    def security(self) -> Kind:
        """The kind of the link."""
        return self._security.kind

    @property
    def key(self) -> str:
        """The first eight digits of the key that the peer has proven; empty before that."""
        stream = self._stream
        if stream is None or not stream.channel.established:
            return ""
        return stream.channel.key

    @property
    def address(self) -> tuple[str, int] | None:
        """The address, as numbers, and port of the connected peer."""
        if self.state != "connected" or self._stream is None:
            return None
        there: Any = self._stream.transport.getPeer()
        return there.host, there.port

    @property
    def channel(self) -> Channel:
        """The channel of the present connection; a plain one without a connection."""
        return PLAIN if self._stream is None else self._stream.channel

    def start(self) -> None:
        """Dial until stopped."""
        self.continueTrying = 1
        self._gone = None
        self._dial()

    def stop(self) -> Deferred[None]:
        """End attempts, timers and the connection. Fires when all have ended."""
        self.continueTrying = 0
        self._life += 1
        self._resolving = False
        self._answer_due = None
        self._addresses = []
        waiting, self._callID = self._callID, None
        if waiting is not None:
            waiting.cancel()
        if self._stream is None and self.connector is None:
            self.state = "stopped"
            return succeed(None)
        self._gone = Deferred()
        gone = self._gone
        self._let_go()
        return gone

    def send(self, message: Message) -> None:
        """Send `message` now, or once the peer is connected and reads. An ANNOUNCE waits for a
        heartbeat."""
        stream = self._stream
        if stream is not None and stream.takes and stream.ledger.beaten and not self.outbox:
            stream.send(message)
        else:
            self.outbox.put(message)
            self.drain()

    def drain(self) -> None:
        """Write waiting messages, as long as the transport takes them."""
        while self._stream is not None and self._stream.takes:
            message = self.outbox.take(beaten=self._stream.ledger.beaten)
            if message is None:
                return
            self._stream.send(message)

    def sweep(self, now: float) -> None:
        """Do overdue work. The reactor's timers use the wall clock, which may be set back."""
        if self._callID is not None and now > self._redial_at:
            self._callID.cancel()
            self._dial()
        elif self._answer_due is not None and now >= self._answer_due:
            self._try_addresses(self._known, "its name is not resolved in time")
        self._notice_lasting(now)
        self._cut_if_unread(now)
        self._cut_if_unproven(now)

    def _notice_lasting(self, now: float) -> None:
        if (
            self.state == "connected"
            and not self._lasting
            and now - self._connected_at >= self.maxDelay
        ):
            self._lasting = True
            self._unreachable = False
            self.delay = self.initialDelay
            self.log.info("connected to {peer}", peer=self.peer)

    def _cut_if_unread(self, now: float) -> None:
        """Cut a connection whose peer has read nothing for down_after."""
        stream = self._stream
        if stream is not None and stream.paused_since is not None:
            unread = now - stream.paused_since
            if unread >= self._config.down_after:
                self.log.warn(
                    "cutting the link to {peer}: it read nothing for {unread:.1f} s",
                    peer=self.peer,
                    unread=unread,
                )
                stream.transport.abortConnection()

    def _cut_if_unproven(self, now: float) -> None:
        """Cut a connection whose peer does not finish the handshake."""
        stream = self._stream
        if (
            stream is not None
            and not stream.channel.established
            and now - self._connected_at >= HANDSHAKE_TIMEOUT
        ):
            self._problem = f"no handshake within {HANDSHAKE_TIMEOUT:g} s"
            stream.end()

    def use_security(self, security: Security) -> None:
        """Use other keys from now on: end a connection to a peer that they do not authenticate, and
        dial again at once, because a primary needs its links."""
        self._security = security
        stream = self._stream
        if stream is not None and not security.trusts(stream.channel):
            self._problem = "its key is no longer listed"
            self._renewing = True
            stream.end()

    # For the connection

    def opened(self, stream: Outgoing) -> None:
        self._stream = stream
        self._lasting = False
        self._problem = ""
        self._connected_at = self.now()

    def connected(self) -> None:
        self.state = "connected"
        self._connection(self.peer.node_id, connected=True)
        self.drain()

    def refused(self, error: ChannelError) -> None:
        self._problem = str(error)

    def acknowledged(self, epoch: int, sent_at: float) -> None:
        self._confirm(self.peer.node_id, epoch, sent_at)

    def disconnected(self) -> None:
        self._stream = None
        self._connection(self.peer.node_id, connected=False)

    def tune(self, transport: ITCPTransport) -> None:
        """Send without delay, and detect within down_after that TCP gets no acknowledgements.
        Otherwise a link that was cut for minutes would wait for TCP's own retransmission."""
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        if hasattr(socket, "TCP_USER_TIMEOUT") and hasattr(transport, "getHandle"):
            milliseconds = min(max(1, round(self._config.down_after * 1000)), 2**31 - 1)
            transport.getHandle().setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds
            )

    # Dialling

    def _dial(self) -> None:
        self._callID = None
        self.state = "connecting"
        host = self.peer.host
        if isIPAddress(host) or isIPv6Address(host):
            self._try_addresses([host], "")
            return
        self._answer_due = self.now() + RESOLVE_TIMEOUT
        if not self._resolving:
            self._resolving = True
            self._reactor.nameResolver.resolveHostName(
                _Resolution(self._life, self._resolved), host, self.peer.elect_port
            )

    def _resolved(self, life: int, addresses: Sequence[str]) -> None:
        if life != self._life:
            return
        self._resolving = False
        self._known = addresses
        if self._answer_due is not None:
            self._try_addresses(addresses, "its name has no address")

    def _try_addresses(self, addresses: Sequence[str], problem: str) -> None:
        self._answer_due = None
        self._addresses = list(addresses)
        self._try_next_address(problem)

    def _try_next_address(self, problem: str) -> None:
        if self._addresses:
            self._reactor.connectTCP(
                self._addresses.pop(0), self.peer.elect_port, self, timeout=CONNECT_TIMEOUT
            )
        else:
            if not self._unreachable:
                self._unreachable = True
                self.log.info("no link to {peer}: {why}; dialling on", peer=self.peer, why=problem)
            self.retry()

    def retry(self, connector: IConnector | None = None) -> None:
        """Dial again after a delay, which is partly random so that attempts of several peers do not
        coincide."""
        self.state = "waiting"
        delay = self.delay * self._rng.uniform(0.8, 1.0)
        self._redial_at = self.now() + delay
        self._callID = self._reactor.callLater(delay, self._dial)
        self.delay = min(self.delay * 1.5, self.maxDelay)

    def buildProtocol(self, addr: IAddress | None) -> Outgoing:
        return Outgoing(self, self._security.dials(self.peer.node_id))

    def startedConnecting(self, connector: IConnector) -> None:
        self.connector = connector

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._over(reason.getErrorMessage())

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        self._notice_lasting(self.now())
        self._addresses = []
        if self._renewing:
            self._renewing = False
            destination: Any = connector.getDestination()
            self._addresses = [destination.host]
        self._over(self._problem or reason.getErrorMessage())

    def _over(self, problem: str) -> None:
        """The connector is done: dial again, or report the end of the stop."""
        self.connector = None
        if self.continueTrying:
            self._try_next_address(problem)
            return
        self.state = "stopped"
        gone, self._gone = self._gone, None
        if gone is not None:
            gone.callback(None)

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.transport.abortConnection()
        else:
            try:
                self.connector.stopConnecting()
            except NotConnectingError:
                self.connector.disconnect()


@implementer(IResolutionReceiver)
class _Resolution:
    """Collects the addresses of one resolution and reports them when it is complete."""

    def __init__(self, life: int, report: Callable[[int, Sequence[str]], None]) -> None:
        self._life = life
        self._report = report
        self._addresses: dict[str, None] = {}  # in order, each once

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Empty: a resolution cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv4Address | IPv6Address):
            self._addresses[address.host] = None

    def resolutionComplete(self) -> None:
        self._report(self._life, list(self._addresses))
