from __future__ import annotations

import os
import shutil
import socket
import tempfile
from itertools import count

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.errors import ConfigError
from kevy_elect.messages import Announce, Role
from kevy_elect.ops.systemd import RETRY, Manager, Notifier, describe, longest_stop, notifiers
from kevy_elect.service.election import ElectionService
from kevy_elect.service.observers import ElectorSnapshot
from tests.support.logs import logged
from tests.support.transports import QUICK, cluster, rng


class ManagerTests(SynchronousTestCase):
    def take(self, **environment: str) -> Manager | None:
        return Manager.take(environment)

    def test_without_a_socket_there_is_none(self) -> None:
        self.assertIsNone(self.take())
        self.assertIsNone(self.take(NOTIFY_SOCKET=""))
        self.assertIsNone(self.take(WATCHDOG_USEC="3000000"))

    def test_the_limit_is_in_seconds(self) -> None:
        self.assertEqual(
            self.take(NOTIFY_SOCKET="/run/n", WATCHDOG_USEC="1500000"), Manager("/run/n", 1.5)
        )

    def test_the_limit_may_be_meant_for_another_process(self) -> None:
        for pid, limit in ((os.getpid(), 1.0), (os.getpid() + 1, 0.0)):
            manager = self.take(NOTIFY_SOCKET="@n", WATCHDOG_USEC="1000000", WATCHDOG_PID=str(pid))
            self.assertEqual(manager, Manager("@n", limit))

    def test_children_are_not_told_of_it(self) -> None:
        environment = {
            "NOTIFY_SOCKET": "/run/n",
            "WATCHDOG_USEC": "1",
            "WATCHDOG_PID": "1",
            "HOME": "/",
        }
        Manager.take(environment)
        self.assertEqual(environment, {"HOME": "/"})

    def test_what_is_no_socket_or_no_limit_is_named(self) -> None:
        for environment in (
            {"NOTIFY_SOCKET": "vsock:2:1"},
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"},
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"},
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "9" * 5000},
        ):
            name, value = list(environment.items())[-1]
            error = self.assertRaises(ConfigError, Manager.take, environment)
            self.assertIn(f"{name}={value}", str(error))
            self.assertEqual(environment, {})


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        directory = tempfile.mkdtemp()  # short enough for the path of a socket
        self.addCleanup(shutil.rmtree, directory)
        self.path = f"{directory}/notify"
        self.receiver = self.listen(self.path)

    def listen(self, path: str) -> socket.socket:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind(path)
        receiver.setblocking(False)
        return receiver

    def started(self, limit: float = 0.0, ids: str = "abc", address: str = "") -> Notifier:
        self.election = ElectionService(
            cluster(ids=ids),
            ballot=MemoryBallot(),
            config=QUICK,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
        )
        self.election.startService()
        notifier = Notifier(self.election, Manager(address or self.path, limit))
        notifier.startService()
        self.addCleanup(notifier.stopService)
        return notifier

    def heard(self) -> list[dict[str, str]]:
        """What was told since the last call, a datagram each."""
        found = []
        while True:
            try:
                text = self.receiver.recv(65536).decode()
            except BlockingIOError:
                return found
            self.assertTrue(text.endswith("\n"))
            found.append(dict(line.split("=", 1) for line in text.splitlines()))

    def names(self) -> list[str]:
        return [name for told in self.heard() for name in told]

    def test_ready_once_all_have_started_and_the_reactor_runs(self) -> None:
        self.started()
        self.assertEqual(self.heard(), [])
        self.reactor.advance(0)
        (told,) = self.heard()
        self.assertEqual(told["READY"], "1")
        self.assertIn("replica in epoch 1, knows no primary", told["STATUS"])

    def test_a_node_whose_elector_failed_is_not_ready(self) -> None:
        self.started()
        self.election.stopService()
        self.reactor.advance(RETRY)
        self.assertNotIn("READY", self.names())

    def test_each_change_is_told_to_people(self) -> None:
        self.started()
        self.reactor.advance(0)
        self.heard()
        self.election.message_received("b", Announce(7, "b", "10.0.0.2:1"))
        self.assertIn("replica in epoch 7, follows b", self.heard()[-1]["STATUS"])

    def test_it_lives_four_times_within_the_limit(self) -> None:
        self.started(limit=2.0)
        self.reactor.pump([0.05] * 85)
        self.assertEqual(self.names().count("WATCHDOG"), 9)

    def test_without_a_limit_nobody_asks_whether_it_lives(self) -> None:
        self.started()
        self.reactor.pump([0.05] * 200)
        self.assertNotIn("WATCHDOG", self.names())

    def test_an_elector_that_stands_still_is_not_alive_though_the_reactor_turns(self) -> None:
        self.started(limit=2.0)
        self.reactor.pump([0.05] * 10)
        self.assertIn("WATCHDOG", self.names())
        assert self.election._driver is not None
        self.election._driver.stop()
        self.reactor.pump([0.05] * 20)
        self.heard()
        self.reactor.pump([0.05] * 100)
        self.assertNotIn("WATCHDOG", self.names())
        self.election._driver.start()
        self.reactor.pump([0.05] * 20)
        self.assertIn("WATCHDOG", self.names())

    def test_stopping_comes_first_with_the_time_that_it_may_take(self) -> None:
        notifier = self.started(ids="a")
        self.reactor.advance(0)
        self.heard()
        for leave in self.reactor.triggers["before"]["shutdown"]:
            leave[0]()
        (told,) = self.heard()
        self.assertEqual(told["STOPPING"], "1")
        self.assertEqual(told["STATUS"], "stopping: primary in epoch 2, may write")
        self.assertEqual(int(told["EXTEND_TIMEOUT_USEC"]), longest_stop(QUICK, 0) * 1e6)
        self.election.stopService()
        notifier.stopService()
        self.assertNotIn("STOPPING", self.names())

    def test_who_stops_before_it_was_ready_never_is(self) -> None:
        self.started()
        for leave in self.reactor.triggers["before"]["shutdown"]:
            leave[0]()
        self.reactor.advance(RETRY)
        self.assertNotIn("READY", self.names())

    def test_after_the_stop_nothing_is_told_or_left(self) -> None:
        notifier = self.started(limit=1.0)
        self.reactor.advance(0.01)
        notifier.stopService()
        self.heard()
        self.election.message_received("b", Announce(7, "b", "10.0.0.2:1"))
        self.reactor.advance(5)
        self.assertEqual(self.heard(), [])
        notifier.startService()
        self.reactor.advance(0)
        self.assertEqual(self.heard()[0]["READY"], "1")

    def test_an_abstract_socket(self) -> None:
        name = f"kevy-elect-{os.getpid()}-{id(self)}"
        self.receiver = self.listen(f"\0{name}")
        self.started(address=f"@{name}")
        self.reactor.advance(0)
        self.assertEqual(self.heard()[0]["READY"], "1")

    def test_a_missing_socket_is_logged_once_and_told_all_when_it_is_there(self) -> None:
        self.receiver.close()
        os.unlink(self.path)
        lines = self.enterContext(logged("kevy_elect.ops.systemd.Notifier"))
        self.started(limit=2.0)
        self.reactor.pump([0.05] * 50)
        self.election.message_received("b", Announce(7, "b", "10.0.0.2:1"))
        self.assertEqual(len(lines), 1)
        self.assertIn(self.path, lines[0])
        self.receiver = self.listen(self.path)
        self.reactor.pump([0.05] * 10)
        told = self.heard()[0]
        self.assertEqual(told["READY"], "1")
        self.assertIn("epoch 7", told["STATUS"])

    def test_nor_does_old_life_count_then(self) -> None:
        os.unlink(self.path)
        self.started(limit=2.0)
        self.reactor.pump([0.05] * 20)
        assert self.election._driver is not None
        self.election._driver.stop()
        self.reactor.pump([0.05] * 20)
        self.receiver = self.listen(self.path)
        self.reactor.pump([0.05] * 20)
        self.assertNotIn("WATCHDOG", self.names())

    def fill(self) -> int:
        """Send until nothing more is taken; how much was."""
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(filler.close)
        filler.setblocking(False)
        for sent in count():
            try:
                filler.sendto(b"FILLER=1\n", self.path)
            except BlockingIOError:
                return sent
        raise AssertionError

    def test_a_full_socket_does_not_stop_the_node(self) -> None:
        while self.fill() > 0:  # what one may send is bounded too
            pass
        self.started()
        self.reactor.advance(0)
        self.assertNotIn("READY", self.names())
        self.reactor.advance(RETRY)
        self.assertIn("READY", self.names())

    def test_a_path_too_long_does_not_stop_the_node(self) -> None:
        self.started(address="/" + "x" * 300, limit=1.0)
        self.reactor.pump([0.05] * 50)
        self.assertTrue(self.election.is_electing)


