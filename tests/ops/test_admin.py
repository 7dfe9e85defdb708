from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher

from kevy_elect.ops.admin import COMMANDS, MAX_OPERATORS, MAX_REQUEST, Admin
from kevy_elect.ops.history import History
from kevy_elect.transport.log_limit import BURST
from tests.service.test_election import ServiceTests


class AdminTests(ServiceTests):
    """A node's operators, on a real socket."""

    async def begin(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.make("a")
        self.start("a")
        self.node = self.nodes["a"]
        await self.poll(self.node.can_write)
        self.admin = self.listen()

    def listen(self, history: History | None = None) -> Admin:
        # The path of a test's directory is too long for a socket.
        self.path = os.path.join(os.path.relpath(self.directory), "s")
        admin = Admin(self.node, f"unix:{self.path}", history=history)
        admin.startService()
        self.addCleanup(lambda: admin.stopService() if admin.running else None)
        return admin

    def say(self, said: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self.path)
            connection.sendall(said)
            with connection.makefile("rb") as answer:
                return answer.read()

    def is_cut_off(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self.path)
            return connection.recv(1) == b""

    async def ask(self, request: object) -> Any:
        answer = await deferToThread(self.say, json.dumps(request).encode() + b"\n")
        return json.loads(answer.splitlines()[-1])

    async def test_each_command_says_whether_it_is_done(self) -> None:
        await self.begin()
        told = await self.ask({"command": "status"})
        self.assertEqual((told["ok"], told["status"]["node_id"]), (True, "a"))
        self.assertTrue((await self.ask({"command": "offset", "offset": 2**64 - 1}))["ok"])
        self.assertEqual(self.node.repl_offset, 2**64 - 1)
        for request, complaint in (
            ({"command": "pause", "seconds": 5}, "is primary"),
            ({"command": "switchover"}, "no other member"),
            ({"command": "switchover", "target": "z"}, "no other member"),
            ({"command": "switchover", "timeout": -1}, "timeout"),
            ({"command": "switchover", "reason": "x" * 201}, "201 characters"),
            ({"command": "switchover", "reason": "a\nb"}, "cannot be printed"),
            ({"command": "switchover", "reason": 7}, "no such 'reason'"),
            ({"command": "step-down", "rest": 1e9}, "rest"),
            ({"command": "offset", "offset": 2**64}, "unsigned 64-bit"),
        ):
            told = await self.ask(request)
            self.assertFalse(told["ok"])
            self.assertIn(complaint, told["error"])
        self.assertTrue(self.node.can_write())
        self.assertTrue((await self.ask({"command": "step-down", "rest": 0.5}))["ok"])
        self.assertFalse(self.node.can_write())
        self.assertTrue((await self.ask({"command": "pause", "seconds": 5}))["ok"])
        self.assertGreater(self.node.paused_for(), 4)
        self.assertTrue((await self.ask({"command": "resume"}))["ok"])
        self.assertEqual(self.node.paused_for(), 0)

    async def told(self, **arguments: object) -> list[Any]:
        """The events that an answer tells."""
        request = {"command": "events"} | arguments
        answer = await deferToThread(self.say, json.dumps(request).encode() + b"\n")
        *events, end = map(json.loads, answer.splitlines())
        self.assertEqual(end, {"ok": True})
        return [each["event"] for each in events]

    async def test_events_are_told_with_their_time_and_as_many_as_are_asked_for(self) -> None:
        await self.begin()
        events = await self.told()
        self.assertIn("role", [each["kind"] for each in events])
        for each in events:
            self.assertLess(abs(each["at"] + each["ago"] - time.time()), 30)
        self.assertEqual([e["text"] for e in await self.told(last=1)], [events[-1]["text"]])
        self.assertEqual(await self.told(last=0), [])
        self.assertEqual(await self.told(since=0), [])
        self.assertEqual(len(await self.told(since=1e6, last=1000)), len(events))
        for wrong in ({"last": -1}, {"since": -1}, {"last": 1.5}):
            told = await self.ask({"command": "events"} | wrong)
            self.assertIn("events", told["error"])

    async def test_events_of_an_earlier_run_are_told_if_they_are_asked_for(self) -> None:
        self.make("a", ballot=None, data_dir=self.mktemp())
        node = self.nodes["a"]
        history = History(node)
        for _ in range(2):
            node.startService()
            await self.poll(node.can_write)
            await node.stopService()
        node.startService()
        await self.poll(node.can_write)
        self.node = node
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.admin = self.listen(history)
        (own,) = [e["epoch"] for e in await self.told() if e["kind"] == "role"]
        for asked in ({"since": 1000}, {"last": 1000}):
            events = await self.told(**asked)
            elections = [e["epoch"] for e in events if e["kind"] == "role"]
            self.assertEqual((len(elections), elections[-1]), (3, own))
            of_service = [e["text"].partition(",")[0] for e in events if e["kind"] == "service"]
            self.assertEqual(of_service, ["started", "stopped"] * 2 + ["started"])
        (last,), (kept,) = await self.told(last=1), await self.told(since=1000, last=1)
        self.assertEqual(kept["text"], last["text"])

    async def test_nonsense_is_answered_in_words_and_changes_nothing(self) -> None:
        await self.begin()
        before = self.node.state_snapshot().epoch
        for said in (
            b"GET / HTTP/1.0\r\n",
            b"[]\n",
            b"[" * 4000 + b"\n",
            b'{"command": "fly"}\n',
            b'{"command": ["status"]}\n',
            b'{"command": "offset"}\n',
            b'{"command": "offset", "offset": true}\n',
            b'{"command": "offset", "offset": "1"}\n',
            b'{"command": "pause", "seconds": NaN}\n',
            b'{"command": "step-down", "rest": NaN}\n',
            b'{"command": "switchover", "timeout": NaN}\n',
            b'{"command": "resume", "why": "x"}\n',
            *(
                b'{"command": "%s", "%s": 1%s}\n' % (command, argument, b"0" * 400)
                for command, argument in (
                    (b"pause", b"seconds"),
                    (b"step-down", b"rest"),
                    (b"switchover", b"timeout"),
                )
            ),
            b"\xff\xfe\n",
        ):
            told = json.loads(await deferToThread(self.say, said))
            self.assertFalse(told["ok"], said)
            self.assertTrue(told["error"])
        self.assertEqual((self.node.state_snapshot().epoch, self.crashes), (before, []))
        self.assertTrue(self.node.can_write())

    async def test_what_an_operator_sends_makes_no_line_of_its_own_in_the_log(self) -> None:
        await self.begin()
        self.warnings.clear()
        lines: list[str] = []
        observer = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        await self.ask({"command": "switchover", "target": "x\n2030 kevy: a: elected primary"})
        self.assertEqual([line for line in lines if "\n" in line], [])
        self.assertTrue(any("2030 kevy" in line for line in lines))

    async def test_nor_does_what_is_no_request_fill_it(self) -> None:
        await self.begin()
        lines: list[str] = []
        observer = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for _ in range(3 * BURST):
            await deferToThread(self.say, b"nothing\n")
        told = [line for line in lines if "the request is no JSON" in line]
        self.assertLess(len(told), 2 * BURST)

    async def test_a_request_without_end_is_cut_off(self) -> None:
        await self.begin()
        self.assertEqual(await deferToThread(self.say, b"x" * (MAX_REQUEST + 100)), b"")

    async def test_only_the_first_request_of_a_connection_counts(self) -> None:
        await self.begin()
        request = b'{"command": "resume"}\n'
        answer = await deferToThread(self.say, request * 3)
        self.assertEqual(len(answer.splitlines()), 1)

    async def test_so_many_operators_at_a_time(self) -> None:
        await self.begin()
        held = [socket.socket(socket.AF_UNIX) for _ in range(MAX_OPERATORS)]
        for each in held:
            each.connect(self.path)
        await self.poll(lambda: len(self.admin.listener) == MAX_OPERATORS)
        refused = await deferToThread(self.is_cut_off)
        self.assertTrue(refused)
        for each in held:
            each.close()
        await self.poll(lambda: not len(self.admin.listener))

    async def test_stopping_ends_who_waits_and_removes_the_socket(self) -> None:
        await self.begin()
        waiting = socket.socket(socket.AF_UNIX)
        waiting.connect(self.path)
        await self.poll(lambda: len(self.admin.listener))
        await self.admin.stopService()
        self.assertFalse(os.path.exists(self.path))
        waiting.close()

    async def test_a_socket_in_use_is_left_to_its_owner(self) -> None:
        await self.begin()
        second = Admin(self.node, f"unix:{self.path}")
        self.assertRaises(CannotListenError, second.startService)
        self.assertTrue((await self.ask({"command": "status"}))["ok"])

    async def test_a_socket_that_a_killed_process_left_is_replaced(self) -> None:
        await self.begin()
        await self.admin.stopService()
        left = socket.socket(socket.AF_UNIX)
        left.bind(self.path)
        left.close()
        self.listen()
        self.assertTrue((await self.ask({"command": "status"}))["ok"])

    async def test_another_endpoint_is_possible_and_warned_of(self) -> None:
        await self.begin()
        admin = Admin(self.node, "tcp:0:interface=127.0.0.1")
        admin.startService()
        self.assertTrue(any("whoever reaches it" in each for each in self.warnings))
        await admin.stopService()

    async def test_who_leaves_in_the_middle_does_not_stop_what_was_begun(self) -> None:
        await self.begin()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            connection.sendall(b'{"command": "step-down", "rest": 60}\n')
        await self.poll(lambda: not self.node.can_write())
        await deferLater(self.reactor, 0.05)
        self.assertEqual(self.crashes, [])

    def test_every_command_is_tested_here(self) -> None:
        self.assertEqual(
            set(COMMANDS),
            {
                "status",
                "events",
                "step-down",
                "switchover",
                "pause",
                "resume",
                "offset",
                "maintenance",
            },
        )
