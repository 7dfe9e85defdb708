"""The operator's commands of `kevy-elect`: a client of one node's admin socket."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from kevy_elect.cli.printable import printable
from kevy_elect.config import parse_advertised
from kevy_elect.errors import ConfigError, ElectError, StatusError
from kevy_elect.settings.admin import DEFAULT_PATIENCE, DEFAULT_REST, SOCKET, parse_socket
from kevy_elect.status import Status, from_object

DATA_DIR: Final = "KEVY_ELECT_DATA_DIR"
ADMIN: Final = "KEVY_ELECT_ADMIN"
CONNECT_TIMEOUT: Final = 5.0
SLACK: Final = 60.0
"""Seconds that an answer may take on top of what was asked for."""
MAX_EVENT: Final = 500
"""Characters of an event's text that are shown."""
MAX_LINE: Final = 1024 * 1024
"""Bytes of one line of an answer."""

REFUSED: Final = 1
UNREACHABLE: Final = 3

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class UnreachableError(ElectError):
    """The node does not answer on its admin socket."""


Subparsers = argparse._SubParsersAction


def add_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add all commands that go to one node."""
    events = _add(commands, "events", _events, "show what happened on this node lately, and why")
    events.add_argument("-n", metavar="N", type=int, default=0, help="only the last N")

    down = _add(commands, "step-down", _step_down, "have the primary give up its role")
    down.add_argument(
        "--rest",
        metavar="DURATION",
        type=duration,
        default=DEFAULT_REST,
        help="and not stand for so long (default: %(default)gs)",
    )

    switch = _add(commands, "switchover", _switchover, "have the primary hand over its role")
    switch.add_argument(
        "target", metavar="TARGET", nargs="?", help="to this member (default: the best candidate)"
    )
    switch.add_argument(
        "--timeout",
        metavar="DURATION",
        type=duration,
        default=DEFAULT_PATIENCE,
        help="wait so long for its children to stop and the target's offset to reach its own, "
        "else take the role back (default: %(default)gs)",
    )

    pause = _add(commands, "pause", _pause, "have this node not stand for election")
    pause.add_argument("duration", metavar="DURATION", type=duration, help="such as 90, 15m or 2h")
    _add(commands, "resume", _resume, "have it stand again")

    offset = _add(commands, "offset", _offset, "say how much data this node's copy has")
    offset.add_argument("offset", metavar="N", type=int, help="more is better; unsigned 64-bit")


def _add(
    commands: Subparsers[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Exit status 0 if it is done, 1 if the node "
        "refused or failed, 2 for wrong usage, 3 if the node does not answer.",
    )
    add_node_options(parser)
    parser.set_defaults(run=run)
    return parser


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which node is meant, and `--json`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir",
        metavar="DIR",
        help=f"the node's data directory (default: ${DATA_DIR}, or the only kevy-elect-* here)",
    )
    where.add_argument(
        "--admin",
        metavar="ENDPOINT",
        help=f"its admin endpoint, if moved: unix:PATH or tcp:HOST:PORT (default: ${ADMIN})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def duration(text: str) -> float:
    """Seconds that `text` means: a number, or one with s, m, h or d after it.

    Raises argparse.ArgumentTypeError unless it is above 0.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration above 0: write for instance 90, 15m or 2h"
        )
    return seconds


# Which node


def find_node(args: argparse.Namespace) -> str:
    """The admin endpoint that the command line, the environment or this directory names.

    Raises ConfigError if none does, or more than one.
    """
    if args.admin or args.data_dir:
        return args.admin or _in(args.data_dir)
    if ADMIN in os.environ or DATA_DIR in os.environ:
        return os.environ.get(ADMIN) or _in(os.environ[DATA_DIR])
    here = sorted(Path().glob(f"kevy-elect-*/{SOCKET}"))
    if len(here) != 1:
        found = ", ".join(str(each.parent) for each in here) or "none"
        raise ConfigError(
            f"which node? Give its --data-dir or --admin; data directories here: {found}"
        )
    return f"unix:{here[0]}"


def _in(directory: str) -> str:
    return f"unix:{os.path.join(directory, SOCKET)}"


