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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import attrs

from kevy_elect.cli.admin_client import (
    Subparsers,
    UnreachableError,
    add_node_options,
    add_token_option,
    ask_status,
    find_node,
    find_token,
)
from kevy_elect.cli.printable import printable
from kevy_elect.cli.responses import (
    ABOUT_HEADER,
    HEADER,
    SERVER_HEADER,
    Changes,
    Response,
    about_cells,
    cells,
    said,
    server_cells,
    state_of,
)
from kevy_elect.cli.tables import Grid, Page
from kevy_elect.cli.terminal import is_colourful, open_board, painted
from kevy_elect.errors import ConfigError
from kevy_elect.replication import FENCED, waits_for_server, without_server
from kevy_elect.settings.cluster_name import MAX_NAME, mixed_names
from kevy_elect.settings.timing_change import mixed_timings
from kevy_elect.status import EventStatus, PeerStatus, Status

PEER_HEADER: Final = ("NODE", "PEER", "ROLE", "EPOCH", "OFFSET", "HEARD", "ITS LINK", "OUR LINK")
EVENT_HEADER: Final = ("WHEN", "NODE", "EPOCH", "KIND", "WHAT AND WHY")
CHANGE_HEADER: Final = ("WHEN", "NODE", "WHAT")
INTERVAL: Final = 1.0
"""Seconds between two views of `--watch`."""
RECENT: Final = 8
"""The number of events, or of changes, that each view shows."""
MAX_WARNING: Final = 500
"""The most characters of a warning that are shown."""
MAX_ROWS: Final = 64
"""The most peers of one node that are shown, because a node may claim any number."""


def add_commands(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `status`."""
    parser = commands.add_parser(
        "status",
        help="show the state of nodes",
        description="Ask one node on this machine, or nodes by their status pages. Exit status 0 "
        "if exactly one primary holds its lease and all nodes that answer follow it, or if the one "
        "asked node knows such a primary; else 1; 2 for wrong usage, 3 if the node does "
        "not answer. With --watch it repeats this, and exits with 130 at Ctrl-C.",
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
        help="ask the other members too, at their addresses in the node's --http-peers",
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
        help="repeat until Ctrl-C: redrawn in place on a terminal and cut to its size, else "
        "one table after another, or with --json an object per line",
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_seconds,
        help=f"the seconds between two views of --watch (default: {INTERVAL:g})",
    )
    add_token_option(parser)
    add_node_options(parser)
    parser.set_defaults(run=_run)


def status_url(text: str) -> str:
    """The URL of `text`: `host:port` or a URL without a path gets `/status`.

    Raises argparse.ArgumentTypeError if `text` is no http URL.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and ("://" in text or parts.port is not None)
    except ValueError:  # an invalid port, or brackets without an address
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no status page: write host:port or an http URL, or leave it out for the "
            "node of this directory"
        )
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
        raise ConfigError("--interval sets how often --watch repeats: give both, or neither")
    where = None if args.urls else find_node(args)
    args.token = find_token(args, args.urls) if args.urls or args.all else None
    if args.watch:
        _watch(args, where)
    view = _look(args, where)
    if args.json:
        print(json.dumps(view.as_object(), indent=2))
    else:
        page = view.page()
        print(painted(page) if is_colourful(sys.stdout) else "\n\n".join(map(str, page)))
    return _judge(view.problem)


def _judge(problem: str | None) -> int:
    if problem is None:
        return 0
    print(f"kevy-elect: {problem}", file=sys.stderr)
    return 1


# One view


