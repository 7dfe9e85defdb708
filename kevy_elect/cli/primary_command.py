"""The command `kevy-elect primary`: the address of the primary, for scripts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Final

import attrs

from kevy_elect.cli.admin_client import (
    CONNECT_TIMEOUT,
    Subparsers,
    UnreachableError,
    add_node_options,
    add_token_option,
    ask_status,
    duration,
    find_node,
    find_token,
)
from kevy_elect.cli.printable import printable

if TYPE_CHECKING:
    from kevy_elect.client import Primary

MAX_PROBLEM: Final = 500
"""The most characters of a problem that are shown."""


def add_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `primary` and `is-primary`."""
    parser = commands.add_parser(
        "primary",
        help="print the primary's address for clients",
        description="Print host:port of the primary. The node on this machine names it, or the "
        "first of the given status pages that knows one. Exit status 0 if there is one, else 1; 2 "
        "for wrong usage, 3 if this machine's node does not answer.",
    )
    parser.add_argument(
        "pages",
        metavar="URL",
        nargs="*",
        help="the members' status pages, such as 127.0.0.1:8101 "
        "(default: the node of --data-dir or --admin)",
    )
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=duration,
        default=0.0,
        help="how long to wait for a primary, such as 90, 15m or 2h",
    )
    add_token_option(parser)
    add_node_options(parser)
    parser.set_defaults(run=_run)

    guard = commands.add_parser(
        "is-primary",
        help="say by the exit status whether this machine's node is primary",
        description="Ask whether the node on this machine is primary and holds its lease. Prints "
        "nothing without --json. Exit status 0 if it is, else 1; 2 for wrong usage, 3 if the node "
        "does not answer.",
    )
    add_node_options(guard)
    guard.set_defaults(run=_is_primary)


# The client is imported at its use, because --help of a command needs no sockets.


def _run(args: argparse.Namespace) -> int:
    from kevy_elect.client import NoPrimaryError

    try:
        found = _of_pages(args) if args.pages else _of_node(args)
    except NoPrimaryError as error:
        print(f"kevy-elect: {printable(str(error), MAX_PROBLEM)}", file=sys.stderr)
        return 1
    print(json.dumps(attrs.asdict(found)) if args.json else found.address)
    return 0


def _of_pages(args: argparse.Namespace) -> Primary:
    """The primary of the first page that names one. Raises NoPrimaryError."""
    from kevy_elect.client import Client

    return Client(args.pages, token=find_token(args, args.pages)).wait(args.wait)


def _is_primary(args: argparse.Namespace) -> int:
    status, _ = ask_status(find_node(args), CONNECT_TIMEOUT)
    if args.json:
        told = {"node_id": status.node_id, "primary": status.can_write, "epoch": status.epoch}
        print(json.dumps(told))
    return 0 if status.can_write else 1


def _of_node(args: argparse.Namespace) -> Primary:
    """The primary that this machine's node names. The node may start while this waits.

    Raises NoPrimaryError, or UnreachableError if the node did not answer the last time.
    """
    from kevy_elect.client import INTERVAL, NoPrimaryError, named_primary

    where, deadline = find_node(args), time.monotonic() + args.wait
    while True:
        problem: Exception
        try:
            return named_primary(ask_status(where, CONNECT_TIMEOUT)[0])
        except (NoPrimaryError, UnreachableError) as error:
            problem = error
        if time.monotonic() >= deadline:
            raise problem
        time.sleep(min(INTERVAL, max(0.0, deadline - time.monotonic())))
