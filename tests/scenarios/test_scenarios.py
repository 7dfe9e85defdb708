"""The scenario files tell what happens."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.script import COMMANDS, HERE, PROMPT, ScriptError, paths, replay

AFRESH = "if this is meant: python -m tests.scenarios --rewrite"


class ScenarioFiles(SynchronousTestCase):
    maxDiff = None

    def test_every_story_goes_as_it_is_written(self) -> None:
        for path in paths():
            written = path.read_text(encoding="utf-8")
            self.assertEqual(replay(written), written, f"{path.name} differs; {AFRESH}")

    def test_there_are_the_ten_that_an_operator_meets(self) -> None:
        self.assertEqual(
            {path.stem for path in paths()},
            {
                "cold-start",
                "crash",
                "deaf-link",
                "handover",
                "lost-disk",
                "mixed-versions",
                "partition",
                "pause",
                "two-claims",
                "witness",
            },
        )

    def test_a_promise_is_broken_only_where_disks_are_lost(self) -> None:
        for path in paths():
            broken = re.search(r"^ +[\d.]+  !", path.read_text(encoding="utf-8"), re.MULTILINE)
            self.assertEqual(broken is not None, path.stem == "two-claims", path.name)


class Scripts(SynchronousTestCase):
    SCRIPT = "# Two nodes\n\n> start a b\n> settle\n"

    def test_what_stands_below_a_command_is_written_anew(self) -> None:
        written = replay(self.SCRIPT)
        self.assertIn("> settle\n    ", written)
        self.assertIn("all follow a\n", written)
        self.assertEqual(replay(written), written)
        self.assertEqual(replay(written.replace("all follow a", "all follow b")), written)

    def test_remarks_stay(self) -> None:
        self.assertTrue(replay(self.SCRIPT).startswith("# Two nodes\n\n> start"))

    def test_what_is_no_command_is_named_with_its_line(self) -> None:
        for line in ("crush a", "crash", "crash z", "wait long s"):
            error = self.assertRaises(ScriptError, replay, f"{self.SCRIPT}{PROMPT}{line}\n")
            self.assertIn("line 5", str(error))
            self.assertIn(line, str(error))

    def test_a_cluster_is_started_once_and_first(self) -> None:
        self.assertRaises(ScriptError, replay, "> crash a\n")
        self.assertRaises(ScriptError, replay, "> start a\n> witness a\n")

    def test_every_command_is_explained(self) -> None:
        readme = (HERE / "README.md").read_text(encoding="utf-8")
        self.assertEqual(
            re.findall(r"^\| `(.+?)` \|", readme, re.MULTILINE),
            [command.form for command in COMMANDS],
        )
