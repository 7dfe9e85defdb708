"""A network of connections that stall, break, reorder and lose messages, in virtual time.

Each node dials every other, sends on the connections that it dialled and reads on those that it
accepted. Only acknowledgements flow back. A connection is two streams. A stream delivers in the
order of sending, whatever the delay of each item; two connections of one pair have no common order.
All times are virtual seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from kevy_elect.acks import Ledger
from kevy_elect.messages import Ack, Heartbeat, Message
from kevy_elect.transport.outbox import Outbox

Schedule = Callable[[float, Callable[[Any], None], Any], None]
Loss = Callable[[str, str, Message], bool]
"""Whether a message is lost on its way from one node to another."""


class Backlog:
    """A queue of the existing implementation: it keeps 256 messages and drops further ones."""

    LIMIT: Final = 256

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message) -> None:
        if len(self._waiting) < self.LIMIT:
            self._waiting.append(message)

    def take(self, *, beaten: bool = True) -> Message | None:
        """Remove and return the oldest message; None if the queue is empty."""
        return self._waiting.popleft() if self._waiting else None


class Host:
    """The network's view of a node: the number of its restarts, and whether it reads.

    A node of the existing implementation (`legacy`) neither greets nor acknowledges, and keeps a
    backlog for an absent peer. It detects a broken connection only by a failed write.
    """

    def __init__(self, node_id: str, outbox: type[Outbox], *, legacy: bool) -> None:
        self.node_id = node_id
        self.legacy = legacy
        self.new_outbox: type[Outbox] | type[Backlog] = Backlog if legacy else outbox
        self.acknowledges = not legacy
        self.life = 0  # increases with every crash
        self.running = False
        self.paused = False
        self.links: dict[str, Link] = {}
        self.waiting: list[Stream] = []  # with items that arrived during a pause


class Link:
    """One node's means of sending to one peer, with at most one connection at a time."""

    __slots__ = ("acceptor", "connection", "cut", "cut_at", "dialler", "outbox", "retry_at",
                 "reverse", "waiting")  # fmt: skip

    reverse: Link

    def __init__(self, dialler: Host, acceptor: Host) -> None:
        self.dialler = dialler
        self.acceptor = acceptor
        self.connection: Connection | None = None
        self.outbox = dialler.new_outbox()
        self.retry_at = 0.0
        self.cut = False  # this direction only
        self.cut_at = 0.0
        self.waiting: list[Stream] = []  # with items that the cut holds

    def is_up(self) -> bool:
        """Whether packets pass in both directions."""
        return not (self.cut or self.reverse.cut)

    def is_connected(self) -> bool:
        """Whether there is a connection to the present process of the peer."""
        connection = self.connection
        return connection is not None and connection.there.life == self.acceptor.life

    def __str__(self) -> str:
        return f"{self.dialler.node_id} -> {self.acceptor.node_id}"


class Stream:
    """One direction of a connection.

    Each sent item schedules one arrival. Each arrival delivers the head of the queue, so the order
    is kept. An arrival at a blocked link or node is held.
    """

    __slots__ = ("connection", "held", "is_back", "life", "not_before", "queue", "target", "way")

    def __init__(self, connection: Connection, way: Link, *, is_back: bool) -> None:
        self.connection = connection
        self.way = way  # the link of this direction, which may be cut
        self.is_back = is_back
        self.target = way.acceptor
        self.life = way.acceptor.life
        self.queue: deque[Any] = deque()
        self.held = 0
        self.not_before = 0.0

    def hold(self, waiting: list[Stream]) -> None:
        self.held += 1
        if self.held == 1:
            waiting.append(self)


class Connection:
    """A dialled connection, with the counts of both ends for acknowledged leases."""

    __slots__ = ("back", "greeted", "introduced", "ledger", "link", "number", "read", "there")

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number
        self.there = Stream(self, link, is_back=False)
        self.back = Stream(self, link.reverse, is_back=True)
        # A dialler that greets reads answers. An acceptor of the existing implementation sends
        # none.
        self.greeted = link.dialler.acknowledges and link.acceptor.acknowledges
        self.introduced = False  # by a message that told the acceptor whether it greeted
        self.ledger = Ledger()
        self.read = 0


