"""The programs between a node and a command, as processes of their own."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from twisted.internet.error import ProcessExitedAlready
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.children import processes, supervised, supervisor
from kevy_elect.children.cgroup import PREFIX, Cgroup
from kevy_elect.children.processes import is_running, now, parent_of
from kevy_elect.children.supervised import Run, printable
from kevy_elect.children.supervisor import Lateness, SharedTime, Supervisor
from tests.children import storm
from tests.children.test_primary_command import FOREVER, ProcessTests

NOBODY = 65534
IN_TIME = 3.0
"""Seconds after SIGKILL's time within which nothing may write any longer, on a busy machine."""
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Runs a command among processes of its own, all of which end with it."""
AS_NOBODY = f"""
import os, sys
sys.path.insert(0, sys.argv.pop(1))
from kevy_elect.children import processes
from kevy_elect.children.supervisor import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
    processes._prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self is ours, as after an exec
os._exit(main(sys.argv[1:]))
"""


class ControlTests(SynchronousTestCase):
    """What a supervisor hears of its node."""

    def setUp(self) -> None:
        self.woken: list[tuple[int, int]] = []
        self.patch(supervisor.os, "kill", lambda *call: self.woken.append(call))
        self.deadline = SharedTime()
        self.deadline.set(math.inf)
        self.supervisor = Supervisor(20.0, math.inf, self.deadline, -1, None)

    def test_a_time_that_comes_sooner_wakes_the_guard_which_may_wait_for_long(self) -> None:
        self.supervisor._hear(b"100.0 0.5\n")
        self.assertEqual(self.deadline.get(), 100.5)
        self.assertEqual(self.woken, [(os.getppid(), signal.SIGCHLD)])

    def test_a_time_that_comes_later_does_not(self) -> None:
        self.deadline.set(99.0)
        self.supervisor._hear(b"100.0 0.0\ninf 20.0\n")
        self.assertEqual((self.deadline.get(), self.woken), (math.inf, []))


class RunTests(ProcessTests):
    def run_command(
        self, *command: str, stop_at: float = FOREVER, grace: float = 0.1, leased: bool = True
    ) -> Run:
        run = Run(
            command,
            {},
            lambda descriptor, line: self.logged.append(f"{descriptor} {printable(line)}"),
            reactor=self.reactor,
            stop_at=stop_at,
            grace=grace,
            leased=leased,
        )

        def end() -> object:
            if not run.gone.called:
                run.kill()
                with contextlib.suppress(ProcessExitedAlready):
                    run.transport.signalProcess("KILL")
            return run.gone

        self.addCleanup(end)
        return run

    async def supervisor_of(self, run: Run) -> int:
        await run.started
        assert run.pid is not None
        found = parent_of(run.pid)
        assert found is not None
        return found

    async def test_a_stopped_supervisor_without_guard_leaves_nothing_for_ever(self) -> None:
        """The command is a zombie that nobody collects until the supervisor goes on."""
        run = self.run_command("sleep", "60")
        supervisor = await self.supervisor_of(run)
        os.kill(supervisor, signal.SIGSTOP)
        run.transport.signalProcess("KILL")
        began = time.monotonic()
        await run.gone
        self.assertLess(time.monotonic() - began, self.timeout / 2)
        self.assertFalse(is_running(supervisor))

    async def test_guard_and_supervisor_killed_at_once_leave_no_group(self) -> None:
        run = self.run_command(*self.shell("sleep 60 & sleep 60"))
        supervisor = await self.supervisor_of(run)
        assert run.pid is not None
        os.kill(run.transport.pid, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        run.transport.signalProcess("KILL")
        await run.gone
        self.assertEqual(processes.has_living(run.pid), False)

    def start_slowly(self, seconds: float, at: str) -> None:
        """As on a machine that is busy when `at` is called: it takes so long to begin."""
        begin = "from kevy_elect.children.supervisor import main\n"
        late = (
            "from kevy_elect.children import supervisor\n"
            f"import time; late = supervisor.{at}\n"
            f"supervisor.{at} = lambda *a: time.sleep({seconds}) or late(*a)\n"
        )
        self.assertIn(begin, supervised._START)
        self.patch(supervised, "_START", supervised._START.replace(begin, begin + late))

    async def test_a_late_start_goes_by_what_the_node_said_last(self) -> None:
        """The lease was extended while the machine was busy."""
        self.start_slowly(0.5, "adopt_orphans")  # in the guard, and again in the supervisor
        run = self.run_command(*self.shell("exit 7"), stop_at=now() + 0.3)
        run.stop_at(now() + 60)
        await run.started
        self.assertEqual(await run.gone, 7)
        self.assertFalse(run.out_of_time)

    async def test_a_time_that_is_set_later_may_have_another_grace(self) -> None:
        run = self.run_command(
            *self.shell("trap '' TERM; echo > out; sleep 60"), stop_at=math.inf, grace=60.0
        )
        await self.poll(lambda: self.read())
        run.stop_at(now() + 0.1, 0.0)
        self.assertEqual(await run.gone, 128 + signal.SIGKILL)

    async def test_one_that_comes_too_late_was_out_of_time(self) -> None:
        run = self.run_command("true", stop_at=now() - 1)
        await run.started
        self.assertEqual(await run.gone, 128 + signal.SIGTERM)
        self.assertTrue(run.out_of_time)

    async def test_a_supervisor_killed_before_the_start_is_no_command_that_cannot_run(self) -> None:
        run = self.run_command("sleep", "60")
        run.transport.signalProcess("KILL")
        await run.started
        self.assertIsNone(run.pid)
        self.assertEqual(await run.gone, 128 + signal.SIGKILL)

    async def test_a_guard_killed_before_the_start_leaves_nothing_that_starts(self) -> None:
        self.start_slowly(0.6, "_wake_for_signals")  # first of all in the supervisor
        run = self.run_command(*self.shell("echo > out; exec sleep 60"))
        await self.poll(lambda: processes.children(run.transport.pid))
        (supervisor,) = processes.children(run.transport.pid)
        run.transport.signalProcess("KILL")
        await run.gone
        self.assertFalse(is_running(supervisor))
        self.assertEqual(self.read(), "")
        self.assertFalse(any(self.directory.iterdir()))

    async def test_a_control_group_holds_even_who_left_the_session(self) -> None:
        cgroup = Cgroup.make()
        if cgroup is None:
            raise unittest.SkipTest("this user may make no control group here")
        cgroup.remove()
        script = "setsid sh -c 'echo $$ > escaped; exec sleep 60' & echo $$ > here; sleep 60"
        run = self.run_command(*self.shell(script))
        supervisor = await self.supervisor_of(run)
        await self.poll(lambda: self.read("escaped") and self.read("here"))
        above = Path(f"/proc/{supervisor}/cgroup").read_text()
        below = Path(f"/proc/{self.read('escaped').strip()}/cgroup").read_text()
        self.assertNotIn(PREFIX, above)
        self.assertIn(PREFIX, below)
        os.kill(run.transport.pid, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        run.transport.signalProcess("KILL")
        await run.gone
        self.assertFalse(is_running(int(self.read("escaped"))))
        made = below.split("0::")[1].strip()
        mount = next(
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if " - cgroup2 " in line
        )
        await self.poll(lambda: not Path(mount + made).exists())

    async def test_a_leased_command_yields_to_its_supervisor(self) -> None:
        run = self.run_command("sleep", "60")
        supervisor = await self.supervisor_of(run)
        assert run.pid is not None
        own = os.getpriority(os.PRIO_PROCESS, 0)
        nicer = os.getpriority(os.PRIO_PROCESS, run.pid)
        self.assertEqual(nicer, min(own + 5, 19))
        self.assertEqual(os.sched_getscheduler(run.pid), os.SCHED_OTHER)
        self.assertLessEqual(os.getpriority(os.PRIO_PROCESS, supervisor), own)

    async def test_other_commands_are_as_important_as_the_node(self) -> None:
        run = self.run_command("sleep", "60", leased=False)
        await run.started
        assert run.pid is not None
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, run.pid), own)

    async def test_it_waits_for_the_whole_tree(self) -> None:
        """Also where each process has left its parent's group."""
        nested = (
            "setsid sh -c \"setsid sh -c 'echo \\$\\$ > deep; sleep 60' & sleep 60\" & sleep 60"
        )
        run = self.run_command(*self.shell(nested), leased=False)
        await run.started
        await self.poll(lambda: self.read("deep"))
        run.stop_at(now() - 1)
        await run.gone
        self.assertFalse(is_running(int(self.read("deep"))))


