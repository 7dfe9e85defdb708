"""The command `kevy-elect status`: one node by its admin socket, or several by their pages."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import attrs

from kevy_elect.cli.admin_client import (
    Subparsers,
    UnreachableError,
    add_node_options,
    answer,
    find_node,
)
from kevy_elect.cli.status_client import HEADER, Answer, Status, ask_all, cells, printable
from kevy_elect.cli.tables import Changes, Grid, Page, open_board, state_of
from kevy_elect.errors import ConfigError
from kevy_elect.messages import U64_MAX

PEER_HEADER: Final = ("NODE", "PEER", "ROLE", "EPOCH", "OFFSET", "HEARD", "ITS LINK", "OUR LINK")
EVENT_HEADER: Final = ("WHEN", "NODE", "EPOCH", "KIND", "WHAT AND WHY")
CHANGE_HEADER: Final = ("WHEN", "NODE", "WHAT")
INTERVAL: Final = 1.0
"""Seconds from one look of `--watch` to the next."""
RECENT: Final = 8
"""Events, or changes, that are shown of each watch."""
MAX_ROWS: Final = 64
"""Peers that are shown of one node; it may claim more."""


def add_command(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `status`."""
    parser = commands.add_parser(
        "status",
        help="show what nodes say of themselves",
        description="Ask one node on this machine, or nodes by their status pages. Exit status 0 "
        "if exactly one primary holds its lease and all nodes that answer follow it, or the one "
        "node that is asked knows such a primary; else 1; 2 for wrong usage, 3 if the node does "
        "not answer. With --watch it looks again and again, and ends with 130 at Ctrl-C.",
    )
    parser.add_argument(
        "urls",
        metavar="URL",
        nargs="*",
        type=status_url,
        help="a node's status page, such as http://127.0.0.1:8101/status or 127.0.0.1:8101 "
        "(default: the node of --data-dir or --admin)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="ask the other members too, where the node's --http-peers says that they are",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="wait this long for a page (default: %(default)g)",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on until Ctrl-C: redrawn in place on a terminal where rich is installed, else "
        "one table after the other, with --json one object a line",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds,
        help=f"with --watch, look this often (default: {INTERVAL:g})",
    )
    add_node_options(parser)
    parser.set_defaults(run=_run)


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


def _run(args: argparse.Namespace) -> int:
    if args.interval is not None and not args.watch:
        raise ConfigError("--interval says how often --watch looks: give both, or neither")
    where = None if args.urls else find_node(args)
    if args.watch:
        _watch(args, where)
    view = _look(args, where)
    if args.json:
        print(json.dumps(view.as_object(), indent=2))
    else:
        print(*view.page(), sep="\n\n")
    return _judge(view.problem)


def _judge(problem: str | None) -> int:
    if problem is None:
        return 0
    print(f"kevy-elect: {problem}", file=sys.stderr)
    return 1


# One look


@attrs.frozen
class View:
    """What one look found."""

    answers: Sequence[Answer]
    problem: str | None
    alone: bool = False
    """Whether it was asked of one node by its admin socket, and of nobody else."""

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        judged = {"ok": self.problem is None, "problem": self.problem}
        if self.alone:
            return judged | (self.answers[0].told or {})
        return judged | {"nodes": [_as_object(answer) for answer in self.answers]}

    def page(self) -> Page:
        """For people."""
        return [self.nodes(), self.links(), *self.remarks()] if self.alone else [self.nodes()]

    def nodes(self) -> Grid:
        """A line for each that was asked."""
        return Grid(HEADER, list(map(cells, self.answers)))

    def links(self) -> Grid:
        """How those that answered are linked with the others."""
        rows = [
            (name, *row)
            for name, told in self._told().items()
            for _, row in _rows(told, "peers", _peer_cells)[:MAX_ROWS]
        ]
        return self._grid(PEER_HEADER, rows)

    def events(self) -> Grid:
        """What happened on them lately, the newest last."""
        found = [
            (event["ago"], (when, name, *row))
            for name, told in self._told().items()
            for event, (when, *row) in _rows(told, "events", _event_cells)
        ]
        found.sort(key=lambda each: -each[0])  # what is of one time stays in a node's own order
        return self._grid(EVENT_HEADER, [row for _, row in found[-RECENT:]])

    def remarks(self) -> list[str]:
        """What else there is to say of them, a line each."""
        all_told = self._told()
        return [
            remark if len(all_told) == 1 else f"{name}: {remark}"
            for name, told in all_told.items()
            for remark in _remarks(told)
        ]

    def _told(self) -> dict[str, dict[str, Any]]:
        """What those said that answered, by name: who was asked twice still speaks once."""
        return {cells(each)[0]: each.told for each in self.answers if each.told is not None}

    def _grid(self, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Grid:
        """The table, without the names if there is only one."""
        if len(self._told()) > 1:
            return Grid(header, rows)
        at = header.index("NODE")
        header, *rows = (line[:at] + line[at + 1 :] for line in (header, *rows))
        return Grid(header, rows)


def _look(args: argparse.Namespace, where: str | None) -> View:
    """Ask the pages, or the node whose admin endpoint is `where`; raises UnreachableError."""
    if where is None:
        answers = ask_all(list(dict.fromkeys(args.urls)), args.timeout)
        return View(answers, verdict(answers))
    told = answer(where, {"command": "status"}, args.timeout)
    own = told.get("status")
    if not isinstance(own, dict):
        raise UnreachableError(f"{where} gave no proper answer: there is no status in it")
    mine = Answer.of("this node", own)
    if args.all:
        answers = [mine, *_ask_others(told, args.timeout)]
        return View(answers, verdict(answers))
    return View([mine], _own_problem(mine), alone=True)


def _own_problem(own: Answer) -> str | None:
    status = own.status
    if status is None:
        return own.error
    if status.current_primary is None:
        return f"{printable(status.node_id)} knows no primary"
    if status.current_primary == status.node_id and not status.can_write:
        name = printable(status.node_id)
        return f"{name} is primary without its lease, or is handing over"
    return None


def _rows(
    told: dict[str, Any], name: str, row: Callable[[Any], tuple[str, ...]]
) -> list[tuple[Any, tuple[str, ...]]]:
    """Each object of a list, and its cells; what is no such object is left out."""
    found = []
    values = told.get(name)
    for each in values if isinstance(values, list) else []:
        with contextlib.suppress(*_NO_SUCH_OBJECT):
            found.append((each, tuple(map(printable, row(each)))))
    return found


_NO_SUCH_OBJECT: Final = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    OSError,  # of a time that no calendar has
    RecursionError,  # what could just be read may be nested too deeply to be shown
)


