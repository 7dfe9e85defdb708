"""An elector that runs on messages, every hb_interval and when `next_due` says so decides the
same, at the same times, as one that runs all the time."""

from __future__ import annotations

import random
from typing import Final

import attrs

from kevy_elect.ballot import MemoryBallot
from kevy_elect.elector import Elector
from kevy_elect.events import EventKind
from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Role
from tests.support.nodes import CONFIG, address
from tests.support.unmeasured import Unmeasured

STEP: Final = 1 / 256
"""Between two runs of the one that runs all the time, in seconds."""
GRID: Final = 1 / 32
"""All that happens, and so all that is due, lies on this grid, which is one of steps."""
LIFE: Final = 40.0
MEMBERS: Final = "abcde"


class _Even(random.Random):
    """Draws times that lie on the grid."""

    def uniform(self, a: float, b: float) -> float:
        return self.randint(round(a / GRID), round(b / GRID)) * GRID


class _Life:
    """One elector, `b`, and what came of it."""

    def __init__(self, seed: int, members: str, *, counts: bool) -> None:
        self.elector = Elector(
            "b",
            list(members),
            address("b"),
            config=attrs.evolve(CONFIG, count_unacknowledged=counts),
            ballot=MemoryBallot(),
            rng=_Even(seed),
        )
        self.sent: list[tuple[float, str, Message]] = []

    def run(self, now: float, message: Message | None = None) -> None:
        out = []
        if message is not None:
            out += self.elector.on_message(message.sender, message, now)
        for outbound in out + self.elector.tick(now):
            # A heartbeat may leave a little early, and what is repeated leaves with it.
            repeated = isinstance(outbound.message, Heartbeat | Offer)
            if not repeated:
                self.sent.append((now, outbound.to, outbound.message))

    def decisions(self) -> list[tuple[float, object, int, str]]:
        """All that it noted. How long it did not run depends on when it ran."""
        return [
            (event.at, event.kind, event.epoch, event.text)
            for event in self.elector.events
            if event.kind is not EventKind.PAUSE
        ]


class _Twins:
    """Two that hear the same: one runs when it is due, the other in every step."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(f"next due {seed}")
        self.members = MEMBERS[: rng.choice((2, 3, 3, 4, 5))]
        counts = rng.random() < 0.7
        self.calm = seed % 2 == 1  # then it is mostly elected, and one stays in a higher epoch
        self.due, self.ceaseless = (_Life(seed, self.members, counts=counts) for _ in range(2))
        self.both = (self.due, self.ceaseless)
        self.peers = [name for name in self.members if name != "b"]
        self.said: dict[str, Message] = {}
        self.runs = 0
        self.now = 1000.0
        self.next_run = self.now
        self.steps = 0
        self._run(None)

    def live(self) -> None:
        rng = self.rng
        self._set_links(0.8)
        until = self.now + LIFE
        while self.now < until:
            longest = 20 if self.calm else 200
            self._wait(rng.choice((1, 1, 2, 3, 4, 8, rng.randrange(1, longest))) * GRID)
            if rng.random() < (0.002 if self.calm else 0.03):
                self._pause()
            for _ in range(rng.choice((1, 1, 2, len(self.peers)))):
                self._happen()

    def _wait(self, seconds: float) -> None:
        """Up to, but without, the end."""
        end = self.now + seconds
        while self.next_run < end:
            self.due.run(self.next_run)
            self.runs += 1
            self.next_run = self._next_run(self.next_run)
        for step in range(1, round(seconds / STEP)):
            self.ceaseless.run(self.now + step * STEP)
            self.steps += 1
        self.now = end

    def _next_run(self, now: float) -> float:
        due_at = self.due.elector.next_due(now)
        return min(now + CONFIG.hb_interval, max(now + STEP, due_at))

    def _pause(self) -> None:
        self.now += CONFIG.pause_after + self.rng.randrange(1, 100) * GRID
        self._run(None)

    def _happen(self) -> None:
        """Something that both hear or learn."""
        rng, elector = self.rng, self.due.elector
        peer = rng.choice(self.peers)
        chance = rng.random()
        if chance < 0.05:
            self._set_links(rng.random())
        elif elector.role is Role.PRIMARY and (self.calm or chance < 0.25):
            sent_at = self.now - rng.randrange(8) * GRID
            for life in self.both:
                life.elector.confirm(peer, elector.epoch, sent_at)
        self._run(self._message(peer))

    def _set_links(self, chance: float) -> None:
        for peer in self.peers:
            connected, acknowledging = self.rng.random() < 0.9, self.rng.random() < chance
            for life in self.both:
                life.elector.set_connected(peer, connected=connected)
                life.elector.set_acknowledging(peer, acknowledging=acknowledging)

    def _message(self, peer: str) -> Message:
        rng, elector = self.rng, self.due.elector
        epoch = max(1, elector.epoch + rng.choice((0, 0, 0, 0, 0, 1, 2, -1)))
        offered = elector._candidacy.epoch if elector._candidacy is not None else epoch
        if self.calm and rng.random() < 0.97:
            if elector.role is Role.CANDIDATE or rng.random() < 0.02:
                return Accept(offered, peer)
            ahead = 2 if peer == self.peers[-1] else 0
            return Heartbeat(max(1, elector.epoch + ahead), peer, Role.REPLICA, 0)
        if peer in self.said and rng.random() < 0.6:
            return self.said[peer]
        message = rng.choice(
            (
                Heartbeat(epoch, peer, Role.REPLICA, rng.randrange(2)),
                Heartbeat(epoch, peer, Role.REPLICA, 0),
                Heartbeat(epoch, peer, rng.choice(list(Role)), 0),
                Offer(epoch + rng.randrange(2), peer, rng.randrange(2)),
                Accept(offered, peer),
                Accept(offered, peer),
                Announce(epoch, peer, address(peer)),
            )
        )
        if isinstance(message, Heartbeat):
            self.said[peer] = message
        return message

    def _run(self, message: Message | None) -> None:
        for life in self.both:
            life.run(self.now, message)
        self.next_run = self._next_run(self.now)


class NextDue(Unmeasured):
    LIVES = 40

    def test_to_run_when_it_is_due_is_as_good_as_to_run_all_the_time(self) -> None:
        runs = steps = 0
        noted: set[str] = set()
        for seed in range(self.LIVES):
            twins = _Twins(seed)
            twins.live()
            self.assertEqual(twins.due.decisions(), twins.ceaseless.decisions(), f"seed {seed}")
            self.assertEqual(twins.due.sent, twins.ceaseless.sent, f"seed {seed}")
            runs, steps = runs + twins.runs, steps + twins.steps
            noted |= {str(kind) for _, kind, _, _ in twins.due.decisions()}
        self.assertLess(runs, steps / 20)
        wanted = (EventKind.CANDIDACY, EventKind.RENEWAL, EventKind.QUORUM, EventKind.VOTE)
        self.assertLessEqual({str(kind) for kind in wanted}, noted)

    def test_it_is_always_in_the_future_and_at_most_one_interval_away(self) -> None:
        for seed in range(5):
            twins = _Twins(seed)
            twins.live()
            now = twins.now
            for _ in range(100):
                due = twins.due.elector.next_due(now)
                self.assertTrue(now < due <= now + CONFIG.hb_interval, (now, due))
                twins.due.run(due)
                now = due
