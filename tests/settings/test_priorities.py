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


class FailbackSettingsTests(ConfigurationTests):
    PREFERRED = FILE + 'priorities = "b=10"\nhttp-peers = "b@h:1"\n'

    def test_it_is_off_unless_it_is_said(self) -> None:
        self.assertIsNone(self.read(FILE).values["failback"])
        self.assertEqual(self.read(self.PREFERRED + "failback = 60").values["failback"], 60.0)

    def test_what_it_needs(self) -> None:
        self.mistake("nobody is preferred", file=FILE + "failback = 60")
        self.mistake("b never gets the role", file=FILE + 'priorities = "b=10,c=0"\nfailback = 60')
        for seconds in ("4.9", "86401", "inf", "nan", "0"):
            self.mistake(
                "must be between --down-after (5) and 86400",
                file=self.PREFERRED + f"failback = {seconds}",
            )
