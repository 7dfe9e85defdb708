"""The interface of a cluster for a measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import attrs

from bench.process import Fleet

THREE: Final = 3


@attrs.frozen
class Timings:
    """The interval of a primary's heartbeats, and the silence after which it counts as dead."""

    name: str
    heartbeat: float
    down_after: float


class Contender(ABC):
    """Some processes or pairs of processes, one of which is primary. Close it to end all of them.

    Times are nanoseconds of the monotonic clock. With `writing`, each process that may write does
    so every few milliseconds.
    """

    name: ClassVar[str]
    explanation: ClassVar[str]
    """The meaning of its failover times, in one line."""
    pausing: ClassVar[str]
    """The meaning of a write, in one line."""
    any_size: ClassVar[bool] = False
    """Whether it can have another number of nodes than three."""

    def __init__(self, timings: Timings, *, writing: bool = False, size: int = THREE) -> None:
        self.timings = timings
        self.writing = writing
        self.size = size
        self.fleet = Fleet()
        self.fleet.__enter__()
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.fleet.__exit__(None, None, None)

    @classmethod
    def missing(cls) -> str:
        """The names of missing programs; empty if there are none."""
        return ""

    @abstractmethod
    def begin(self) -> None:
        """Start the cluster."""

    @abstractmethod
    def settle(self) -> str:
        """Wait until one primary can write, all follow it and it could be replaced. Return its
        name."""

    @abstractmethod
    def kill(self, name: str) -> int:
        """Send SIGKILL. Return the time just before it."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Send SIGSTOP."""

    @abstractmethod
    def resume(self, name: str) -> None:
        """Send SIGCONT."""

    @abstractmethod
    def succession(self, old: str, since: int) -> tuple[int, int]:
        """Wait for another primary. Return when it could write, and when all others knew it."""

    @abstractmethod
    def revive(self, name: str) -> None:
        """Start a killed process again."""

    @abstractmethod
    def writes(self, name: str, since: int) -> list[int]:
        """The times at which this process wrote, or could have written."""
