"""debian/: the package is of this version, needs what setup.cfg says, and starts the node."""

from __future__ import annotations

import configparser
import re

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__
from tests.support import ROOT

DEBIAN = ROOT / "debian"
NAMES = {"attrs": "python3-attr", "twisted": "python3-twisted"}
"""What Debian calls the packages of setup.cfg."""


class PackageTests(SynchronousTestCase):
    def test_it_has_this_version(self) -> None:
        first = (DEBIAN / "changelog").read_text(encoding="utf-8").splitlines()[0]
        self.assertTrue(first.startswith(f"kevy-elect ({__version__}) "), first)

    def test_it_needs_what_setup_cfg_requires(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        control = (DEBIAN / "control").read_text(encoding="utf-8")
        for each in setup["options"]["install_requires"].split("\n")[1:]:
            name, bound = each.split(" >= ")
            self.assertIn(f" {NAMES[name]} (>= {bound}),", control)

    def test_its_unit_is_the_example_with_debians_twistd(self) -> None:
        rules = (DEBIAN / "rules").read_text(encoding="utf-8")
        found = re.search(r"sed 's,(\S+),(\S+),' (\S+)", rules)
        assert found is not None
        path, debians, example = found.groups()
        unit = (ROOT / example).read_text(encoding="utf-8")
        self.assertEqual(unit.count(path), 1)
        self.assertEqual(debians, "/usr/bin/twistd3")

    def test_it_has_the_licence_of_the_project(self) -> None:
        def words(text: str) -> str:
            return " ".join(line for line in text.split() if line != ".")

        text = words((DEBIAN / "copyright").read_text(encoding="utf-8"))
        licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
        self.assertIn(words(licence[licence.index("Permission") :]), text)
