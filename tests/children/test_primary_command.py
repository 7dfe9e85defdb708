from __future__ import annotations

import errno
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kevy_elect.children import output_log, supervisor
from kevy_elect.children.backoff import Backoff
from kevy_elect.children.change_hook import Hook
from kevy_elect.children.offset_command import OffsetCommand
from kevy_elect.children.output_log import LOGGED, OVERHEAD, OutputLog
from kevy_elect.children.primary_command import Command
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.children.supervised import (
    LINES_PER_TURN,
    MAX_LINE,
    CommandError,
    Output,
    Run,
    describe_status,
    election_environment,
    printable,
)
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.grace import OnExit, longest_stop_grace, whole_grace
from kevy_elect.messages import Role
from kevy_elect.service.observers import ElectorSnapshot, Observers
from kevy_elect.transport.log_limit import WINDOW
from tests.support.transports import cluster

CONFIG = ElectConfig(hb_interval=0.02, down_after=1.0)
FOREVER = float("inf")


class Election:
    """What commands ask an election for; the test says who is primary, and for how long."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.config = CONFIG
        self.cluster = cluster()
        self.epoch = 7
        self.lease_end = FOREVER
        self.offsets: list[int] = []
        self.observers = Observers(self.state_snapshot)
        self.add_observer = self.observers.add

    def state_snapshot(self) -> ElectorSnapshot:
        left = max(0.0, self.lease_end - time.monotonic())
        role = Role.PRIMARY if left else Role.REPLICA
        primary = ("a", "127.0.0.1:6101") if left else (None, None)
        return ElectorSnapshot(role, self.epoch, *primary, left > 0, (), left > 0, left)

    def maintained_for(self) -> float:
        return 0.0

    def set_repl_offset(self, offset: int) -> None:
        if offset >= 2**64:
            raise ConfigError("too much")
        self.offsets.append(offset)

    def change(self, epoch: int, reason: str) -> None:
        self.epoch = epoch
        self.observers.tell(reason)


class ProcessTests(TestCase):
    """Real processes, and what they leave in the log and in a file."""

    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.election: Any = Election(reactor)
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def log(self, event: Any) -> None:
        self.logged.append(formatEvent(event))

    def is_logged(self, text: str) -> bool:
        return any(text in line for line in self.logged)

    def shell(self, script: str) -> tuple[str, ...]:
        return ("/bin/sh", "-c", f"cd {shlex.quote(str(self.directory.resolve()))}; {script}")

    def read(self, name: str = "out") -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    async def poll(self, state: Callable[[], object], what: str = "the state") -> None:
        deadline = time.monotonic() + 10
        while not state():
            self.assertLess(time.monotonic(), deadline, f"waited in vain for {what}")
            await deferLater(self.reactor, 0.01)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


class WordsTests(SynchronousTestCase):
    def test_a_status_in_words(self) -> None:
        self.assertEqual(describe_status(3), "exited with status 3")
        self.assertEqual(describe_status(137), "ended by SIGKILL")
        self.assertEqual(describe_status(255), "exited with status 255")

    def test_of_a_command_others_learn_the_program_alone(self) -> None:
        words = ("/usr/bin/serve", "--password", "secret")
        election: Any = Election(None)
        command = Command(election, words, stop_grace=0.1)
        self.assertEqual(command.name, "serve")
        for each in (command, Hook(election, words), OffsetCommand(election, words)):
            self.assertIn("'serve'", str(each))
            self.assertNotIn("secret", str(each))

    def test_nothing_that_a_terminal_obeys_is_left_of_a_line(self) -> None:
        self.assertEqual(printable(b"caf\xc3\xa9 \xff\x1b[2J\r"), "café \\xff\\x1b[2J")

    def test_who_knows_no_primary_says_so(self) -> None:
        nobody = ElectorSnapshot(
            role=Role.REPLICA,
            epoch=3,
            current_primary=None,
            primary_addr=None,
            has_quorum=False,
            down_peers=(),
            can_write=False,
            lease_expires_in=0.0,
        )
        told = election_environment("a", nobody)
        self.assertEqual((told["KEVY_PRIMARY_ID"], told["KEVY_PRIMARY_ADDR"]), ("", ""))
        self.assertEqual((told["KEVY_EPOCH"], told["KEVY_ROLE"]), ("3", "replica"))


class TimesTests(SynchronousTestCase):
    def test_the_delay_doubles_up_to_a_bound_and_begins_anew_after_a_steady_run(self) -> None:
        backoff = Backoff()
        delays = [backoff.after(0.1) for _ in range(8)]
        self.assertEqual(delays, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
        self.assertEqual([backoff.after(10), backoff.after(9.9)], [0.1, 0.2])

    def test_the_longest_grace_is_one_that_primary_only_takes(self) -> None:
        fast = ElectConfig(hb_interval=0.02, down_after=0.5)
        for config in (CONFIG, ElectConfig(), fast):
            election: Any = Election(Clock())
            election.config = config
            grace = longest_stop_grace(config)
            child = Command(election, ["true"], stop_grace=grace)
            PrimaryOnly(election, child, stop_grace=whole_grace(grace))
            more = whole_grace(grace + 0.002)
            self.assertRaises(ConfigError, PrimaryOnly, election, child, stop_grace=more)


class OutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[tuple[int, bytes]] = []
        self.paused: list[bool] = []
        self.clock = Clock()
        self.output = Output(
            lambda descriptor, line: self.lines.append((descriptor, line)),
            lambda *, paused: self.paused.append(paused),
            self.clock,
        )

    def test_lines_are_put_together_for_each_stream(self) -> None:
        for descriptor, data in ((1, b"on"), (2, b"tw"), (1, b"e\nrest"), (2, b"o\n\n")):
            self.output.receive(descriptor, data)
        self.assertEqual(self.lines, [(1, b"one"), (2, b"two"), (2, b"")])
        self.output.finish()
        self.assertEqual(self.lines[3:], [(1, b"rest")])

    def test_a_line_too_long_is_broken(self) -> None:
        for _ in range(3):
            self.output.receive(1, b"x" * MAX_LINE)
        self.output.receive(1, b"\n")
        self.assertEqual(b"".join(line for _, line in self.lines), b"x" * 3 * MAX_LINE)
        self.assertLessEqual(max(len(line) for _, line in self.lines), MAX_LINE)

    def test_a_flood_waits_and_lets_others_run(self) -> None:
        flood = 3 * LINES_PER_TURN
        self.output.receive(1, b"y\n" * flood)
        self.assertEqual((len(self.lines), self.paused), (LINES_PER_TURN, [True]))
        self.clock.advance(0)
        self.assertEqual((len(self.lines), self.paused), (flood, [True, False]))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OutputLogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.logged: list[str] = []

        def log(event: Any) -> None:
            self.logged.append(formatEvent(event))

        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        self.clock = Clock()
        self.output = OutputLog(Logger(), self.clock.seconds)

    def print(self, times: int, descriptor: int = 1) -> None:
        for _ in range(times):
            self.output.line("yes", descriptor, b"y")

    def test_what_prints_without_end_has_so_much_of_the_log(self) -> None:
        many = LOGGED // OVERHEAD
        self.print(2 * many)
        self.assertLessEqual(sum(len(line) + OVERHEAD for line in self.logged), 1.1 * LOGGED)
        self.assertEqual(set(self.logged), {"yes: y"})

    def test_the_rest_is_counted_before_the_next_line_that_is_logged(self) -> None:
        self.print(LOGGED)
        left_out = LOGGED - len(self.logged)
        self.clock.advance(WINDOW)
        self.print(1)
        told, line = self.logged[-2:]
        self.assertIn(f"yes: {left_out} more lines of its standard output were left out", told)
        self.assertEqual(line, "yes: y")

    def test_or_at_the_end(self) -> None:
        self.print(LOGGED, descriptor=2)
        left_out = LOGGED - len(self.logged)
        for _ in range(2):
            self.output.tell_left_out("yes")
        (told,) = [line for line in self.logged if "left out" in line]
        self.assertIn(f"{left_out} more lines of its standard error", told)

    def test_one_stream_leaves_the_other_its_lines(self) -> None:
        self.print(LOGGED)
        self.output.line("yes", 2, b"oh")
        self.assertEqual(self.logged[-1], "yes: oh")


class RunTests(ProcessTests):
    def run_command(self, *command: str, stop_at: float = FOREVER, grace: float = 0.1) -> Run:
        run = Run(
            command,
            {"KEVY_EPOCH": "7"},
            lambda descriptor, line: self.logged.append(f"{descriptor} {printable(line)}"),
            reactor=self.reactor,
            stop_at=stop_at,
            grace=grace,
        )
        self.addCleanup(self.end, run)
        return run

    def end(self, run: Run) -> Any:
        if not run.gone.called:
            run.kill()
            run.transport.signalProcess("KILL")
        return run.gone

    async def test_output_environment_and_status(self) -> None:
        run = self.run_command(*self.shell("echo $KEVY_EPOCH $HOME; printf end >&2; exit 3"))
        await run.started
        self.assertEqual(await run.gone, 3)
        self.assertIn(f"1 7 {os.environ.get('HOME', '')}".rstrip(), self.logged)
        self.assertIn("2 end", self.logged)

    async def test_what_cannot_be_executed_fails_by_name(self) -> None:
        run = self.run_command("/no/such/program")
        error = await self.assertFailure(run.started, CommandError)
        self.assertEqual(str(error), "/no/such/program: No such file or directory")
        await run.gone

    async def test_nor_can_anything_be_where_no_process_is_free(self) -> None:
        def fail(*_: object, **__: object) -> None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        self.patch(self.reactor, "spawnProcess", fail)
        run = self.run_command("true")
        run.stop_at(0)
        error = await self.assertFailure(run.started, CommandError)
        self.assertIn("true: ", str(error))
        self.assertEqual(await run.gone, 127)

    async def test_whose_time_is_over_is_never_started(self) -> None:
        run = self.run_command(*self.shell("echo > out"), stop_at=time.monotonic() - 1)
        await run.started
        self.assertEqual(await run.gone, 128 + signal.SIGTERM)
        self.assertEqual(list(self.directory.iterdir()), [])

    async def test_it_is_stopped_in_time_without_being_told(self) -> None:
        run = self.run_command("sleep", "60", stop_at=time.monotonic() + 0.3)
        self.assertEqual(await run.gone, 128 + signal.SIGTERM)

    async def test_the_time_can_be_put_off_and_brought_forward(self) -> None:
        run = self.run_command("sleep", "60")
        await run.started
        soon = time.monotonic() + 1.0
        run.stop_at(soon)
        run.stop_at(soon + 60.0)
        await deferLater(self.reactor, soon + 0.2 - time.monotonic())
        self.assertFalse(run.gone.called)
        run.stop_at(time.monotonic())
        self.assertEqual(await run.gone, 128 + signal.SIGTERM)

    async def test_what_it_leaves_behind_dies_with_it(self) -> None:
        """In its group or out of it, and also what ignores SIGTERM."""
        left = "trap '' TERM; setsid sleep 60 & echo $! > one; sleep 60 & echo $! > two"
        run = self.run_command(*self.shell(left))
        self.assertEqual(await run.gone, 0)
        for name in ("one", "two"):
            self.assertTrue(is_gone(int(self.read(name))))

    async def test_it_dies_with_the_node_whatever_its_time(self) -> None:
        run = self.run_command("sleep", "60", grace=60)
        await run.started
        run.transport.closeChildFD(supervisor.CONTROL)  # as the system does for a dead process
        self.assertEqual(await run.gone, 128 + signal.SIGKILL)

    async def test_the_command_dies_with_its_supervisor_even_if_the_node_is_dead(self) -> None:
        run = self.run_command("sleep", "60")
        await run.started
        pid, run.pid = run.pid, None  # so that nobody kills the group from here
        assert pid is not None
        run.transport.signalProcess("KILL")
        await self.poll(lambda: is_gone(pid))
        await run.gone

    async def test_signals_are_as_programs_expect_them(self) -> None:
        run = self.run_command("grep", "SigIgn", "/proc/self/status")
        await run.gone
        ignored = int(self.logged[-1].split()[-1], 16)
        self.assertEqual(ignored & 0x7FFFFFFF, 0)  # those above are not the program's


class CommandTests(ProcessTests):
    def make(self, script: str, *, grace: float = 0.1, **options: Any) -> Command:
        self.statuses: list[int] = []
        command = Command(
            self.election,
            self.shell(script),
            stop_grace=grace,
            on_stop=self.statuses.append,
            **options,
        )
        self.addCleanup(command.stopService)
        return command

    async def test_it_runs_from_start_to_stop(self) -> None:
        command = self.make("echo $KEVY_NODE_ID $KEVY_ROLE $KEVY_EPOCH > out; echo hi; sleep 60")
        await command.startService()
        await self.poll(lambda: self.is_logged("sh: hi"))
        self.assertEqual(self.read(), "a primary 7\n")
        await command.stopService()
        self.assertFalse(command.running)
        self.assertTrue(self.is_logged("is down: it ended by SIGTERM"))
        await command.stopService()

    async def test_who_ignores_sigterm_is_killed_after_the_grace(self) -> None:
        command = self.make("trap '' TERM; echo > out; while :; do sleep 0.01; done", grace=0.2)
        await command.startService()
        await self.poll(lambda: self.read())
        began = time.monotonic()
        await command.stopService()
        self.assertGreater(time.monotonic() - began, 0.19)
        self.assertTrue(self.is_logged("is down: it ended by SIGKILL"))

    async def test_the_log_has_a_part_of_what_prints_too_much(self) -> None:
        self.patch(output_log, "LOGGED", 1000)
        command = self.make("yes | head -n 5000; sleep 60")
        await command.startService()
        await self.poll(lambda: self.is_logged("sh: y"))
        await command.stopService()
        self.assertLess(self.logged.count("sh: y"), 20)
        self.assertTrue(self.is_logged("more lines of its standard output were left out"))

    async def test_it_can_be_started_again(self) -> None:
        command = self.make("echo >> out; sleep 60")
        for lines in (1, 2):
            await command.startService()
            await self.poll(lambda lines=lines: self.read() == lines * "\n")
            await command.stopService()

    async def test_it_is_restarted_with_the_epoch_of_then(self) -> None:
        command = self.make("echo $KEVY_EPOCH >> out")
        await command.startService()
        await self.poll(lambda: self.read() == "7\n")
        self.election.epoch = 8
        await self.poll(lambda: self.read().startswith("7\n8\n"))
        self.assertTrue(command.running)
        self.assertTrue(self.is_logged("starting it again in 0.1 s"))
        await command.stopService()

    async def test_its_end_can_be_the_end_of_the_service(self) -> None:
        command = self.make("exit 3", on_exit=OnExit.STEP_DOWN)
        await command.startService()
        await self.poll(lambda: not command.running)
        self.assertEqual(self.statuses, [])

    async def test_its_end_can_be_the_end_of_the_node(self) -> None:
        command = self.make("exit 3", on_exit=OnExit.STOP)
        await command.startService()
        await self.poll(lambda: self.statuses == [3])
        self.assertFalse(command.running)

    async def test_the_end_of_the_lease_is_not_its_own(self) -> None:
        """The supervisor ends it in time, whoever else would."""
        # A grace for the test as well, which may hear of it late.
        command = self.make("sleep 60", on_exit=OnExit.STOP, grace=1.5)
        self.election.lease_end = lease_end = time.monotonic() + 2.5
        await command.startService()
        await self.poll(lambda: self.is_logged("ended by SIGTERM while primary"))
        self.assertLess(time.monotonic(), lease_end)
        self.assertTrue(command.running)
        await command.stopService()
        self.assertEqual(self.statuses, [])

    async def test_what_cannot_be_executed_does_not_start(self) -> None:
        command = Command(self.election, ["/no/such"], stop_grace=0.1)
        await self.assertFailure(command.startService(), CommandError)
        self.assertFalse(command.running)
        await command.stopService()

    async def test_nor_does_it_start_again(self) -> None:
        program = self.directory.resolve() / "program"
        program.write_text('#!/bin/sh\nrm "$0"\n')
        program.chmod(0o755)
        command = Command(self.election, [str(program)], stop_grace=0.1)
        await command.startService()
        await self.poll(lambda: not command.running)
        self.assertTrue(self.is_logged("cannot be started again"))
        await command.stopService()
