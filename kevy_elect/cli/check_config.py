"""`kevy-elect check-config`: a node's settings and their sources, or all mistakes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from enum import Enum
from typing import Any, Final

import attrs

from kevy_elect.cli.admin_client import UnreachableError, ask_status
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.settings.links import TlsIdentity
from kevy_elect.settings.pages import token_warning
from kevy_elect.settings.resolve import Configuration, Mistake, MistakesError, Source, read
from kevy_elect.settings.table import NAMED, SETTINGS, Group
from kevy_elect.settings.text import shown
from kevy_elect.settings.timing_change import step_problem

RENEW_WITHIN: Final = 30 * 86400.0
"""A certificate should be renewed this many seconds before its expiry, or earlier."""
PATIENCE: Final = 2.0
"""Seconds within which the running node must answer with its timings."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check-config` to the subcommands of `kevy-elect`."""
    parser = commands.add_parser(
        "check-config",
        help="show a node's settings, or the mistakes in them",
        description="Read options, environment and file as twistd kevy-elect does. Print each "
        "setting and its source, or all mistakes; exit 0 or 1. While the node runs, timings that "
        "must not change in one step are a mistake, too.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for group in Group:
        section = parser.add_argument_group(group.value)
        for setting in (each for each in SETTINGS if each.group is group):
            how: dict[str, Any] = {"metavar": setting.metavar}
            if not setting.metavar:
                how = {"action": "store_const", "const": "true"}
            elif setting.repeatable:
                how["action"] = "append"
            section.add_argument(setting.option, help=setting.help.replace("%", "%%"), **how)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the configuration or its mistakes and return the exit status, 0 or 1."""
    given = {each.name: getattr(args, each.field) for each in SETTINGS}
    options = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    try:
        found = read(options, os.environ)
        check_programs(found)
        _check_step(found)
    except MistakesError as error:
        if args.json:
            print(_as_json(None, error.mistakes))
        for mistake in error.mistakes:
            print(f"kevy-elect: {mistake}", file=sys.stderr)
        return 1
    warnings = _warnings(found)
    print(_as_json(found, (), warnings) if args.json else table(found))
    for warning in warnings:
        print(f"kevy-elect: warning: {warning}", file=sys.stderr)
    return 0


def check_programs(found: Configuration) -> None:
    """Raise MistakesError if a program that has to run for long does not exist on this host."""
    mistakes = []
    for name in ("run-primary", "redis-command"):
        command = found.commands.get(name)
        if command is not None and shutil.which(command[0]) is None:
            text = (
                f"--{name}: there is no program {shown(command[0])} here that this user can "
                "run; correct it, or install it"
            )
            mistakes.append(Mistake(text, name, found.sources[name]))
    if mistakes:
        raise MistakesError(tuple(mistakes))


def _check_step(found: Configuration) -> None:
    """Raise MistakesError if the running node of this data directory must not change to these
    timings in one step. Without an answer of such a node, this checks nothing."""
    if found.values["admin"] is None:
        return
    try:
        running, _ = ask_status(found.values["admin"], PATIENCE)
        timings: dict[str, Any] = {
            each.name: running.settings[each.name] for each in attrs.fields(ElectConfig)
        }
        present = ElectConfig(**timings)
    except (UnreachableError, ConfigError, KeyError):
        return
    problem = step_problem(present, found.timings)
    if problem is not None and running.node_id == found.cluster.node_id:
        text = f"this node runs with other timings: {problem}"
        raise MistakesError((Mistake(text, "down-after", found.sources["down-after"]),))


def _warnings(found: Configuration) -> tuple[str, ...]:
    """Warnings of settings that are valid now but should change."""
    warnings = (_expiry(found), token_warning(found.values))
    return tuple(each for each in warnings if each is not None)


def _expiry(found: Configuration) -> str | None:
    """A warning if the certificate expires soon."""
    if not isinstance(found.links, TlsIdentity):
        return None
    left = found.links.ends - time.time()
    if left >= RENEW_WITHIN:
        return None
    return (
        f"the certificate {shown(found.values['tls-cert'])} expires in {left / 86400:.0f} days: "
        "put a new one into place and reload the node"
    )


def table(found: Configuration) -> str:
    """An aligned line for each setting, with its value and its source."""
    rows = [(name, _in_words(found, name), str(found.sources[name])) for name in NAMED]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _in_words(found: Configuration, name: str) -> str:
    value = _plain(found.values[name])
    if value in (None, [], {}):
        return "off" if name == "admin" else NAMED[name].default
    if name == "peers":
        return ",".join(value)
    return f"{value:g}" if type(value) is float else shown(value)


def _plain(value: Any) -> Any:
    """The value in a form for JSON."""
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _as_json(
    found: Configuration | None, mistakes: tuple[Mistake, ...], warnings: tuple[str, ...] = ()
) -> str:
    settings = {
        name: {"value": _plain(found.values[name])} | _place(found.sources[name])
        for name in (NAMED if found is not None else ())
        if found is not None
    }
    wrong = [
        {"message": each.text, "setting": each.setting} | _place(each.source) for each in mistakes
    ]
    judged = {"ok": not wrong, "mistakes": wrong, "warnings": warnings}
    return json.dumps(judged | {"settings": settings}, indent=2)


def _place(source: Source) -> dict[str, Any]:
    return {"source": source.origin.value, "name": source.name or None, "line": source.line}