@attrs.frozen
class View:
    """The answers of all nodes at one time."""

    responses: Sequence[Response]
    problem: str | None
    alone: bool = False
    """Whether only one node was asked, by its admin socket."""

    def as_object(self) -> dict[str, Any]:
        """The view for programs."""
        judged = {"ok": self.problem is None, "problem": self.problem, "warnings": self.warnings()}
        if self.alone:
            return judged | self._statuses()[0].as_object()
        return judged | {"nodes": [_as_object(response) for response in self.responses]}

    def page(self) -> Page:
        """The view for people."""
        top: list[Grid | str] = [*self.cluster(), *self.maintenance(), self.nodes()]
        if self.alone:
            lines = [*self.remarks(), *self.warning_lines()]
            return [*top, *self.servers(), self.links(), *lines]
        return [*top, *self.about(), *self.servers(), *self.warning_lines()]

    def nodes(self) -> Grid:
        """A line for each node."""
        return Grid(HEADER, list(map(cells, self.responses)))

    def names(self) -> str:
        """The names of the nodes' cluster: one unless something is wrong; empty without any."""
        found = (printable(each.cluster_name, MAX_NAME) for each in self._statuses())
        return ", ".join(dict.fromkeys(filter(None, found)))

    def cluster(self) -> list[str]:
        """The name of the cluster, if it has one."""
        names = self.names()
        return [f"cluster {names}"] if names else []

    def maintenance(self) -> list[str]:
        """A line that says which members are in maintenance, if any are."""
        left = {each.node_id: each.maintained_for for each in self._statuses()}
        those = [node_id for node_id, seconds in left.items() if seconds > 0]
        if not those:
            return []
        who = printable(", ".join(those))
        return [f"MAINTENANCE of {who}: no failover for {said(max(left.values()))}"]

    def about(self) -> list[Grid]:
        """The versions of the nodes that answered, and the times for which they have been
        running."""
        rows = [about_cells(status) for status in self._statuses()]
        return [Grid(ABOUT_HEADER, rows)] if rows else []

    def servers(self) -> list[Grid]:
        """The data servers of the nodes; no table if no node drives one."""
        rows = [
            server_cells(status, status.data)
            for status in self._statuses()
            if status.data is not None
        ]
        return [Grid(SERVER_HEADER, rows)] if rows else []

    def links(self, *, broken: bool = False) -> Grid:
        """The links of the nodes that answered; with `broken`, only those that are not healthy."""
        rows = [
            (status.node_id, *_peer_cells(peer))
            for status in self._statuses()
            for peer in status.peers[:MAX_ROWS]
            if not (broken and peer.is_there)
        ]
        return self._grid(PEER_HEADER, rows, spare=("OFFSET", "EPOCH", "ITS LINK"))

    def events(self) -> Grid:
        """The recent events of the nodes, the newest last."""
        found = [(status, event) for status in self._statuses() for event in status.events]
        found.sort(key=lambda each: -each[1].ago)  # events of the same time keep a node's order
        rows = [_event_cells(status.node_id, event) for status, event in found[-RECENT:]]
        return self._grid(EVENT_HEADER, rows, spare=("EPOCH", "KIND"), grows=True)

    def remarks(self) -> list[str]:
        """Further remarks on the nodes, a line each."""
        statuses = self._statuses()
        return [
            printable(remark if len(statuses) == 1 else f"{status.node_id}: {remark}")
            for status in statuses
            for remark in (*(_about(status) if self.alone else ()), *_remarks(status))
        ]

    def warnings(self) -> list[str]:
        """Contradictions between the nodes that answered, and problems of their data servers."""
        statuses = self._statuses()
        settings = {printable(each.node_id): each.settings for each in statuses}
        names = mixed_names({printable(each.node_id): each.cluster_name for each in statuses})
        found = [names] if names is not None else []
        found += [*mixed_timings(settings), *_server_warnings(statuses)]
        return [printable(each, MAX_WARNING) for each in found]

    def warning_lines(self) -> list[str]:
        """The warnings for people."""
        return [f"warning: {each}" for each in self.warnings()]

    def _statuses(self) -> list[Status]:
        """The status of each node that answered, once for each node."""
        found = [response.status for response in self.responses if response.status is not None]
        return list({status.node_id: status for status in found}.values())

    def _grid(
        self,
        header: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        spare: tuple[str, ...] = (),
        *,
        grows: bool = False,
    ) -> Grid:
        """The table, without the column of names if there is only one node."""
        lines = [header, *(tuple(map(printable, row)) for row in rows)]
        if len(self._statuses()) <= 1:
            at = header.index("NODE")
            lines = [line[:at] + line[at + 1 :] for line in lines]
        return Grid(lines[0], lines[1:], spare, grows)


