"""What a measurement asks of a cluster, whoever's it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import attrs

from bench.process import Fleet

THREE: Final = 3


@attrs.frozen
class Timings:
    """How often a primary says that it lives, and after which silence it counts as dead."""

    name: str
    heartbeat: float
    down_after: float


class Contender(ABC):
    """Some processes or pairs of processes, one of them primary. Close it to end them all.

    Times are nanoseconds of the monotonic clock. With `writing`, whoever may write
    does so every few milliseconds.
    """

    name: ClassVar[str]
    explanation: ClassVar[str]
    """What its times of a failover stand for, in one line."""
    pausing: ClassVar[str]
    """What a write is, in one line."""
    any_size: ClassVar[bool] = False
    """Whether it can have more or fewer than three nodes."""

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
        """What is not installed, or nothing."""
        return ""

    @abstractmethod
    def begin(self) -> None:
        """Start it."""

    @abstractmethod
    def settle(self) -> str:
        """Wait until one primary can write, all follow it and it could be replaced; its name."""

    @abstractmethod
    def kill(self, name: str) -> int:
        """SIGKILL; the time just before it."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """SIGSTOP."""

    @abstractmethod
    def resume(self, name: str) -> None:
        """SIGCONT."""

    @abstractmethod
    def succession(self, old: str, since: int) -> tuple[int, int]:
        """Wait for another primary; when it could write, and when all the others knew it."""

    @abstractmethod
    def revive(self, name: str) -> None:
        """Start a killed one again."""

    @abstractmethod
    def writes(self, name: str, since: int) -> list[int]:
        """When this one wrote, or might have."""
