"""Maintenance of a node, kept in its data directory so that a restart does not end it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from twisted.application.service import Service
from twisted.logger import Logger

from kevy_elect.directory import open_in, write_whole
from kevy_elect.errors import BallotError, ConfigError
from kevy_elect.service.election import ElectionService
from kevy_elect.settings.admin import LONGEST_MAINTENANCE

FILE: Final = "maintenance.json"
BESIDE: Final = "maintenance.json.new"
_MAX: Final = 1000
"""The most bytes of the file."""


class Maintenance(Service):
    """Begins and ends the maintenance of `election`, and continues it after a restart.

    Start it after the election. `wall` returns the time of day, in seconds since 1970.
    """

    log = Logger()

    def __init__(self, election: ElectionService, wall: Callable[[], float] = time.time) -> None:
        self._election = election
        self._wall = wall

    def startService(self) -> None:
        """Continue the maintenance of the file, if it is not over."""
        super().startService()
        left = self._kept()
        if left > 0:
            self._election.maintain(left)

    def begin(self, seconds: float) -> None:
        """Begin maintenance for so many seconds, or end it with 0.

        Raises ConfigError, with nothing changed, if there are too many seconds or the file cannot
        be saved.
        """
        if not 0 <= seconds <= LONGEST_MAINTENANCE:
            raise ConfigError(
                f"maintenance for {seconds:g} s: it takes from 0 to {LONGEST_MAINTENANCE:g} s"
            )
        if seconds or self._election.maintained_for():
            self._keep(seconds)
            self._election.maintain(seconds)

    def _kept(self) -> float:
        """The seconds that remain of the maintenance in the file."""
        directory = self._election.directory
        if directory is None:
            return 0.0
        try:
            with open_in(directory.descriptor(), FILE, "rb") as content:
                until = float(json.loads(content.read(_MAX))["until"])
        except FileNotFoundError:
            return 0.0
        except (OSError, BallotError, ValueError, TypeError, KeyError, RecursionError) as error:
            self.log.warn(
                "{node}: {file} cannot be read ({error}): this node is in no maintenance",
                node=self._election.cluster.node_id,
                file=FILE,
                error=error,
            )
            return 0.0
        left = until - self._wall()
        return min(left, LONGEST_MAINTENANCE) if left > 0 else 0.0

    def _keep(self, seconds: float) -> None:
        directory = self._election.directory
        if directory is None:
            return
        try:
            there = directory.descriptor()
            if seconds:
                text = json.dumps({"until": self._wall() + seconds}).encode() + b"\n"
                write_whole(there, FILE, BESIDE, text)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(FILE, dir_fd=there)
        except (OSError, BallotError) as error:
            raise ConfigError(f"maintenance cannot be saved in --data-dir: {error}") from None
