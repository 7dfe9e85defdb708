"""Electors to experiment with: one on its own (`Node`), or several that talk (`Net`)."""

from __future__ import annotations

import heapq
import itertools
import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector, Event
from kevy_elect.errors import BallotError
from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Outbound, Role

CONFIG = ElectConfig(
    hb_interval=0.25,
    down_after=4.0,
    election_timeout=3.0,
    election_backoff=1.0,
    election_backoff_jitter=2.0,
    pause_after=0.5,
    lease_margin=1.5,
    candidate_step=0.75,
    announce_interval=1.25,
    ack_margin=0.0625,
)
"""All different, so that a mix-up shows, and all exact in binary, so that boundaries are."""

TICK = CONFIG.hb_interval / 2
EVERYBODY = Outbound.BROADCAST


def primary(node_id: str, epoch: int, offset: int = 0) -> Heartbeat:
    return Heartbeat(epoch, node_id, Role.PRIMARY, offset)


def replica(node_id: str, epoch: int, offset: int = 0) -> Heartbeat:
    return Heartbeat(epoch, node_id, Role.REPLICA, offset)


def candidate(node_id: str, epoch: int, offset: int = 0) -> Heartbeat:
    return Heartbeat(epoch, node_id, Role.CANDIDATE, offset)


def offer(node_id: str, epoch: int, offset: int = 0) -> Offer:
    return Offer(epoch, node_id, offset)


def accept(node_id: str, epoch: int) -> Accept:
    return Accept(epoch, node_id)


def announce(node_id: str, epoch: int, addr: str | None = None) -> Announce:
    return Announce(epoch, node_id, addr or address(node_id))


def address(node_id: str) -> str:
    """Where clients find a node of these tests."""
    return f"{node_id}.example:6004"


class FragileBallot(MemoryBallot):
    """A ballot on a disk that can fill up. Keeps all that was ever saved."""

    def __init__(self, epoch: int = 0, voted_for: str | None = None) -> None:
        super().__init__()
        self.full = False
        self.saves: list[tuple[int, str | None]] = []
        if epoch:
            super().save(epoch, voted_for)

    def save(self, epoch: int, voted_for: str | None) -> None:
        if self.full:
            raise BallotError("cannot save the ballot: No space left on device")
        super().save(epoch, voted_for)
        self.saves.append((epoch, voted_for))


class Node:
    """One elector with a clock that stands still until it is moved.

    `members` are ids of one letter each. Started, by a first tick, unless told otherwise.
    """

    def __init__(
        self,
        node_id: str = "b",
        members: str = "abc",
        *,
        epoch: int = 0,
        ballot: FragileBallot | None = None,
        offset: int = 0,
        witness: bool = False,
        seed: int = 0,
        now: float = 1000.0,
        start: bool = True,
        config: ElectConfig = CONFIG,
    ) -> None:
        self.node_id = node_id
        self.now = now
        self.ballot = ballot or FragileBallot(epoch)
        self.elector = Elector(
            node_id,
            list(members),
            address(node_id),
            config=config,
            ballot=self.ballot,
            rng=random.Random(seed),
            witness=witness,
        )
        self.elector.set_repl_offset(offset)
        self.sent: list[Outbound] = []
        if start:
            self.tick()
            self.sent.clear()

    # What happens to it

    def tick(self) -> list[Outbound]:
        """Run once at the present time; what it sent."""
        return self._sends(self.elector.tick(self.now))

    def hear(self, *messages: Message) -> list[Outbound]:
        """Take messages in at the present time, without a tick; what it answered."""
        return [
            out
            for message in messages
            for out in self._sends(self.elector.on_message(message.sender, message, self.now))
        ]

    def live(self, seconds: float, *hearing: Message) -> list[Outbound]:
        """Tick for so long, as often as a service does, hearing these messages before each."""
        mark = len(self.sent)
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.hear(*hearing)
            self.tick()
        return self.sent[mark:]

    def live_until_it_runs(self, *hearing: Message) -> float:
        """Live until it is no replica any more; the seconds that it took."""
        begin = self.now
        while self.role is Role.REPLICA:
            assert self.now - begin < 10 * CONFIG.down_after, f"{self.node_id} does not run"
            self.live(TICK, *hearing)
        return self.now - begin

    def sleep(self, seconds: float) -> None:
        """Be paused: time passes and nothing runs."""
        self.now += seconds

    def _sends(self, out: list[Outbound]) -> list[Outbound]:
        self.sent += out
        return out

    # What can be seen of it

    @property
    def role(self) -> Role:
        return self.elector.role

    @property
    def epoch(self) -> int:
        return self.elector.epoch

    @property
    def primary(self) -> str | None:
        return self.elector.current_primary

    def has_quorum(self, later: float = 0.0) -> bool:
        return self.elector.has_quorum(self.now + later)

    def can_write(self, later: float = 0.0) -> bool:
        return self.elector.can_write(self.now + later)

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.elector.events if event.kind == kind]

    def texts(self, kind: str) -> list[str]:
        return [event.text for event in self.events(kind)]

    def state(self) -> bytes:
        """Every attribute, at any depth, as bytes to compare."""
        return pickle.dumps(self.elector)


