"""An operator on one node has another member do something, over links that prove who speaks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ConfigError
from kevy_elect.ops import admin, admin_port, lines
from kevy_elect.ops.admin import COMMANDS, MAX_REQUEST, Admin
from kevy_elect.ops.admin_peers import AdminPeers
from kevy_elect.ops.admin_port import MAX_MEMBERS, AdminPort
from kevy_elect.ops.history import History
from kevy_elect.ops.maintenance import Maintenance
from kevy_elect.service.election import ElectionService
from kevy_elect.transport.channel import Security
from kevy_elect.transport.handshakes import HOST_SHARE
from tests.service.test_election import ServiceTests
from tests.support.certificates import Authority
from tests.support.transports import Wire, cluster
from tests.transport.test_noise import A, B, C, security

PATIENT = ElectConfig(hb_interval=0.05, down_after=4.0, election_timeout=1.0)
"""A lease that a busy machine does not lose by itself."""
STRANGER = security(C, a=A, b=B)
"""Of a key that neither a nor b knows."""
STRANGERS = "198.51.100.1"
FORGED = b"\x00\x60" + bytes(range(1, 97))
STEP = 0.001
"""Seconds that a step of a handshake takes in memory."""


class Talk(Protocol):
    """What anybody may do who reaches the port."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)


class PortTests(ServiceTests):
    """Two nodes with the same links, each with an endpoint for the other."""

    def securities(self) -> Mapping[str, Security]:
        return {"a": security(A, b=B), "b": security(B, a=A)}

    async def begin(self) -> None:
        self.make("ab", ballot=None, data_dir=self.mktemp(), config=PATIENT)
        self.admins: dict[str, Admin] = {}
        self.ports: dict[str, AdminPort] = {}
        self.histories: dict[str, History] = {}
        for node_id, proof in self.securities().items():
            node = self.nodes[node_id]
            node._data_dir = self.mktemp()
            node.use_security(proof)
            history = self.histories[node_id] = History(node)
            maintenance = Maintenance(node)
            admin = self.admins[node_id] = Admin(
                node, f"unix:{node_id}", history=history, maintenance=maintenance
            )
            port = self.ports[node_id] = AdminPort(admin, "tcp:0:interface=127.0.0.1")
            port.startService()
            self.addCleanup(port.stopService)
        for node_id, admin in self.admins.items():
            admin.peers = AdminPeers(
                self.nodes[node_id],
                {each: f"127.0.0.1:{self.number(each)}" for each in self.ports},
            )
        self.start("ab")
        await self.poll(lambda: self.agreed("ab"), "an election")
        self.primary = self.agreed("ab") or ""
        self.other = "b" if self.primary == "a" else "a"

    def number(self, node_id: str) -> int:
        address: Any = self.ports[node_id].listener.address
        return int(address.port)

    async def ask(self, node_id: str, **request: object) -> tuple[dict[str, Any], list[Any]]:
        """The end of the answer to an operator of this node, and what came before it."""
        told: list[Any] = []
        answer = await self.admins[node_id].answer(json.dumps(request).encode(), told.append)
        return answer, told

    async def talk(self, *said: bytes) -> Talk:
        endpoint = clientFromString(self.reactor, f"tcp:127.0.0.1:{self.number('a')}")
        talk: Talk = await connectProtocol(endpoint, Talk())
        self.addCleanup(lambda: talk.transport and talk.transport.loseConnection())
        for each in said:
            assert talk.transport is not None
            talk.transport.write(each)
        return talk


