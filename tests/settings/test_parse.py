from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import ConfigError
from kevy_elect.settings.parse import split_command


class CommandTests(SynchronousTestCase):
    def test_a_command_is_split_as_a_shell_would_but_not_run_by_one(self) -> None:
        self.assertEqual(split_command("a 'b c' $HOME", shell=False), ("a", "b c", "$HOME"))

    def test_a_shell_gets_it_whole(self) -> None:
        self.assertEqual(split_command("a | b", shell=True), ("/bin/sh", "-c", "a | b"))

    def test_what_is_no_command_is_refused(self) -> None:
        for text in ("", "  ", "'open", "a \\", "''", "a \0"):
            for shell in (False, True):
                self.assertRaises(ConfigError, split_command, text, shell=shell)