class PrivilegeTests(SynchronousTestCase):
    """What a node that is not root starts. As root, the tests start a supervisor as nobody."""

    def supervise(self, how: str, *command: str, stop_in: float = 20.0) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-S", "-c", AS_NOBODY, supervised._ROOT]
        report, reported = os.pipe()
        control, self.control = os.pipe()
        self.addCleanup(os.close, report)
        self.addCleanup(os.close, self.control)
        process = subprocess.Popen(
            [*words, "0.1", str(now() + 20), how, *command],
            stdin=control,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: os.dup2(reported, 3),
            close_fds=False,
        )
        os.close(reported)
        os.close(control)
        return process

    def no_new_privileges(self, how: str) -> str:
        process = self.supervise(how, "grep", "NoNewPrivs", "/proc/self/status")
        told, problem = process.communicate(timeout=20)
        self.assertEqual((process.returncode, problem), (0, b""))
        return told.split()[-1].decode()

    def test_a_command_gains_no_privileges_unless_that_is_allowed(self) -> None:
        if "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
            raise unittest.SkipTest("nothing here may gain privileges anyhow")
        self.assertEqual(self.no_new_privileges("leased"), "1")
        self.assertEqual(self.no_new_privileges("leased,privileged"), "0")

    def become_root(self) -> tuple[str, ...]:
        """What sudo does: a setuid program that makes root of who calls it, wholly."""
        setpriv = shutil.which("setpriv")
        if os.geteuid() != 0 or setpriv is None:
            raise unittest.SkipTest("it takes root, and setpriv, to make a setuid file")
        path = f"/var/tmp/kevy-elect-test-{os.getpid()}"
        shutil.copy(setpriv, path)
        self.addCleanup(os.unlink, path)
        os.chmod(path, 0o4755)
        return path, "--reuid=0"

    def test_what_cannot_be_killed_is_told_and_waited_for(self) -> None:
        script = "echo up; exec sleep 2"
        began = time.monotonic()
        process = self.supervise("leased,privileged", *self.become_root(), "sh", "-c", script)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"up\n")
        os.write(self.control, f"{now()} 0.1\n".encode())
        told = process.communicate(timeout=20)[1].decode()
        self.assertGreater(time.monotonic() - began, 1.9)
        self.assertIn("which run as another user: waiting", told)
        self.assertLess(told.count("\n"), 3)  # supervisor and guard, once each

    def test_without_the_option_it_fails_at_its_start(self) -> None:
        process = self.supervise("leased", *self.become_root(), "sleep", "20")
        told = process.communicate(timeout=10)[1].decode()
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("not permitted", told)