def offers(out: Sequence[Outbound]) -> list[Outbound]:
    return [o for o in out if isinstance(o.message, Offer)]


def announces(out: Sequence[Outbound]) -> list[Outbound]:
    return [o for o in out if isinstance(o.message, Announce)]


def heartbeats(out: Sequence[Outbound]) -> list[Outbound]:
    return [o for o in out if isinstance(o.message, Heartbeat)]


def follower(
    node_id: str = "b",
    members: str = "abc",
    *,
    of: str = "a",
    epoch: int = 3,
    offset: int = 0,
    ballot: FragileBallot | None = None,
    witness: bool = False,
) -> Node:
    """A node that has long been following a primary, and has just heard all the others."""
    node = Node(node_id, members, epoch=epoch, offset=offset, ballot=ballot, witness=witness)
    node.hear(announce(of, epoch))
    others = (replica(peer, epoch) for peer in members if peer not in (node_id, of))
    node.live(CONFIG.down_after, primary(of, epoch), *others)
    node.sent.clear()
    return node


def running(node_id: str = "a", members: str = "abc", *, epoch: int = 3, offset: int = 0) -> Node:
    """A candidate of `epoch` that has just sent its OFFER. It knew no primary before."""
    node = Node(node_id, members, epoch=epoch - 1, offset=offset)
    others = [replica(peer, epoch - 1) for peer in members if peer != node_id]
    node.live_until_it_runs(*others)
    node.sent.clear()
    return node


def elected(node_id: str = "a", members: str = "abc", *, epoch: int = 3, offset: int = 0) -> Node:
    """A primary of `epoch`, elected just now and backed by all."""
    node = running(node_id, members, epoch=epoch, offset=offset)
    others = [peer for peer in members if peer != node_id]
    node.hear(*(accept(peer, epoch) for peer in others))
    node.live(TICK, *(replica(peer, epoch) for peer in others))
    node.sent.clear()
    return node


@attrs.define(order=True)
class _Due:
    at: float
    number: int
    what: Callable[[], None] = attrs.field(order=False)


