"""Maintenance outlives the process, and ends in time."""

from __future__ import annotations

import os
from pathlib import Path

from kevy_elect.errors import ConfigError
from kevy_elect.ops.maintenance import FILE, Maintenance
from kevy_elect.settings.admin import LONGEST_MAINTENANCE
from tests.service.test_election import ServiceTests


class MaintenanceTests(ServiceTests):
    """One node with a data directory. Its time of day is the test's."""

    def begin(self) -> Maintenance:
        self.directory = Path(self.mktemp())
        self.wall = 1e9
        self.make("a", ballot=None, data_dir=self.directory)
        return self.start_again()

    def start_again(self) -> Maintenance:
        self.start("a")
        maintenance = Maintenance(self.nodes["a"], lambda: self.wall)
        maintenance.startService()
        return maintenance

    def left(self) -> float:
        return self.nodes["a"].maintained_for()

    async def test_it_goes_on_after_a_restart_for_what_is_left_of_it(self) -> None:
        self.begin().begin(600)
        self.assertTrue(500 < self.left() <= 600)
        await self.nodes["a"].stopService()
        self.wall += 500
        maintenance = self.start_again()
        self.assertTrue(40 < self.left() <= 100)
        maintenance.begin(0)
        self.assertEqual(self.left(), 0)
        self.assertFalse((self.directory / FILE).exists())
        maintenance.begin(0)

    async def test_what_is_over_is_over(self) -> None:
        self.begin().begin(600)
        await self.nodes["a"].stopService()
        self.wall += 601
        self.start_again()
        self.assertEqual(self.left(), 0)

    async def test_a_clock_that_was_set_back_does_not_make_it_endless(self) -> None:
        self.begin().begin(600)
        await self.nodes["a"].stopService()
        self.wall -= 1e8
        self.start_again()
        self.assertLessEqual(self.left(), LONGEST_MAINTENANCE)

    async def test_a_file_that_says_nothing_is_no_maintenance(self) -> None:
        self.begin()
        for content in (b"", b"[]", b'{"until": "soon"}', b'{"until": NaN}', b"x" * 2000):
            await self.nodes["a"].stopService()
            (self.directory / FILE).write_bytes(content)
            self.start_again()
            self.assertEqual(self.left(), 0, content)

    def test_times_out_of_bounds_change_nothing(self) -> None:
        maintenance = self.begin()
        for seconds in (-1, LONGEST_MAINTENANCE + 1, float("nan"), float("inf")):
            self.assertRaises(ConfigError, maintenance.begin, seconds)
        self.assertEqual(self.left(), 0)

    def test_what_cannot_be_saved_does_not_begin(self) -> None:
        maintenance = self.begin()
        os.mkdir(self.directory / FILE)
        self.assertRaises(ConfigError, maintenance.begin, 600)
        self.assertEqual(self.left(), 0)
