"""The frame of a campaign's command: a sandbox, a directory, a report."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.soak.chaos import sandbox
from tests.support.secured import IN_TURN


class Report(Protocol):
    """The result of a run."""

    @property
    def violations(self) -> Sequence[str]: ...

    def to_json(self) -> str: ...

    def to_text(self) -> str: ...


def play(
    name: str,
    arguments: Sequence[str],
    options: argparse.Namespace,
    run: Callable[[argparse.Namespace, Path], Report],
    obstacle: Callable[[], str | None] = sandbox.obstacle,
) -> int:
    """Run `tests.soak.NAME` in a sandbox of its own. The exit status is 0 without violations, 1
    with violations, and 2 if no run is possible.

    The directory is kept if the command line names it or if there was a violation.
    """
    if not options.inside:
        problem = obstacle()
        if problem is not None:
            print(problem, file=sys.stderr)
            return 2
        sandbox.enter(arguments, module=f"tests.soak.{name}")
    sandbox.collect_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sandbox.furnish()
    given = options.directory
    directory = Path(given or tempfile.mkdtemp(prefix=f"kevy-elect-{name}-")).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        print(f"{directory}: not empty; name a directory for this run alone", file=sys.stderr)
        return 2
    report = run(options, directory)
    (directory / "report.json").write_text(report.to_json() + "\n")
    print(report.to_text(), flush=True)
    if report.violations or given:
        print(f"\nlogs, journals and report.json are in {directory}", flush=True)
    else:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


def add_links(parser: argparse.ArgumentParser) -> None:
    """Add the option for the kinds of links."""
    parser.add_argument(
        "--links",
        choices=IN_TURN,
        default="mixed",
        help="of the nodes; mixed are plain in one half and noise in the other [%(default)s]",
    )
