"""Data servers in the states that a test sets."""

from __future__ import annotations

from typing import Any

import attrs

from kevy_elect.status import DataStatus
from tests.support.statuses import following


class Driven:
    """Replaces the driver of a data server, in this state."""

    def __init__(self, **changes: Any) -> None:
        self._status = DataStatus(**following(**changes))

    def become(self, **changes: Any) -> None:
        self._status = attrs.evolve(self._status, **changes)

    def watch(self) -> None:
        """Do nothing."""

    def status(self) -> DataStatus:
        return self._status
