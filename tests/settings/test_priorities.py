"""--priorities: who runs first among equals, as a list or a table."""

from __future__ import annotations

from tests.settings.test_resolve import FILE, ConfigurationTests


class PrioritySettingsTests(ConfigurationTests):
    def test_nobody_is_preferred_unless_it_is_said(self) -> None:
        self.assertEqual(self.read(FILE).values["priorities"], {})

    def test_they_are_a_string_a_list_or_a_table(self) -> None:
        for written in (
            'priorities = "b=10,c=5"',
            'priorities = ["b=10", " c=5 "]',
            "[priorities]\nb = 10\nc = 5",
        ):
            self.assertEqual(self.read(FILE + written).values["priorities"], {"b": 10, "c": 5})

    def test_a_wrong_one_is_blamed_on_its_member(self) -> None:
        self.mistake("FILE:5: --priorities: c: ", file=FILE + '[priorities]\nb = 10\nc = "x"')
        for written, what in (
            ("priorities = 7", "write a table"),
            ('priorities = "b"', "write id=N"),
            ('priorities = "b=-1"', "from 0 to 999999"),
            ("[priorities]\nb = true", "from 0 to 999999"),
            ("[priorities]\nb = 1.5", "from 0 to 999999"),
            ('priorities = "d=1"', "d is not among --peers"),
            ('priorities = "b=1,b=2"', "b is there twice"),
        ):
            self.mistake(what, file=FILE + written)
