"""Tests under which coverage is not measured."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase


class Unmeasured(SynchronousTestCase):
    """Plays so many schedules that to trace each line of them would take minutes. What only such a
    schedule reaches by chance is not covered: other tests reach it on purpose."""

    def setUp(self) -> None:
        self.addCleanup(sys.settrace, sys.gettrace())
        sys.settrace(None)
