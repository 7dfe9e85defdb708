"""Ctrl-C while a command is still loading."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.waiting import DEADLINE

START = "import sys; from kevy_elect.__main__ import main; sys.exit(main())"
"""What the script that an installation makes does."""
LOADED = (
    "import sys; sys.path[:0] = [{!r}]; before = set(sys.modules); import kevy_elect.__main__; "
)
LOADED += "print(*sorted(set(sys.modules) - before))"


@pytest.mark.parametrize(
    ("command", "loaded"),
    [
        ("demo", "kevy_elect.errors"),
        ("demo", "argparse"),
        ("demo", "kevy_elect.cli.main"),
        ("demo", "kevy_elect.cli.demo.course"),
        ("status --watch 127.0.0.1:1", "kevy_elect.cli.printable"),
        ("status --watch 127.0.0.1:1", "kevy_elect.cli.status_client"),
        ("primary --wait 5m 127.0.0.1:1", "kevy_elect.config"),
    ],
)
def test_it_ends_without_a_traceback(command: str, loaded: str) -> None:
    """The moments are those at which Python says that a module is loaded, on any machine."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", START, *command.split()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split()[-1:] == [loaded]:
                break
        else:
            pytest.fail(f"{loaded} was not loaded")
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=DEADLINE)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "Traceback" not in rest


def test_nothing_is_loaded_before_that_is_decided() -> None:
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADED.format(str(ROOT))],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert found.stdout.split() == ["kevy_elect", "kevy_elect.__main__"], found.stderr
