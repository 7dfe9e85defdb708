"""The data servers of a simulated cluster, and their replication.

A server corresponds to a Redis: it has a log of writes, the name of the log's history, and at most
one source. All times are virtual seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from kevy_elect.driving import Frozen, Report

RETRY: Final = 0.25
"""Seconds between two attempts to reach a source, or to pass a cut."""


class World(Protocol):
    """The servers' view of the cluster."""

    rng: random.Random
    replicas_to_confirm: int
    """The number of followers that must have a write before WAIT confirms it to its client."""
    copying: float
    """The longest time for the transfer of a whole data set from one server to another."""

    @property
    def now(self) -> float: ...
    def at(self, when: float, action: Callable[[], object]) -> None: ...
    def is_up(self, one: str, other: str) -> bool: ...
    def lag(self, follower: str) -> float: ...
    def server_at(self, address: str) -> SimulatedServer: ...
    def confirmed(self, server: SimulatedServer, values: list[int]) -> None: ...


class Pipe:
    """One direction of a connection: it keeps the order, delays, and holds items during a cut."""

    def __init__(self, world: World, ends: tuple[str, str], take: Callable[[Any], object]) -> None:
        self._world = world
        self._ends = ends
        self._take = take
        self._queue: deque[tuple[float, Any]] = deque()
        self._last = 0.0

    def put(self, item: Any, delay: float) -> None:
        self._last = max(self._last, self._world.now + delay)
        self._queue.append((self._last, item))
        if len(self._queue) == 1:
            self._world.at(self._last, self._pump)

    def _pump(self) -> None:
        world = self._world
        if not world.is_up(*self._ends):
            world.at(world.now + RETRY, self._pump)
            return
        item = self._queue[0][1]
        self._take(item)
        self._queue.popleft()
        if self._queue:
            world.at(max(world.now, self._queue[0][0]), self._pump)


class Feed:
    """The connection by which one server replicates from another."""

    def __init__(self, source: SimulatedServer, follower: SimulatedServer, world: World) -> None:
        self.source = source
        self.follower = follower
        self.sent = 0  # the length of the source's log that was sent
        self.acknowledged = 0
        self.is_up = False  # the follower has all data of the time of the connection
        self._world = world
        self._runs = source.run, follower.run
        ends = source.name, follower.name
        self._there = Pipe(world, ends, self._arrived)
        self._back = Pipe(world, ends, self._answered)

    def send(self, word: str, *what: Any, takes: float = 0.0) -> None:
        delay = self._world.rng.random() * self._world.lag(self.follower.name)
        self._there.put((word, *what), takes + delay)

    def catch_up(self) -> None:
        """Send the part of the source's log that was not sent yet."""
        fresh, self.sent = self.source.log[self.sent :], len(self.source.log)
        self.send("data", fresh)

    def answer(self, length: int | None) -> None:
        """Record the follower's length; None if the follower is gone."""
        self._back.put(length, self._world.rng.random() * self._world.lag(self.follower.name))

    def _arrived(self, item: Any) -> None:
        self.follower.receive(self._runs[1], lambda: self.follower.take(self, *item))

    def _answered(self, length: int | None) -> None:
        self.source.receive(self._runs[0], lambda: self.source.hear(self, length))


