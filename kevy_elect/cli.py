"""The command `kevy-elect`: looks at running nodes from outside, by their status pages."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

import attrs

from kevy_elect import __version__, demo
from kevy_elect.errors import ConfigError
from kevy_elect.page import HEADER, Answer, Status, ask_all, cells, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"kevy-elect: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader is gone. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kevy-elect", description="Look at kevy-elect nodes, or watch a failover."
    )
    parser.add_argument("--version", action="version", version=f"kevy-elect {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_command in (_add_status, demo.add_command):
        add_command(commands)
    return parser


# The command `status`


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="show what nodes say of themselves",
        description="Ask nodes for their status. Exit 0 if exactly one primary holds its lease "
        "and all nodes that answer follow it, else 1.",
    )
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="+",
        type=status_url,
        help="a node's status page, such as http://127.0.0.1:8101/status or 127.0.0.1:8101",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="wait this long for an answer (default: %(default)g)",
    )
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    answers = ask_all(list(dict.fromkeys(args.urls)), args.timeout)
    problem = verdict(answers)
    print(_as_json(answers, problem) if args.json else table(answers))
    if problem is not None:
        print(f"kevy-elect: {problem}", file=sys.stderr)
        return 1
    return 0


def status_url(text: str) -> str:
    """The URL that `text` means: `host:port` or a URL without a path gets `/status`.

    Raises argparse.ArgumentTypeError for what is no http URL.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, brackets without an address
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{text!r} is neither host:port nor an http URL")
    return parts._replace(path="/status").geturl() if parts.path in ("", "/") else url


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


# Judging and showing


def verdict(answers: Sequence[Answer]) -> str | None:
    """Why this is not one primary with its lease, whom all that answer follow; None if it is."""
    found = [answer.status for answer in answers if answer.status is not None]
    writers = [status for status in found if status.can_write]
    if not found:
        return "no node answered"
    if not writers:
        return "no primary holds its lease"
    if len(writers) > 1:
        return f"{len(writers)} nodes claim the lease: {_listed(writers)}"
    primary = writers[0].node_id
    others = [status for status in found if status.current_primary != primary]
    if others:
        return f"{printable(primary)} holds the lease, but is not followed by {_listed(others)}"
    return None


def _listed(statuses: Sequence[Status]) -> str:
    return printable(", ".join(status.node_id for status in statuses))


def table(answers: Sequence[Answer]) -> str:
    """The answers as aligned text, one line each; only printable ASCII."""
    lines = [HEADER, *(cells(answer) for answer in answers)]
    # An error stands across the columns and does not stretch them.
    measured = [line for line in lines if len(line) == len(HEADER)]
    widths = [max(map(len, column)) for column in zip(*measured, strict=True)]
    widths[0] = max(len(line[0]) for line in lines)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in lines
    )


def _as_json(answers: Sequence[Answer], problem: str | None) -> str:
    nodes = [
        {"url": answer.url, "error": answer.error}
        | ({} if answer.status is None else attrs.asdict(answer.status))
        for answer in answers
    ]
    return json.dumps({"ok": problem is None, "problem": problem, "nodes": nodes}, indent=2)
