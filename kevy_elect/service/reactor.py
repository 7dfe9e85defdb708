"""The process around the services: its clock, and its end."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from typing import Any

from twisted.python.failure import Failure


def use_monotonic_time() -> None:
    """Let all of the reactor's timers use the monotonic clock, so that a step of the wall
    clock neither stops nor hastens them. Call it before anything sets a timer, because a timer
    that was set before would never fire; otherwise this does nothing.

    On Linux an election does not need it: it has timers of its own (`service.timers`), and
    only its attempts to connect and its HTTP timeouts use the reactor's. `twistd kevy-elect`
    calls it, because nothing else runs there. Your own program may call it if no part uses the
    reactor's time as a date, as the access log of twisted.web does. On other systems it should
    call it, or restart a node when its wall clock was set back.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    if not loop.getDelayedCalls():
        loop.seconds = time.monotonic


def end_process(failure: Failure) -> None:
    """End the process of a failed elector: `end_with(1)`."""
    end_with(1)


def end_with(status: int) -> None:
    """Stop the reactor, which stops all services, and end the process with `status`.

    Exit handlers that the program registered earlier do not run.
    """
    from twisted.internet import reactor

    # twistd offers no other way to set its exit status.
    atexit.register(exit_now, status)
    loop: Any = reactor
    if loop.running:
        loop.stop()


def exit_now(status: int) -> None:
    """End the process with `status` after writing the log, without waiting for anything else."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
