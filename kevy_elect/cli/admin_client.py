"""The operator's commands of `kevy-elect`, as a client of one node's admin socket."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any, Final

import attrs

from kevy_elect.cli.printable import printable
from kevy_elect.config import parse_advertised
from kevy_elect.errors import ConfigError, ElectError, StatusError
from kevy_elect.settings.admin import (
    DEFAULT_MAINTENANCE,
    DEFAULT_PATIENCE,
    DEFAULT_REST,
    LOCAL,
    LONGEST_REASON,
    PRIMARYS,
    SOCKET,
    check_reason,
    parse_socket,
)
from kevy_elect.settings.pages import is_in_the_clear, read_token
from kevy_elect.status import MAX_SECONDS, DatedEvent, Status, dated_event, from_object

DATA_DIR: Final = "KEVY_ELECT_DATA_DIR"
ADMIN: Final = "KEVY_ELECT_ADMIN"
TOKEN_FILE: Final = "KEVY_ELECT_HTTP_TOKEN_FILE"
CONNECT_TIMEOUT: Final = 5.0
SLACK: Final = 60.0
"""Seconds that an answer may take in addition to the requested time."""
MAX_EVENT: Final = 500
"""The most characters of an event's text that are shown."""
MAX_LINE: Final = 1024 * 1024
"""The most bytes of one line of an answer."""

LONGEST: Final = 1e9
"""The longest time in seconds that a node accepts, far above the uptime of any node."""

REFUSED: Final = 1
UNREACHABLE: Final = 3

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class UnreachableError(ElectError):
    """The node does not answer on its admin socket."""


Subparsers = argparse._SubParsersAction


def add_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add all commands that go to one node."""
    events = _add(commands, "events", _events, "show the recent events of this node")
    events.add_argument(
        "-n",
        metavar="N",
        type=count,
        help="only the last N, including those before the last start (default: all since --since, "
        "or all in the memory of the process, at most 256)",
    )
    events.add_argument(
        "--since",
        metavar="WHEN",
        type=seconds_since,
        help="only events since then, including those before the last start: a duration, such as "
        "90, 15m or 2h, or a time, such as 22:00, 2026-11-27 or 2026-11-27T22:00",
    )

    down = _add(commands, "step-down", _step_down, "make the primary give up its role")
    down.add_argument(
        "--rest",
        metavar="DURATION",
        type=duration,
        default=DEFAULT_REST,
        help="how long it does not run for election after that (default: %(default)gs)",
    )

    switch = _add(commands, "switchover", _switchover, "make the primary hand over its role")
    switch.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="the member that takes the role (default: the best candidate)",
    )
    switch.add_argument(
        "--timeout",
        metavar="DURATION",
        type=duration,
        default=DEFAULT_PATIENCE,
        help="how long the primary waits until its children have stopped and the target has all "
        "data; after that it takes the role back (default: %(default)gs)",
    )
    switch.add_argument(
        "--reason",
        metavar="TEXT",
        type=reason,
        help="the reason, which is kept with the event; one line of at most "
        f"{LONGEST_REASON} characters",
    )

    pause = _add(commands, "pause", _pause, "keep this node from running for election")
    pause.add_argument("duration", metavar="DURATION", type=duration, help="such as 90, 15m or 2h")
    _add(commands, "resume", _resume, "let this node run for election again")

    maintenance = _add(
        commands,
        "maintenance",
        _maintenance,
        "stop automatic failover for a time, or allow it again",
    )
    maintenance.add_argument(
        "state", metavar="on|off", choices=("on", "off"), help="begin or end it"
    )
    maintenance.add_argument(
        "--for",
        dest="seconds",
        metavar="DURATION",
        type=duration,
        default=DEFAULT_MAINTENANCE,
        help="the longest time until it ends by itself, at most 7d (default: 1h)",
    )

    offset = _add(commands, "offset", _offset, "state how much data this node's copy has")
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
        description=f"{text[0].upper()}{text[1:]}. Exit status 0 after success, 1 if the node "
        "refused or failed, 2 for wrong usage, 3 if the node does not answer.",
    )
    add_node_options(parser)
    if name not in LOCAL:
        parser.add_argument(
            "--on",
            metavar="MEMBER",
            help="forward the command to this member, at its address in the node's --admin-peers"
            + (" (default: the primary)" if name in PRIMARYS else ""),
        )
    parser.set_defaults(run=run, on=None)
    return parser


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select a node, and `--json`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--data-dir",
        metavar="DIR",
        help=f"the node's data directory (default: ${DATA_DIR}, or the only kevy-elect-* here)",
    )
    where.add_argument(
        "--admin",
        metavar="ENDPOINT",
        help=f"the node's admin endpoint: unix:PATH or tcp:HOST:PORT (default: ${ADMIN})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_token_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the file with the token for the pages."""
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"file with the token that the pages require (default: ${TOKEN_FILE})",
    )


