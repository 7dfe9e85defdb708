"""The command `kevy-elect`: looks at nodes and commands them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kevy_elect import __version__
from kevy_elect.cli import admin_client as console
from kevy_elect.cli import check_config, completion, keys
from kevy_elect.cli import status_command as report
from kevy_elect.cli.demo import command as demo
from kevy_elect.errors import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    args = make_parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"kevy-elect: error: {error}", file=sys.stderr)
        return 2
    except console.UnreachableError as error:
        print(f"kevy-elect: {error}", file=sys.stderr)
        return console.UNREACHABLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader is gone. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `run`, which gets what was parsed."""
    parser = argparse.ArgumentParser(
        prog="kevy-elect",
        description="Look at kevy-elect nodes, command them, or watch a failover.",
    )
    parser.add_argument("--version", action="version", version=f"kevy-elect {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (report.add_command, console.add_commands, check_config.add_command):
        add(commands)
    keys.add_commands(commands)
    demo.add_command(commands)
    completion.add_command(commands, parser)
    return parser
