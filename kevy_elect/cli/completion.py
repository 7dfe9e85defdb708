"""`kevy-elect completion`: the script by which a shell completes `kevy-elect`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from kevy_elect.errors import ConfigError
from kevy_elect.settings.table import NAMED, Kind

SHELLS: Final = ("bash", "zsh", "fish")


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], whole: argparse.ArgumentParser
) -> None:
    """Add `completion` to the subcommands of `kevy-elect`, whose parser is `whole`."""
    parser = commands.add_parser(
        "completion",
        help="print a script with which a shell completes this command",
        description="Print a completion script for this shell. Put it where the shell looks for "
        "completions. This needs the library shtab. Exit status 0, or 2 for wrong usage or without "
        "shtab.",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")
    parser.set_defaults(run=partial(run, whole))


def run(whole: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Print the script. Raises ConfigError like `script`."""
    print(script(whole, args.shell))
    return 0


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that completes commands, options and their values in `shell`, one of SHELLS.

    It modifies `parser` for this. Raises ConfigError without shtab, which writes the script.
    """
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install 'kevy-elect[completion]'") from None
    for action in _actions(parser):
        _say_what_fits(action, {Kind.DIRECTORY: shtab.DIRECTORY, Kind.FILE: shtab.FILE})
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for line in action._choices_actions:  # the lines of --help for the commands
                command = action.choices[line.dest]
                command.description = line.help  # a shell has no room for more
                yield from _actions(command)


def _say_what_fits(action: argparse.Action, paths: dict[Kind, Any]) -> None:
    """Set what shtab completes for an option that has the name, and so the kind, of a setting."""
    for option in action.option_strings:
        setting = NAMED.get(option.removeprefix("--"))
        if setting is not None and setting.kind in paths:
            action.complete = paths[setting.kind]  # type: ignore[attr-defined]
        elif setting is not None and setting.choices:
            action.choices = setting.choices
    if isinstance(action.metavar, str):
        action.metavar = action.metavar.replace(":", " ")  # zsh would run what follows it
