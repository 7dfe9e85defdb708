"""The command `kevy-elect demo`: its options, and the texts before and after the course."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from functools import partial
from typing import Final

from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError

NAMES: Final = "abcdefghi"
"""Ids of the nodes, at most nine."""
TIMINGS: Final[dict[str, float | None]] = {
    "hb_interval": 0.05,
    "down_after": 0.5,
    "election_timeout": 0.5,
    "election_backoff": 0.1,
    "election_backoff_jitter": 0.4,
    "lease_margin": None,
}
"""The timings with an option, with the demo's defaults; None uses the default of ElectConfig."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the subcommands of `kevy-elect`."""
    parser = commands.add_parser(
        "demo",
        help="start a cluster on this machine, kill its primary, watch the failover",
        description="Start nodes on this machine, kill the primary with SIGKILL, measure how long "
        "it takes until another can write, and restart the killed one; on Linux once without and "
        "once with a last will. With --redis each node drives a Redis, a client writes all the "
        "time, and no write that WAIT has confirmed may be lost. Exit 0 if all went well.",
    )
    parser.add_argument(
        "--redis",
        action="store_true",
        help="with a Redis beside each node, writes that WAIT confirms, and a switchover in each "
        "round; needs redis-server and hiredis",
    )
    parser.add_argument(
        "--nodes", type=int, default=3, choices=range(3, len(NAMES) + 1), help="default: 3"
    )
    parser.add_argument("--rounds", metavar="N", type=_count, default=1, help="default: 1")
    parser.add_argument(
        "--keep-running", action="store_true", help="leave the cluster running until Ctrl-C"
    )
    for name, seconds in TIMINGS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="S",
            type=float,
            default=seconds,
            help="in seconds" if seconds is None else "in seconds (default: %(default)g)",
        )
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Play the demo and return the exit status. Raises ConfigError for timings that do not fit
    together, or for a missing program."""
    given = {name: getattr(args, name) for name in TIMINGS}
    config = ElectConfig(**{name: value for name, value in given.items() if value is not None})
    timings = {name.replace("_", "-"): getattr(config, name) for name in TIMINGS}
    if args.redis:
        check_redis()
        from kevy_elect.cli.demo.redis.course import OPENING, make_course
    else:
        from kevy_elect.cli.demo.course import OPENING, make_course
    from kevy_elect.cli.demo.stage import perform

    names = NAMES[: args.nodes]
    course = partial(make_course, names, config, rounds=args.rounds, keep_running=args.keep_running)
    return perform(f"{args.nodes} {OPENING}", timings, course)


def check_redis() -> None:
    """Raise ConfigError, which says what to install, if --redis needs something that is missing."""
    if shutil.which("redis-server") is None:
        raise ConfigError(
            "demo --redis starts Redis servers, and there is no redis-server on the PATH: "
            "install Redis, for instance by apt install redis-server"
        )
    if importlib.util.find_spec("hiredis") is None:
        raise ConfigError("demo --redis needs the library hiredis: pip install 'kevy-elect[redis]'")
