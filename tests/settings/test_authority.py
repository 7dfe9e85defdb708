"""The authority that the documentation makes by openssl, tried as written."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.settings.links import read_identity
from tests.support import ROOT


class AuthorityTests(SynchronousTestCase):
    @skipIf(shutil.which("openssl") is None, "openssl is not installed")
    def test_its_commands_make_a_certificate_that_a_member_can_use(self) -> None:
        page = (ROOT / "docs/links.md").read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 2)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        subprocess.run(
            ["sh", "-e"], input="".join(blocks).encode(), cwd=directory, check=True,
            capture_output=True, timeout=60,
        )  # fmt: skip
        files = [str(directory / name) for name in ("a.pem", "a.key", "ca.pem")]
        self.assertTrue(read_identity("a", *files).ends)
