"""The parts of `kevy-elect demo` that need no processes."""

from __future__ import annotations

import io
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.__main__ import main
from kevy_elect.cli.demo import command
from kevy_elect.cli.demo.child import why_ended
from kevy_elect.cli.demo.course import Failover, summary
from kevy_elect.cli.demo.nodes import Node
from kevy_elect.cli.demo.redis.account import Takeover, sentence, watched
from kevy_elect.cli.demo.redis.hosts import Server
from kevy_elect.cli.demo.redis.numbers import Ledger, Numbers
from kevy_elect.cli.demo.screen import Lines, grids, state
from kevy_elect.cli.responses import Response
from kevy_elect.errors import ConfigError
from kevy_elect.status import DataStatus
from tests.cli.test_main import SILENT, answer, replica


@attrs.define
class FakeProcess:
    """A process that runs until notified otherwise."""

    returncode: int | None = None
    pid: int = 4711

    def poll(self) -> int | None:
        return self.returncode


class DemoTests(SynchronousTestCase):
    """The parts of the demo that need no processes."""

    def node(self, process: Any = None, heard: Response | None = None) -> Node:
        node = Node("a", Path(self.mktemp()), ["true"], process=process, url="http://h:1/status")
        if heard is not None:
            node.hear(heard)
        return node

    def test_state(self) -> None:
        self.assertEqual(state(self.node()), ("dead", ""))
        self.assertEqual(state(self.node(FakeProcess(1), answer())), ("dead", ""))
        for heard, expected in (
            (None, ("starting", "")),
            (SILENT, ("starting", "")),
            (answer(), ("primary", "epoch 3, can write")),
            (answer(can_write=False), ("primary", "epoch 3, without the lease")),
            (replica("a", "b"), ("replica", "epoch 3, follows b")),
            (replica("a", None), ("replica", "epoch 3, knows no primary")),
            (answer(role="candidate"), ("candidate", "epoch 3")),
        ):
            self.assertEqual(state(self.node(FakeProcess(), heard)), expected)

    def test_silent_once_it_had_answered(self) -> None:
        node = self.node(FakeProcess(), answer())
        node.hear(SILENT)
        self.assertEqual(state(node), ("silent", "Connection refused"))

    def test_a_line_per_change(self) -> None:
        out = io.StringIO()
        lines = Lines(out)
        node = self.node(FakeProcess())
        for heard in (SILENT, replica("a", None), replica("a", None), replica("a", "b"), answer()):
            node.hear(heard)
            lines.show([node])
        self.assertEqual(
            [line.split("  ")[-1] for line in out.getvalue().splitlines()],
            [
                "a: starting -> replica, epoch 3, knows no primary",
                "a: replica, epoch 3, follows b",
                "a: replica -> primary, epoch 3, can write",
            ],
        )

    def test_summary(self) -> None:
        without = Failover("a", "b", 0.5, 0.6, with_will=False)
        notified = Failover("b", "a", 0.02, 0.03, with_will=True)
        _, _, *lines = summary([without, notified]).split("\n")
        self.assertEqual(
            [line.split() for line in lines[:2]],
            [
                ["a", "no", "b", "0.50", "s", "0.60", "s"],
                ["b", "yes", "a", "0.02", "s", "0.03", "s"],
            ],
        )
        self.assertEqual(
            lines[3:],
            [
                "Without a last will, another could write 0.50 s after the kill.",
                "With a last will, another could write 0.02 s after the kill.",
            ],
        )

    def test_summary_without_last_wills(self) -> None:
        failovers = [Failover("a", "b", after, after, with_will=False) for after in (0.5, 0.7, 0.6)]
        self.assertEqual(
            summary(failovers).split("\n")[-2:],
            [
                "",
                "Without a last will, another could write 0.60 s after the kill, "
                "the median of 3 (0.50 to 0.70 s).",
            ],
        )

    def test_why_a_process_ended(self) -> None:
        node = self.node(FakeProcess(1))
        node.directory.mkdir()
        node.log.write_text("first\nlast \x1b[2J\n")
        self.assertEqual(
            why_ended(node),
            "the process of a ended with status 1; its log ends: last \\x1b[2J",
        )
        node.log.write_text("cannot listen: [Errno 98] Address already in use\n")
        self.assertIn("has been taken meanwhile", why_ended(node))
        killed = self.node(FakeProcess(-9))
        killed.directory.mkdir()
        killed.log.touch()
        self.assertEqual(why_ended(killed), "the process of a was ended by SIGKILL")

    def test_a_row_for_each_node_and_for_each_server(self) -> None:
        """The server of one that is dead has no state."""
        self.assertEqual(len(grids([self.node(FakeProcess(), answer())])), 1)
        data = DataStatus(
            server="Redis",
            state="primary",
            problem="",
            data_epoch=3,
            length=77,
            source="",
            in_sync=False,
        )
        heard = answer()
        assert heard.status is not None
        driving = self.node(FakeProcess(), Response("", attrs.evolve(heard.status, data=data)))
        nodes, servers = grids([driving, self.node()])
        self.assertEqual([row[1] for row in nodes.rows], ["primary", "dead"])
        self.assertEqual(
            servers.rows, [("a", "primary", "3", "77", "-", "-"), ("a", "-", "-", "-", "-", "-")]
        )

    def test_interrupted_while_it_loads(self) -> None:
        def interrupted() -> int:
            raise KeyboardInterrupt

        self.patch(sys.modules["kevy_elect.cli.main"], "main", interrupted)
        self.assertEqual(main(), 130)