def _look(args: argparse.Namespace, where: str | None) -> View:
    """Ask the pages, or the node whose admin endpoint is `where`; raises UnreachableError."""
    if where is None:
        responses = _ask_pages(list(dict.fromkeys(args.urls)), args)
        return View(responses, verdict(responses))
    own, pages = ask_status(where, args.timeout)
    mine = Response("this node", own)
    if args.all:
        responses = [mine, *_ask_others(own, pages, args)]
        return View(responses, verdict(responses))
    return View([mine], _own_problem(own), alone=True)


def _ask_pages(urls: Sequence[str], args: argparse.Namespace) -> list[Response]:
    from kevy_elect.cli.status_client import ask_all  # all of HTTP, unused elsewhere

    return ask_all(urls, args.timeout, args.token)


def _own_problem(status: Status) -> str | None:
    name = printable(status.node_id)
    if status.current_primary is None:
        return f"{name} knows no primary"
    if waits_for_server(status):
        return _waiting(status)
    if status.current_primary == status.node_id and not status.can_write:
        return f"{name} is primary without its lease, or is handing over"
    return None


def _waiting(status: Status) -> str:
    assert status.data is not None
    state = printable(status.data.state)
    return f"{printable(status.node_id)} is primary, but its data server takes no writes: {state}"


def _server_warnings(statuses: Sequence[Status]) -> Iterator[str]:
    for status in statuses:
        if status.data is not None and status.data.problem:
            yield f"{status.node_id}: {status.data.problem}"
    for node_id in without_server(statuses):
        yield (
            f"{node_id} drives no data server, and others do: if it were elected, no server would "
            "take writes. Give it one (--redis), or make it a witness"
        )


def _peer_cells(peer: PeerStatus) -> tuple[str, ...]:
    heard, incoming = peer.heard_ago, peer.incoming_age
    return (
        peer.node_id,
        peer.role if peer.alive else "down",
        str(peer.epoch),
        str(peer.offset),
        "never" if heard is None else f"{heard:.1f} s ago",
        "none" if incoming is None else f"for {said(incoming)}",
        f"{peer.link} for {said(peer.link_age)}{_proven(peer)}",
    )


def _proven(peer: PeerStatus) -> str:
    """The proof of the peer's identity on a link that is not plain."""
    return "" if peer.security == "plain" else f", {peer.security} {peer.key}".rstrip()


def _event_cells(node_id: str, event: EventStatus) -> tuple[str, ...]:
    mark = "critical: " if event.critical else ""
    when = _clock(time.time() - event.ago)
    return when, node_id, str(event.epoch), event.kind, f"{mark}{event.text}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _about(status: Status) -> Iterator[str]:
    if status.uptime is not None:
        yield f"up {said(status.uptime)}, version {status.version}"
    if status.primary_addr is not None:
        yield f"clients find the primary at {status.primary_addr}"


def _remarks(status: Status) -> Iterator[str]:
    for child in status.children:
        pid = f", process {child.pid}" if child.pid else ""
        restarts = f", started again {child.restarts} times" if child.restarts else ""
        yield f"child {child.name}: {child.state}{pid}{restarts}"
    if status.check is not None:
        problem = f": {status.check.problem}" if status.check.problem else ""
        yield f"check: {'healthy' if status.check.healthy else 'unhealthy'}{problem}"
    if status.witness:
        yield "this node is a witness: it never runs for election"
    if status.began_by_will_of is not None and status.current_primary is not None:
        yield (
            f"{status.current_primary} became primary by the last will of {status.began_by_will_of}"
        )
    if status.last_will:
        yield "this node has a last will: if it dies, the other members are notified at once"
    if status.data is not None and status.data.fencing in FENCED:
        yield f"should this node die or hang, {FENCED[status.data.fencing]}"
    if status.paused_for:
        yield f"this node does not run for election for another {said(status.paused_for)}"


