"""The command that runs a server for the life of its node, as a process."""

from __future__ import annotations

import os
import signal
from typing import Any

from kevy_elect.children.processes import is_running, now
from kevy_elect.data import server_command
from kevy_elect.data.server_command import ServerCommand
from kevy_elect.driving import Fencing
from tests.children.test_primary_command import FOREVER, ProcessTests
from tests.support.data_servers import RecordingGuard


class ServerCommandTests(ProcessTests):
    def setUp(self) -> None:
        super().setUp()
        self.guard = RecordingGuard()

    def begin(self, script: str) -> ServerCommand:
        return self.begin_words(*self.shell(script))

    def begin_words(self, *words: str) -> ServerCommand:
        server = ServerCommand(words, self.guard, node_id="a", reactor=self.reactor)
        server.start()
        self.addCleanup(self.end, server)
        return server

    def end(self, server: ServerCommand) -> Any:
        run = server._run
        if run is not None:
            run.kill()
        return server.stop()

    async def runs(self) -> int:
        """The process id that the script has written."""
        await self.poll(lambda: self.read().endswith("\n"), "the process id")
        return int(self.read())

    async def test_it_runs_up_to_the_stop_and_then_gets_sigterm(self) -> None:
        script = "trap 'echo done > end; exit' TERM; echo $$ > out; while sleep 0.05; do :; done"
        server = self.begin(script)
        await self.runs()
        await server.stop()
        self.assertEqual(self.read("end"), "done\n")
        self.assertEqual(self.guard.told, ["start", "stop"])

    async def test_it_knows_its_node_and_nothing_that_changes(self) -> None:
        self.begin('echo "$KEVY_NODE_ID-$KEVY_ROLE" >&2; sleep 60')
        await self.poll(lambda: self.is_logged("sh: a-"), "its output in the log")

    async def test_one_that_ends_is_started_again(self) -> None:
        self.begin("echo >> out; exit 3")
        await self.poll(lambda: self.read().count("\n") > 1, "the second start")
        self.assertTrue(self.is_logged("the server 'sh' ended: exited with status 3. It is"))

    async def test_one_that_goes_into_the_background_is_told_not_to(self) -> None:
        self.begin("exit")
        await self.poll(lambda: self.is_logged("it has to run in the foreground"))

    async def test_what_cannot_be_executed_is_reported_and_tried_again(self) -> None:
        self.begin_words("/no/such/server")

        def tried() -> int:
            return sum("/no/such/server: No such file" in each for each in self.logged)

        await self.poll(lambda: tried() > 1, "the second try")

    async def test_it_is_killed_when_its_time_is_over(self) -> None:
        """And then it is started again, which takes no writes."""
        server = self.begin("trap '' TERM; echo $$ > out; sleep 60 & wait")
        first = await self.runs()
        server.keep(now() + 0.1, 0.05, first)
        await self.poll(lambda: not is_running(first), "its end")
        await self.poll(lambda: server._run is not None and self.read() not in ("", f"{first}\n"))
        self.assertEqual(self.guard.told, ["start", "keep"])

    async def test_one_that_is_released_has_no_end(self) -> None:
        server = self.begin("echo $$ > out; sleep 60")
        first = await self.runs()
        server.keep(now() + FOREVER, 0.05, first)
        server.release()
        assert server._run is not None
        self.assertEqual(server._run._stop_at, float("inf"))
        self.assertEqual(self.guard.told, ["start", "keep", "release"])

    async def test_it_is_killed_with_its_node(self) -> None:
        server = self.begin("trap '' TERM; echo $$ > out; sleep 60 & wait")
        first = await self.runs()
        assert server._run is not None
        server._run.transport.closeChildFD(0)  # as the system does for a dead process
        await self.poll(lambda: not is_running(first), "its end")

    async def test_what_it_started_is_its_own_and_what_others_started_is_not(self) -> None:
        server = self.begin("sleep 60 & echo $! > out; wait")
        child = await self.runs()
        await self.poll(lambda: server.fencing(child) is Fencing.SUPERVISOR)
        self.assertEqual(server.fencing(0), Fencing.SUPERVISOR)  # not told, as by some servers
        self.assertEqual(server.fencing(os.getpid()), Fencing.GUARD)
        server.keep(now() + FOREVER, 0.05, os.getpid())
        self.assertTrue(self.is_logged(f"the Redis that answers is process {os.getpid()}, which"))

    async def test_one_that_does_not_end_in_time_is_killed(self) -> None:
        self.patch(server_command, "STOP_GRACE", 0.1)
        server = self.begin("trap '' TERM; echo $$ > out; sleep 60 & wait")
        first = await self.runs()
        await server.stop()
        self.assertFalse(is_running(first))
        self.assertTrue(self.is_logged(f"it ended by {signal.SIGKILL.name}"))
