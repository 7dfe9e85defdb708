"""The manual pages have what the command line takes, and can be read."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__
from kevy_elect.cli.main import make_parser
from kevy_elect.settings.table import SETTINGS
from tests.support import ROOT

MANUAL = ROOT / "docs/man"
CONSOLE = MANUAL / "kevy-elect.1"
NODE = MANUAL / "twistd-kevy-elect.8"
REMEDY = "out of date: run tox -e man"
ESCAPES = {r"\-": "-", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~", r"\e": "\\"}


def plain(page: Path) -> str:
    """The text of a page in one line, without what only says how it is set."""
    text = re.sub(r"(?m)^\.(?!S[HS]).*\n", "", page.read_text(encoding="utf-8"))
    text = re.sub(r"\\f.|\\&", "", text)
    text = re.sub(r"\\\(..|\\.", lambda found: ESCAPES.get(found[0], found[0]), text)
    return " ".join(text.split())


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


class ContentTests(SynchronousTestCase):
    """What somebody looks for is there."""

    def assert_has(self, page: str, text: str) -> None:
        self.assertIn(" ".join(text.split()), page, REMEDY)

    def section(self, name: str) -> str:
        found = re.search(rf"\.SS {name} (.*?)(?= \.S[HS] )", plain(CONSOLE))
        assert found is not None, f"{name}: {REMEDY}"
        return found[1]

    def test_each_command_with_what_it_takes(self) -> None:
        for name, parser in commands():
            section = self.section(name)
            self.assert_has(section, parser.description or "")
            formatter = parser._get_formatter()
            settings = [f"--{each.name}" for each in SETTINGS] if name == "check-config" else []
            for action in parser._actions:
                names = action.option_strings or [str(action.metavar)]
                if names[-1] != "--help" and names[-1] not in settings:
                    value = f" {action.metavar}" if action.option_strings and action.metavar else ""
                    self.assert_has(section, ", ".join(names) + value)
                    self.assert_has(section, formatter._expand_help(action))

    def test_each_setting_with_its_default(self) -> None:
        page = plain(NODE)
        for setting in SETTINGS:
            value = "|".join(setting.choices) or setting.metavar
            default = f" Default: {setting.default}." if setting.default else ""
            self.assert_has(page, f"{setting.option} {value} {setting.meaning}.{default}")

    def test_no_option_that_there_is_not(self) -> None:
        known = {"--pidfile", "--version", *(each.option for each in SETTINGS)}
        for _, parser in commands():
            known |= set(parser._option_string_actions)
        for page in (CONSOLE, NODE):
            named = set(re.findall(r"(?<!\w)--[a-z][a-z-]+", plain(page)))
            self.assertEqual(named - known, set(), f"{page.name}: {REMEDY}")

    def test_the_version(self) -> None:
        for page in (CONSOLE, NODE):
            self.assertIn(f'"{__version__}"', page.read_text(encoding="utf-8"), REMEDY)


class FormatTests(SynchronousTestCase):
    """What shows manual pages has nothing to say of these."""

    def show(self, *command: str) -> str:
        if shutil.which(command[0]) is None:
            raise SkipTest(f"{command[0]} is not installed")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        return done.stdout

    def test_groff(self) -> None:
        for page in (CONSOLE, NODE):
            shown = self.show("groff", "-k", "-man", "-ww", "-Tutf8", str(page))
            self.assertIn("--data-dir", re.sub(r"\x1b\[\d*m|.\x08", "", shown))

    def test_mandoc(self) -> None:
        for page in (CONSOLE, NODE):
            self.show("mandoc", "-T", "lint", "-W", "error", str(page))
