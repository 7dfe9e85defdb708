from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Role
from kevy_elect.service.observers import BACKLOG, Change, ElectorSnapshot, Observers


def snapshot(epoch: int = 1, *, can_write: bool = False) -> ElectorSnapshot:
    return ElectorSnapshot(
        role=Role.PRIMARY if can_write else Role.REPLICA,
        epoch=epoch,
        current_primary=None,
        primary_addr=None,
        has_quorum=can_write,
        down_peers=(),
        can_write=can_write,
        lease_expires_in=1.0 if can_write else 0.0,
    )


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.present = snapshot()
        self.observers = Observers(lambda: self.present)

    def change(self, epoch: int, *, can_write: bool = False) -> None:
        self.present = snapshot(epoch, can_write=can_write)
        self.observers.tell(f"epoch {epoch}")

    def test_when_fires_at_once_if_it_is_so_already(self) -> None:
        waiting = self.observers.when(lambda s: not s.can_write)
        self.assertEqual(self.successResultOf(waiting), self.present)

    def test_when_fires_with_the_first_snapshot_that_fits(self) -> None:
        waiting = self.observers.when(lambda s: s.can_write)
        self.change(2)
        self.assertNoResult(waiting)
        self.change(3, can_write=True)
        self.change(4, can_write=True)
        self.assertEqual(self.successResultOf(waiting).epoch, 3)

    def test_a_cancelled_wait_is_forgotten(self) -> None:
        waiting = self.observers.when(lambda s: s.can_write)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.change(2, can_write=True)
        self.assertEqual(self.observers._observers, [])

    def iterate(self, seen: list[Change], until: int) -> Deferred[None]:
        async def run() -> None:
            async for change in self.observers.changes():
                seen.append(change)
                if change.snapshot.epoch >= until:
                    break

        return Deferred.fromCoroutine(run())

    def test_an_iteration_begins_with_the_present_and_goes_on_with_each_change(self) -> None:
        seen: list[Change] = []
        running = self.iterate(seen, until=3)
        self.assertEqual([change.snapshot.epoch for change in seen], [1])
        self.change(2)
        self.change(3)
        self.successResultOf(running)
        self.assertEqual([change.snapshot.epoch for change in seen], [1, 2, 3])
        self.assertEqual(seen[-1].reason, "epoch 3")

    def test_an_iteration_that_was_left_is_forgotten(self) -> None:
        running = self.iterate([], until=1)
        self.successResultOf(running)
        self.assertEqual(self.observers._observers, [])

    def test_a_slow_iteration_misses_the_oldest_and_never_the_newest(self) -> None:
        seen: list[int] = []
        gate: Deferred[None] = Deferred()

        async def run() -> None:
            async for change in self.observers.changes():
                seen.append(change.snapshot.epoch)
                if len(seen) == 1:
                    await gate

        running = Deferred.fromCoroutine(run())
        for epoch in range(2, 1000):
            self.change(epoch)
        gate.callback(None)
        self.assertEqual(seen, [1, *range(1000 - BACKLOG, 1000)])
        running.cancel()
        self.failureResultOf(running, CancelledError)
