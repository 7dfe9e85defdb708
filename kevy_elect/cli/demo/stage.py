"""The frame of a demo: its directory, its screen, the signals that end it, and its exit status."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kevy_elect.cli.demo.screen import Screen, open_screen
from kevy_elect.errors import ElectError


class CourseError(ElectError):
    """The cluster did something unexpected."""


class Interrupted(KeyboardInterrupt):
    """A signal, such as that of Ctrl-C, ends the demo."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Course(Protocol):
    """The steps of a demo with its processes."""

    def play(self) -> None:
        """Start the processes and play all steps. Raises Interrupted, or ElectError or OSError if
        anything unexpected happens."""

    def stop(self) -> None:
        """End all processes."""


Prepare = Callable[[Path, Screen, Sequence[int], Sequence[str]], Course]
"""Makes the course from a directory, a screen, a list that receives signals, and the options of the
nodes."""


def perform(opening: str, timings: Mapping[str, float], prepare: Prepare) -> int:
    """Play a course and end its processes. Return the exit status. `timings` are shown, and are
    options of the nodes."""
    options = [f"--{name}={seconds}" for name, seconds in timings.items()]
    with _caught_signals() as caught:
        directory = Path(tempfile.mkdtemp(prefix="kevy-elect-demo-"))
        print(f"{opening}; logs and ballots in {directory}")
        shown = (f"{name} {seconds:g}" for name, seconds in timings.items())
        print(f"timings in seconds: {', '.join(shown)}\n", flush=True)
        try:
            with open_screen() as screen:
                course = prepare(directory, screen, caught, options)
                try:
                    course.play()
                finally:
                    course.stop()
            status = 0
        except Interrupted as interrupted:
            status = 128 + interrupted.signum
        except (ElectError, OSError) as error:
            print(f"kevy-elect: the demo failed: {error}", file=sys.stderr)
            print(f"kevy-elect: logs and ballots are kept in {directory}", file=sys.stderr)
            return 1
        shutil.rmtree(directory, ignore_errors=True)
        print("\nall nodes are stopped")
        return status


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """The list of received signals that end the demo. They are handled only between two polls.

    An exception from a signal handler could interrupt the stopping of the nodes.
    """
    caught: list[int] = []
    before = {
        signum: signal.signal(signum, lambda number, _: caught.append(number))
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
