"""The command of `--run-primary`: increments the counter as fast as the disk allows.

    python -m tests.soak.counter.work DIRECTORY

It does not ask the election, check an epoch or lock the counter, so only the election keeps two
from working at once. One run in three works in a grandchild in a session of its own, which signals
to the command's process group do not reach.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tests.soak.counter.counter import Count, Counter
from tests.soak.counter.journal import COMPANY, DONE, START, STOP, TURN, Journal

PAUSE: Final = 0.005
BY_A_GRANDCHILD: Final = 3

_stopping = False


def main(directory: Path) -> None:
    if os.getpid() % BY_A_GRANDCHILD == 0 and os.fork():
        os.wait()
        return
    if os.getpid() == os.getpgrp():
        signal.signal(signal.SIGTERM, _stop)
    else:
        os.setsid()
    node, epoch = os.environ["KEVY_NODE_ID"], int(os.environ["KEVY_EPOCH"])
    journal = Journal(directory / "journal", node, epoch)
    journal.tell(START)
    look_for_company(directory, journal)
    work(Counter(directory), journal)
    journal.tell(STOP)


def look_for_company(directory: Path, journal: Journal) -> None:
    """Ask the kernel whether a process of an earlier run still exists, and record it."""
    presence = os.open(
        directory / "presence", os.O_RDWR | os.O_CREAT
    )  # stays open until this process ends
    try:
        fcntl.flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.tell(COMPANY)
    fcntl.flock(presence, fcntl.LOCK_SH)  # this process counts for later ones


def work(counter: Counter, journal: Journal) -> None:
    while not _stopping:
        begun = time.monotonic_ns()
        found = counter.read()
        journal.tell(TURN, found, begun)
        counter.write(following := Count(journal.epoch, found.number + 1))
        journal.tell(DONE, following)
        time.sleep(PAUSE)


def _stop(*_: object) -> None:
    global _stopping
    _stopping = True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
