"""The interface of a data server that a node can drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from kevy_elect.driving import Fencing, Frozen, Report
from kevy_elect.errors import ElectError


class DataServerError(ElectError):
    """The data server did not answer in time, or gave a wrong answer."""


class DataServer(Protocol):
    """A data server that a node drives.

    Each Deferred fails with DataServerError if the server cannot be reached, refuses, or does
    not answer in time.
    """

    @property
    def name(self) -> str:
        """Its kind and address, for people."""

    @property
    def freezes_within(self) -> float:
        """Seconds that `freeze` may take."""

    @property
    def starts_frozen_with(self) -> str:
        """What makes it start without taking writes, for people; empty if nothing is needed."""

    lost: Callable[[], object]
    """Called when the server has probably ended. The driver sets this, and then asks for a
    report."""

    def start(self) -> None:
        """Begin to connect."""

    def stop(self) -> Deferred[None]:
        """End all connections; fires when they are closed."""

    def report(self) -> Deferred[Report]:
        """Report its state and data."""

    def freeze(self) -> Deferred[Frozen]:
        """Take no writes, of clients or of a source, until another command. Connections of clients
        that could write end. This does not wait for earlier commands."""

    def promote(self) -> Deferred[Report]:
        """Take the clients' writes, in a history with a new name."""

    def follow(self, address: str) -> Deferred[None]:
        """Replicate from the server at `address`, `host:port`."""


class Guard(Protocol):
    """Something outside of this process that keeps the server from taking writes once the node
    does not prolong its time."""

    acted: Callable[[], object]
    """Called when it has frozen the server because its time was over. The driver sets this."""

    @property
    def pid(self) -> int:
        """The process id of what acts when this process dies, 0 if it does not run."""

    def fencing(self, process: int) -> Fencing:
        """What it can do for the server with this process id, which is 0 if that is not known."""

    def start(self) -> None:
        """Begin. It need not guard anything yet."""

    def stop(self) -> Deferred[None]:
        """End; fires when that is done. It first freezes a server that may take writes."""

    def keep(self, until: float, margin: float, process: int) -> None:
        """The server with this process id may take writes until then, in seconds of `uptime`, and
        is to be frozen `margin` seconds before."""

    def freeze(self) -> None:
        """The driver freezes it now, and it may not answer."""

    def release(self) -> None:
        """The server takes no writes, and needs no guard."""
