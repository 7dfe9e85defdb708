"""The scripts of `kevy-elect completion`, asked in the shells that they are for."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from unittest import SkipTest, mock

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli import completion
from kevy_elect.cli.main import main, make_parser
from kevy_elect.settings.table import LOG_LEVELS, SETTINGS
from tests.support import TWISTD

PATIENCE = 20.0
NODE_OPTIONS = {"--help", "--data-dir", "--admin", "--json"}


def script(test: SynchronousTestCase, shell: str) -> Path:
    """The file of a completion script. Skips without the shell or shtab."""
    if shutil.which(shell) is None:
        raise SkipTest(f"{shell} is not installed")
    try:
        text = completion.script(make_parser(), shell)
    except completion.ConfigError as error:
        raise SkipTest(str(error)) from None
    path = Path(test.mktemp())
    path.write_text(text, encoding="utf-8")
    return path


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stderr)
    return done.stdout


class BashTests(SynchronousTestCase):
    """A real bash gets the words so far and says what may follow."""

    ASK = """
        set -u
        source "$1"; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        registered=$(complete -p kevy-elect)
        [[ $registered =~ \\ -F\\ ([^ ]+) ]]
        "${BASH_REMATCH[1]}"
        printf '%s\\n' "${COMPREPLY[@]-}"
    """

    def complete(self, *words: str) -> set[str]:
        path = script(self, "bash")
        return set(run("bash", "-c", self.ASK, "bash", str(path.absolute()), *words).split())

    def test_a_command(self) -> None:
        listed = re.findall(r"(?m)^    (\S+)", make_parser().format_help())
        self.assertEqual(self.complete("kevy-elect", ""), set(listed))
        self.assertIn("switchover", listed)
        self.assertEqual(self.complete("kevy-elect", "st"), {"status", "step-down"})

    def test_the_options_of_a_command_and_no_others(self) -> None:
        found = self.complete("kevy-elect", "switchover", "b", "--")
        self.assertEqual(found, {*NODE_OPTIONS, "--on", "--reason", "--timeout"})

    def test_each_setting(self) -> None:
        found = self.complete("kevy-elect", "check-config", "--")
        self.assertEqual(found, {"--help", "--json", *(each.option for each in SETTINGS)})

    def test_a_value_that_is_one_of_several(self) -> None:
        words = ("kevy-elect", "check-config", "--shell", "--log-level")
        self.assertEqual(self.complete(*words, ""), set(LOG_LEVELS))
        self.assertEqual(self.complete(*words, "e"), {"error"})
        self.assertEqual(self.complete("kevy-elect", "completion", ""), set(completion.SHELLS))

    def test_a_directory(self) -> None:
        top = Path(self.mktemp()).absolute()
        (top / "data").mkdir(parents=True)
        (top / "date").touch()
        found = self.complete("kevy-elect", "events", "--data-dir", f"{top}/da")
        self.assertEqual(found, {f"{top}/data"})

    def test_a_file(self) -> None:
        top = Path(self.mktemp()).absolute()
        top.mkdir()
        (top / "node.toml").touch()
        found = self.complete("kevy-elect", "check-config", "--config", f"{top}/n")
        self.assertEqual(found, {f"{top}/node.toml"})


class ZshTests(SynchronousTestCase):
    """A real zsh on a terminal, in which somebody presses Tab."""

    def setUp(self) -> None:
        path = script(self, "zsh")
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        zsh = subprocess.Popen(
            ("zsh", "-f", "-i"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"TERM": "dumb", "ZDOTDIR": self.mktemp(), "LC_ALL": "C"},
        )
        os.close(theirs)
        self.addCleanup(zsh.wait)
        self.addCleanup(os.killpg, zsh.pid, signal.SIGKILL)
        self.terminal = ours
        self.type(f'autoload -U compinit; compinit -u -D; eval "$(cat {path.absolute()})"\n')
        self.type("echo rea''dy\n")  # its echo is not yet the word
        self.assert_shown("ready")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def assert_shown(self, text: str) -> str:
        shown = ""
        deadline = time.monotonic() + PATIENCE
        while text not in shown:
            self.assertLess(time.monotonic(), deadline, f"{text!r} is not in {shown!r}")
            if select.select([self.terminal], [], [], 0.1)[0]:
                shown += os.read(self.terminal, 65536).decode(errors="replace")
        return shown

    def test_a_command_is_completed(self) -> None:
        self.type("kevy-elect sta\t")
        self.assert_shown("kevy-elect status ")

    def test_several_are_listed_with_what_they_do(self) -> None:
        self.type("kevy-elect st\t\t")
        self.assert_shown("have the primary give up its role")

    def test_values_are_completed(self) -> None:
        self.type("kevy-elect check-config --log-level cri\t")
        self.assert_shown("--log-level critical ")

    def test_a_colon_in_what_an_option_takes_runs_nothing(self) -> None:
        self.type("kevy-elect check-config --advertise \t\x15echo rea''dy\n")
        self.assertNotIn("not found", self.assert_shown("ready"))


class FishTests(SynchronousTestCase):
    """A real fish gets the line so far."""

    def complete(self, line: str) -> dict[str, str]:
        """What may follow, with what it means."""
        path = script(self, "fish")
        asked = 'source $argv[1]; complete -C "$argv[2]"'
        told = run("fish", "--no-config", "-c", asked, str(path.absolute()), line)
        return {name: text for name, _, text in (each.partition("\t") for each in told.split("\n"))}

    def test_commands_with_what_they_do(self) -> None:
        found = self.complete("kevy-elect st")
        self.assertEqual(found["step-down"], "have the primary give up its role")
        self.assertEqual(set(found) - {""}, {"status", "step-down"})

    def test_values(self) -> None:
        found = self.complete("kevy-elect check-config --log-level ")
        self.assertEqual(set(found) - {""}, set(LOG_LEVELS))


class TwistdTests(SynchronousTestCase):
    """Twisted comes with the completion of `twistd` in zsh, and asks our options."""

    def test_each_setting(self) -> None:
        found = run(*TWISTD, "kevy-elect", "--", "--_shell-completion", "zsh:3")
        for setting in SETTINGS:
            self.assertIn(f"--{setting.name}{'=' if setting.metavar else ''}[", found)


class CommandTests(SynchronousTestCase):
    def test_without_shtab_it_says_what_to_install(self) -> None:
        errors = io.StringIO()
        with mock.patch.dict(sys.modules, shtab=None), contextlib.redirect_stderr(errors):
            self.assertEqual(main(["completion", "bash"]), 2)
        self.assertIn("pip install 'kevy-elect[completion]'", errors.getvalue())

    def test_a_shell_that_is_none_is_refused(self) -> None:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as refused:
            main(["completion", "cmd.exe"])
        self.assertEqual(refused.exception.code, 2)
        self.assertIn("cmd.exe", errors.getvalue())