class Network:
    """All links. It calls `deliver` for every item that arrives, `dialled` when a link has got or
    lost its connection, and `closed` when the acceptor of a connection sees its end, after the last
    item."""

    def __init__(
        self,
        hosts: list[Host],
        *,
        rng: random.Random,
        schedule: Schedule,
        deliver: Callable[[Stream, Any], None],
        dialled: Callable[[Link], None],
        closed: Callable[[Connection], None],
        max_delay: float,
        retry_after: float,
        give_up_after: float,
    ) -> None:
        self.now = 0.0
        self.lost: Loss | None = None
        self._random = rng.random
        self._schedule = schedule
        self._deliver = deliver
        self._dialled = dialled
        self._closed = closed
        self._connections = 0
        self._max_delay = max_delay
        self._retry_after = retry_after
        self._give_up_after = give_up_after
        for a in hosts:
            a.links = {b.node_id: Link(a, b) for b in hosts if b is not a}
        for a in hosts:
            for b, link in a.links.items():
                link.reverse = link.acceptor.links[a.node_id]
                assert link.acceptor.node_id == b

    # Sending

    def send(self, link: Link, message: Message, sent_at: float) -> None:
        """Send at `sent_at` of the dialler's clock, or keep the message until there is a
        connection."""
        connection = link.connection
        if connection is not None and self._is_gone(link, connection):
            self.reset(link)
            if link.dialler.legacy:
                return  # this write detects it
            connection = None
        if connection is None:
            link.outbox.put(message)
            self.connect(link, sent_at)
        elif connection.ledger.beaten:
            self._write(connection, message, sent_at)
        else:
            link.outbox.put(message)
            self._drain(connection, sent_at)

    def connect(self, link: Link, sent_at: float) -> None:
        """Dial, unless it is too early for another attempt, and send the waiting messages."""
        if link.connection is not None or self.now < link.retry_at:
            return
        if not (link.acceptor.running and link.is_up()):
            link.retry_at = self.now + self._random() * self._retry_after
            return
        self._connections += 1
        link.connection = Connection(link, self._connections)
        self._dialled(link)
        self._drain(link.connection, sent_at)

    def _drain(self, connection: Connection, sent_at: float) -> None:
        outbox = connection.link.outbox
        while (message := outbox.take(beaten=connection.ledger.beaten)) is not None:
            self._write(connection, message, sent_at)

    def reply(self, connection: Connection, ack: Ack) -> None:
        """Answer on an accepted connection if the other end still exists. A wrapper that sends for
        a dead node reads no answers."""
        link = connection.link
        if link.connection is connection and link.dialler.running:
            self._carry(connection.back, ack)

    def _write(self, connection: Connection, message: Message, sent_at: float) -> None:
        link = connection.link
        if self.lost is not None and self.lost(
            link.dialler.node_id, link.acceptor.node_id, message
        ):
            return
        if type(message) is Heartbeat:
            connection.ledger.sent(message, sent_at)
        self._carry(connection.there, message)

    def _carry(self, stream: Stream, item: Any) -> None:
        stream.queue.append(item)
        self._schedule(self.now + self._random() * self._max_delay, self._arrive, stream)

    def _is_gone(self, link: Link, connection: Connection) -> bool:
        """Whether the peer's process or the connection is gone, as a writer would detect."""
        if connection.there.life != link.acceptor.life:
            return True
        return not link.is_up() and self.now - link.cut_at >= self._give_up_after

    def _arrive(self, stream: Stream) -> None:
        target = stream.target
        if not stream.queue:
            return
        if stream.life != target.life:
            stream.queue.clear()
        elif stream.way.cut:
            stream.hold(stream.way.waiting)
        elif target.paused:
            stream.hold(target.waiting)
        elif self.now < stream.not_before:
            self._schedule(stream.not_before, self._arrive, stream)
        else:
            self._deliver(stream, stream.queue.popleft())

    # Faults

    def cut(self, link: Link) -> None:
        """Stop everything in this direction. Messages that are sent or on their way are held."""
        if not link.cut:
            link.cut = True
            link.cut_at = link.reverse.cut_at = self.now

    def mend(self, link: Link) -> None:
        link.cut = False
        self._release(link.waiting)

    def reset(self, link: Link, straggle: float | None = None) -> None:
        """End the connection. Messages on their way are lost, or arrive `straggle` seconds late."""
        connection, link.connection = link.connection, None
        link.retry_at = self.now
        if connection is None:
            return
        self._dialled(link)
        connection.back.queue.clear()
        if straggle is None:
            connection.there.queue.clear()
            self._closed(connection)
        else:
            connection.there.not_before = self.now + straggle

    def wake(self, host: Host) -> None:
        """Deliver the held items to a node after its pause, in random order of the connections."""
        self._release(host.waiting)

    def forget(self, host: Host, straggle: float | None) -> None:
        """End the connections that a crashed process dialled, and drop its unsent messages."""
        host.waiting.clear()
        for link in host.links.values():
            self.reset(link, straggle)
            link.outbox = host.new_outbox()

    def _release(self, waiting: list[Stream]) -> None:
        for stream in waiting:
            start = self.now + self._random() * self._max_delay
            for _ in range(stream.held):
                at = start + self._random() * self._max_delay / 4
                self._schedule(at, self._arrive, stream)
            stream.held = 0
        waiting.clear()
