from __future__ import annotations

import io
import json
import sys
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import (
    FileLogObserver,
    Logger,
    LogLevel,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Role
from kevy_elect.ops.log import JsonFormat, LogLines, json_observer

SCALARS = st.none() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


class Awkward:
    """Fails at whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        raise RuntimeError("format")


class JsonTests(SynchronousTestCase):
    def format(self, **event: Any) -> dict[str, Any]:
        line = JsonFormat("a")(event)
        self.assertEqual(line.count("\n"), 1)
        self.assertTrue(line.endswith("\n"))
        told: dict[str, Any] = json.loads(line, parse_constant=self.fail)
        return told

    def test_one_flat_object(self) -> None:
        told = self.format(
            log_format="{who} leads",
            log_level=LogLevel.warn,
            log_namespace="kevy_elect.x",
            log_time=1.5,
            who="b",
            role=Role.PRIMARY,
            ago=0.25,
            nothing=None,
            other=[1],
        )
        self.assertEqual(
            list(told.items()),
            [
                ("time", "1970-01-01T00:00:01.500+00:00"),
                ("level", "warn"),
                ("logger", "kevy_elect.x"),
                ("message", "b leads"),
                ("node", "a"),
                ("who", "b"),
                ("role", "primary"),
                ("ago", 0.25),
                ("nothing", None),
            ],
        )

    def test_the_time_has_its_zone(self) -> None:
        at = datetime.fromisoformat(self.format()["time"])
        self.assertEqual(at.utcoffset(), timedelta(0))

    def test_a_traceback_is_in_the_message(self) -> None:
        try:
            raise KeyError("lost")
        except KeyError:
            told = self.format(log_format="oh", log_failure=Failure())
        self.assertTrue(told["message"].startswith("oh\nTraceback"))
        self.assertIn("KeyError: 'lost'", told["message"])

    def test_fields_do_not_replace_its_own(self) -> None:
        told = self.format(log_format="it", message="x", level=3, time=0, node="z", logger=1)
        self.assertEqual((told["message"], told["level"], told["node"]), ("it", "info", "a"))

    def test_what_json_has_no_word_for(self) -> None:
        told = self.format(log_format="", far=float("inf"), none=float("nan"), odd="\udcff")
        self.assertEqual((told["far"], told["none"], told["odd"]), ("inf", "nan", "\udcff"))
        self.assertIn("huge", self.format(log_format="huge", number=10**5000)["message"])

    def test_nothing_makes_it_fail(self) -> None:
        awkward = Awkward()
        for event in (
            {"log_format": "{x}", "x": awkward},
            {"log_format": awkward},
            {"log_level": awkward},
            {"log_level": "info"},
            {"log_namespace": awkward},
            {"log_time": awkward},
            {"log_time": "now"},
            {"log_time": 1e300},
            {"log_failure": awkward},
            {"log_source": awkward, "x": awkward},
        ):
            self.assertIn("message", self.format(**event))

    @given(st.dictionaries(st.text(max_size=9), VALUES, max_size=5))
    def test_not_any_event(self, event: dict[str, Any]) -> None:
        self.format(**event)

    def test_it_is_an_observer_for_twistd(self) -> None:
        stdout = io.StringIO()
        self.patch(sys, "stdout", stdout)
        json_observer()({"log_format": "hello"})
        self.assertEqual(json.loads(stdout.getvalue())["message"], "hello")


class LogLinesTests(SynchronousTestCase):
    """What reaches a log that the process has chosen before."""

    def setUp(self) -> None:
        self.file = io.StringIO()
        self.observer = textFileLogObserver(self.file)
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.ours, self.other = Logger("kevy_elect.test"), Logger("kevy_elector")

    def begin(self, level: str = "info", format: str = "text") -> LogLines:
        lines = LogLines(level, format, "a")
        lines.begin()
        self.addCleanup(lines.end)
        return lines

    def test_our_lines_below_the_level_are_left_out(self) -> None:
        self.begin("warn")
        self.ours.info("one")
        self.ours.warn("two")
        self.ours.critical("three")
        self.other.debug("four")
        self.assertEqual(
            [line.split()[-1] for line in self.file.getvalue().splitlines()],
            ["two", "three", "four"],
        )

    def test_the_level_may_change(self) -> None:
        lines = self.begin("critical")
        self.ours.info("one")
        lines.level = "debug"
        self.ours.debug("two")
        self.assertNotIn("one", self.file.getvalue())
        self.assertIn("two", self.file.getvalue())

    def test_json_in_the_file_that_was_there(self) -> None:
        lines = self.begin(format="json")
        self.ours.info("{x} is it", x=1)
        told = json.loads(self.file.getvalue())
        self.assertEqual((told["message"], told["node"], told["x"]), ("1 is it", "a", 1))
        lines.end()
        self.ours.info("as before")
        self.assertTrue(self.file.getvalue().endswith("[kevy_elect.test#info] as before\n"))

    def test_an_observer_that_writes_json_already_learns_the_node(self) -> None:
        self.observer.formatEvent = JsonFormat()
        self.begin()
        self.ours.info("x")
        self.assertEqual(json.loads(self.file.getvalue())["node"], "a")

    def test_beginning_twice_is_ended_at_once(self) -> None:
        before = set(globalLogPublisher._observers)
        lines = self.begin()
        lines.begin()
        self.assertFalse(before & set(globalLogPublisher._observers))
        lines.end()
        self.assertEqual(set(globalLogPublisher._observers), before)

    def test_a_log_that_is_no_file_is_said_to_keep_its_format(self) -> None:
        events: list[Any] = []
        for observer in list(globalLogPublisher._observers):
            if isinstance(observer, FileLogObserver):
                globalLogPublisher.removeObserver(observer)
                self.addCleanup(globalLogPublisher.addObserver, observer)
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.begin(format="json")
        self.assertIn("its format stays", events[-1]["log_format"])