class RedisDemoTests(SynchronousTestCase):
    """The parts of `demo --redis` that need no Redis."""

    def test_numbers_are_bits_as_redis_has_them(self) -> None:
        numbers = Numbers()
        for number in (0, 9, 9, 23):
            numbers.add(number)
        self.assertEqual(len(numbers), 3)
        stored = Numbers(b"\x80\x40")  # SETBIT of 0 and of 9
        self.assertEqual((len(numbers - stored), len(stored - numbers)), (1, 0))
        self.assertEqual(len(stored | Numbers(b"\x01")), 3)
        self.assertEqual(len(Numbers() - stored), 0)

    def test_a_tally_stays_as_it_was(self) -> None:
        ledger = Ledger()
        for number, confirmed in ((0, True), (1, False)):
            ledger.acknowledge(number)
            ledger.settle(number, confirmed=confirmed)
        before = ledger.tally()
        ledger.acknowledge(2)
        ledger.settle(2, confirmed=True)
        ledger.settle(3, confirmed=False)  # which nobody has acknowledged
        after = ledger.tally()
        self.assertEqual(
            [
                (len(each.acknowledged), len(each.confirmed), each.unconfirmed)
                for each in (before, after)
            ],
            [(2, 1, 1), (3, 2, 2)],
        )

    def test_sentences(self) -> None:
        crash = Takeover("a", "b", 0.614, written=1204, lost=0, unconfirmed=1)
        switchover = Takeover("b", "c", 0.05, written=1500, lost=0, unconfirmed=2)
        self.assertEqual(
            sentence(3, crash, switchover),
            "Round 3: after kill -9 of a the first write on b took 0.61 s, 0 of 1,204 confirmed "
            "writes were lost, and 1 stayed unconfirmed; the switchover from b to c left 0.05 s "
            "without a write and lost 0 of 1,500 writes.",
        )
        self.assertEqual(
            watched(crash),
            "b took its first write 0.61 s after the last one of a; "
            "0 of 1,204 confirmed writes were lost",
        )

    def test_a_server_begins_empty(self) -> None:
        """Also one that was filled as a replica, which leaves a file."""
        server = Server("Redis of a", Path(self.mktemp()), ["true"])
        server.directory.mkdir()
        (server.directory / "dump.rdb").touch()
        server.start()
        server.kill()
        self.assertEqual([each.name for each in server.directory.iterdir()], ["log"])

    def test_what_is_missing_is_named(self) -> None:
        self.patch(shutil, "which", lambda name: None)
        error = self.assertRaises(ConfigError, command.check_redis)
        self.assertIn("apt install redis-server", str(error))
        self.patch(shutil, "which", lambda name: "/usr/bin/" + name)
        self.patch(
            command.importlib.util,
            "find_spec",
            lambda name: None if name == "hiredis" else find_spec(name),
        )
        error = self.assertRaises(ConfigError, command.check_redis)
        self.assertIn("pip install 'kevy-elect[redis]'", str(error))
