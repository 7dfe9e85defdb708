"""`kevy-elect events`: what it asks a node for, and what it shows."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import socketserver
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.admin_client import count, seconds_since
from kevy_elect.cli.main import main
from tests.cli.test_status_command import HOSTILE, serving
from tests.support.statuses import event

NIGHT = 1_795_700_000.0


def dated(**changes: object) -> dict[str, Any]:
    return event(**({"at": NIGHT} | changes))


@contextlib.contextmanager
def node(*lines: object, asked: list[Any] | None = None) -> Iterator[str]:
    """An admin endpoint that answers with these, and notes what it was asked."""

    class Admin(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = self.rfile.readline()
            if asked is not None:
                asked.append(json.loads(request))
            for line in lines:
                self.wfile.write(json.dumps(line).encode() + b"\n")

    with serving(Admin) as port:
        yield f"--admin=tcp:127.0.0.1:{port}"


class EventsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        zone = os.environ.get("TZ")
        os.environ["TZ"] = "UTC"
        time.tzset()
        self.addCleanup(self.back, zone)

    def back(self, zone: str | None) -> None:
        os.environ.pop("TZ")
        if zone is not None:
            os.environ["TZ"] = zone
        time.tzset()

    def shown(self, *events: dict[str, Any], options: tuple[str, ...] = ()) -> str:
        with node(*({"event": each} for each in events), {"ok": True}) as where:
            self.assertEqual(main(["events", where, *options]), 0, self.err.getvalue())
        return self.out.getvalue()

    def asked(self, *options: str) -> Any:
        found: list[Any] = []
        with node({"ok": True}, asked=found) as where:
            self.assertEqual(main(["events", where, *options]), 0)
        return found[0]

    def test_each_has_its_time_and_how_long_ago_that_was(self) -> None:
        shown = self.shown(
            dated(ago=93784.0), dated(ago=3723.0), dated(ago=61.9), dated(ago=2.0, critical=True)
        )
        self.assertEqual(
            shown.splitlines(),
            [
                "2026-11-26 13:33:20    1d 02h ago  epoch 3  role      elected primary of epoch 3 "
                "by a, b",
                "2026-11-26 13:33:20    1h 02m ago  epoch 3  role      elected primary of epoch 3 "
                "by a, b",
                "2026-11-26 13:33:20    1m 01s ago  epoch 3  role      elected primary of epoch 3 "
                "by a, b",
                "2026-11-26 13:33:20     2.0 s ago  epoch 3  role      critical: elected primary "
                "of epoch 3 by a, b",
            ],
        )

    def test_json_has_the_time_too(self) -> None:
        (found,) = json.loads(self.shown(dated(at=NIGHT + 0.25), options=("--json",)))
        self.assertEqual(found["time"], "2026-11-26T13:33:20.250+00:00")
        self.assertEqual((found["at"], found["ago"]), (NIGHT + 0.25, 2.0))
        self.assertEqual((found["kind"], found["cause"]), ("role", "elected"))

    def test_a_reason_is_shown_unless_the_text_says_it(self) -> None:
        shown = self.shown(
            dated(text="handing over to b", reason="new disks"),
            dated(text="primary no more: new disks", reason="new disks"),
        ).splitlines()
        self.assertTrue(shown[0].endswith("handing over to b (reason: new disks)"))
        self.assertTrue(shown[1].endswith("primary no more: new disks"))

    def test_nothing_that_is_told_reaches_the_terminal_raw(self) -> None:
        shown = self.shown(dated(text=HOSTILE, kind=HOSTILE, reason=HOSTILE + "r"))
        self.assertTrue(all(" " <= character <= "~" for character in shown.rstrip("\n")))

    def test_the_node_is_asked_for_as_many_as_are_wanted(self) -> None:
        self.assertEqual(self.asked(), {"command": "events"})
        self.assertEqual(self.asked("-n", "0"), {"command": "events", "last": 0})
        self.assertEqual(
            self.asked("-n", "9", "--since", "2h"), {"command": "events", "last": 9, "since": 7200}
        )
        self.assertEqual(self.asked("--since", "1970-01-01")["since"], 1e9)

    def test_who_gives_no_proper_answer_is_not_believed(self) -> None:
        for line in ({"event": 7}, {"event": event()}, {"event": dated(ago=-1)}):
            with node(line, {"ok": True}) as where:
                self.assertEqual(main(["events", where]), 3, line)
            self.assertIn("no proper answer", self.err.getvalue())
        self.assertEqual(self.out.getvalue(), "")

    def test_a_refusal_is_told(self) -> None:
        with node({"ok": False, "error": "no such command"}) as where:
            self.assertEqual(main(["events", where]), 1)
        self.assertIn("no such command", self.out.getvalue())


class ReasonTests(SynchronousTestCase):
    def test_a_switchover_tells_the_node_the_reason(self) -> None:
        self.patch(sys, "stdout", io.StringIO())
        asked: list[Any] = []
        with node({"ok": True, "unwritable": 0.1}, asked=asked) as where:
            self.assertEqual(main(["switchover", "b", where, "--reason", "new disks"]), 0)
        self.assertEqual((asked[0]["target"], asked[0]["reason"]), ("b", "new disks"))

    def test_one_that_no_node_would_take_is_wrong_usage(self) -> None:
        err = io.StringIO()
        self.patch(sys, "stderr", err)
        for reason, problem in (("a\nb", "one line"), ("x" * 201, "shorten it")):
            error = self.assertRaises(SystemExit, main, ["switchover", "--reason", reason])
            self.assertEqual(error.code, 2)
            self.assertIn(problem, err.getvalue())


class SinceTests(SynchronousTestCase):
    def seconds(self, text: str, expected: float) -> None:
        # The clock may be put forward or back by an hour meanwhile, and a test takes its time.
        self.assertLess(abs(seconds_since(text) - expected), 3700)

    def test_durations_and_times(self) -> None:
        now = datetime.now()
        self.assertEqual(seconds_since("90"), 90)
        self.assertEqual(seconds_since("15m"), 900)
        before = now - timedelta(hours=30)
        for text in (
            before.isoformat(),
            before.isoformat(" ", "minutes"),
            before.astimezone().isoformat(),
        ):
            self.seconds(text, 30 * 3600)
        midnight = datetime.combine(before.date(), datetime.min.time())
        self.seconds(before.date().isoformat(), (now - midnight).total_seconds())

    def test_a_time_of_day_is_the_last_one(self) -> None:
        for hours in (1, 12, 23):
            then = datetime.now() - timedelta(hours=hours)
            for form in ("%H:%M", "%H:%M:%S"):
                self.seconds(then.strftime(form), hours * 3600)

    def test_what_is_no_time_is_refused(self) -> None:
        for text in ("", "soon", "25:00", "2026-13-01", "-5", "0", "yesterday", "1e400"):
            self.assertRaises(argparse.ArgumentTypeError, seconds_since, text)

    def test_a_time_to_come_is_refused(self) -> None:
        error = self.assertRaises(argparse.ArgumentTypeError, seconds_since, "2999-01-01")
        self.assertTrue(re.search("in the future", str(error)))

    def test_a_number_is_a_whole_one(self) -> None:
        self.assertEqual(count("0"), 0)
        for text in ("-1", "1.5", "x", "", "9" * 30):
            self.assertRaises(argparse.ArgumentTypeError, count, text)
