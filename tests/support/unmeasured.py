"""Tests during which coverage is not measured."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase


class Unmeasured(SynchronousTestCase):
    """Runs so many schedules that measuring them would take minutes. Code that only such a schedule
    reaches does not count as covered; other tests reach it deliberately."""

    def setUp(self) -> None:
        self.addCleanup(sys.settrace, sys.gettrace())
        sys.settrace(None)
