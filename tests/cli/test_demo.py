"""The parts of `kevy-elect demo` that need no processes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.demo.child import why_ended
from kevy_elect.cli.demo.course import Failover, summary
from kevy_elect.cli.demo.nodes import Node
from kevy_elect.cli.demo.screen import Lines, state
from kevy_elect.cli.responses import Response
from tests.cli.test_main import SILENT, answer, replica


@attrs.define
class FakeProcess:
    """A process that runs until told otherwise."""

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
        without = Failover(False, "a", "b", 0.5, 0.6)
        told = Failover(True, "b", "a", 0.02, 0.03)
        _, _, *lines = summary([without, told]).split("\n")
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
        failovers = [Failover(False, "a", "b", after, after) for after in (0.5, 0.7, 0.6)]
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