class NotifiersTests(SynchronousTestCase):
    def election(self) -> ElectionService:
        return ElectionService(cluster(), ballot=MemoryBallot(), reactor=MemoryReactorClock())

    def test_nobody_without_a_manager(self) -> None:
        self.assertEqual(list(notifiers(self.election(), {})), [])

    def test_one_with_it(self) -> None:
        (notifier,) = notifiers(self.election(), {"NOTIFY_SOCKET": "/run/n"})
        self.assertEqual(notifier.manager, Manager("/run/n"))

    def test_a_wrong_environment_does_not_keep_the_node_from_starting(self) -> None:
        lines = self.enterContext(logged("kevy_elect.ops.systemd.Notifier"))
        self.assertEqual(list(notifiers(self.election(), {"NOTIFY_SOCKET": "run/n"})), [])
        self.assertIn("NOTIFY_SOCKET=run/n", lines[0])


class DescribeTests(SynchronousTestCase):
    def snapshot(
        self, role: Role, primary: str | None, *, quorum: bool = True, can_write: bool = False
    ) -> ElectorSnapshot:
        return ElectorSnapshot(role, 4, primary, None, quorum, (), can_write, 0.0)

    def test_each_role(self) -> None:
        for snapshot, text in (
            (self.snapshot(Role.PRIMARY, "a", can_write=True), "primary in epoch 4, may write"),
            (self.snapshot(Role.PRIMARY, "a"), "primary in epoch 4, may not write"),
            (self.snapshot(Role.REPLICA, "b"), "replica in epoch 4, follows b"),
            (
                self.snapshot(Role.REPLICA, None, quorum=False),
                "replica in epoch 4, knows no primary, no quorum",
            ),
            (self.snapshot(Role.CANDIDATE, None), "candidate in epoch 4"),
        ):
            self.assertEqual(describe(snapshot), text)
