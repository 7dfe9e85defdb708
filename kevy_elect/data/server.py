"""What a data server has to be able to do for a node to drive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from kevy_elect.driving import Frozen, Report
from kevy_elect.errors import ElectError


class DataServerError(ElectError):
    """The data server did not answer in time, or not as it should."""


class DataServer(Protocol):
    """A data server as a node drives it.

    Each Deferred fails with DataServerError if the server cannot be reached, says no, or does
    not answer in time.
    """

    @property
    def name(self) -> str:
        """For people: what it is and where."""

    @property
    def freezes_within(self) -> float:
        """Seconds that `freeze` may take."""

    lost: Callable[[], object]
    """Called when the server is gone, most probably: whoever drives it sets this, and asks then."""

    def start(self) -> None:
        """Begin to connect."""

    def stop(self) -> Deferred[None]:
        """End all connections; fires when they are gone."""

    def report(self) -> Deferred[Report]:
        """Ask what it is and has."""

    def freeze(self) -> Deferred[Frozen]:
        """Have it take no writes, of clients or of a source, until it is told otherwise. If it
        took those of clients, their connections end. Waits for nothing that it was told before."""

    def promote(self) -> Deferred[Report]:
        """Have it take the clients' writes, in a history of a new name."""

    def follow(self, address: str) -> Deferred[None]:
        """Have it replicate from the server at `address`, `host:port`."""
