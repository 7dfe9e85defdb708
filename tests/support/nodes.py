"""Single electors for tests of the rules."""

from __future__ import annotations

import pickle
import random
from collections.abc import Mapping, Sequence

from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import ElectConfig
from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError
from kevy_elect.events import Event
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
"""The times differ, so that a mix-up shows, and are exact in binary, so that boundaries are
exact."""

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
    """The address for clients of a node of these tests."""
    return f"{node_id}.example:6004"


class FragileBallot(MemoryBallot):
    """A ballot on a disk that can be full. It keeps all saved ballots."""

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
    """One elector with a clock that the test moves.

    `members` are ids of one letter each. By default it is started, by a first tick.
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
        drives_server: bool = False,
        priorities: Mapping[str, int] | None = None,
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
            drives_server=drives_server,
            priorities=priorities,
        )
        self.elector.set_repl_offset(offset)
        self.sent: list[Outbound] = []
        if start:
            self.tick()
            self.sent.clear()

    # Events

    def tick(self) -> list[Outbound]:
        """Run once at the present time. Return the sent messages."""
        return self._sends(self.elector.tick(self.now))

    def hear(self, *messages: Message) -> list[Outbound]:
        """Handle messages at the present time, without a tick. Return the answers."""
        return [
            out
            for message in messages
            for out in self._sends(self.elector.on_message(message.sender, message, self.now))
        ]

    def live(self, seconds: float, *hearing: Message) -> list[Outbound]:
        """Tick for so many seconds, as often as a service does, with these messages before each
        tick."""
        mark = len(self.sent)
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.hear(*hearing)
            self.tick()
        return self.sent[mark:]

    def live_until_it_runs(self, *hearing: Message) -> float:
        """Live until the node is no replica any more. Return the seconds that it took."""
        begin = self.now
        while self.role is Role.REPLICA:
            assert self.now - begin < 10 * CONFIG.down_after, f"{self.node_id} does not run"
            self.live(TICK, *hearing)
        return self.now - begin

    def sleep(self, seconds: float) -> None:
        """Pause the process: time passes and nothing runs."""
        self.now += seconds

    def _sends(self, out: list[Outbound]) -> list[Outbound]:
        self.sent += out
        return out

    # State

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
        """All attributes, at any depth, as bytes to compare."""
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
    priorities: Mapping[str, int] | None = None,
) -> Node:
    """A node that has followed a primary for long, and has just heard all others."""
    node = Node(
        node_id,
        members,
        epoch=epoch,
        offset=offset,
        ballot=ballot,
        witness=witness,
        priorities=priorities,
    )
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
    """A follower of `a` whose primary has just said that it is a replica of a later epoch. It knows
    no primary now, and waits for down_after (R5)."""
    node = follower(node_id, members, epoch=epoch, offset=offset)
    node.hear(replica("a", epoch + 1))
    assert node.primary is None
    return node
