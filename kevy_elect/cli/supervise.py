"""`kevy-elect supervise`: runs a node below a parent that notifies the others of its death."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import kevy_elect
from kevy_elect.cli.admin_client import Subparsers
from kevy_elect.errors import ConfigError

WRAPPER: Final = Path(kevy_elect.__file__).parent / "service" / "wrapper.py"


def add_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `supervise` to the subcommands of `kevy-elect`."""
    parser = commands.add_parser(
        "supervise",
        help="run a node and notify the other members at once when it dies",
        description="Run a node, with twistd or any other program, and exit with its status. "
        "If it dies while it is the primary, kill all that it started and then notify the other "
        "members, so that they elect another at once instead of after down_after. This needs "
        "Linux and --data-dir. Signals are forwarded to the node.",
    )
    parser.add_argument(
        "words",
        metavar="COMMAND",
        nargs=argparse.REMAINDER,
        help="the command and its arguments, after --",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> NoReturn:
    """Become the wrapper. Raises ConfigError without a command."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise ConfigError("there is no command: kevy-elect supervise -- twistd -n kevy-elect ...")
    sys.stdout.flush()
    os.execv(sys.executable, wrapped(words))


def wrapped(command: Sequence[str]) -> list[str]:
    """The command that runs `command` below a wrapper."""
    # Without site: the wrapper runs as long as the node, and should be small.
    return [sys.executable, "-I", "-S", str(WRAPPER), *command]
