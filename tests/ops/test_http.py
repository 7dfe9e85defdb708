from __future__ import annotations

import json

from twisted.application.service import Service
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__
from kevy_elect.ballot import MemoryBallot
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.messages import Offer
from kevy_elect.ops.http import site
from kevy_elect.ops.own_status import own_status
from kevy_elect.service.election import ElectionService
from kevy_elect.status import read
from tests.support.transports import QUICK, cluster, heartbeat, rng


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.service = self.make()

    def make(self, ids: str = "abc", config: ElectConfig = QUICK) -> ElectionService:
        service = ElectionService(
            cluster(ids=ids),
            ballot=MemoryBallot(),
            config=config,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
        )
        service.startService()
        return service

    def get(self, path: bytes = b"/status", method: bytes = b"GET") -> tuple[int, bytes]:
        transport = StringTransport()
        channel = site(self.service).buildProtocol(None)
        channel.makeConnection(transport)
        channel.dataReceived(method + b" " + path + b" HTTP/1.0\r\n\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def test_status_tells_what_this_node_knows_about_itself(self) -> None:
        code, body = self.get()
        told = json.loads(body)
        self.assertEqual(code, 200)
        self.assertEqual(
            [told[key] for key in ("node_id", "members", "role", "epoch", "version")],
            ["a", ["a", "b", "c"], "replica", 1, __version__],
        )
        self.assertEqual(told["down_peers"], ["b", "c"])
        self.assertEqual(told["settings"]["down_after"], QUICK.down_after)

    def test_status_tells_what_was_heard_of_each_peer(self) -> None:
        self.service.message_received("b", heartbeat("b", epoch=7))
        self.service.set_repl_offset(5)
        b, c = own_status(self.service).peers
        self.assertEqual((b.node_id, b.alive, b.heard_ago, b.epoch), ("b", True, 0, 7))
        self.assertEqual((c.alive, c.heard_ago, c.link), (False, None, "connecting"))
        self.assertGreater(c.queued, 0)
        self.assertEqual((c.link_age, c.incoming_age, c.acknowledging), (0, None, False))

    def test_status_tells_what_happened_and_when(self) -> None:
        self.service = self.make("a")
        self.reactor.advance(0.025)
        (event,) = (each for each in own_status(self.service).events if each.kind == "role")
        self.assertIn("elected primary of epoch 2", event.text)
        self.assertAlmostEqual(event.ago, 0.025)
        self.assertEqual((event.epoch, event.critical), (2, False))

    def test_status_tells_what_runs_only_on_the_primary(self) -> None:
        child = Service()
        child.setName("worker")
        self.service = self.make(config=ElectConfig(hb_interval=0.05, down_after=2.0))
        PrimaryOnly(self.service, child, stop_grace=0.1).startService()
        (told,) = own_status(self.service).children
        self.assertEqual((told.name, told.state, told.pid), ("worker", "stopped", None))

    def test_status_tells_how_long_this_node_will_not_stand(self) -> None:
        self.assertEqual(own_status(self.service).paused_for, 0)
        self.service.pause(60)
        self.reactor.advance(0.01)
        self.assertAlmostEqual(own_status(self.service).paused_for, 59.99)

    def test_status_tells_for_how_long_it_has_been_running(self) -> None:
        self.reactor.advance(0.25)
        self.assertAlmostEqual(own_status(self.service).uptime or 0, 0.25)

    def test_a_rule_that_refused_a_vote_is_named(self) -> None:
        self.service.message_received("c", Offer(2, "c", 0))
        (refused,) = (each for each in own_status(self.service).events if each.kind == "refused")
        self.assertEqual((refused.cause, refused.member), ("R4.3", "c"))

    def test_what_it_tells_is_read_again(self) -> None:
        """However much happened, and however many members there are."""
        ids = "abcdefghijklmnopqrstuvwxy"
        for config in (QUICK, ElectConfig()):
            self.service = self.make(ids, config)
            self.reactor.advance(10)
            for epoch in range(2, 400):
                self.service.message_received("c", Offer(epoch, "c", 0))
            _, body = self.get()
            told = read(body)
            self.assertEqual(len(told.events), 256)
            self.assertEqual([peer.node_id for peer in told.peers], list(ids[1:]))

    def test_an_endless_lease_is_null(self) -> None:
        self.service = self.make("a")
        _, body = self.get()
        self.assertIsNone(json.loads(body)["lease_expires_in"])
        self.assertTrue(json.loads(body)["can_write"])

    def test_members_may_be_asked_by_their_hosts_and_by_names_that_were_given(self) -> None:
        for name, code in (("c.example", 200), ("extra.example", 200), ("d.example", 421)):
            members = (PeerAddr("a", "a.example", 1, 1), PeerAddr("c", "C.example", 1, 1))
            service = ElectionService(Cluster("a", members), ballot=MemoryBallot(), config=QUICK)
            transport = StringTransport()
            channel = site(service, hosts=["extra.example"]).buildProtocol(None)
            channel.makeConnection(transport)
            channel.dataReceived(f"HEAD / HTTP/1.1\r\nHost: {name}:8101\r\n\r\n".encode())
            self.assertEqual(int(transport.value().split()[1]), code, name)
            channel.connectionLost(Failure(ConnectionLost()))

    def test_nothing_can_be_changed(self) -> None:
        for method in (b"POST", b"PUT", b"DELETE"):
            self.assertIn(self.get(method=method)[0], (405, 501))

    def test_other_paths_are_not_found(self) -> None:
        self.assertEqual(self.get(b"/elsewhere")[0], 404)