class StormTests(SynchronousTestCase):
    """Chains of processes that fork and exit, each in a session of its own. Without bounds on
    collecting and looking, these lived for as long as they liked."""

    def storm(self, how: str) -> tuple[int, float, float, int, int]:
        if sys.platform != "linux" or subprocess.call([*ALONE, "true"]):
            raise unittest.SkipTest("this user may start nothing in a namespace of its own")
        words = [*ALONE, sys.executable, "-m", storm.__name__, how, "60"]
        told = subprocess.check_output(words, cwd=supervised._ROOT, timeout=40)
        processes, late, took, left, grouped = told.split()
        return int(processes), float(late), float(took), int(left), int(grouped)

    def check(self, how: str) -> int:
        processes, late, took, left, grouped = self.storm(how)
        self.assertGreater(processes, storm.BEGUN)
        self.assertLess(late, IN_TIME)
        self.assertLess(took, IN_TIME + 1)
        self.assertEqual(left, 0)
        return grouped

    def test_it_ends_in_time(self) -> None:
        """In a control group, where the system has one for us."""
        self.check("leased")

    def test_it_ends_in_time_without_a_control_group(self) -> None:
        self.assertEqual(self.check("leased,without-cgroup"), 0)

    def test_it_ends_in_time_without_any_priority(self) -> None:
        self.assertEqual(self.check("without-cgroup"), 0)


class LatenessTests(SynchronousTestCase):
    def test_a_supervisor_acts_the_earlier_the_later_it_ran_lately(self) -> None:
        lateness = Lateness()
        self.assertEqual(lateness.lately(3.0), 0.0)
        lateness.note(1.0, 0.8)
        self.assertAlmostEqual(lateness.lately(3.0), 0.2)
        lateness.note(2.0, 1.95)
        self.assertAlmostEqual(lateness.lately(3.0), 0.2)

    def test_what_was_long_ago_counts_no_longer(self) -> None:
        lateness = Lateness()
        lateness.note(1.0, 0.0)
        lateness.note(12.0, 11.99)
        self.assertAlmostEqual(lateness.lately(3.0), 0.01)

    def test_it_never_takes_more_than_half_of_what_is_left(self) -> None:
        lateness = Lateness()
        lateness.note(100.0, 0.0)
        self.assertEqual(lateness.lately(3.0), 1.5)

    def test_who_wakes_up_early_is_not_late(self) -> None:
        lateness = Lateness()
        lateness.note(1.0, 1.5)
        self.assertEqual(lateness.lately(3.0), 0.0)


class ProcessesTests(SynchronousTestCase):
    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_a_number_that_is_anothers_by_now_is_not_signalled(self) -> None:
        process = self.start()
        self.assertTrue(processes._signal(process.pid, {1}, signal.SIGKILL))
        time.sleep(0.05)
        self.assertTrue(is_running(process.pid))
        processes._signal(process.pid, {os.getpid()}, signal.SIGKILL)
        self.assertEqual(process.wait(10), -signal.SIGKILL)

    def test_the_clock_is_that_of_all_processes(self) -> None:
        told = subprocess.check_output(
            [sys.executable, "-c", "from kevy_elect.children.processes import now; print(now())"]
        )
        self.assertLess(abs(now() - float(told)), 20)

    def test_children_are_found(self) -> None:
        process = self.start()
        self.assertIn(process.pid, processes.children())
        self.assertIn(process.pid, processes.children(os.getpid()))
        self.assertEqual(processes.children(process.pid), [])
        self.assertEqual(processes.children(2**22 + 1), [])
