"""What a node keeps of its past on its disk, and what keeps it from that."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.directory import DirectoryLock
from kevy_elect.events import EVENTS_KEPT, SERVICE, STARTED, Cause, Event, EventKind
from kevy_elect.ops import history
from kevy_elect.ops.history import FILE, MAX_FILE, MAX_TEXT, OLD, History
from kevy_elect.ops.own_status import own_status
from kevy_elect.service.fake import FakeElection
from kevy_elect.status import MAX_BYTES, DatedEvent, EventStatus

NIGHT = 1_795_700_000.0


class HistoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.lock = DirectoryLock(self.directory, "a")
        self.addCleanup(self.lock.release)
        self.file, self.old = self.directory / FILE, self.directory / OLD
        self.warnings: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)
        self.run_node()

    def log(self, event: dict[str, Any]) -> None:
        if event.get("log_level") is LogLevel.warn:
            self.warnings.append(str(event["log_format"]).format(**event))

    def run_node(self, night: float = NIGHT) -> None:
        """A process of the node, the first or another one."""
        self.election = FakeElection("a", handover=False)
        self.election.directory = self.lock
        self.history = History(self.election, lambda: night + self.election.now())

    def note(self, text: str, ago: float = 0.0) -> None:
        at = self.election.now() - ago
        self.election.probes.noted(Event(at=at, kind=EventKind.VOTE, epoch=7, text=text))

    def read(self, *since: float) -> list[DatedEvent]:
        reading = Deferred.fromCoroutine(self.history.read(*since))
        while self.election.reactor.getDelayedCalls():
            self.election.advance(0)
        found = self.successResultOf(reading)
        assert isinstance(found, list)
        return found

    def texts(self, *since: float) -> list[str]:
        return [event.text for event in self.read(*since) if event.kind != SERVICE]


class KeepingTests(HistoryTests):
    def test_events_outlive_their_process_with_the_time_of_day(self) -> None:
        self.election.elect()
        self.election.advance(10)
        self.election.follow("b")
        self.successResultOf(self.election.stopService())
        self.lock = DirectoryLock(self.directory, "a")
        self.addCleanup(self.lock.release)
        self.run_node(NIGHT + 3600)
        self.election.follow("c")
        found = self.read()
        self.assertEqual(
            [(event.kind, event.at - NIGHT) for event in found],
            [
                ("service", 0),
                ("role", 0),
                ("role", 10),
                ("service", 10),
                ("service", 3600),
                ("primary", 3600),
            ],
        )
        lost = found[2]
        self.assertEqual(
            (lost.cause, lost.member, lost.epoch, lost.ago), (Cause.SUPERSEDED, "b", 2, 3590)
        )
        self.assertIn("started, version", found[0].text)
        self.assertEqual((found[3].text, found[3].epoch), ("stopped", 2))

    def test_a_node_that_notes_nothing_has_started_all_the_same(self) -> None:
        self.election.probes.ticked(0.0)
        self.election.probes.ticked(0.0)
        self.assertEqual([event.kind for event in self.read()], ["service"])

    def test_an_event_that_is_told_late_has_its_own_time(self) -> None:
        self.election.advance(50)
        self.note("x", ago=20)
        self.assertEqual(self.read()[-1].at, NIGHT + 30)

    def test_only_what_is_no_older_than_asked_is_told(self) -> None:
        for text in ("first", "second", "third"):
            self.note(text)
            self.election.advance(60)
        self.assertEqual(self.texts(130), ["second", "third"])
        self.assertEqual(self.texts(0), [])

    def test_each_event_is_a_line_of_json_that_only_its_owner_may_read(self) -> None:
        self.note("a\nb\x1b[2J")
        line = self.file.read_text().splitlines()[-1]
        self.assertEqual(json.loads(line)["text"], "a\nb\x1b[2J")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    def test_it_grows_to_two_files_and_no_further(self) -> None:
        for number in range(4000):
            self.note(f"{number} {'x' * 2 * MAX_TEXT}")
        sizes = [path.stat().st_size for path in (self.file, self.old)]
        self.assertLessEqual(max(sizes), MAX_FILE)
        self.assertGreater(sizes[1], MAX_FILE - 2 * MAX_TEXT)
        numbers = [int(text.split()[0]) for text in self.texts()]
        self.assertEqual(numbers, list(range(numbers[0], 4000)))
        self.assertEqual(
            {path.name for path in self.directory.iterdir()}, {FILE, OLD, "elect.lock"}
        )

    def test_without_a_data_directory_there_is_none(self) -> None:
        self.election = FakeElection("a")  # type: ignore[assignment]
        self.history = History(self.election)
        self.election.elect()
        self.assertEqual(self.read(), [])


class StatusTests(HistoryTests):
    """What a node that was started again says of the time before."""

    def start_again(self, after: float) -> list[EventStatus]:
        """The events of its status, of a process that starts so many seconds later."""
        night = NIGHT + self.election.now() + after
        self.run_node(night)
        self.note("now")
        return list(own_status(self.election).events)

    def test_it_has_the_events_of_the_hour_before_and_its_start(self) -> None:
        self.note("long ago")
        self.election.advance(1000)
        self.note("lately")
        found = self.start_again(3000)
        self.assertEqual([(e.kind, e.text) for e in found[:1]], [("vote", "lately")])
        self.assertAlmostEqual(found[0].ago, 3000)
        self.assertEqual([(e.kind, e.cause, e.ago) for e in found[1:]], [("service", STARTED, 0)])
        self.election.advance(5)
        self.assertEqual([e.ago for e in own_status(self.election).events], [3005, 5])

    def test_a_first_start_has_itself_alone(self) -> None:
        self.note("x")
        self.assertEqual([e.cause for e in own_status(self.election).events], [STARTED])

    def test_it_does_not_say_more_than_a_status_may_hold(self) -> None:
        for _ in range(2 * EVENTS_KEPT):
            self.note("x" * MAX_TEXT)
        self.note("y" * 99)
        self.file.write_bytes(self.file.read_bytes() + b'{"at": 1, "text": "%s"}\n' % (b"z" * 9000))
        found = self.start_again(1)
        self.assertEqual(found[0].text, "x" * MAX_TEXT)
        self.assertLess(len(own_status(self.election).dump()), MAX_BYTES)


class TroubleTests(HistoryTests):
    """Whatever becomes of the files, the node goes on."""

    def full(self, *args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def test_a_full_disk_is_said_once_and_made_up_for(self) -> None:
        self.note("before")
        patch = self.patch(history, "_write_whole", self.full)
        for number in range(300):
            self.note(f"{number}")
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("No space left on device", self.warnings[0])
        self.assertEqual(self.texts()[-1], "299")
        patch.restore()
        self.note("after")
        found = self.texts()
        self.assertEqual(found[0], "before")
        self.assertEqual(found[-2:], ["299", "after"])
        self.assertEqual(len(found), 1 + EVENTS_KEPT)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_half_a_line_is_taken_back(self) -> None:
        self.note("before")
        size = self.file.stat().st_size
        write = os.write

        def half(file: int, data: bytes) -> int:
            return write(file, data[: len(data) // 2])

        patch = self.patch(os, "write", half)
        self.note("x")
        patch.restore()
        self.assertEqual(self.file.stat().st_size, size)
        self.note("after")
        self.assertEqual(self.texts(), ["before", "x", "after"])

    def test_a_line_that_a_crash_left_unfinished_costs_that_line_only(self) -> None:
        self.note("before")
        with self.file.open("ab") as file:
            file.write(b'{"at": 17, "te')
        self.note("after")
        self.assertEqual(self.texts(), ["before", "after"])

    def test_lines_that_are_no_events_are_left_out(self) -> None:
        self.note("before")
        self.file.write_bytes(
            self.file.read_bytes()
            + b"[]\n7\nnull\n{}\n\xff\xfe\n\n"
            + b'{"at": NaN, "kind": "x", "text": "x", "critical": false, "epoch": 1}\n'
            + b'{"at": 1%s, "kind": "x", "text": "x", "critical": false, "epoch": 1}\n'
            % (b"0" * 400)
            + b"[" * 100_000
            + b"\n"
        )
        self.note("after")
        self.assertEqual(self.texts(), ["before", "after"])

    def test_a_file_of_something_else_gives_way(self) -> None:
        self.file.write_bytes(os.urandom(3 * MAX_FILE))
        self.note("x")
        self.assertEqual(self.texts(), ["x"])
        self.assertEqual(self.warnings, [])

    def test_what_is_no_file_is_let_be_and_said_once(self) -> None:
        elsewhere = Path(self.mktemp())
        elsewhere.touch()

        def pipe() -> None:
            os.mkfifo(self.file)

        def link() -> None:
            self.file.symlink_to(elsewhere.absolute())

        for make in (self.file.mkdir, pipe, link):
            with self.subTest(make):
                self.warnings.clear()
                self.run_node()
                make()
                self.note("one")
                self.note("two")
                self.assertEqual(self.texts(), ["one", "two"])
                self.assertEqual(len(self.warnings), 1)
                self.file.rmdir() if self.file.is_dir() else self.file.unlink()
        self.assertEqual(elsewhere.read_bytes(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_directory_that_another_has_taken_the_place_of_is_not_written_to(self) -> None:
        self.directory.rename(f"{self.directory}-moved")
        self.directory.mkdir()
        self.note("x")
        self.assertEqual(list(self.directory.iterdir()), [])
        self.assertEqual(len(self.warnings), 1)
        self.assertEqual(self.texts(), ["x"])
