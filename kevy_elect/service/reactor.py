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
    """Have all of the reactor's timers follow the monotonic clock, so that a step of the wall
    clock neither stops nor rushes them. To be called before anything sets a timer, since one
    that was set before would never fire: it does nothing then.

    On Linux an election does not need it: it has timers of its own (`service.timers`), and
    only its attempts to connect and its HTTP timeouts follow the reactor's. `twistd kevy-elect`
    calls it, since nothing else runs there. Your own program may, if no part of it takes the
    reactor's time for a date, as the access log of twisted.web does; on other systems it
    should, or restart a node when its wall clock was set back.
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
