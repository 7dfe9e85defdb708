from __future__ import annotations

import time

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.children import change_hook as hook
from kevy_elect.children import output_log
from kevy_elect.children.change_hook import Hook
from kevy_elect.children.offset_command import OffsetCommand, parse_offset
from kevy_elect.errors import ConfigError
from kevy_elect.transport.log_limit import BURST
from tests.children.test_primary_command import ProcessTests

TELL = "echo $KEVY_REASON: $KEVY_OLD_ROLE $KEVY_OLD_EPOCH to $KEVY_ROLE $KEVY_EPOCH >> out"


class HookTests(ProcessTests):
    def start(self, script: str) -> Hook:
        service = Hook(self.election, self.shell(script))
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def test_it_runs_at_the_start_and_at_each_change(self) -> None:
        service = self.start(TELL)
        await self.poll(lambda: self.read() == "the node started: to primary 7\n")
        self.election.change(8, "so it is")
        await self.poll(lambda: self.read().endswith("\nso it is: primary 7 to primary 8\n"))
        await service.stopService()

    async def test_one_at_a_time_and_the_newest_state_when_late(self) -> None:
        service = self.start(f"{TELL}; while [ ! -e go ]; do sleep 0.01; done; echo done >> out")
        await self.poll(lambda: self.read())
        for epoch in (8, 9, 10):
            self.election.change(epoch, f"change {epoch}")
        (self.directory / "go").touch()
        await self.poll(lambda: self.read().count("done") == 2)
        expected = [
            "the node started: to primary 7",
            "done",
            "change 10: primary 7 to primary 10",
            "done",
        ]
        self.assertEqual(self.read().splitlines(), expected)
        await service.stopService()
        self.assertEqual(self.read().splitlines(), expected)

    async def test_it_starts_ten_times_a_second_at_most_with_the_newest_state(self) -> None:
        service = self.start("echo $KEVY_EPOCH >> out")
        began = time.monotonic()
        for epoch in range(8, 208):
            self.election.change(epoch, "somebody wants it so")
            await deferLater(self.reactor, 0.005)
        await self.poll(lambda: self.read().endswith("\n207\n"))
        took = time.monotonic() - began
        self.assertLessEqual(len(self.read().splitlines()), took / hook.SPACING + 1)
        await service.stopService()

    async def test_stopping_waits_for_what_may_not_start_yet(self) -> None:
        self.patch(hook, "SPACING", 0.5)
        service = self.start("echo $KEVY_EPOCH >> out")
        await self.poll(lambda: self.read() and service._run is None)
        self.election.change(8, "the end")
        await service.stopService()
        self.assertEqual(self.read(), "7\n8\n")

    async def test_losing_patience_drops_what_may_not_start_yet(self) -> None:
        self.patch(hook, "SPACING", 60.0)
        self.patch(hook, "LONG", 0.3)
        service = self.start("echo $KEVY_EPOCH >> out")
        await self.poll(lambda: self.read() and service._run is None)
        self.election.change(8, "too late")
        await service.stopService()
        self.assertEqual(self.read(), "7\n")

    async def test_one_that_fails_each_time_has_a_few_lines(self) -> None:
        self.patch(hook, "SPACING", 0.0)
        service = self.start("echo x >> out; exit 4")
        for epoch in range(8, 8 + 2 * BURST):
            await self.poll(lambda: service._run is None)
            self.election.change(epoch, "again")
        await service.stopService()
        self.assertEqual(self.read().count("x"), 2 * BURST + 1)
        self.assertEqual(len([line for line in self.logged if "exited with" in line]), BURST)

    async def test_the_log_has_a_part_of_what_its_runs_print(self) -> None:
        self.patch(output_log, "LOGGED", 1000)
        service = self.start("yes | head -n 100; echo x >> out")
        for epoch in (8, 9, 10):
            await self.poll(lambda: service._is_idle())
            self.election.change(epoch, "again")
        await service.stopService()
        self.assertEqual(self.read(), "x\n" * 4)
        self.assertLess(self.logged.count("sh: y"), 20)
        self.assertTrue(self.is_logged("more lines of its standard output were left out"))

    async def test_stopping_waits_for_what_is_due(self) -> None:
        service = self.start(f"sleep 0.1; {TELL}")
        await self.poll(lambda: service._run)
        self.election.change(8, "the end")
        await service.stopService()
        self.assertEqual(self.read().count("\n"), 2)
        self.election.change(9, "too late")
        self.assertIsNone(service._run)

    async def test_but_not_forever(self) -> None:
        self.patch(hook, "LONG", 0.3)
        service = self.start("echo > out; sleep 60")
        await self.poll(lambda: self.read())
        await service.stopService()
        self.assertTrue(self.is_logged("still runs after 0.3 s"))
        self.assertTrue(self.is_logged("ended by SIGTERM after 0."))

    async def test_failures_are_logged_and_the_next_change_is_taken(self) -> None:
        service = self.start("echo x >> out; echo oh >&2; exit 4")
        await self.poll(lambda: self.is_logged("exited with status 4 after 0."))
        self.assertTrue(self.is_logged("sh: oh"))
        self.election.change(8, "again")
        await self.poll(lambda: self.read() == "x\nx\n")
        await service.stopService()

    async def test_another_command_is_told_how_things_are_and_then_of_changes(self) -> None:
        service = self.start(TELL)
        await self.poll(lambda: self.read() and service._run is None)
        service.use(self.shell(f"echo new >> out; {TELL}"), "it is another")
        await self.poll(lambda: "it is another" in self.read())
        self.election.change(8, "it changed")
        await self.poll(lambda: "it changed" in self.read())
        self.assertEqual(
            self.read().splitlines(),
            [
                "the node started: to primary 7",
                "new",
                "it is another: to primary 7",
                "new",
                "it changed: primary 7 to primary 8",
            ],
        )
        await service.stopService()

    async def test_another_command_waits_for_the_run_of_the_one_before(self) -> None:
        service = self.start("echo old >> out; while [ ! -e go ]; do sleep 0.01; done; exit 4")
        await self.poll(lambda: self.read())
        service.use(self.shell(TELL), "it is another")
        (self.directory / "go").touch()
        await self.poll(lambda: self.read() == "old\nit is another: to primary 7\n")
        (line,) = [line for line in self.logged if "exited with status 4" in line]
        self.assertIn("'sh'", line)
        await service.stopService()

    async def test_no_command_is_not_run(self) -> None:
        service = self.start("echo x >> out; while [ ! -e go ]; do sleep 0.01; done; echo y")
        await self.poll(lambda: self.read())
        self.election.change(8, "no longer of interest")
        service.use((), "there is none")
        self.election.change(9, "neither")
        (self.directory / "go").touch()
        await service.stopService()
        self.assertTrue(self.is_logged("sh: y"))
        self.assertEqual(self.read(), "x\n")

    async def test_nor_is_one_missed_at_the_start(self) -> None:
        service = Hook(self.election, ())
        service.startService()
        await self.poll(lambda: not service._first.active())
        self.election.change(8, "nobody hears this")
        service.use(self.shell(TELL), "there is one")
        await self.poll(lambda: self.read() == "there is one: to primary 8\n")
        await service.stopService()

    async def test_one_that_cannot_be_executed_is_named(self) -> None:
        service = Hook(self.election, ["/no/such"])
        service.startService()
        await self.poll(lambda: self.is_logged("/no/such: No such file or directory"))
        await service.stopService()

    def test_a_stop_before_the_reactor_runs_leaves_nothing(self) -> None:
        self.successResultOf(self.start(TELL).stopService())


