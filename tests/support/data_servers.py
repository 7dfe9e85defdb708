"""Data servers that are what a test says they are."""

from __future__ import annotations

from typing import Any

import attrs

from kevy_elect.status import DataStatus
from tests.support.statuses import following


class Driven:
    """Stands for the driver of a data server that is in this state."""

    def __init__(self, **changes: Any) -> None:
        self._status = DataStatus(**following(**changes))

    def become(self, **changes: Any) -> None:
        self._status = attrs.evolve(self._status, **changes)

    def watch(self) -> None:
        """It does nothing by itself."""

    def status(self) -> DataStatus:
        return self._status
