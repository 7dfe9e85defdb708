"""The process around the services: its clock, and how it is ended."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from typing import Any

from twisted.python.failure import Failure


def use_monotonic_time() -> None:
    """Have the reactor's timers follow the monotonic clock, so that a step of the wall clock
    neither stops nor rushes them; `twistd kevy-elect` does. To be called before anything
    sets a timer, since one that was set before would never fire: it does nothing then.

    What takes the reactor's time for a date is wrong from then on, such as the access
    log of twisted.web.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    if not loop.getDelayedCalls():
        loop.seconds = time.monotonic


def end_process(failure: Failure) -> None:
    """What a failed elector does to its process: `end_with(1)`."""
    end_with(1)


def end_with(status: int) -> None:
    """Stop the reactor, which stops all services, and have the process end with `status`.

    Exit handlers that the program registered before are not run.
    """
    from twisted.internet import reactor

    # twistd offers no way to choose its exit status.
    atexit.register(exit_now, status)
    loop: Any = reactor
    if loop.running:
        loop.stop()


def exit_now(status: int) -> None:
    """End the process with `status`, without waiting for anything but the log."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