class Net:
    """Several nodes, one virtual time, and links that carry every message in DELAY, or not at all.

    After every step no two nodes may write and no epoch may have had two primaries.
    """

    DELAY = 1 / 64

    def __init__(
        self,
        members: str = "abc",
        *,
        offsets: Mapping[str, int] | None = None,
        witnesses: str = "",
    ) -> None:
        self.members = members
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.lost: Callable[[str, str, Message], bool] = lambda *_: False
        """Whether to lose this message on its way from one node to another."""
        self.primaries: dict[int, str] = {}
        """Who was primary in each epoch."""
        self._offsets = dict(offsets or {})
        self._witnesses = witnesses
        self._cut: set[tuple[str, str]] = set()
        self._paused: dict[str, list[Message]] = {}
        self._ballots: dict[str, FragileBallot] = {}
        self._queue: list[_Due] = []
        self._numbers = itertools.count()
        for node_id in members:
            self.start(node_id)

    # What can be done to it

    def start(self, node_id: str, ballot: FragileBallot | None = None) -> None:
        node = self.nodes[node_id] = Node(
            node_id,
            self.members,
            ballot=ballot,
            offset=self._offsets.get(node_id, 0),
            witness=node_id in self._witnesses,
            seed=ord(node_id),
            now=self.now,
            start=False,
        )
        self._tick(node)

    def stop(self, *node_ids: str) -> None:
        """Kill these nodes: their ballots stay."""
        for node_id in node_ids:
            self._ballots[node_id] = self.nodes.pop(node_id).ballot
            self._paused.pop(node_id, None)

    def restart(self, node_id: str) -> None:
        """Start a killed node, or kill one and start it, with its ballot."""
        if node_id in self.nodes:
            self.stop(node_id)
        self.start(node_id, self._ballots.pop(node_id))

    def pause(self, node_id: str) -> None:
        """Let nothing run there. What is sent to it waits."""
        self._paused[node_id] = []

    def resume(self, node_id: str) -> None:
        """Let it run again: first it takes in all that waited."""
        for message in self._paused.pop(node_id):
            self._deliver(self.nodes[node_id], message)

    def cut(self, one: str, *others: str) -> None:
        """Cut the links between one node and others, both ways."""
        for other in others:
            self.cut_way(one, other)
            self.cut_way(other, one)

    def cut_way(self, sender: str, to: str) -> None:
        self._cut.add((sender, to))

    def isolate(self, node_id: str) -> None:
        self.cut(node_id, *(other for other in self.members if other != node_id))

    def heal(self) -> None:
        self._cut.clear()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0].at <= end:
            due = heapq.heappop(self._queue)
            self.now = due.at
            due.what()
        self.now = end

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Run until this holds; the seconds that it took. AssertionError if it takes too long."""
        begin = self.now
        while not condition():
            if self.now - begin >= within:
                raise AssertionError(f"not within {within} s:\n{self}")
            self.run(self.DELAY)
        return self.now - begin

    def elect(self) -> str:
        """Run until one node leads all that run, and may write."""
        self.run_until(self.is_settled, within=10 * CONFIG.down_after)
        leader = next(iter(self.nodes.values())).primary
        assert leader is not None
        return leader

    # What can be seen of it

    def __getitem__(self, node_id: str) -> Node:
        return self.nodes[node_id]

    def __str__(self) -> str:
        return "\n".join(
            f"{node.node_id}: {node.role} of epoch {node.epoch} following {node.primary}"
            for node in self.nodes.values()
        )

    def writers(self) -> list[str]:
        return [node.node_id for node in self.nodes.values() if node.elector.can_write(self.now)]

    def is_settled(self) -> bool:
        """Whether all running nodes follow one primary, which may write."""
        followed = {node.primary for node in self.nodes.values()}
        return len(followed) == 1 and self.writers() == [*followed]

    def epochs(self) -> dict[str, int]:
        return {node_id: node.epoch for node_id, node in self.nodes.items()}

    # How it works

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, _Due(when, next(self._numbers), what))

    def _tick(self, node: Node) -> None:
        if self.nodes.get(node.node_id) is not node:
            return  # a life that ended
        if node.node_id not in self._paused:
            node.now = self.now
            self._carry(node, node.tick())
        self._at(self.now + TICK, lambda: self._tick(node))

    def _carry(self, node: Node, out: list[Outbound]) -> None:
        for outbound in out:
            for to in self._receivers(node, outbound):
                link = (node.node_id, to)
                if link not in self._cut and not self.lost(*link, outbound.message):
                    self._send(*link, outbound.message)
        node.sent.clear()
        self._check()

    def _receivers(self, node: Node, outbound: Outbound) -> Iterator[str]:
        if outbound.to != EVERYBODY:
            yield outbound.to
        else:
            yield from (member for member in self.members if member != node.node_id)

    def _send(self, sender: str, to: str, message: Message) -> None:
        def arrive() -> None:
            if (sender, to) in self._cut or to not in self.nodes:
                return
            if to in self._paused:
                self._paused[to].append(message)
            else:
                self._deliver(self.nodes[to], message)

        self._at(self.now + self.DELAY, arrive)

    def _deliver(self, node: Node, message: Message) -> None:
        node.now = self.now
        out = node.hear(message)
        self._carry(node, out + node.tick())

    def _check(self) -> None:
        assert len(self.writers()) <= 1, f"two writers: {self.writers()}\n{self}"
        for node in self.nodes.values():
            if node.role is Role.PRIMARY:
                known = self.primaries.setdefault(node.epoch, node.node_id)
                assert known == node.node_id, f"two primaries of epoch {node.epoch}"


def everything(node_id: str, epoch: int) -> list[Message]:
    """One of each message that this node may send."""
    return [
        primary(node_id, epoch, 9),
        replica(node_id, epoch, 9),
        candidate(node_id, epoch, 9),
        offer(node_id, epoch, 9),
        accept(node_id, epoch),
        announce(node_id, epoch),
    ]


def orphan(node_id: str = "b", members: str = "abc", *, epoch: int = 3, offset: int = 0) -> Node:
    """A follower of `a` whose primary has just said that it is a replica of a later epoch: it
    knows none now, and waits for down_after (R5)."""
    node = follower(node_id, members, epoch=epoch, offset=offset)
    node.hear(replica("a", epoch + 1))
    assert node.primary is None
    return node
