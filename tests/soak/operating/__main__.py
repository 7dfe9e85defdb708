"""`python -m tests.soak.operating`: runs all commands of docs/operating.md, on hosts made for it.

Needs root, Linux, Debian's python3 with venv, prometheus, and a package index. Exit status 0 if
every output is as on the page, and the program that ran meanwhile lost no increment; 1 if not; 2 if
no run is possible here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.soak.chaos import sandbox
from tests.soak.operating.hosts import TOOLS, make_switch
from tests.soak.operating.page import commands
from tests.soak.operating.site import Site
from tests.soak.operating.trial import Trial
from tests.support import ROOT

PAGE: Final = ROOT / "docs" / "operating.md"
TRANSCRIPT: Final = PAGE.with_name("operating-transcript.md")
SANDBOX: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if not options.inside:
        obstacle = _obstacle()
        if obstacle is not None:
            print(obstacle, file=sys.stderr)
            return 2
        sys.stdout.flush()
        inside = (sys.executable, "-m", "tests.soak.operating", "--inside", *arguments)
        os.execvp(SANDBOX[0], (*SANDBOX, *inside))
    sandbox.collect_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sandbox.furnish()
    make_switch()
    directory = Path(tempfile.mkdtemp(prefix="kevy-elect-operating-"))
    try:
        return _run(directory, options)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(directory: Path, options: argparse.Namespace) -> int:
    site = Site(directory, options.before)
    trial = Trial(site, lambda text: print(text, flush=True))
    try:
        trial.run(commands(options.page.read_text(encoding="utf-8")))
    finally:
        site.end()
    verdict = trial.judge()
    options.transcript.write_text(trial.transcript(verdict), encoding="utf-8")
    print(f"\n{options.transcript} has all of this", flush=True)
    problems = [*trial.problems, *trial.idle(verdict.acknowledged), *verdict.violations]
    for problem in problems:
        print(f"\n{options.page}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _obstacle() -> str | None:
    """The reason why no run is possible on this machine; None if it is possible."""
    missing = [tool for tool in (*TOOLS, "prometheus") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if os.geteuid() == 0 else "only root can make hosts"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.operating", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="another page")
    parser.add_argument(
        "--transcript", type=Path, default=TRANSCRIPT, metavar="FILE", help="where it is written"
    )
    parser.add_argument(
        "--before", metavar="REVISION", help="what is installed first [this tree, as it is]"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