def _connect(where: str) -> socket.socket:
    try:
        unix = parse_socket(where)
        if unix is not None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(CONNECT_TIMEOUT)
            connection.connect(unix[0])
            return connection
        host, _, port = parse_advertised(where.removeprefix("tcp:")).rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT)
    except OSError as error:
        raise UnreachableError(
            f"no node answers on {where} ({error.strerror or error}): is it running, with this "
            "data directory, and without --no-admin?"
        ) from None


def ask(where: str, request: Mapping[str, Any], timeout: float = SLACK) -> Iterator[dict[str, Any]]:
    """Send a request to the admin endpoint `where`; the objects of the answer as they come.

    Raises UnreachableError if there is no answer, or none within `timeout` seconds.
    """
    with _connect(where) as connection:
        connection.settimeout(timeout)
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            lines = connection.makefile("rb")
            while line := lines.readline(MAX_LINE):
                told = json.loads(line)
                if not isinstance(told, dict):
                    raise ValueError("it is no JSON object")
                yield told
        except (OSError, ValueError, RecursionError) as error:
            raise UnreachableError(f"{where} gave no proper answer: {error}") from None


def answer(where: str, request: Mapping[str, Any], timeout: float = SLACK) -> dict[str, Any]:
    """The last object of the answer. Raises UnreachableError like `ask`."""
    lines = deque(ask(where, request, timeout), maxlen=1)
    return _checked(where, lines[0] if lines else {})


def ask_status(where: str, timeout: float = SLACK) -> tuple[Status, dict[str, Any]]:
    """The status of the node at `where`, and what else its answer holds.

    Raises UnreachableError like `ask`.
    """
    told = answer(where, {"command": "status"}, timeout)
    try:
        return from_object(told.get("status")), told
    except StatusError as error:
        raise UnreachableError(f"{where} gave no proper answer: {error}") from None


def _checked(where: str, last: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(last.get("ok"), bool):
        raise UnreachableError(f"{where} ended the connection before it had answered")
    return last


# The commands


def _simple(args: argparse.Namespace, request: dict[str, Any]) -> int:
    told = answer(find_node(args), request, SLACK)
    return _print(args, told)


def _print(args: argparse.Namespace, told: Mapping[str, Any]) -> int:
    if args.json:
        print(json.dumps(told))
    else:
        text = str(told.get("text") if told["ok"] else told.get("error"))
        print(printable(text) if told["ok"] else f"kevy-elect: {printable(text)}")
    return 0 if told["ok"] else REFUSED


def _step_down(args: argparse.Namespace) -> int:
    return _simple(args, {"command": "step-down", "rest": args.rest})


def _pause(args: argparse.Namespace) -> int:
    return _simple(args, {"command": "pause", "seconds": args.duration})


def _resume(args: argparse.Namespace) -> int:
    return _simple(args, {"command": "resume"})


def _offset(args: argparse.Namespace) -> int:
    return _simple(args, {"command": "offset", "offset": args.offset})


def _switchover(args: argparse.Namespace) -> int:
    where = find_node(args)
    request = {"command": "switchover", "timeout": args.timeout}
    if args.target is not None:
        request["target"] = args.target
    steps, last = [], {}
    for last in ask(where, request, args.timeout + SLACK):
        if "step" in last:
            steps.append({"at": float(last["at"]), "step": str(last["step"])})
            if not args.json:
                print(f"{steps[-1]['at']:8.3f} s  {printable(str(last['step']))}", flush=True)
    told = _checked(where, last)
    if args.json:
        print(json.dumps({**told, "steps": steps}))
    elif "unwritable" in told:
        print(f"nobody could write for {float(told['unwritable']):.3f} s")
    elif not told["ok"]:
        return _print(args, told)
    return 0 if told["ok"] else REFUSED


def _events(args: argparse.Namespace) -> int:
    events = ask_status(find_node(args))[0].events[-args.n :]
    if args.json:
        print(json.dumps([attrs.asdict(event) for event in events]))
        return 0
    for event in events:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - event.ago))
        mark = "critical: " if event.critical else ""
        kind, text = printable(event.kind), printable(event.text, MAX_EVENT)
        print(f"{at}  epoch {event.epoch}  {kind:<10}{mark}{text}")
    return 0