class HandOnTests(PortTests):
    async def test_a_switchover_is_asked_of_the_primary_from_any_node(self) -> None:
        await self.begin()
        answer, told = await self.ask(self.other, command="switchover", reason="new disks")
        # The other may have started too lately to run; then the primary is elected again.
        self.assertEqual(answer["ok"], answer["primary"] == self.other)
        self.assertIn(f"fenced: {self.primary} writes nothing", told[0]["step"])
        self.assertGreater(answer["unwritable"], 0)
        reasons = [event.reason for _, event in self.nodes[self.primary].recent_events()]
        self.assertIn("new disks", reasons)

    async def test_step_down_is_asked_of_the_primary_from_any_node(self) -> None:
        await self.begin()
        answer, _ = await self.ask(self.other, command="step-down", rest=60)
        self.assertTrue(answer["ok"], answer)
        self.assertIn(f"{self.primary} stepped down", answer["text"])
        texts = [event.text for _, event in self.nodes[self.primary].recent_events()]
        self.assertTrue(any("the operator had it step down" in each for each in texts), texts)

    async def test_the_history_of_both_says_who_asked_and_where(self) -> None:
        await self.begin()
        await self.ask(self.other, command="switchover", target="z")
        for node_id, asked in (
            (self.primary, f"operator on {self.other}: asked to switchover target='z'"),
            (self.other, f"operator: asked to switchover target='z' on {self.primary}"),
        ):
            events = await self.histories[node_id].read()
            texts = [event.text for event in events if event.kind == "operator"]
            self.assertEqual(texts[0], asked)
            self.assertIn("'z' is no other member", texts[1])

    async def test_another_member_can_be_named(self) -> None:
        await self.begin()
        answer, _ = await self.ask(self.primary, command="pause", seconds=60, on=self.other)
        self.assertTrue(answer["ok"], answer)
        self.assertGreater(self.nodes[self.other].paused_for(), 30)
        answer, _ = await self.ask(self.primary, command="status", on=self.other)
        self.assertEqual(answer["status"]["node_id"], self.other)
        answer, events = await self.ask(self.primary, command="events", on=self.other)
        self.assertTrue(answer["ok"] and events, answer)
        answer, _ = await self.ask(self.primary, command="status", on=self.primary)
        self.assertEqual(answer["status"]["node_id"], self.primary)

    async def test_maintenance_begins_and_ends_on_all_members(self) -> None:
        await self.begin()
        for seconds in (600, 0):
            answer, told = await self.ask("b", command="maintenance", seconds=seconds)
            self.assertTrue(answer["ok"], answer)
            self.assertEqual([each["told"][:5] for each in told], ["b is ", "a is "])
            for node in self.nodes.values():
                self.assertEqual(node.maintained_for() > 0, seconds > 0)
        await self.ports["a"].stopService()
        answer, told = await self.ask("b", command="maintenance", seconds=600)
        self.assertEqual(answer["error"], "run it on the machine of a, too")
        self.assertGreater(self.nodes["b"].maintained_for(), 0)
        self.assertEqual(self.nodes["a"].maintained_for(), 0)

    async def test_what_cannot_be_handed_on_is_refused_and_says_what_to_do(self) -> None:
        await self.begin()
        for request, complaint in (
            ({"command": "resume", "on": "z"}, "'z' is no member; there are a, b"),
            ({"command": "offset", "offset": 1, "on": self.primary}, "no such 'on'"),
        ):
            answer, _ = await self.ask(self.other, **request)
            self.assertIn(complaint, answer["error"])
        self.admins[self.other].peers = AdminPeers(self.nodes[self.other], {})
        answer, _ = await self.ask(self.other, command="switchover")
        self.assertIn(f"run this on {self.primary}'s machine", answer["error"])

    async def test_a_member_that_does_not_answer_is_named(self) -> None:
        await self.begin()
        await self.ports[self.primary].stopService()
        answer, _ = await self.ask(self.other, command="switchover")
        self.assertRegex(answer["error"], f"{self.primary} at 127.0.0.1:\\d+: .*refused")

    async def test_a_member_that_says_nothing_is_not_waited_for(self) -> None:
        await self.begin()
        self.patch(lines, "HANDSHAKE_TIMEOUT", 0.05)
        self.patch(self.ports[self.primary].listener, "opened", lambda each: None)
        self.patch(admin_port._Member, "dataReceived", lambda each, data: None)
        answer, _ = await self.ask(self.other, command="switchover")
        self.assertIn("handshake did not come in time", answer["error"])

    async def test_of_members_one_command_at_a_time(self) -> None:
        await self.begin()
        held: Deferred[Any] = Deferred()
        self.hold("resume", held)
        first = Deferred.fromCoroutine(self.ask(self.other, command="resume", on=self.primary))
        await self.poll(lambda: self.admins[self.primary]._at_work, "the first command")
        answer, _ = await self.ask(self.other, command="switchover")
        self.assertIn(f"{self.other} forwarded is in progress", answer["error"])
        answer, _ = await self.ask(self.other, command="status", on=self.primary)
        self.assertTrue(answer["ok"])
        held.callback({})
        answer, _ = await first
        self.assertTrue(answer["ok"])

    def hold(self, name: str, held: Deferred[Any]) -> None:
        """Have a command wait for `held`."""

        async def run(node: Admin, say: object) -> Any:
            return await held

        self.patch(admin, "COMMANDS", {**COMMANDS, name: attrs.evolve(COMMANDS[name], run=run)})