def _ask_others(own: Status, pages: Mapping[str, str], args: argparse.Namespace) -> list[Response]:
    """The responses of the other members, each under its id."""
    ids = [each for each in own.members if each != own.node_id][:MAX_ROWS]
    urls: dict[str, str] = {}
    for peer in ids:
        with contextlib.suppress(argparse.ArgumentTypeError, KeyError):
            urls[peer] = status_url(pages[peer])
    asked = dict(zip(urls, _ask_pages(list(urls.values()), args), strict=True))
    return [
        asked.get(peer) or Response(peer, error="its page is not in this node's --http-peers")
        for peer in ids
    ]


# The verdict


def verdict(responses: Sequence[Response]) -> str | None:
    """The reason why there is not one primary with its lease that all nodes follow, or None."""
    found = [response.status for response in responses if response.status is not None]
    writers = [status for status in found if status.can_write]
    if not found:
        return "no node answered"
    if not writers:
        waiting = map(_waiting, filter(waits_for_server, found))
        return next(waiting, "no primary holds its lease")
    if len(writers) > 1:
        return f"{len(writers)} nodes claim the lease: {_listed(writers)}"
    primary = writers[0].node_id
    others = [status for status in found if status.current_primary != primary]
    if others:
        return f"{printable(primary)} holds the lease, but is not followed by {_listed(others)}"
    return None


def _listed(statuses: Sequence[Status]) -> str:
    return printable(", ".join(status.node_id for status in statuses))


def _as_object(response: Response) -> dict[str, Any]:
    said = {} if response.status is None else response.status.as_object()
    return {"url": response.url, "error": response.error} | said


# Watching


def _watch(args: argparse.Namespace, where: str | None) -> NoReturn:
    """Show one view after another until interrupted. A node that does not answer is asked again."""
    interval = INTERVAL if args.interval is None else args.interval
    log = ChangeLog()
    board = contextlib.nullcontext() if args.json else open_board()
    with _orderly_end(), board as shown:
        while True:
            began = time.monotonic()
            try:
                view = _look(args, where)
            except UnreachableError as error:
                unheard = Response("this node", error=str(error))
                view = View([unheard], "the node does not answer")
            if shown is None:
                print(json.dumps({"at": time.time()} | view.as_object()), flush=True)
            else:
                shown.show(_watched(view, log, small=shown.small))
            time.sleep(max(0.0, began + interval - time.monotonic()))


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Leave the terminal in order at SIGTERM and at Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    ends_at_once = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    if ends_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if ends_at_once:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _watched(view: View, log: ChangeLog, *, small: bool = False) -> Page:
    """The parts of a view: the nodes, the changes since the start of the watch, and the remarks. A
    small view of several nodes shows only the broken links."""
    log.note(view)
    top: list[Grid | str] = [_headline(view), *view.maintenance(), view.nodes()]
    top += [*view.servers(), *view.warning_lines()]
    if small:
        links = view.links(broken=not view.alone)
        shown = [links] if view.alone or links.rows else []
        return [*top, *view.remarks(), *shown, log.page(), view.events()]
    return [*top, log.page(), view.links(), *view.remarks(), view.events()]


def _headline(view: View) -> str:
    names = view.names()
    whose = f"{names}: " if names else ""
    return f"{_clock(time.time())}  {whose}{printable(view.problem or 'all is well')}"


class ChangeLog:
    """The last changes of the nodes' states, as this command saw them."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._names: dict[str, str] = {}
        self._rows: deque[tuple[str, ...]] = deque(maxlen=RECENT)

    def note(self, view: View) -> None:
        """Record the changes since the last view."""
        for response in view.responses:
            news = self._changes.note(response.url, state_of(response))
            if response.status is not None or response.url not in self._names:
                self._names[response.url] = cells(response)[0]
            if news is not None:
                self._rows.append((_clock(time.time()), self._names[response.url], news))

    def page(self) -> Grid:
        """A line for each change, the newest last."""
        return Grid(CHANGE_HEADER, list(self._rows), grows=True)
