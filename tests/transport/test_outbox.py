from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Role
from kevy_elect.transport.outbox import Outbox


def drain(outbox: Outbox) -> list[Message]:
    return list(iter(outbox.take, None))


class OutboxTests(SynchronousTestCase):
    def test_what_was_put_first_goes_first(self) -> None:
        outbox = Outbox()
        messages: list[Message] = [Offer(2, "a", 0), Accept(1, "a"), Announce(2, "a", "h:1")]
        for message in messages:
            outbox.put(message)
        self.assertEqual(drain(outbox), messages)
        self.assertEqual(outbox.dropped, 0)

    def test_a_newer_message_replaces_the_older_of_its_kind(self) -> None:
        outbox = Outbox()
        for epoch in range(1, 1001):
            outbox.put(Heartbeat(epoch, "a", Role.REPLICA, 0))
            outbox.put(Offer(epoch, "a", 0))
            self.assertLessEqual(len(outbox), 2)
        outbox.put(Heartbeat(1001, "a", Role.REPLICA, 0))
        self.assertEqual(
            drain(outbox), [Heartbeat(1001, "a", Role.REPLICA, 0), Offer(1000, "a", 0)]
        )
        self.assertEqual(outbox.dropped, 999 + 1000)

    def test_r2_a_heartbeat_overtakes_what_waits(self) -> None:
        outbox = Outbox()
        beat = Heartbeat(2, "a", Role.PRIMARY, 0)
        for message in (Announce(2, "a", "h:1"), Accept(1, "a"), beat):
            outbox.put(message)
        self.assertEqual(drain(outbox), [beat, Announce(2, "a", "h:1"), Accept(1, "a")])

    def test_r2_an_announce_waits_for_a_heartbeat_on_a_new_connection(self) -> None:
        outbox = Outbox()
        for message in (Announce(2, "a", "h:1"), Accept(1, "a")):
            outbox.put(message)
        self.assertEqual(outbox.take(beaten=False), Accept(1, "a"))
        self.assertIsNone(outbox.take(beaten=False))
        outbox.put(Heartbeat(2, "a", Role.PRIMARY, 0))
        self.assertEqual(outbox.take(beaten=False), Heartbeat(2, "a", Role.PRIMARY, 0))
        self.assertEqual(outbox.take(), Announce(2, "a", "h:1"))

    def test_beyond_the_limit_the_oldest_goes(self) -> None:
        outbox = Outbox(limit=2)
        for message in (Offer(2, "a", 0), Accept(1, "a"), Announce(2, "a", "h:1")):
            outbox.put(message)
        self.assertEqual(drain(outbox), [Accept(1, "a"), Announce(2, "a", "h:1")])
        self.assertEqual(outbox.dropped, 1)

    def test_the_limit_is_256_unless_given(self) -> None:
        self.assertEqual(Outbox().limit, 256)

    def test_an_empty_outbox_gives_nothing(self) -> None:
        self.assertIsNone(Outbox().take())