def find_token(args: argparse.Namespace, urls: Iterable[str]) -> str | None:
    """The token that the command line or the environment names, to be sent to these pages.

    Raises ConfigError if its file cannot be used. Prints a warning if the token would cross a
    network without encryption.
    """
    path = args.token_file or os.environ.get(TOKEN_FILE)
    if not path:
        return None
    try:
        token = read_token(path).decode("ascii")
    except ConfigError as error:
        raise ConfigError(f"--token-file {path}: {error}") from None
    if any(is_in_the_clear(url) for url in urls):
        print(
            "kevy-elect: warning: the token crosses the network in plain text, and anyone who "
            "reads it can use it: serve the pages by TLS, and ask https:// pages",
            file=sys.stderr,
        )
    return token


def duration(text: str) -> float:
    """The seconds of `text`: a number, or a number followed by s, m, h or d.

    Raises argparse.ArgumentTypeError unless it is above 0.
    """
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration above 0: write for instance 90, 15m or 2h"
        )
    return seconds


def count(text: str) -> int:
    """A whole number, 0 or more. Raises argparse.ArgumentTypeError for anything else."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number: write 0, 20 or 1000")
    return int(text)


def reason(text: str) -> str:
    """The text. Raises argparse.ArgumentTypeError if nodes do not accept it as a reason."""
    try:
        check_reason(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def seconds_since(text: str) -> float:
    """Seconds from `text` to now: a duration, the last such time of day, a date, or a date with
    a time.

    Raises argparse.ArgumentTypeError for anything else, and for a time in the future.
    """
    if _DURATION.fullmatch(text):
        return duration(text)
    now = datetime.now().astimezone()
    for read in (_last, datetime.fromisoformat):
        try:
            seconds = (now - read(text).astimezone()).total_seconds()
        except (ValueError, OverflowError):
            continue
        if seconds < 0:
            raise argparse.ArgumentTypeError(f"{text!r} is in the future")
        return seconds
    raise argparse.ArgumentTypeError(
        f"{text!r} is no time: write for instance 15m, 22:00, 2026-11-27 or 2026-11-27T22:00"
    )


def _last(text: str) -> datetime:
    """The last time at which the clock showed this time of day. Raises ValueError for other
    text."""
    if not re.fullmatch(r"\d\d?:\d\d(:\d\d)?", text):
        raise ValueError(text)
    now = datetime.now()
    today = datetime.combine(now.date(), clock_time.fromisoformat(text.zfill(len("22:00"))))
    return today if today <= now else today - timedelta(days=1)


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
        which = "several nodes have" if here else "no node has"
        found = "".join(f"\n  --data-dir {each.parent}" for each in here)
        raise ConfigError(
            f"{which} a data directory kevy-elect-* here: name the node by --data-dir "
            f"or --admin, or by the environment ({DATA_DIR}, {ADMIN}){':' if here else ''}{found}"
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


Reply = dict[str, Any]


def ask(where: str, request: Mapping[str, Any], timeout: float = SLACK) -> Iterator[Reply]:
    """Send a request to the admin endpoint `where`, and yield the objects of the reply as they
    arrive. Only the last one has `ok`.

    Raises UnreachableError if the reply does not come within `timeout` seconds, or ends without
    `ok`.
    """
    with _connect(where) as connection:
        connection.settimeout(timeout)
        reply: Reply = {}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            lines = connection.makefile("rb")
            while line := lines.readline(MAX_LINE):
                reply = json.loads(line)
                if not isinstance(reply, dict):
                    raise ValueError("it is no JSON object")
                yield reply
        except (OSError, ValueError, RecursionError) as error:
            raise _improper(where, error) from None
    if not isinstance(reply.get("ok"), bool):
        raise UnreachableError(f"{where} ended the connection before it had answered")


def answer(where: str, request: Mapping[str, Any], timeout: float = SLACK) -> Reply:
    """The last object of the reply. Raises UnreachableError like `ask`."""
    return deque(ask(where, request, timeout), maxlen=1)[0]


def ask_status(where: str, timeout: float = SLACK) -> tuple[Status, Mapping[str, str]]:
    """The status of the node at `where`, and the URLs of other members' pages by their ids.

    Raises UnreachableError like `ask`.
    """
    reply = answer(where, {"command": "status"}, timeout)
    pages = reply.get("http_peers")
    if not isinstance(pages, dict) or not all(isinstance(url, str) for url in pages.values()):
        raise _improper(where, "http_peers is no object of texts")
    try:
        return from_object(reply.get("status")), pages
    except StatusError as error:
        raise _improper(where, error) from None


def _improper(where: str, problem: object) -> UnreachableError:
    return UnreachableError(f"{where} gave no proper answer: {problem}")


# The commands


def _request(args: argparse.Namespace, command: str, **arguments: object) -> dict[str, Any]:
    """A request with the arguments that are not None."""
    arguments["on"] = args.on
    given = {name: value for name, value in arguments.items() if value is not None}
    return {"command": command} | given


def _command(args: argparse.Namespace, command: str, **arguments: object) -> int:
    return _print(args, answer(find_node(args), _request(args, command, **arguments)))


def _print(args: argparse.Namespace, reply: Reply) -> int:
    if args.json:
        print(json.dumps(reply))
    elif reply["ok"]:
        print(printable(str(reply.get("text"))))
    else:
        print(f"kevy-elect: {printable(str(reply.get('error')))}")
    return 0 if reply["ok"] else REFUSED


def _step_down(args: argparse.Namespace) -> int:
    return _command(args, "step-down", rest=args.rest)


def _pause(args: argparse.Namespace) -> int:
    return _command(args, "pause", seconds=args.duration)


def _resume(args: argparse.Namespace) -> int:
    return _command(args, "resume")


def _offset(args: argparse.Namespace) -> int:
    return _command(args, "offset", offset=args.offset)


def _maintenance(args: argparse.Namespace) -> int:
    seconds = args.seconds if args.state == "on" else 0.0
    where = find_node(args)
    told: list[str] = []
    reply: Reply = {}
    for reply in ask(where, _request(args, "maintenance", seconds=seconds)):
        if "told" in reply:
            told.append(str(reply["told"]))
            if not args.json:
                print(printable(told[-1], MAX_EVENT), flush=True)
    if args.json:
        print(json.dumps({**reply, "told": told}))
        return 0 if reply["ok"] else REFUSED
    return _print(args, reply)


def _switchover(args: argparse.Namespace) -> int:
    where = find_node(args)
    request = _request(
        args, "switchover", timeout=args.timeout, target=args.target, reason=args.reason
    )
    steps: list[Reply] = []
    reply: Reply = {}
    for reply in ask(where, request, args.timeout + SLACK):
        if "step" in reply:
            at, step = _seconds(where, reply.get("at")), str(reply["step"])
            steps.append({"at": at, "step": step})
            if not args.json:
                print(f"{at:8.3f} s  {printable(step)}", flush=True)
    if args.json:
        print(json.dumps({**reply, "steps": steps}))
    elif "unwritable" in reply:
        print(f"no node could write for {_seconds(where, reply['unwritable']):.3f} s")
    elif not reply["ok"]:
        return _print(args, reply)
    return 0 if reply["ok"] else REFUSED


def _seconds(where: str, value: object) -> float:
    if isinstance(value, (int, float)) and 0 <= value <= MAX_SECONDS:
        return float(value)
    raise _improper(where, "a time in it is no number of seconds")


def _events(args: argparse.Namespace) -> int:
    where = find_node(args)
    since = None if args.since is None else min(args.since, LONGEST)
    events, reply = _answered_events(where, _request(args, "events", last=args.n, since=since))
    if not reply["ok"]:
        return _print(args, reply)
    if args.json:
        print(json.dumps([{"time": _iso(each.at), **attrs.asdict(each)} for each in events]))
        return 0
    for event in events:
        print(_line(event))
    return 0


def _answered_events(where: str, request: Mapping[str, Any]) -> tuple[list[DatedEvent], Reply]:
    """The events of an answer, and its last object. Raises UnreachableError like `ask`."""
    events: list[DatedEvent] = []
    reply: Reply = {}
    for reply in ask(where, request):
        if "event" in reply:
            try:
                events.append(dated_event(reply["event"]))
            except StatusError as error:
                raise _improper(where, error) from None
    return events, reply


def _line(event: DatedEvent) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    mark = "critical: " if event.critical else ""
    kind, text = printable(event.kind), printable(event.text, MAX_EVENT)
    given = event.reason and event.reason not in event.text
    why = f" (reason: {printable(event.reason, MAX_EVENT)})" if given else ""
    return f"{at}  {_ago(event.ago):>8} ago  epoch {event.epoch}  {kind:<10}{mark}{text}{why}"


def _ago(seconds: float) -> str:
    """The age of an event in words, with two units at most."""
    if seconds < _SECONDS["m"]:
        return f"{seconds:.1f} s"
    units = "dhms"
    unit = next(each for each in units if seconds >= _SECONDS[each])
    smaller = units[units.index(unit) + 1]
    whole, rest = divmod(seconds, _SECONDS[unit])
    return f"{whole:.0f}{unit} {rest // _SECONDS[smaller]:02.0f}{smaller}"


def _iso(at: float) -> str:
    """A time for programs, in this machine's zone."""
    return datetime.fromtimestamp(at).astimezone().isoformat("T", "milliseconds")