def _peer_cells(peer: Any) -> tuple[str, ...]:
    heard, incoming = peer["heard_ago"], peer["incoming_age"]
    return (
        str(peer["node_id"]),
        str(peer["role"]) if peer["alive"] else "down",
        str(peer["epoch"]),
        str(peer["offset"]),
        "never" if heard is None else f"{heard:.1f} s ago",
        "none" if incoming is None else f"for {incoming:.0f} s",
        f"{peer['link']} for {peer['link_age']:.0f} s",
    )


def _event_cells(event: Any) -> tuple[str, ...]:
    mark = "critical: " if event["critical"] else ""
    when = _clock(time.time() - event["ago"])
    return when, str(event["epoch"]), str(event["kind"]), f"{mark}{event['text']}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _remarks(told: dict[str, Any]) -> Iterator[str]:
    for _, (child, state, pid, restarts) in _rows(told, "children", _child_cells):
        yield f"child {child}: {state}{pid}{restarts}"
    if told.get("witness"):
        yield "this node is a witness: it never stands for election"
    paused_for = told.get("paused_for")
    if isinstance(paused_for, int | float) and 0 < paused_for < U64_MAX:
        yield f"this node does not stand for election for another {paused_for:.0f} s"


def _child_cells(child: Any) -> tuple[str, ...]:
    pid = f", process {child['pid']}" if child["pid"] else ""
    restarts = f", started again {child['restarts']} times" if child["restarts"] else ""
    return str(child["name"]), str(child["state"]), pid, restarts


def _ask_others(told: dict[str, Any], timeout: float) -> list[Answer]:
    """What the others say, each in the place of its id."""
    pages = told.get("http_peers")
    peers = _rows(told["status"], "peers", lambda peer: (str(peer["node_id"]),))[:MAX_ROWS]
    ids = [node_id for _, (node_id,) in peers]
    urls: dict[str, str] = {}
    for peer, url in pages.items() if isinstance(pages, dict) else ():
        if peer in ids:
            with contextlib.suppress(argparse.ArgumentTypeError):
                urls[peer] = status_url(str(url))
    asked = dict(zip(urls, ask_all(list(urls.values()), timeout), strict=True))
    return [
        asked.get(peer) or Answer(peer, error="its page is not in this node's --http-peers")
        for peer in ids
    ]


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


def _as_object(answer: Answer) -> dict[str, Any]:
    said = {} if answer.status is None else attrs.asdict(answer.status)
    return {"url": answer.url, "error": answer.error} | said


# Watching


def _watch(args: argparse.Namespace, where: str | None) -> NoReturn:
    """Show one view after the other until interrupted. A node that does not answer may come
    back."""
    interval = INTERVAL if args.interval is None else args.interval
    log = ChangeLog()
    board = contextlib.nullcontext() if args.json else open_board()
    with _orderly_end(), board as shown:
        while True:
            began = time.monotonic()
            try:
                view = _look(args, where)
            except UnreachableError as error:
                unheard = Answer("this node", error=str(error))
                view = View([unheard], "the node does not answer")
            if shown is None:
                print(json.dumps({"at": time.time()} | view.as_object()), flush=True)
            else:
                shown.show(_watched(view, log))
            time.sleep(max(0.0, began + interval - time.monotonic()))


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Have SIGTERM leave the terminal in order, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watched(view: View, log: ChangeLog) -> Page:
    """What is worth a look: the nodes, what changed since the watch began, and what they tell."""
    log.note(view)
    links, remarks, events = view.links(), view.remarks(), view.events()
    return [_headline(view), view.nodes(), log.page(), links, *remarks, events]


def _headline(view: View) -> str:
    return f"{_clock(time.time())}  {printable(view.problem or 'all is well')}"


class ChangeLog:
    """The last changes of what nodes say, as they were seen from here."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._names: dict[str, str] = {}
        self._rows: deque[tuple[str, ...]] = deque(maxlen=RECENT)

    def note(self, view: View) -> None:
        """Take what changed since the view before."""
        for told in view.answers:
            news = self._changes.note(told.url, state_of(told))
            if told.status is not None or told.url not in self._names:
                self._names[told.url] = cells(told)[0]
            if news is not None:
                self._rows.append((_clock(time.time()), self._names[told.url], news))

    def page(self) -> Grid:
        """A line each, the newest last."""
        return Grid(CHANGE_HEADER, list(self._rows))
