"""The command of `--run-primary`: increments the counter as fast as the disk lets it.

    python -m tests.soak.counter.work DIRECTORY

It neither asks the election nor checks an epoch nor locks the counter: nothing but the election
keeps two from being at it. One run in three does it from a grandchild in a session of its own,
which no signal to the command's process group reaches.
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
    """Have the kernel tell whether anything of an earlier run lives. Only that: work goes on."""
    presence = os.open(directory / "presence", os.O_RDWR | os.O_CREAT)  # open to our end
    try:
        fcntl.flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.tell(COMPANY)
    fcntl.flock(presence, fcntl.LOCK_SH)  # one that came in company is company itself


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
