from __future__ import annotations

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.errors import FrameError
from kevy_elect.messages import Message
from kevy_elect.transport.framing import ElectionProtocol
from tests.support.transports import Wire, heartbeat


class Listener(ElectionProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Message] = []
        self.refused: list[tuple[str, bytes]] = []

    def messageReceived(self, message: Message) -> None:
        self.heard.append(message)

    def badFrameReceived(self, error: FrameError, frame: bytes) -> None:
        super().badFrameReceived(error, frame)
        self.refused.append((error.kind, frame))


GOOD = wire.encode(heartbeat())
BAD = b"*2\r\n$4\r\nPING\r\n$1\r\nx\r\n"


class ElectionProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.protocol, self.transport = connect(Listener())
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def logged(self) -> list[dict[str, object]]:
        return [event for event in self.events if "ended the" in str(event.get("log_format"))]

    def test_a_frame_may_arrive_byte_by_byte(self) -> None:
        for i in range(len(GOOD)):
            self.protocol.dataReceived(GOOD[i : i + 1])
        self.assertEqual(self.protocol.heard, [heartbeat()])

    def test_many_frames_may_arrive_in_one_read(self) -> None:
        self.protocol.dataReceived(GOOD * 1000 + GOOD[:5])
        self.assertEqual(len(self.protocol.heard), 1000)
        self.protocol.dataReceived(GOOD[5:])
        self.assertEqual(len(self.protocol.heard), 1001)

    def test_a_bad_frame_ends_the_connection_and_nothing_later_is_delivered(self) -> None:
        self.protocol.dataReceived(GOOD + BAD + GOOD)
        self.protocol.dataReceived(GOOD)
        self.assertEqual(self.protocol.heard, [heartbeat()])
        self.assertEqual(self.protocol.refused, [("wrong_shape", BAD + GOOD)])
        self.assertTrue(self.transport.aborted)

    def test_the_buffer_of_an_ended_connection_is_dropped(self) -> None:
        self.protocol.dataReceived(BAD + GOOD)
        self.assertEqual(self.protocol._decoder.undecoded, 0)

    def test_one_log_line_says_who_and_what_with_the_bytes_safely_quoted(self) -> None:
        self.protocol.member = "b"
        self.protocol.dataReceived(GOOD + b"*1\r\n$9\r\n\x1b[31mred\n\r\n" + GOOD * 20)
        (event,) = self.logged()
        text = event["log_format"].format(**event)  # type: ignore[attr-defined]
        self.assertIn("192.0.2.1:40000 (b)", text)
        self.assertIn("wrong_shape", text)
        self.assertIn(r"\x1b[31mred\n", text)
        self.assertNotIn("\x1b", text)
        self.assertLess(len(text), 400)

    def test_a_hook_may_refuse_a_message(self) -> None:
        def refuse(message: Message) -> None:
            raise FrameError("bad_epoch", "too far")

        self.protocol.messageReceived = refuse  # type: ignore[method-assign]
        self.protocol.dataReceived(GOOD + GOOD)
        self.assertEqual(self.protocol.refused[0][0], "bad_epoch")
        self.assertTrue(self.protocol.refused[0][1].startswith(GOOD))
        self.assertEqual(self.logged()[0]["log_level"].name, "critical")  # type: ignore[attr-defined]

    def test_a_hook_may_end_the_connection(self) -> None:
        self.protocol.messageReceived = lambda message: self.protocol.end()  # type: ignore[method-assign]
        self.protocol.dataReceived(GOOD + BAD)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.protocol.refused, [])

    def test_what_a_connection_may_hold_is_bounded(self) -> None:
        self.protocol.MAX_LENGTH = 100  # type: ignore[misc]
        self.protocol.dataReceived(b"*5\r\n$512\r\n" + b"x" * 80)
        self.assertFalse(self.transport.aborted)
        self.protocol.dataReceived(b"x" * 20)
        self.assertEqual(self.protocol.refused[0][0], "bad")
        self.assertTrue(self.transport.aborted)

    def test_the_bound_is_16_kib(self) -> None:
        self.assertEqual(ElectionProtocol.MAX_LENGTH, 16 * 1024)


def connect(protocol: Listener) -> tuple[Listener, Wire]:
    transport = Wire()
    protocol.makeConnection(transport)
    return protocol, transport
