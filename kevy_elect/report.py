"""The command `kevy-elect status`: one node by its admin socket, or several by their pages."""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from kevy_elect.console import Subparsers, add_node_options, answer, find_node
from kevy_elect.page import HEADER, Answer, Status, ask_all, cells, printable

PEER_HEADER = ("PEER", "ROLE", "EPOCH", "OFFSET", "HEARD", "ITS LINK", "OUR LINK")


def add_command(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Add `status`."""
    parser = commands.add_parser(
        "status",
        help="show what nodes say of themselves",
        description="Ask one node on this machine, or nodes by their status pages. Exit status 0 "
        "if exactly one primary holds its lease and all nodes that answer follow it, or the one "
        "node that is asked knows such a primary; else 1; 2 for wrong usage, 3 if the node does "
        "not answer.",
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
    if args.urls:
        answers = ask_all(list(dict.fromkeys(args.urls)), args.timeout)
        return _show(args, answers, verdict(answers))
    told = answer(find_node(args), {"command": "status"})
    if args.all:
        answers = [_parse("this node", told["status"]), *_ask_others(told, args.timeout)]
        return _show(args, answers, verdict(answers))
    return _show_one(args, told["status"])


def _show(args: argparse.Namespace, answers: Sequence[Answer], problem: str | None) -> int:
    print(_as_json(answers, problem) if args.json else answer_table(answers))
    return _judge(problem)


def _judge(problem: str | None) -> int:
    if problem is None:
        return 0
    print(f"kevy-elect: {problem}", file=sys.stderr)
    return 1


# One node by its admin socket


def _show_one(args: argparse.Namespace, told: dict[str, Any]) -> int:
    own = _parse("this node", told)
    problem = _own_problem(own)
    if args.json:
        print(json.dumps({"ok": problem is None, "problem": problem} | told, indent=2))
    else:
        print(answer_table([own]))
        print()
        print(table([_peer_cells(peer) for peer in told["peers"]], PEER_HEADER))
        for line in _remarks(told):
            print(line)
    return _judge(problem)


def _own_problem(own: Answer) -> str | None:
    status = own.status
    if status is None:
        return own.error
    if status.current_primary is None:
        return f"{status.node_id} knows no primary"
    if status.current_primary == status.node_id and not status.can_write:
        return f"{status.node_id} is primary without its lease, or is handing over"
    return None


def _peer_cells(peer: dict[str, Any]) -> tuple[str, ...]:
    heard, incoming = peer["heard_ago"], peer["incoming_age"]
    return (
        printable(peer["node_id"]),
        peer["role"] if peer["alive"] else "down",
        str(peer["epoch"]),
        str(peer["offset"]),
        "never" if heard is None else f"{heard:.1f} s ago",
        "none" if incoming is None else f"for {incoming:.0f} s",
        f"{peer['link']} for {peer['link_age']:.0f} s",
    )


def _remarks(told: dict[str, Any]) -> Iterator[str]:
    for child in told["children"]:
        pid = f", process {child['pid']}" if child["pid"] else ""
        restarts = f", started again {child['restarts']} times" if child["restarts"] else ""
        yield f"\nchild {printable(child['name'])}: {child['state']}{pid}{restarts}"
    if told["witness"]:
        yield "\nthis node is a witness: it never stands for election"
    if told["paused_for"]:
        yield f"\nthis node does not stand for election for another {told['paused_for']:.0f} s"


def _parse(where: str, told: dict[str, Any]) -> Answer:
    try:
        return Answer(where, status=Status.parse(json.dumps(told).encode()))
    except ValueError as error:
        return Answer(where, error=str(error))


def _ask_others(told: dict[str, Any], timeout: float) -> list[Answer]:
    """What the others say, each in the place of its id."""
    pages: dict[str, str] = told["http_peers"]
    urls = {peer: status_url(url) for peer, url in pages.items()}
    asked = dict(zip(urls, ask_all(list(urls.values()), timeout), strict=True))
    return [
        asked.get(peer["node_id"])
        or Answer(peer["node_id"], error="its page is not in this node's --http-peers")
        for peer in told["status"]["peers"]
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


def answer_table(answers: Sequence[Answer]) -> str:
    """The answers as aligned text, one line each; only printable ASCII."""
    return table([cells(answer) for answer in answers], HEADER)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """The rows as aligned text, one line each."""
    lines = [header, *rows]
    # An error stands across the columns and does not stretch them.
    measured = [line for line in lines if len(line) == len(header)]
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
