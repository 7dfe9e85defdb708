from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kevy_elect import wire
from kevy_elect.ballot import FileBallot, MemoryBallot
from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.config import Cluster, PeerAddr
from kevy_elect.errors import BallotError, ConfigError
from kevy_elect.events import Cause
from kevy_elect.messages import Accept, Heartbeat, Message, Offer, Role
from kevy_elect.service.election import ElectionService, ElectorSnapshot
from kevy_elect.transport.noise import public_bytes
from tests.support.transports import QUICK, cluster, heartbeat
from tests.transport.test_noise import A, B, C, security


class MisuseTests(SynchronousTestCase):
    def test_the_ballot_is_kept_in_exactly_one_place(self) -> None:
        self.assertRaises(ConfigError, ElectionService, cluster())
        self.assertRaises(
            ConfigError, ElectionService, cluster(), ballot=MemoryBallot(), data_dir="x"
        )

    def test_a_wildcard_cannot_be_advertised(self) -> None:
        error = self.assertRaises(
            ConfigError,
            ElectionService,
            cluster(),
            ballot=MemoryBallot(),
            advertise="0.0.0.0:6379",
        )
        self.assertIn("0.0.0.0:6379", str(error))

    def test_an_offset_out_of_bounds_is_refused(self) -> None:
        service = ElectionService(cluster(), ballot=MemoryBallot())
        for offset in (-1, 2**64):
            self.assertRaises(ConfigError, service.set_repl_offset, offset)

    def test_before_the_start_a_node_knows_nothing_and_may_not_write(self) -> None:
        service = ElectionService(cluster(), ballot=MemoryBallot())
        snapshot = service.state_snapshot()
        self.assertEqual((snapshot.role, snapshot.current_primary), (Role.REPLICA, None))
        self.assertEqual(snapshot.down_peers, ("b", "c"))
        self.assertFalse(service.can_write())
        self.assertEqual((service.peer_status(), service.recent_events()), ([], []))


class ServiceTests(TestCase):
    """Real services on real loopback sockets, several in this process."""

    timeout = 30

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.nodes: dict[str, ElectionService] = {}
        self.crashes: list[Failure] = []
        self.critical: list[str] = []
        self.warnings: list[str] = []
        globalLogPublisher.addObserver(self.log)

    async def tearDown(self) -> None:  # type: ignore[override]
        for node in self.nodes.values():
            await node.stopService()
        globalLogPublisher.removeObserver(self.log)

    def log(self, event: dict[str, Any]) -> None:
        kept = {LogLevel.critical: self.critical, LogLevel.warn: self.warnings}
        lines = kept.get(event.get("log_level"))
        if lines is not None:
            lines.append(str(event["log_format"]).format(**event))

    def make(self, ids: str = "abc", **options: Any) -> None:
        """Build, but do not start, a node for each id."""
        members = tuple(
            PeerAddr(node_id, "127.0.0.1", port, port)
            for node_id, port in zip(ids, free_ports(len(ids)), strict=True)
        )
        for seed, node_id in enumerate(ids):
            given = {"ballot": MemoryBallot(), "config": QUICK, "handover": False} | options
            self.nodes[node_id] = ElectionService(
                Cluster(node_id, members),
                rng=random.Random(seed),
                on_crash=self.crashes.append,
                **given,
            )

    def start(self, ids: str = "abc") -> None:
        for node_id in ids:
            self.nodes[node_id].startService()

    def state(self, node_id: str) -> ElectorSnapshot:
        return self.nodes[node_id].state_snapshot()

    def agreed(self, ids: str) -> str | None:
        """The primary with a lease that all of `ids` follow."""
        states = [self.state(node_id) for node_id in ids]
        primaries = {state.current_primary for state in states}
        writers = sum(state.can_write for state in states)
        return primaries.pop() if len(primaries) == 1 and writers == 1 else None

    async def poll(self, state: Callable[[], object], what: str = "the state") -> None:
        deadline = time.monotonic() + 20
        while not state():
            self.assertLess(time.monotonic(), deadline, f"waited in vain for {what}")
            await deferLater(self.reactor, 0.01)


