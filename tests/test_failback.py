"""When a role is handed back, in virtual time."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.failback import KEPT, LONGEST_WAIT, Failback, Own, obstacle
from kevy_elect.status import PeerStatus, Status, from_object
from tests.support.statuses import following, peer, replica

OWN = Own(node_id="a", epoch=3, offset=7, drives_server=False, after=60.0)
DRIVES = attrs.evolve(OWN, drives_server=True)


def seen(**changes: Any) -> PeerStatus:
    """How the primary a sees its peer b, which has as much data."""
    return from_object(replica("a", peers=[peer(**changes)])).peers[0]


def told(**changes: Any) -> Status:
    """What b says of itself; it has been running for 90 s."""
    return from_object(replica("b", **changes))


class ObstacleTests(SynchronousTestCase):
    def test_nothing_speaks_against_a_member_that_is_well(self) -> None:
        self.assertIsNone(obstacle(seen(), told(), OWN))
        self.assertIsNone(obstacle(seen(offset=8), told(check=healthy(True)), OWN))

    def test_what_is_seen_of_it(self) -> None:
        for changes, why in (
            ({"alive": False}, "not heard"),
            ({"link": "waiting"}, "not heard"),
            ({"acknowledging": False}, "does not acknowledge"),
            ({"role": "candidate"}, "does not follow"),
            ({"epoch": 2}, "does not follow"),
            ({"offset": 6}, "less data"),
        ):
            self.assertIn(why, obstacle(seen(**changes), told(), OWN) or "")

    def test_what_it_says(self) -> None:
        for changes, why in (
            ({"current_primary": "c"}, "does not follow"),
            ({"epoch": 2}, "does not follow"),
            ({"witness": True}, "witness"),
            ({"maintained_for": 1.0}, "maintenance"),
            ({"paused_for": 1.0}, "paused"),
            ({"check": healthy(False)}, "unhealthy"),
            ({"uptime": 59.0}, "started a short time ago"),
            ({"uptime": None}, "started a short time ago"),
        ):
            self.assertIn(why, obstacle(seen(), told(**changes), OWN) or "")
        self.assertIn("page", obstacle(seen(), None, OWN) or "")

    def test_its_data_server_must_be_in_sync_if_the_primary_drives_one(self) -> None:
        self.assertIn("drives no data server", obstacle(seen(), told(), DRIVES) or "")
        self.assertIsNone(obstacle(seen(), told(data=following()), DRIVES))
        for wrong in ({"in_sync": False}, {"problem": "it lost data"}, {"state": "frozen"}):
            data = following() | wrong
            self.assertIn("not in sync", obstacle(seen(), told(data=data), DRIVES) or "")


def healthy(well: object) -> dict[str, Any]:
    return {"healthy": well, "problem": ""}


class DecisionTests(SynchronousTestCase):
    """One node that is primary, and looks each second."""

    def setUp(self) -> None:
        self.failback = Failback(60.0)
        self.now = 1000.0
        self.failback.begin(self.now)

    def look(self, seconds: float, *fit: str) -> str | None:
        """Look for so long; who gets the role, if anybody."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            chosen = self.failback.choose(self.now, fit)
            if chosen is not None:
                return chosen
        return None

    def test_a_member_gets_it_after_so_many_seconds(self) -> None:
        self.assertIsNone(self.look(60, "b"))
        self.assertEqual(self.look(1, "b"), "b")

    def test_an_interruption_begins_anew(self) -> None:
        self.look(59, "b")
        self.look(1)
        self.assertIsNone(self.look(60, "b"))
        self.assertEqual(self.look(1, "b"), "b")

    def test_so_does_a_new_term(self) -> None:
        self.look(59, "b")
        self.failback.begin(self.now)
        self.assertIsNone(self.look(60, "b"))

    def test_the_first_that_is_ready_gets_it(self) -> None:
        self.look(30, "c")
        chosen = [self.look(1, "b", "c") for _ in range(61)]
        self.assertEqual(chosen, [None] * 30 + ["c"] * 30 + ["b"])

    def test_after_a_failure_it_waits_longer_each_time(self) -> None:
        self.look(61, "b")
        for wait in (60, 120, 240):
            self.assertEqual(self.failback.failed(self.now), wait)
            self.assertIsNone(self.look(wait - 1, "b"))
            self.assertEqual(self.look(1, "b"), "b")

    def test_the_wait_has_a_bound(self) -> None:
        waits = [self.failback.failed(self.now) for _ in range(30)]
        self.assertEqual(max(waits), LONGEST_WAIT)

    def test_a_role_that_comes_back_is_a_failure(self) -> None:
        for wait in (60, 120, 240):
            self.look(61, "b")
            self.failback.gave(self.now)
            self.now += 30
            self.failback.begin(self.now)
            self.assertIsNone(self.look(wait - 1, "b"))
            self.assertEqual(self.look(62, "b"), "b")

    def test_a_role_that_stayed_away_for_long_makes_it_patient_no_more(self) -> None:
        for _ in range(3):
            self.failback.failed(self.now)
        self.failback.gave(self.now)
        self.now += KEPT * 480
        self.failback.begin(self.now)
        self.look(61, "b")
        self.assertEqual(self.failback.failed(self.now), 60)
