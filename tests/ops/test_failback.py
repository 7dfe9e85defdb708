"""A primary that hands its role back: what it asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig
from kevy_elect.errors import HandoverError
from kevy_elect.messages import Role
from kevy_elect.ops.failback import FailbackService, preferred, was_by_hand
from kevy_elect.ops.page_model import Happening, Known
from kevy_elect.service.departure import STOPS
from kevy_elect.service.handover import Outcome
from kevy_elect.service.observers import enlist
from kevy_elect.status import from_object
from tests.support.statuses import document, peer, replica

AFTER = 10.0


class Pages:
    """The pages of b and c, which answer as often as they are looked at."""

    def __init__(self, now: Clock) -> None:
        self.asked = False
        self.breaks = False
        self.clock = now
        self.known = {each: Known(each, "http://192.0.2.1") for each in "bc"}
        self.changes: dict[str, dict[str, Any]] = {each: {} for each in "bc"}
        self.silent = ""

    def __iter__(self) -> Iterator[Known]:
        if self.breaks:
            raise RuntimeError("a bug")
        now = self.clock.seconds()
        for each, known in self.known.items():
            if each not in self.silent:
                known.say(from_object(replica(each) | self.changes[each]), now, now)
            yield known

    def start(self) -> None:
        self.asked = True

    def stop(self) -> None:
        self.asked = False


class Election:
    """The primary a of epoch 3; what it hands over is decided by the test."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.reactor.advance(1000)
        self.config = ElectConfig()
        self.cluster = SimpleNamespace(node_id="a")
        self.data = None
        self.repl_offset = 7
        self.role = Role.PRIMARY
        self.maintained = 0.0
        self.handed: list[tuple[str, str]] = []
        self.handing: Deferred[Outcome] = Deferred()
        self.refuses = False
        self.observers: list[Any] = []

    def now(self) -> float:
        return self.reactor.seconds()

    def state_snapshot(self) -> Any:
        return SimpleNamespace(role=self.role, epoch=3)

    def become(self, role: Role) -> None:
        self.role = role
        for each in list(self.observers):
            each(self.state_snapshot(), "")

    def can_write(self) -> bool:
        fenced = bool(self.handed) and not self.handing.called
        return self.role is Role.PRIMARY and not fenced

    def maintained_for(self) -> float:
        return self.maintained

    def add_observer(self, observer: Any) -> Any:
        return enlist(self.observers, observer)

    def peer_status(self) -> Any:
        return from_object(document(peers=[peer(), peer(node_id="c")])).peers

    def switch_over(self, target: str, *, patience: float, tell: Any, reason: str) -> Any:
        if self.refuses:
            raise HandoverError("a handover is under way already")
        self.handed.append((target, reason))
        self.handing = Deferred()
        return self.handing


class FailbackTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.election: Any = Election()
        self.pages = Pages(self.election.reactor)
        self.begin(b=10, c=5)

    def begin(self, **priorities: int) -> None:
        self.service = FailbackService(self.election, priorities, self.pages, AFTER)
        self.service.startService()
        self.addCleanup(self.service.stopService)

    def live(self, seconds: float) -> list[tuple[str, str]]:
        """To whom it handed over meanwhile, and why."""
        before = len(self.election.handed)
        self.election.reactor.pump([1.0] * round(seconds))
        return list(self.election.handed[before:])

    def end(self, *, done: bool) -> None:
        self.election.handing.callback(Outcome(done, "so it is", None, 3, 0.1))

    def test_the_most_preferred_gets_the_role(self) -> None:
        self.assertEqual(self.live(10), [])
        self.assertEqual(self.live(1), [("b", "failback")])
        self.assertEqual(self.live(100), [])

    def test_the_next_one_gets_it_if_that_is_not_fit(self) -> None:
        self.pages.changes["b"] = {"check": {"healthy": False, "problem": ""}}
        self.assertEqual(self.live(11), [("c", "failback")])

    def test_a_page_that_does_not_answer_makes_unfit(self) -> None:
        self.pages.silent = "bc"
        self.assertEqual(self.live(100), [])
        self.pages.silent = "b"
        self.assertEqual(self.live(11), [("c", "failback")])

    def test_data_that_is_on_its_way_is_not_missing(self) -> None:
        self.election.repl_offset = 6
        self.live(9)
        self.election.repl_offset = 9  # of which b and c have 7 still
        self.assertEqual(self.live(2), [("b", "failback")])

    def test_data_that_does_not_come_is(self) -> None:
        self.election.repl_offset = 9
        self.assertEqual(self.live(100), [])

    def test_not_in_maintenance_of_anybody(self) -> None:
        self.election.maintained = 60.0
        self.assertEqual(self.live(100), [])
        self.election.maintained = 0.0
        self.pages.changes["c"] = {"maintained_for": 60.0}
        self.assertEqual(self.live(100), [])
        self.pages.changes["c"] = {}
        self.assertEqual(self.live(11), [("b", "failback")])

    def test_after_a_failure_it_waits(self) -> None:
        self.live(11)
        self.end(done=False)
        self.assertEqual(self.live(9), [])
        self.assertEqual(self.live(1), [("b", "failback")])
        self.end(done=False)
        self.assertEqual(self.live(19), [])
        self.assertEqual(self.live(1), [("b", "failback")])

    def test_who_is_refused_tries_again(self) -> None:
        self.election.refuses = True
        self.live(20)
        self.election.refuses = False
        self.assertEqual(self.live(1), [("b", "failback")])

    def test_pages_are_asked_during_a_term_only(self) -> None:
        self.assertTrue(self.pages.asked)
        self.live(11)
        self.election.become(Role.REPLICA)
        self.end(done=True)
        self.assertFalse(self.pages.asked)
        self.assertEqual(self.election.reactor.getDelayedCalls(), [])
        self.election.become(Role.PRIMARY)
        self.assertTrue(self.pages.asked)

    def test_a_bug_ends_it_for_good(self) -> None:
        self.pages.breaks = True
        self.live(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.pages.breaks = False
        self.election.become(Role.PRIMARY)
        self.assertEqual(self.live(20), [])
        self.assertFalse(self.pages.asked)

    def test_nothing_runs_if_nobody_is_preferred(self) -> None:
        self.service.stopService()
        self.begin(a=10, b=10)
        self.assertFalse(self.pages.asked)
        self.assertEqual(self.election.reactor.getDelayedCalls(), [])

    def test_what_an_operator_moved_here_stays_here_until_the_term_ends(self) -> None:
        self.pages.known["c"].events = [moved(self.election.now() - 0.5)]
        self.assertEqual(self.live(5), [])
        self.pages.known["c"].events = []  # c was started again
        self.assertEqual(self.live(100), [])
        self.election.become(Role.REPLICA)
        self.election.become(Role.PRIMARY)
        self.assertEqual(self.live(11), [("b", "failback")])


def moved(at: float, **changes: Any) -> Happening:
    """An event of c, which handed its role over to a."""
    said: dict[str, Any] = {"kind": "role", "cause": "handover", "member": "a", "text": ""}
    return Happening("c", at, **said | changes)


class ByHandTests(SynchronousTestCase):
    def test_a_switchover_just_before_the_term_is(self) -> None:
        for at in (99.9, 80.0, 101.0):
            self.assertTrue(was_by_hand(moved(at), "a", 100.0))
        self.assertTrue(was_by_hand(moved(99.9, reason="new disks"), "a", 100.0))

    def test_nothing_else_is(self) -> None:
        for event in (
            moved(50.0),
            moved(110.0),
            moved(99.9, reason="failback"),
            moved(99.9, reason=STOPS),
            moved(99.9, member="b"),
            moved(99.9, cause="resigned"),
            moved(99.9, kind="vote"),
        ):
            self.assertFalse(was_by_hand(event, "a", 100.0))


class PreferredTests(SynchronousTestCase):
    def test_who_has_a_higher_priority_the_highest_first(self) -> None:
        ranks = {"a": 5, "b": 7, "c": 9, "d": 9, "e": 5}
        self.assertEqual(preferred("a", ranks), ["c", "d", "b"])
        self.assertEqual(preferred("x", ranks), ["c", "d", "b", "a", "e"])
        self.assertEqual(preferred("c", ranks), [])