class TlsPortTests(HandOnTests):
    """The same by certificates."""

    def securities(self) -> Mapping[str, Security]:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        return {each: authority.security(each, other) for each, other in ("ab", "ba")}


class FloodTests(SynchronousTestCase):
    """An endpoint in memory that is given forged first messages, two thousand of them."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.node = ElectionService(
            cluster("b"),
            ballot=MemoryBallot(),
            reactor=self.reactor,
            clock=self.reactor.seconds,
            security=security(B, a=A, c=C),
        )
        self.asked = 0
        self.node.handshakes.cpu = self.cpu
        self.port = AdminPort(Admin(self.node, "unix:b"), "tcp:0")
        self.members = admin_port._Members(self.port)

    def cpu(self) -> float:
        """As if each step took STEP. It is asked before and after."""
        self.asked += 1
        return self.asked * STEP

    @property
    def spent(self) -> float:
        return self.asked / 2 * STEP

    def connect(self, host: str) -> admin_port._Member | None:
        connection = self.members.buildProtocol(IPv4Address("TCP", host, 1))
        if connection is not None:
            connection.makeConnection(Wire(host, 1))
        return connection

    def flood(self, words: bytes, times: int, every: float = 0.0) -> None:
        for _ in range(times):
            self.reactor.advance(every)
            connection = self.connect(STRANGERS)
            if connection is not None:
                connection.dataReceived(words)
                connection.connectionLost()

    def ask(self, host: str) -> bool:
        """Whether the member a, at this host, is answered."""
        asking, dialled = self.connect(host), security(A, b=B).dials("b")
        if asking is None:
            return False
        asking.dataReceived(dialled.start())
        dialled.receive(asking.transport.value())
        asking.transport.clear()
        asking.dataReceived(dialled.seal(b'{"command": "status"}\n'))
        answer, _ = dialled.receive(asking.transport.value())
        asking.connectionLost()
        return bool(answer)

    def test_forged_first_messages_have_a_bounded_part_of_the_processor(self) -> None:
        self.flood(FORGED, 2000, every=0.001)
        self.assertTrue(2 * HOST_SHARE < self.spent < 4 * HOST_SHARE, self.spent)

    def test_so_has_what_an_onlooker_replays(self) -> None:
        self.flood(security(A, b=B).dials("b").start(), 2000, every=0.001)
        self.assertLess(self.spent, 4 * HOST_SHARE)

    def test_the_accounts_are_those_of_the_election_port(self) -> None:
        self.flood(FORGED, 200)
        spent = self.spent
        incoming = self.node._acceptor.buildProtocol(IPv4Address("TCP", STRANGERS, 1))
        self.assertIsNone(incoming)
        self.assertEqual(self.spent, spent)

    def test_a_member_elsewhere_is_answered_meanwhile(self) -> None:
        for _ in range(10):
            self.flood(FORGED, 200)
            self.assertTrue(self.ask("192.0.2.1"))

    def test_who_comes_after_a_flood_is_let_in_again(self) -> None:
        self.flood(FORGED, 200)
        self.assertFalse(self.ask(STRANGERS))
        self.reactor.advance(1.0)
        self.assertTrue(self.ask(STRANGERS))

    def test_a_member_that_asks_again_and_again_is_never_refused(self) -> None:
        for _ in range(60):
            self.assertTrue(self.ask("192.0.2.1"))

    def test_room_is_made_by_the_host_that_has_most_strangers(self) -> None:
        patient = self.connect("203.0.113.1")
        assert patient is not None
        crowd = [self.connect(STRANGERS) for _ in range(100)]
        self.assertFalse(patient.ended)
        open_ones = [each for each in crowd if each is not None and not each.ended]
        self.assertEqual(len(open_ones), MAX_MEMBERS - 1)
        for each in (patient, *crowd):
            assert each is not None
            each.connectionLost()


class StrangerTests(PortTests):
    async def test_links_that_prove_nothing_are_no_base_for_it(self) -> None:
        self.make("a")
        error = self.assertRaises(ConfigError, AdminPort, Admin(self.nodes["a"], "unix:a"), "tcp:0")
        self.assertIn("plain links", str(error))

    async def test_whoever_has_no_members_key_is_cut_off_without_a_byte(self) -> None:
        await self.begin()
        epoch = self.state("a").epoch
        self.patch(lines, "HANDSHAKE_TIMEOUT", 0.2)
        for said in (
            b'{"command": "step-down"}\n',
            b"\x00\x60" + b"x" * 96,
            STRANGER.dials("a").start(),
            b"\xff\xff",
            b"*0\r\n",
        ):
            talk = await self.talk(said + bytes(64))
            await talk.gone
            self.assertEqual(talk.heard, b"")
        self.assertEqual((self.agreed("ab"), self.state("a").epoch), (self.primary, epoch))
        self.assertTrue(any("--admin-listen from 127.0.0.1" in each for each in self.warnings))

    async def test_whoever_says_nothing_is_cut_off(self) -> None:
        self.patch(lines, "HANDSHAKE_TIMEOUT", 0.05)
        await self.begin()
        talk = await self.talk()
        await talk.gone
        self.assertEqual(talk.heard, b"")

    async def test_a_member_that_asks_nothing_is_cut_off(self) -> None:
        self.patch(admin_port, "REQUEST_WITHIN", 0.05)
        await self.begin()
        talk = await self.talk(self.nodes["b"].security.dials("a").start())
        await talk.gone
        self.assertEqual(len(talk.heard), 2 + 48)

    async def test_a_request_is_bounded_and_of_a_second_nothing_is_taken(self) -> None:
        await self.begin()
        for said, answers in (
            (b"x" * (MAX_REQUEST + 1), 0),
            (b'{"command": "status"}\n{"command": "step-down"}\n', 1),
            (b"*0\r\n*6\r\n$4\r\n", 1),
            (b'{"command": "offset", "offset": 1}\n', 1),
            (b'{"command": "status", "on": "b"}\n', 1),
        ):
            channel = self.nodes["b"].security.dials("a")
            talk = await self.talk(channel.start())
            await self.poll(lambda talk=talk: len(talk.heard) >= 50, "the handshake")
            channel.receive(talk.heard)
            talk.heard = b""
            assert talk.transport is not None
            talk.transport.write(channel.seal(said))
            await talk.gone
            answer, _ = channel.receive(talk.heard)
            self.assertEqual(answer.count(b"\n"), answers, said)
        self.assertTrue(self.nodes[self.primary].can_write())

    async def test_strangers_make_room_for_one_more_and_are_so_many_at_most(self) -> None:
        await self.begin()
        talks = [await self.talk() for _ in range(MAX_MEMBERS + 3)]
        for each in talks[:3]:
            await each.gone
        await self.poll(lambda: len(self.ports["a"].listener) == MAX_MEMBERS)
        answer, _ = await self.ask("b", command="status", on="a")
        self.assertTrue(answer["ok"], answer)

    async def test_a_key_that_was_taken_off_the_list_commands_no_more(self) -> None:
        await self.begin()
        self.nodes["a"].use_security(security(A, b=C))
        answer, _ = await self.ask("b", command="resume", on="a")
        self.assertFalse(answer["ok"])
