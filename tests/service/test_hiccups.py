"""Which delays are worth a line."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.events import Cause, Event, EventKind
from kevy_elect.service.hiccups import MANY, PERIOD, Hiccups, Spate


class HiccupTests(SynchronousTestCase):
    """With a down_after of 0.5 s, of which a half is tolerated."""

    def setUp(self) -> None:
        self.hiccups = Hiccups()
        self.now = 100.0

    def event(self, kind: EventKind, cause: Cause | None = None, lasted: float = 0.0) -> Event:
        return Event(at=self.now, kind=kind, epoch=1, text="", cause=cause, lasted=lasted)

    def logged(self, *events: Event, leads: bool = False) -> list[Any]:
        return [e.cause or e.kind for e in self.hiccups.sift(events, 0.5, leads=leads)]

    def pause(self, lasted: float) -> Event:
        return self.event(EventKind.PAUSE, lasted=lasted)

    def lost(self) -> Event:
        return self.event(EventKind.QUORUM, Cause.LOST)

    def gained(self) -> Event:
        return self.event(EventKind.QUORUM, Cause.GAINED)

    def test_a_short_pause_is_not(self) -> None:
        self.assertEqual(self.logged(self.pause(0.24)), [])
        self.assertEqual(self.logged(self.pause(0.24), leads=True), [])

    def test_a_long_one_is(self) -> None:
        self.assertEqual(self.logged(self.pause(0.25)), ["pause"])

    def test_so_is_one_that_costs_the_lease(self) -> None:
        self.assertEqual(self.logged(self.pause(0.15), self.lost(), leads=True), ["pause", "lost"])
        self.assertEqual(self.logged(self.gained(), leads=True), ["gained"])

    def test_what_a_short_pause_takes_from_a_replica_and_soon_gives_back_is_not(self) -> None:
        self.assertEqual(self.logged(self.pause(0.15), self.lost()), [])
        self.now += 0.1
        self.assertIsNone(self.hiccups.overdue(self.now, 0.5))
        self.assertEqual(self.logged(self.gained()), [])

    def test_what_it_does_not_give_back_is(self) -> None:
        lost = self.lost()
        self.logged(self.pause(0.15), lost)
        self.now += 0.25
        self.assertIs(self.hiccups.overdue(self.now, 0.5), lost)
        self.assertIsNone(self.hiccups.overdue(self.now, 0.5))
        self.assertEqual(self.logged(self.gained()), ["gained"])

    def test_a_loss_without_a_pause_is(self) -> None:
        self.assertEqual(self.logged(self.lost()), ["lost"])
        self.assertEqual(self.logged(self.gained()), ["gained"])

    def test_all_else_is(self) -> None:
        voted = self.event(EventKind.VOTE)
        self.assertEqual(self.logged(self.pause(0.15), voted), ["vote"])

    def test_many_in_a_row_are_one_line(self) -> None:
        for number in range(MANY):
            self.logged(self.pause(0.15 + number / 1000))
            self.assertIsNone(self.hiccups.spate(self.now))
            self.now += 1
        self.now = 100.0 + PERIOD
        self.assertEqual(self.hiccups.spate(self.now), Spate(MANY, 0.15 + (MANY - 1) / 1000))
        self.assertIsNone(self.hiccups.spate(self.now + PERIOD))

    def test_few_are_none(self) -> None:
        for _ in range(MANY - 1):
            self.logged(self.pause(0.15))
        self.assertIsNone(self.hiccups.spate(self.now + PERIOD))
        self.logged(self.pause(0.15))
        self.assertIsNone(self.hiccups.spate(self.now + 2 * PERIOD))
