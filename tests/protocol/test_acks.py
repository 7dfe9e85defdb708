"""Section 4: which heartbeat an ACK confirms."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.acks import REMEMBERED, Ledger
from kevy_elect.messages import Ack, Heartbeat
from tests.support.nodes import primary, replica


class Acknowledgements(SynchronousTestCase):
    def ledger(self, *heartbeats: Heartbeat) -> Ledger:
        """One that sent these, the first at time 1, the second at time 2, and so on."""
        ledger = Ledger()
        for at, heartbeat in enumerate(heartbeats, start=1):
            ledger.sent(heartbeat, float(at))
        return ledger

    def test_an_ack_confirms_when_the_heartbeat_of_its_count_was_sent(self) -> None:
        ledger = self.ledger(primary("a", 3), primary("a", 3), primary("a", 3))
        self.assertEqual(ledger.confirmed_by(Ack(3, 2)), 2.0)

    def test_once_only_and_nothing_older_afterwards(self) -> None:
        ledger = self.ledger(primary("a", 3), primary("a", 3), primary("a", 3))
        self.assertEqual(ledger.confirmed_by(Ack(3, 2)), 2.0)
        self.assertIsNone(ledger.confirmed_by(Ack(3, 2)))
        self.assertIsNone(ledger.confirmed_by(Ack(3, 1)))
        self.assertEqual(ledger.confirmed_by(Ack(3, 3)), 3.0)

    def test_every_heartbeat_counts_but_only_a_primarys_can_be_confirmed(self) -> None:
        ledger = self.ledger(replica("a", 2), replica("a", 2), primary("a", 3))
        self.assertIsNone(ledger.confirmed_by(Ack(2, 2)))
        self.assertEqual(ledger.confirmed_by(Ack(3, 3)), 3.0)

    def test_one_of_another_epoch_confirms_nothing(self) -> None:
        ledger = self.ledger(primary("a", 3), primary("a", 5))
        self.assertIsNone(ledger.confirmed_by(Ack(5, 1)))
        self.assertIsNone(ledger.confirmed_by(Ack(3, 2)))

    def test_one_of_what_was_never_sent_confirms_nothing(self) -> None:
        self.assertIsNone(self.ledger(primary("a", 3)).confirmed_by(Ack(3, 2)))
        self.assertIsNone(self.ledger().confirmed_by(Ack(3, 1)))

    def test_the_newest_256_are_remembered(self) -> None:
        beats = [primary("a", 3)] * (REMEMBERED + 2)
        self.assertIsNone(self.ledger(*beats).confirmed_by(Ack(3, 2)))
        self.assertEqual(self.ledger(*beats).confirmed_by(Ack(3, 3)), 3.0)
        self.assertEqual(REMEMBERED, 256)
