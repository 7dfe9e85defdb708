"""The accepted connections: their limits, their members, and their time limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from kevy_elect import wire
from kevy_elect.config import ElectConfig
from kevy_elect.errors import FrameError
from kevy_elect.messages import Ack, Heartbeat, Message
from kevy_elect.transport.channel import (
    HANDSHAKE_TIMEOUT,
    PLAIN_SECURITY,
    Channel,
    ChannelError,
    Security,
)
from kevy_elect.transport.framing import ElectionProtocol
from kevy_elect.transport.handshakes import FLOOD, Handshake, Handshakes, host_of, in_the_way
from kevy_elect.transport.listener import Listener
from kevy_elect.transport.log_limit import Sparing, and_more
from kevy_elect.transport.takeover import CurrentConnections

PER_MEMBER: Final = 2
"""The connections of a member at a time: a new one may overlap the half-open one that it
replaces."""
READ_AT_ONCE: Final = 4096
"""The most bytes that are read from one connection in one turn of the reactor. Twisted's default of
64 KiB can take about 25 ms, and a few such floods would delay heartbeats by more than
pause_after."""
RIVALRY_LOGGED_EVERY: Final = 60.0
REPLACED: Final = "it was replaced by a newer connection of its member"
MADE_ROOM: Final = "it made room for a newer connection"
SAID_NOTHING: Final = "it said nothing within election_timeout"
UNPROVEN: Final = f"it did not finish the handshake within {HANDSHAKE_TIMEOUT:g} s"
UNLISTED: Final = "its key is no longer listed"
WAS_SILENT: Final = "it was silent for 2 × down_after"
_RIVALRY: Final = 3
"""The number of alternations after which two connections count as two senders, and not as a
reconnect."""


class Receiver(Protocol):
    """Handles the messages of members."""

    def message_received(self, sender: str, message: Message, now: float) -> None:
        """Handle a message that arrived at `now`. May raise FrameError to end its connection."""

    def check(self, message: Message) -> None:
        """Check a message that is ignored. May raise FrameError too."""

    def member_connected(self, member: str, *, greeted: bool) -> None:
        """A connection of `member` began, with a greeting or without (section 4)."""

    def expect_last_will(self, first: Message) -> bool:
        """Whether `first`, which a connection without a greeting begins with, and which is passed
        on next, is the last will of a dead member."""

    def backs(self, sender: str, epoch: int, now: float) -> bool:
        """Whether a heartbeat of `sender` as primary of `epoch` must be acknowledged."""


@implementer(IPushProducer)
class Incoming(ElectionProtocol):
    """One accepted connection. It belongs to the member that its first message names.

    If the dialler greeted, each of its heartbeats gets an ACK if this node backs it. While the
    dialler does not read, no ACK is written; the next one also confirms the heartbeats without an
    ACK.
    """

    def __init__(self, acceptor: Acceptor, channel: Channel, number: int, now: float) -> None:
        super().__init__(channel)
        self.number = number  # in the order of acceptance
        self._acceptor = acceptor
        self.since = self.last_spoke = now
        self.introduced = False  # whether `member_connected` was called
        self.last_will: Message | None = None  # the message, if this is a wrapper's connection
        self.turns = 0  # how often a rival sent between two messages of this one
        self._heartbeats = 0
        self._unread = False

    @property
    def host(self) -> str:
        return host_of(self.transport.getPeer())

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        transport = cast(Any, self.transport)
        transport.bufferSize = READ_AT_ONCE
        transport.registerProducer(self, streaming=True)
        self.handshake = Handshake(self._acceptor.handshakes, self.channel, self.host)
        self._acceptor.opened(self)
        self.open_channel()

    def messageReceived(self, message: Message) -> None:
        now = self._acceptor.clock()
        heard = self._acceptor.spoke(self, message, now)
        if isinstance(message, Heartbeat):
            self._heartbeats += 1
            if heard and self.greeted and not self._unread:
                self._acknowledge(message, now)

    def shake(self, data: bytes) -> tuple[bytes, bytes]:
        return self.handshake.receive(data, self._acceptor.clock())

    def _acknowledge(self, heartbeat: Heartbeat, now: float) -> None:
        backed = self._acceptor.receiver.backs(heartbeat.sender, heartbeat.epoch, now)
        if backed and not self.ended:
            self.write(wire.encode_ack(Ack(heartbeat.epoch, self._heartbeats)))

    def badFrameReceived(self, error: FrameError, frame: bytes) -> None:
        self._acceptor.refused[error.kind] += 1
        left_out = self._acceptor.line(error.kind)
        if left_out is not None:
            self.log_refusal(error, frame, left_out)

    def channelFailed(self, error: ChannelError) -> None:
        self._acceptor.refused[error.kind] += 1
        left_out = self._acceptor.line(error.kind)
        if left_out is not None:
            self.log_end(LogLevel.warn, str(error), left_out)

    def pauseProducing(self) -> None:
        self._unread = True

    def resumeProducing(self) -> None:
        self._unread = False

    def stopProducing(self) -> None:
        """Do nothing: the acceptor gets the end from `connectionLost`."""

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self._acceptor.lost(self)


class Acceptor(ServerFactory):
    """Listens, accepts connections and passes on the messages of members.

    It reads one connection of a member at a time (`CurrentConnections`). There are at most 4 ×
    members + 16 connections: each member needs two, and the rest is for strangers, so that they
    cannot keep members out. A new connection replaces the oldest one of the host with most
    strangers. The handshakes of strangers have a bounded part of the processor (`Handshakes`).
    """

    noisy = False
    log = Logger()

    def __init__(
        self,
        node_id: str,
        peer_ids: Collection[str],
        config: ElectConfig,
        receiver: Receiver,
        clock: Callable[[], float],
        security: Security = PLAIN_SECURITY,
    ) -> None:
        self._security = security
        self.limit = 4 * (len(peer_ids) + 1) + 16
        self.refused: Counter[str] = Counter()
        """The ended connections, by the kind of the FrameError or ChannelError."""
        self._node_id = node_id
        self._config = config
        self.receiver = receiver
        self.clock = clock
        self._listener = Listener[Incoming]()
        self._speaking: dict[str, list[Incoming]] = {peer: [] for peer in peer_ids}
        self._current = CurrentConnections(config.pause_after)
        self._accepted = 0
        self._sparing = Sparing()
        self._rivalry_logged: dict[str, float] = {}
        self.handshakes = Handshakes()

    def __len__(self) -> int:
        """The number of connections that are open and not being ended."""
        return sum(not connection.ended for connection in self._listener)

    def buildProtocol(self, addr: IAddress | None) -> Incoming | None:
        host = host_of(addr)
        if self._security.kind != "plain" and not self.handshakes.admits(host, self.clock()):
            self._refuse_flood(host)
            return None
        self._accepted += 1
        return Incoming(self, self._security.accepts(), self._accepted, self.clock())

    @property
    def address(self) -> IAddress | None:
        """The address of the port, None while it does not listen."""
        return self._listener.address

    def use_timings(self, config: ElectConfig) -> None:
        """Use other timings from now on."""
        self._config = config
        self._current.pause_after = config.pause_after

    def use_security(self, security: Security) -> None:
        """Use other keys from now on, and end connections that they do not authenticate."""
        self._security = security
        for connection in self._listener:
            if not (connection.ended or security.trusts(connection.channel)):
                self._end(connection, UNLISTED)

    def age(self, member: str, now: float) -> float | None:
        """Seconds since the current connection of `member` was accepted."""
        for connection in self._speaking[member]:
            if self._current.is_current(member, connection.number):
                return now - connection.since
        return None

    def listen(self, description: str, reactor: Any) -> None:
        """Listen on the endpoint of this description. Raises as `Listener.listen` does."""
        self._listener.listen(description, self, reactor)

    def opened(self, connection: Incoming) -> None:
        if len(self) >= self.limit:
            strangers = [c for c in self._listener if c.member is None and not c.ended]
            self._end(in_the_way(strangers), MADE_ROOM)
        self._listener.opened(connection)

    def _refuse_flood(self, host: str) -> None:
        self.refused["flood"] += 1
        left_out = self.line("flood")
        if left_out is not None:
            self.log.warn(
                "refused a connection of {host}: {why}{more}",
                host=host,
                why=FLOOD,
                more=and_more(left_out),
            )

    def expect(self, member: str, host: str) -> None:
        """Record that a member was authenticated at this host."""
        self.handshakes.expect(member, host)

    def lost(self, connection: Incoming) -> None:
        self._forget(connection)
        self._listener.lost(connection)

    def spoke(self, connection: Incoming, message: Message, now: float) -> bool:
        """Handle a message. Return whether it was used. Raises FrameError if it is not allowed."""
        sender = message.sender
        if connection.member is None:
            self._admit(connection, sender)
        elif sender != connection.member:
            raise FrameError("bad_sender", f"now it names {sender}")
        heard = self._current.hears(sender, connection.number, now)
        self._watch_rivals(connection, now)
        connection.last_spoke = now
        if not heard:
            self.receiver.check(message)
            if self._current.is_replaced(sender, connection.number):
                self._end(connection, REPLACED)
            return False
        if not connection.introduced and not self._is_last_will(connection, message):
            connection.introduced = True
            self.receiver.member_connected(sender, greeted=connection.greeted)
        self.receiver.message_received(sender, message, now)
        return True

    def _is_last_will(self, connection: Incoming, message: Message) -> bool:
        """Whether the connection is the wrapper's of a dead member, and not one of its node."""
        if connection.last_will is not None:
            return message == connection.last_will
        if connection.greeted or not self.receiver.expect_last_will(message):
            return False
        connection.last_will = message
        return True

    def sweep(self, now: float) -> None:
        """End connections that did not send in time."""
        for connection in self._listener:
            if connection.ended:
                continue
            silent = now - connection.last_spoke
            if not connection.channel.established and silent >= HANDSHAKE_TIMEOUT:
                self._end(connection, UNPROVEN)
            elif connection.member is None:
                if silent >= self._config.election_timeout:
                    self._end(connection, SAID_NOTHING)
            elif silent >= 2 * self._config.down_after:
                self._end(connection, WAS_SILENT)

    def close(self) -> Deferred[None]:
        """Stop listening and end all connections; fires when the last one is closed."""
        return self._listener.close()

    def _admit(self, connection: Incoming, sender: str) -> None:
        """Assign the connection to `sender`. It may replace the one that was silent longest."""
        if sender == self._node_id:
            raise FrameError("bad_sender", f"{sender} is this node's own id")
        if sender not in self._speaking:
            raise FrameError("bad_sender", f"{sender} is not a member")
        proven = connection.channel.names
        if proven is not None and sender not in proven:
            who = " or ".join(sorted(proven))
            raise FrameError("bad_sender", f"it names {sender}, and its key is that of {who}")
        others = self._speaking[sender]
        if len(others) >= PER_MEMBER:
            spare = [
                other for other in others if not self._is_heard_from_elsewhere(other, connection)
            ]
            oldest = min(spare, key=lambda other: other.last_spoke)
            self._end(oldest, REPLACED)
        connection.member = sender
        others.append(connection)
        if proven is not None:
            connection.handshake.proven(self.clock())
            self.handshakes.expect(sender, connection.host)

    def _is_heard_from_elsewhere(self, other: Incoming, newcomer: Incoming) -> bool:
        """Whether `other` is the current connection of its member, and `newcomer` comes from
        another machine. A second dialler must not silence a member between two heartbeats."""
        assert other.member is not None
        return other.host != newcomer.host and self._current.is_current(other.member, other.number)

    def line(self, cause: str) -> int | None:
        """The number of lines of this cause that were left out before this one; None to leave this
        one out."""
        return self._sparing.line(cause, self.clock())

    def _watch_rivals(self, connection: Incoming, now: float) -> None:
        member = connection.member
        assert member is not None
        if len(self._speaking[member]) == 1:
            return
        for rival in self._speaking[member]:
            if rival is not connection and rival.last_spoke > connection.last_spoke:
                connection.turns += 1
                if connection.turns >= _RIVALRY:
                    self._log_rivalry(member, connection, rival, now)

    def _log_rivalry(self, member: str, one: Incoming, other: Incoming, now: float) -> None:
        last = self._rivalry_logged.get(member)
        if last is None or now - last >= RIVALRY_LOGGED_EVERY:
            self._rivalry_logged[member] = now
            self.log.critical(
                "{one} and {other} both go on speaking as member {member}, and only one at a "
                "time is heard: two nodes were given one id, or someone pretends to be it",
                one=one.describe(),
                other=other.describe(),
                member=member,
            )

    def _end(self, connection: Incoming, why: str) -> None:
        left_out = self.line(why)
        if left_out is not None:
            connection.log_end(LogLevel.info, why, left_out)
        self._forget(connection)
        connection.end()

    def _forget(self, connection: Incoming) -> None:
        if connection.member is not None:
            speaking = self._speaking[connection.member]
            if connection in speaking:
                speaking.remove(connection)
            self._current.closed(connection.member, connection.number)
