"""The interface of a data server that a node can drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from kevy_elect.driving import Frozen, Report
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
