from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.main import main
from kevy_elect.settings.links import public_key, read_private_key


class KeyTests(SynchronousTestCase):
    def run_command(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output and errors of `kevy-elect` with these words."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        return status, out.getvalue(), err.getvalue()

    def test_keygen_makes_a_key_and_pubkey_prints_its_public_half(self) -> None:
        path = self.mktemp()
        made = self.run_command("keygen", path)
        self.assertEqual(made, (0, public_key(read_private_key(path)).hex() + "\n", ""))
        self.assertEqual(self.run_command("pubkey", path), made)

    def test_what_is_there_is_not_replaced(self) -> None:
        path = self.mktemp()
        self.run_command("keygen", path)
        status, out, err = self.run_command("keygen", path)
        self.assertEqual((status, out), (2, ""))
        self.assertIn(f"{path} exists already", err)

    def test_a_file_without_a_key_is_named(self) -> None:
        status, out, err = self.run_command("pubkey", "no-such-file")
        self.assertEqual((status, out), (2, ""))
        self.assertIn("no-such-file cannot be read (No such file or directory)", err)
