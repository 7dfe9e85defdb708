from __future__ import annotations

from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock, RaisingMemoryReactor
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ops.port import Port


class PortTests(SynchronousTestCase):
    def warnings(self, description: str) -> list[str]:
        logged: list[str] = []

        def log(event: Any) -> None:
            if event["log_level"].name == "warn":
                logged.append(formatEvent(event))

        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        Port("--http", description, Factory(), reactor=MemoryReactorClock()).startService()
        return logged

    def test_one_that_others_reach_is_warned_of(self) -> None:
        (warning,) = self.warnings("tcp:8101")
        self.assertIn("--http listens on 0.0.0.0: whoever reaches this port", warning)

    def test_one_of_this_machine_alone_is_not(self) -> None:
        self.assertEqual(self.warnings("tcp6:8101:interface=\\:\\:1"), [])
        self.assertEqual(self.warnings("unix:/nowhere"), [])

    def test_what_keeps_it_from_listening_is_raised(self) -> None:
        error = CannotListenError("127.0.0.1", 8101, OSError("taken"))
        port = Port("--http", "tcp:8101", Factory(), reactor=RaisingMemoryReactor(error))
        self.assertRaises(CannotListenError, port.startService)