class SimulatedServer:
    """One data server. It starts frozen, as its configuration requires."""

    def __init__(self, name: str, address: str, world: World) -> None:
        self.name = name
        self.address = address
        self.run = 0
        self.running = False
        self.is_hung = False
        self.log: list[int] = []
        self.takes_writes = False
        self.source = ""
        self.is_copying = False
        self.history = ""
        self.feed: Feed | None = None
        self._world = world
        self._older = "", 0  # the history before this one, and its length
        self._feeds: list[Feed] = []
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._confirmed = 0  # the confirmed length of the log, or of writes without WAIT
        self._named = 0
        self._commands = 0  # the number of commands to follow
        self.start(0)

    # Faults

    def kill(self) -> None:
        self._leave_all()
        self.running = self.is_hung = self.takes_writes = self.is_copying = False
        self.source = ""
        self._waiting.clear()
        self.run += 1

    def start(self, length: int) -> None:
        """Start frozen, with this length of the former log."""
        self.running = True
        if length == 0:
            self.history = self._new_name()
            self._older = "", 0
        del self.log[length:]
        self._older = self._older[0], min(self._older[1], length)

    def hang(self) -> None:
        self.is_hung = True

    def go_on(self) -> None:
        self.is_hung = False
        waiting, self._waiting = self._waiting, []
        for run, action in waiting:
            self.receive(run, action)

    def receive(self, run: int, action: Callable[[], object]) -> None:
        """Process `action` now, or after a hang. Does nothing in another run of the server."""
        if run == self.run and self.running:
            if self.is_hung:
                self._waiting.append((run, action))
            else:
                action()

    # Commands of the node

    def report(self) -> Report:
        return Report(
            run=f"{self.name}.{self.run}",
            takes_writes=self.takes_writes,
            source=self.source,
            in_sync=self.feed is not None and self.feed.is_up,
            is_copying=self.is_copying,
            history=self.history,
            length=len(self.log),
        )

    def freeze(self) -> Frozen:
        before = self.report()
        self._leave_all()
        self.takes_writes, self.source = False, ""
        return Frozen(before, self.report())

    def promote(self) -> Report:
        if not self.takes_writes:
            self._leave_source()
            self.takes_writes, self.source = True, ""
            self._older = self.history, len(self.log)
            self.history = self._new_name()
            self._confirmed = len(self.log)
        return self.report()

    def follow(self, address: str) -> None:
        if address == self.source:
            return
        self._leave_all()
        self.takes_writes, self.source = False, address
        self._commands += 1
        self._dial(self.run, self._commands)

    @property
    def confirmed_length(self) -> int:
        """The length of the log that is confirmed, or for which no client waits any more."""
        return self._confirmed

    # Clients

    def write(self, value: int) -> None:
        """Write for a client, which asks how many followers have it."""
        self.log.append(value)
        self._pass_on()
        self._confirm()

    def hear(self, feed: Feed, length: int | None) -> None:
        """Record the length that a follower reports; None if the follower is gone."""
        if feed in self._feeds:
            if length is None:
                self._feeds.remove(feed)
            else:
                feed.acknowledged = length
                self._confirm()

    def _confirm(self) -> None:
        if not self.takes_writes:
            return
        wanted = self._world.replicas_to_confirm
        lengths = sorted((feed.acknowledged for feed in self._feeds), reverse=True)
        reached = len(self.log) if wanted == 0 else [*lengths, *[0] * wanted][wanted - 1]
        if reached > self._confirmed:
            fresh, self._confirmed = self.log[self._confirmed : reached], reached
            self._world.confirmed(self, fresh)

    # Replication

    def _dial(self, run: int, command: int) -> None:
        """Connect to the source, and try again until it accepts."""
        if (run, command) != (self.run, self._commands) or not self.source or self.feed is not None:
            return
        world = self._world
        source = world.server_at(self.source)
        ready = source.running and not source.is_hung and not self.is_hung and source._serves()
        if ready and world.is_up(self.name, source.name):
            self.feed = source._feed(self)
        else:
            delay = world.rng.uniform(0.02, 1) * RETRY
            world.at(world.now + delay, lambda: self._dial(run, command))

    def _serves(self) -> bool:
        """Whether others may replicate from this server: not from a follower without its source."""
        return self.takes_writes or (self.feed is not None and self.feed.is_up)

    def _feed(self, follower: SimulatedServer) -> Feed:
        feed = Feed(self, follower, self._world)
        self._feeds.append(feed)
        have = len(follower.log)
        is_part = (follower.history == self.history and have <= len(self.log)) or (
            follower.history == self._older[0] and have <= self._older[1]
        )
        if is_part:
            feed.send("continue", self.history)
            feed.sent = have
            feed.catch_up()
        else:
            feed.send("copying")
            whole, feed.sent = list(self.log), len(self.log)
            takes = self._world.rng.random() * self._world.copying
            feed.send("copy", self.history, self._older, whole, takes=takes)
        return feed

    def take(self, feed: Feed, word: str, *what: Any) -> None:
        """Handle an item that the source sent."""
        if feed is not self.feed:
            return
        match word:
            case "continue":
                if what[0] != self.history:
                    self._older = self.history, len(self.log)
                    self.history = what[0]
                    self._leave_followers()
                feed.is_up = True
            case "copying":
                self.is_copying = True
            case "copy":
                self.is_copying = False
                self.history, self._older = what[0], what[1]
                self.log = list(what[2])
                self._leave_followers()
                feed.is_up = True
            case "data":
                self.log += what[0]
                self._pass_on()
            case "end":
                self._leave_source()
                self._dial(self.run, self._commands)
                return
        if not self.is_copying:
            feed.answer(len(self.log))

    def _pass_on(self) -> None:
        for feed in self._feeds:
            feed.catch_up()

    def _leave_all(self) -> None:
        self._leave_source()
        self._leave_followers()

    def _leave_source(self) -> None:
        feed, self.feed = self.feed, None
        self.is_copying = False
        if feed is not None:
            feed.answer(None)

    def _leave_followers(self) -> None:
        feeds, self._feeds = self._feeds, []
        for feed in feeds:
            feed.send("end")

    def _new_name(self) -> str:
        self._named += 1
        return f"{self.name}/{self._named}"
