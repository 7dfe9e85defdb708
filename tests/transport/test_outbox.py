from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Role
from kevy_elect.transport.outbox import Outbox


def drain(outbox: Outbox) -> list[Message]:
    return [outbox.take() for _ in range(len(outbox))]


class OutboxTests(SynchronousTestCase):
    def test_what_was_put_first_goes_first(self) -> None:
        outbox = Outbox()
        messages: list[Message] = [Offer(2, "a", 0), Accept(1, "a"), Announce(2, "a", "h:1")]
        for message in messages:
            outbox.put(message)
        self.assertEqual(drain(outbox), messages)
        self.assertEqual(outbox.dropped, 0)

    def test_a_newer_message_replaces_the_older_of_its_kind_and_goes_last(self) -> None:
        outbox = Outbox()
        for epoch in range(1, 1001):
            outbox.put(Heartbeat(epoch, "a", Role.REPLICA, 0))
            outbox.put(Offer(epoch, "a", 0))
            self.assertLessEqual(len(outbox), 2)
        outbox.put(Heartbeat(1001, "a", Role.REPLICA, 0))
        self.assertEqual(
            drain(outbox), [Offer(1000, "a", 0), Heartbeat(1001, "a", Role.REPLICA, 0)]
        )
        self.assertEqual(outbox.dropped, 999 + 1000)

    def test_beyond_the_limit_the_oldest_goes(self) -> None:
        outbox = Outbox(limit=2)
        for message in (Offer(2, "a", 0), Accept(1, "a"), Announce(2, "a", "h:1")):
            outbox.put(message)
        self.assertEqual(drain(outbox), [Accept(1, "a"), Announce(2, "a", "h:1")])
        self.assertEqual(outbox.dropped, 1)

    def test_the_limit_is_256_unless_given(self) -> None:
        self.assertEqual(Outbox().limit, 256)

    def test_taking_from_an_empty_outbox_is_an_error(self) -> None:
        self.assertRaises(LookupError, Outbox().take)