class ElectionTests(ServiceTests):
    async def test_three_nodes_elect_one_primary_that_all_follow(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        primary = self.agreed("abc")
        assert primary is not None
        snapshot = self.state(primary)
        self.assertIs(snapshot.role, Role.PRIMARY)
        self.assertTrue(snapshot.has_quorum and snapshot.can_write)
        self.assertTrue(0 < snapshot.lease_expires_in <= QUICK.down_after)
        await self.poll(lambda: all(self.state(n).primary_addr for n in "abc"))
        addresses = {self.state(n).primary_addr for n in "abc"}
        self.assertEqual(addresses, {self.nodes[primary].cluster.me.client_addr})
        await self.poll(lambda: not any(self.state(n).down_peers for n in "abc"))

    async def test_the_node_with_the_most_data_wins(self) -> None:
        self.make()
        self.nodes["c"].set_repl_offset(100)
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        self.assertEqual(self.agreed("abc"), "c")

    async def test_a_stopped_primary_is_replaced_and_returns_as_a_replica(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        primary = self.agreed("abc")
        assert primary is not None
        epoch = self.state(primary).epoch
        others = "abc".replace(primary, "")
        await self.nodes[primary].stopService()
        self.assertFalse(self.nodes[primary].can_write())
        await self.poll(lambda: self.agreed(others) not in (None, primary))
        self.assertGreater(self.state(others[0]).epoch, epoch)
        self.assertEqual(self.state(others[0]).down_peers, (primary,))
        self.nodes[primary].startService()
        await self.poll(lambda: self.agreed("abc"))
        self.assertIs(self.state(primary).role, Role.REPLICA)

    async def test_a_node_alone_in_its_cluster_elects_itself(self) -> None:
        self.make("a")
        self.start("a")
        await self.poll(lambda: self.nodes["a"].can_write())
        self.assertEqual(self.state("a").lease_expires_in, float("inf"))

    async def test_a_witness_votes_and_never_becomes_primary(self) -> None:
        self.make(witness=True)
        self.nodes["c"].witness = False
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        self.assertEqual(self.agreed("abc"), "c")

    async def test_even_numbers_are_warned_about_at_the_start(self) -> None:
        self.make("ab")
        self.start("a")
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("2 members tolerate no failure", self.warnings[0])

    async def test_listening_beyond_loopback_is_warned_about(self) -> None:
        self.make(listen="tcp:0")
        self.start("a")
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("not authenticated", self.warnings[0])

    async def test_secure_links_are_not_warned_about(self) -> None:
        self.make(listen="tcp:0", security=security(A, b=B, c=C))
        self.start("a")
        self.assertEqual(self.warnings, [])

    async def test_each_link_tells_its_kind_and_the_key_that_its_peer_has_proven(self) -> None:
        self.make("ab")
        for node_id, own, other in (("a", A, {"b": B}), ("b", B, {"a": A})):
            self.nodes[node_id].use_security(security(own, **other))
        self.start("a")
        (peer,) = self.nodes["a"].peer_status()
        self.assertEqual((peer.security, peer.key), ("noise", ""))
        self.start("b")
        await self.poll(lambda: self.nodes["a"].peer_status()[0].link == "connected")
        (peer,) = self.nodes["a"].peer_status()
        self.assertEqual((peer.security, peer.key), ("noise", public_bytes(B).hex()[:8]))


class OlderPeer(ServerFactory):
    """A member of another implementation: it neither greets nor acknowledges, and votes for all."""

    noisy = False

    def __init__(self, node_id: str, members: tuple[PeerAddr, ...]) -> None:
        self.node_id = node_id
        self.epoch = 1
        self.read: dict[str, bytes] = {}
        self.written_back: list[bytes] = []
        self._connections: list[Any] = []
        self._peers = [member for member in members if member.node_id != node_id]
        self._links: dict[str, Any] = {}

    def start(self, port: int) -> None:
        from twisted.internet import reactor

        loop: Any = reactor
        self._port = loop.listenTCP(port, self, interface="127.0.0.1")
        self._beat = LoopingCall(self.beat)
        self._beat.start(QUICK.hb_interval)

    async def stop(self) -> None:
        self._beat.stop()
        await self._port.stopListening()
        for connection in [*self._connections, *self._links.values()]:
            connection.transport.abortConnection()
        await deferLater(self._port.reactor, 0.05)

    def buildProtocol(self, addr: object) -> Protocol:
        peer, reading = self, wire.Decoder(wire.MESSAGES)

        class Reader(Protocol):
            def connectionMade(self) -> None:
                peer._connections.append(self)
                self.said = b""

            def dataReceived(self, data: bytes) -> None:
                self.said += data
                reading.feed(data)
                while (message := reading.next_message()) is not None:
                    peer.read[message.sender] = self.said[:40]
                    peer.epoch = max(peer.epoch, message.epoch)
                    if isinstance(message, Offer):
                        peer.say(message.sender, Accept(message.epoch, peer.node_id))

        return Reader()

    def beat(self) -> None:
        for member in self._peers:
            if member.node_id not in self._links:
                self.dial(member)
            self.say(member.node_id, Heartbeat(self.epoch, self.node_id, Role.REPLICA, 0))

    def dial(self, member: PeerAddr) -> None:
        peer = self

        class Writer(Protocol):
            def connectionMade(self) -> None:
                peer._links[member.node_id] = self

            def dataReceived(self, data: bytes) -> None:
                peer.written_back.append(data)

            def connectionLost(self, reason: object = None) -> None:
                peer._links.pop(member.node_id, None)

        factory = ClientFactory.forProtocol(Writer)
        factory.noisy = False
        self._port.reactor.connectTCP("127.0.0.1", member.elect_port, factory)

    def say(self, to: str, message: Message) -> None:
        if to in self._links:
            self._links[to].transport.write(wire.encode(message))


class ResignationTests(ServiceTests):
    async def test_one_that_new_connections_begin_with_is_no_last_will(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc") == "a", "a as primary")
        for link in self.nodes["a"]._links.values():
            if link._stream is not None:
                link._stream.transport.abortConnection()
        await self.nodes["a"].step_down(60.0, "on command")
        await self.poll(lambda: self.agreed("abc") in ("b", "c"), "another primary")
        for node in self.nodes.values():
            self.assertIsNone(node.began_by_will_of)
            causes = [event.cause for _, event in node.recent_events()]
            self.assertNotIn(Cause.LAST_WILL, causes)


class MixedClusterTests(ServiceTests):
    """Section 4 with a peer that does not know of it."""

    async def test_an_older_peer_is_counted_in_and_notices_nothing(self) -> None:
        self.make()
        members = self.nodes["a"].cluster.members
        older = OlderPeer("c", members)
        older.start(members[2].elect_port)
        try:
            self.start("ab")
            await self.poll(lambda: self.agreed("ab"), "a primary")
            await self.nodes["b"].stopService()
            # Now the lease hangs on the older peer alone.
            await self.poll(lambda: self.leads("a", older.epoch), "a without b")
            epoch, held = self.state("a").epoch, time.monotonic()
            await self.poll(lambda: time.monotonic() - held > 3 * QUICK.down_after)
            await self.poll(self.nodes["a"].can_write, "a lease")
            self.assertEqual(self.state("a").epoch, epoch)
            self.assertEqual(older.written_back, [])
            self.assertTrue(all(said.startswith(b"*0\r\n*") for said in older.read.values()))
        finally:
            await older.stop()

    def leads(self, node_id: str, epoch: int) -> bool:
        """Whether it has the lease, and nobody is in a higher epoch, for which it would renew."""
        state = self.state(node_id)
        return state.can_write and state.epoch >= epoch

    async def test_nodes_of_this_package_acknowledge_each_other(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc") == "a", "a as primary")
        # Inferred from what was heard, it would last down_after - lease_margin at most.
        inferred = QUICK.down_after - QUICK.lease_margin
        await self.poll(lambda: self.state("a").lease_expires_in > inferred)


class ObserverTests(ServiceTests):
    async def test_observers_see_each_change_complete_with_its_reason(self) -> None:
        seen: list[tuple[ElectorSnapshot, str, ElectorSnapshot]] = []
        self.make()
        self.nodes["a"].add_observer(
            lambda snapshot, reason: seen.append((snapshot, reason, self.state("a")))
        )
        self.start()
        await self.poll(lambda: self.agreed("abc") == "a", "a as primary")
        await self.poll(lambda: any(snapshot.can_write for snapshot, _, _ in seen))
        for snapshot, reason, asked_meanwhile in seen:
            self.assertTrue(reason)
            self.assertEqual(
                (snapshot.role, snapshot.epoch), (asked_meanwhile.role, asked_meanwhile.epoch)
            )
        self.assertTrue(any("elected primary of epoch" in reason for _, reason, _ in seen))

    async def test_the_loss_of_the_lease_is_told_before_others_may_take_over(self) -> None:
        seen: list[tuple[float, ElectorSnapshot, str]] = []
        self.make()
        self.nodes["a"].add_observer(
            lambda snapshot, reason: seen.append((time.monotonic(), snapshot, reason))
        )
        self.start()
        await self.poll(lambda: self.agreed("abc") == "a", "a as primary")
        stopped = time.monotonic()
        await self.nodes["b"].stopService()
        await self.nodes["c"].stopService()
        await self.poll(lambda: any(not s.has_quorum for t, s, _ in seen if t > stopped))
        when, snapshot, reason = next(e for e in seen if e[0] > stopped and not e[1].has_quorum)
        self.assertLess(when - stopped, QUICK.down_after)
        self.assertFalse(snapshot.can_write)
        self.assertIn("lost the lease", reason)

    async def test_a_failing_observer_is_logged_and_hurts_nobody(self) -> None:
        seen: list[str] = []

        def fail(snapshot: ElectorSnapshot, reason: str) -> None:
            raise RuntimeError("an observer's own fault")

        self.make()
        remove = self.nodes["a"].add_observer(fail)
        self.nodes["a"].add_observer(lambda _, reason: seen.append(reason))
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        remove()
        self.assertTrue(seen)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    async def test_an_observer_can_be_removed(self) -> None:
        seen: list[str] = []
        self.make("a")
        remove = self.nodes["a"].add_observer(lambda _, reason: seen.append(reason))
        remove()
        remove()
        self.start("a")
        await self.poll(lambda: self.nodes["a"].can_write())
        self.assertEqual(seen, [])

    async def test_the_address_of_the_primary_is_told_when_it_is_learned(self) -> None:
        seen: list[ElectorSnapshot] = []
        self.make()
        self.start("ab")
        await self.poll(lambda: self.agreed("ab"))
        self.nodes["c"].add_observer(lambda snapshot, _: seen.append(snapshot))
        self.start("c")
        await self.poll(lambda: seen and seen[-1].primary_addr is not None)
        self.assertEqual(seen[-1].primary_addr, self.state("c").primary_addr)

    async def test_what_an_observer_causes_is_told_after_what_it_was_told(self) -> None:
        seen: list[bool] = []
        self.make("a")
        self.nodes["a"].add_observer(
            lambda snapshot, _: self.nodes["a"].stopService() if snapshot.can_write else None
        )
        self.nodes["a"].add_observer(lambda snapshot, _: seen.append(snapshot.can_write))
        self.start("a")
        await self.poll(lambda: seen and not self.nodes["a"].running)
        self.assertEqual(seen[-2:], [True, False])

    async def test_an_observer_may_stop_the_service(self) -> None:
        self.make("a")
        self.nodes["a"].add_observer(lambda *_: self.nodes["a"].stopService())
        self.start("a")
        await self.poll(lambda: not self.nodes["a"].running)
        self.assertEqual(self.crashes, [])

    async def test_the_stop_is_told(self) -> None:
        seen: list[tuple[ElectorSnapshot, str]] = []
        self.make("a")
        self.nodes["a"].add_observer(lambda *change: seen.append(change))
        self.start("a")
        await self.poll(lambda: self.nodes["a"].can_write())
        await self.nodes["a"].stopService()
        snapshot, reason = seen[-1]
        self.assertFalse(snapshot.can_write)
        self.assertIn("stopped", reason)


class StartTests(ServiceTests):
    def test_a_data_directory_serves_one_node(self) -> None:
        directory = self.mktemp()
        self.make(data_dir=directory, ballot=None)
        self.start("a")
        error = self.assertRaises(BallotError, self.nodes["b"].startService)
        for text in (directory, "node a", "node b"):
            self.assertIn(text, str(error))
        self.assertFalse(self.nodes["b"].running)

    async def test_a_refused_start_leaves_nothing_behind(self) -> None:
        directory = self.mktemp()
        self.make(data_dir=directory, ballot=None)
        self.start("a")
        self.assertRaises(BallotError, self.nodes["b"].startService)
        await self.nodes["a"].stopService()
        self.start("b")
        self.assertTrue(self.nodes["b"].running)

    def test_a_ballot_that_cannot_be_read_refuses_the_start(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "elect.meta").write_text("epoch 7\n")
        self.make(data_dir=directory, ballot=None)
        error = self.assertRaises(BallotError, self.nodes["a"].startService)
        self.assertIn("elect.meta", str(error))

    def test_a_busy_port_is_raised_and_the_directory_let_go(self) -> None:
        directory = self.mktemp()
        self.make(data_dir=directory, ballot=None)
        busy = socket.create_server(("127.0.0.1", self.nodes["a"].cluster.me.elect_port))
        self.addCleanup(busy.close)
        self.assertRaises(CannotListenError, self.nodes["a"].startService)
        self.assertFalse(self.nodes["a"].running)
        busy.close()
        self.start("a")

    async def test_a_restarted_service_keeps_its_ballot(self) -> None:
        directories = {node_id: self.mktemp() for node_id in "abc"}
        self.make()
        for node_id, directory in directories.items():
            self.nodes[node_id]._ballot, self.nodes[node_id]._data_dir = None, directory
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        epoch = self.state("a").epoch
        for node in self.nodes.values():
            await node.stopService()
        saved = {n: FileBallot(directory).load()[0] for n, directory in directories.items()}
        self.assertEqual(max(saved.values()), epoch)
        self.start()
        for node_id in "abc":
            self.assertGreaterEqual(self.state(node_id).epoch, saved[node_id])
        await self.poll(lambda: self.agreed("abc"))
        self.assertGreater(self.state("a").epoch, epoch)

    async def test_it_runs_in_an_application_beside_others(self) -> None:
        application = Application("test")
        self.make()
        for node in self.nodes.values():
            node.setServiceParent(application)
        whole = IService(application)
        whole.startService()
        await self.poll(lambda: self.agreed("abc"))
        await whole.stopService()


class StopTests(ServiceTests):
    async def test_stopping_twice_waits_for_the_same_end(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        first, second = self.nodes["a"].stopService(), self.nodes["a"].stopService()
        await first
        await second

    async def test_a_service_that_never_started_stops_at_once(self) -> None:
        self.make("a")
        await self.nodes["a"].stopService()

    async def test_it_stops_while_its_peers_cannot_be_reached(self) -> None:
        self.make()
        self.start("a")
        await deferLater(self.reactor, 0.05)
        await self.nodes["a"].stopService()

    async def test_it_cannot_be_started_again_before_the_stop_is_done(self) -> None:
        for place in ({"ballot": MemoryBallot()}, {"ballot": None, "data_dir": self.mktemp()}):
            self.make("a", **place)
            self.start("a")
            stopped = self.nodes["a"].stopService()
            self.assertRaises(ConfigError, self.nodes["a"].startService)
            await stopped
            self.start("a")
            await self.nodes["a"].stopService()

    async def test_one_that_only_began_to_listen_lets_its_port_go(self) -> None:
        self.make("a")
        self.nodes["a"].privilegedStartService()
        await self.nodes["a"].stopService()
        port = self.nodes["a"].cluster.me.elect_port
        socket.create_server(("127.0.0.1", port)).close()

    async def test_after_the_stop_the_port_and_the_directory_are_free(self) -> None:
        self.make(data_dir=self.mktemp(), ballot=None)
        parent = MultiService()
        self.nodes["a"].setServiceParent(parent)
        for _ in range(3):
            parent.startService()
            await parent.stopService()


class CrashTests(ServiceTests):
    async def test_a_failing_elector_stops_the_service_and_says_so(self) -> None:
        def fail(now: float) -> list[Any]:
            raise RuntimeError("a bug")

        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        self.nodes["a"]._elector.tick = fail  # type: ignore[union-attr,method-assign]
        await self.poll(lambda: self.crashes, "the crash")
        self.assertFalse(self.nodes["a"].running)
        self.assertFalse(self.nodes["a"].can_write())
        self.assertTrue(self.flushLoggedErrors(RuntimeError))
        await self.poll(lambda: self.agreed("bc"), "the others")

    async def test_so_does_any_other_failure_of_it(self) -> None:
        def fail(*_: object, **__: object) -> bool:
            raise RuntimeError("a bug")

        for method in ("backs", "confirm", "set_acknowledging", "on_message"):
            self.make()
            self.start()
            setattr(self.nodes["a"]._elector, method, fail)
            await self.poll(lambda: self.crashes, f"the crash in {method}")
            self.assertTrue(self.flushLoggedErrors(RuntimeError))
            self.crashes.clear()
            for node in self.nodes.values():
                await node.stopService()

    async def test_an_epoch_too_far_ahead_ends_its_connection_only(self) -> None:
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc"))
        before = self.state("a")
        liar = Heartbeat(2**64 - 1, "b", Role.PRIMARY, 0)
        port = self.nodes["a"].cluster.me.elect_port
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(wire.encode(liar))
            connection.setblocking(False)
            await self.poll(lambda: self.is_closed(connection), "the end of the connection")
        self.assertTrue(any("bad_epoch" in line for line in self.critical))
        after = self.state("a")
        self.assertEqual((before.epoch, before.role), (after.epoch, after.role))
        self.assertEqual(self.agreed("abc"), before.current_primary)

    @staticmethod
    def is_closed(connection: socket.socket) -> bool:
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    async def test_messages_drive_the_elector_when_the_timer_stalls(self) -> None:
        """The reactor's timers follow the wall clock, which may be set back by hours."""
        self.make()
        self.start()
        await self.poll(lambda: self.agreed("abc") == "a", "a as primary")
        self.nodes["a"]._driver._loop.stop()  # type: ignore[union-attr]
        stalled = time.monotonic()
        epoch = self.state("a").epoch
        await self.poll(lambda: time.monotonic() - stalled > 3 * QUICK.down_after)
        self.assertEqual((self.agreed("abc"), self.state("a").epoch), ("a", epoch))

    def test_a_message_after_the_stop_is_ignored(self) -> Deferred[None]:
        self.make()
        self.start("a")
        stopped = self.nodes["a"].stopService()
        self.nodes["a"].message_received("b", heartbeat("b"))
        return stopped