class OffsetTests(ProcessTests):
    def start(self, script: str, timeout: float = 5.0) -> OffsetCommand:
        service = OffsetCommand(self.election, self.shell(script), timeout=timeout)
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def test_its_number_becomes_the_offset_again_and_again(self) -> None:
        service = self.start("echo x >> out; wc -l < out")
        await self.poll(lambda: self.election.offsets == [1, 2])
        await service.stopService()

    async def test_a_problem_is_logged_once_and_the_offset_stays(self) -> None:
        service = self.start("echo x >> out; [ -e well ] && echo 5 || { echo oh >&2; exit 1; }")
        await self.poll(lambda: self.read().count("x") == 3)
        (self.directory / "well").touch()
        await self.poll(lambda: self.is_logged("works again"))
        self.assertEqual(self.election.offsets, [5])
        problems = [line for line in self.logged if "stays as it was" in line]
        self.assertEqual(len(problems), 1)
        self.assertIn("exited with status 1; the offset stays as it was. oh", problems[0])
        await service.stopService()

    async def test_one_that_hangs_is_killed_with_its_group(self) -> None:
        service = self.start("trap '' TERM; sleep 60 & sleep 60; echo 5", timeout=0.2)
        await self.poll(lambda: self.is_logged("did not end within 0.2 s"))
        await service.stopService()
        self.assertEqual(self.election.offsets, [])

    async def test_another_command_is_asked_next(self) -> None:
        service = OffsetCommand(self.election, ())
        service.startService()
        self.addCleanup(service.stopService)
        service.use(self.shell("echo 5"))
        await self.poll(lambda: self.election.offsets == [5])
        service.use(())
        await service.stopService()
        self.assertEqual([line for line in self.logged if "offset" in line], [])

    async def test_it_can_be_asked_anew_and_what_began_before_does_not_count(self) -> None:
        service = self.start("sleep 0.2; echo x >> out; wc -l < out")
        self.assertEqual(self.election.offset_source, service.ask)
        await self.election.offset_source()
        self.assertEqual(self.election.offsets, [1, 2])
        await service.stopService()
        self.assertIsNone(self.election.offset_source)

    async def test_stopping_does_not_wait_for_an_answer(self) -> None:
        service = self.start("echo > out; sleep 60")
        await self.poll(lambda: self.read())
        await service.stopService()
        self.assertEqual([line for line in self.logged if "stays" in line], [])


class ParseTests(SynchronousTestCase):
    def test_one_number(self) -> None:
        self.assertEqual(parse_offset([b" 42 \r"]), 42)

    def test_nothing_else(self) -> None:
        for lines in ([], [b""], [b"1", b"2"], [b"-1"], [b"1.5"], [b"1" * 21], ["٣".encode()]):
            self.assertRaises(ConfigError, parse_offset, lines)
