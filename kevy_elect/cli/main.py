"""The command `kevy-elect`: shows and controls nodes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kevy_elect import __version__
from kevy_elect.cli import (
    admin_client,
    check_config,
    completion,
    keys,
    primary_command,
    status_command,
    supervise,
)
from kevy_elect.cli.admin_client import UNREACHABLE, Subparsers, UnreachableError
from kevy_elect.cli.demo import command as demo
from kevy_elect.errors import ConfigError
from kevy_elect.settings.table import did_you_mean


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    parser, commands = _parsers()
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        return 2
    if not words[0].startswith("-") and words[0] not in commands.choices:
        meant = did_you_mean(words[0], commands.choices)
        parser.error(f"there is no command {words[0]!r}{meant}; see kevy-elect --help")
    args = parser.parse_args(words)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"kevy-elect: error: {error}", file=sys.stderr)
        return 2
    except UnreachableError as error:
        print(f"kevy-elect: {error}", file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe. Buffered output must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands. Each sets `run`, which takes the parsed arguments."""
    return _parsers()[0]


def _parsers() -> tuple[argparse.ArgumentParser, Subparsers[argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="kevy-elect",
        description="Show kevy-elect nodes, control them, or watch a failover.",
    )
    parser.add_argument("--version", action="version", version=f"kevy-elect {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    modules = (
        status_command,
        primary_command,
        admin_client,
        check_config,
        keys,
        supervise,
        demo,
    )
    for module in modules:
        module.add_commands(commands)
    completion.add_commands(commands, parser)
    return parser, commands
