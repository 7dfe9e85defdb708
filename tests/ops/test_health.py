from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.messages import Accept, Announce, Heartbeat, Role
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService
from tests.support.data_servers import Driven
from tests.support.transports import QUICK, cluster, heartbeat, rng

CHECKS = ("primary", "replica", "health", "liveness", "readiness")
METHODS = ("GET", "HEAD", "OPTIONS")
ALLOW = "GET, HEAD, OPTIONS"
TICK = QUICK.hb_interval / 2


@attrs.frozen
class Answer:
    code: int
    headers: dict[str, str]
    body: bytes


class Node:
    """Node a of a cluster, its site and its clock; the test plays its peers."""

    def __init__(self, ids: str = "abc", data: Driven | None = None, **more: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.stopped_for = 0.0
        self.election = ElectionService(
            cluster(ids=ids),
            ballot=MemoryBallot(),
            config=QUICK,
            reactor=self.reactor,
            clock=lambda: self.reactor.seconds() + self.stopped_for,
            rng=rng(),
            **more,
        )
        self.election.data = data
        self.election.startService()
        if data is not None:
            self.election.server_frozen(0, 0)

    def ask(self, path: str, method: str = "GET") -> Answer:
        factory: Any = site(self.election)
        channel, transport = factory.buildProtocol(None), StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} /{path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = transport.value().partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Answer(int(status.split()[1]), headers, body)

    def yes(self) -> list[str]:
        """The checks that pass."""
        return [check for check in CHECKS if self.ask(check).code == 200]

    def hear(self, *messages: Heartbeat | Announce | Accept) -> None:
        for message in messages:
            self.election.message_received(message.sender, message)

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.reactor.advance(TICK)

    def follow(self, primary: str = "b", epoch: int = 2) -> None:
        """Hear that `primary` was elected, and of the third node."""
        self.hear(
            Announce(epoch, primary, "192.0.2.1:1"),
            heartbeat(primary, epoch, Role.PRIMARY),
            heartbeat("c", epoch),
        )

    def win(self) -> None:
        """Run as soon as that is allowed, and be accepted."""
        self.hear(heartbeat("b"), heartbeat("c"))
        self.advance(TICK)
        assert self.election.state_snapshot().role is Role.CANDIDATE
        self.hear(Accept(2, "b"))


class HealthTests(SynchronousTestCase):
    def test_a_primary_with_its_lease(self) -> None:
        node = Node()
        node.win()
        self.assertEqual(node.yes(), ["primary", "health", "liveness", "readiness"])

    def test_a_primary_without_its_lease_is_alive_and_nothing_else(self) -> None:
        node = Node()
        node.win()
        node.advance(0.48)
        self.assertIs(node.election.state_snapshot().role, Role.PRIMARY)
        self.assertEqual(node.yes(), ["health", "liveness"])

    def test_a_replica_that_hears_its_primary(self) -> None:
        node = Node()
        node.follow()
        self.assertEqual(node.yes(), ["replica", "health", "liveness", "readiness"])

    def test_a_witness_is_no_replica_that_could_serve(self) -> None:
        node = Node(witness=True)
        node.follow()
        self.assertEqual(node.yes(), ["health", "liveness", "readiness"])

    def test_a_replica_whose_primary_is_silent(self) -> None:
        """Nothing that it holds is known to be recent, whatever else it hears."""
        node = Node()
        node.follow()
        node.advance(0.475)
        node.hear(heartbeat("c", 2))
        self.assertIn("replica", node.yes())
        node.advance(TICK)
        self.assertEqual(node.election.state_snapshot().down_peers, ("b",))
        self.assertNotIn("replica", node.yes())

    def test_a_replica_that_hears_its_primary_but_no_quorum_is_not_ready(self) -> None:
        node = Node("abcde")
        node.hear(heartbeat("b", 2, Role.PRIMARY))
        self.assertEqual(node.yes(), ["replica", "health", "liveness"])

    def test_an_election_leaves_a_node_alive(self) -> None:
        """A candidate, one that was not elected, and one that hears nobody."""
        node = Node()
        self.assertEqual(node.yes(), ["health", "liveness"])
        node.hear(heartbeat("b"), heartbeat("c"))
        node.advance(TICK)
        self.assertIs(node.election.state_snapshot().role, Role.CANDIDATE)
        self.assertEqual(node.yes(), ["health", "liveness"])
        node.advance(10)
        self.assertEqual(node.yes(), ["health", "liveness"])

    def test_a_tick_that_stalled_for_down_after_is_not_alive(self) -> None:
        node = Node()
        node.win()
        node.stopped_for = 0.47
        self.assertEqual(node.yes(), ["health", "liveness"])
        node.stopped_for = 0.51
        self.assertEqual(node.yes(), [])
        node.advance(QUICK.hb_interval)
        self.assertEqual(node.yes(), ["health", "liveness"])

    def test_a_service_that_does_not_run_is_not_alive(self) -> None:
        node = Node()
        node.election.stopService()
        self.assertEqual(node.yes(), [])
        self.assertIsNone(json.loads(node.ask("liveness").body)["last_tick_ago"])

    def test_a_primary_is_one_once_its_data_server_is_promoted(self) -> None:
        server = Driven(state="frozen")
        node = Node(data=server)
        node.win()
        self.assertIs(node.election.state_snapshot().role, Role.PRIMARY)
        self.assertEqual(node.yes(), ["health", "liveness"])
        server.become(state="primary")
        self.assertEqual(node.ask("primary").code, 503)  # the elector was not told yet
        node.election.server_promoted()
        self.assertEqual(node.yes(), ["primary", "health", "liveness", "readiness"])

    def test_a_primary_is_none_any_more_when_its_data_server_is_lost(self) -> None:
        server = Driven(state="primary")
        node = Node(data=server)
        node.win()
        node.election.server_promoted()
        server.become(state="unknown")
        node.election.server_lost("gave no answer")
        self.assertEqual(node.yes(), ["health", "liveness"])

    def test_a_replica_whose_data_server_does_not_follow_or_hear_its_source(self) -> None:
        server = Driven()
        node = Node(data=server)
        node.follow()
        self.assertEqual(node.yes(), ["replica", "health", "liveness", "readiness"])
        for state, in_sync in (("following", False), ("frozen", False), ("unknown", True)):
            server.become(state=state, in_sync=in_sync)
            self.assertEqual(node.yes(), ["health", "liveness"], state)

    def test_the_body_tells_of_the_data_server(self) -> None:
        node = Node(data=Driven(state="unknown", problem="gave no answer"))
        told = json.loads(node.ask("replica").body)["data"]
        self.assertEqual((told["state"], told["problem"]), ("unknown", "gave no answer"))
        self.assertIsNone(json.loads(Node().ask("replica").body)["data"])

    def test_each_method_answers_the_same(self) -> None:
        replica, primary = Node(), Node()
        replica.follow()
        primary.win()
        for node in (replica, primary):
            for check in CHECKS:
                codes = {node.ask(check, method).code for method in METHODS}
                self.assertEqual(len(codes), 1, check)

    def test_the_body_is_the_snapshot(self) -> None:
        node = Node()
        node.win()
        answer = node.ask("primary")
        told = json.loads(answer.body)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(
            [told[key] for key in ("node_id", "role", "epoch", "current_primary", "can_write")],
            ["a", "primary", 2, "a", True],
        )
        self.assertLess(told["lease_expires_in"], QUICK.down_after)
        self.assertLess(told["last_tick_ago"], QUICK.hb_interval)
        self.assertLess(len(answer.body), 512)

    def test_an_endless_lease_is_null(self) -> None:
        node = Node("a")
        self.assertEqual(node.yes(), ["primary", "health", "liveness", "readiness"])
        self.assertIsNone(json.loads(node.ask("primary").body)["lease_expires_in"])

    def test_only_GET_has_a_body(self) -> None:  # noqa: N802
        node = Node()
        node.win()
        get, head, options = (node.ask("primary", method) for method in METHODS)
        self.assertEqual((head.body, options.body), (b"", b""))
        self.assertEqual(head.headers["content-length"], str(len(get.body)))
        self.assertEqual(options.headers["content-length"], "0")

    def test_no_answer_may_be_kept(self) -> None:
        node = Node()
        for check in CHECKS:
            for method in (*METHODS, "POST"):
                self.assertEqual(node.ask(check, method).headers["cache-control"], "no-store")

    def test_OPTIONS_names_the_methods(self) -> None:  # noqa: N802
        self.assertEqual(Node().ask("liveness", "OPTIONS").headers["allow"], ALLOW.lower())

    def test_other_methods_are_not_allowed(self) -> None:
        node = Node()
        for method in ("POST", "PUT", "DELETE", "PATCH", "BREW"):
            answer = node.ask("liveness", method)
            self.assertEqual((answer.code, answer.headers["allow"]), (405, ALLOW.lower()), method)

    def test_what_lies_below_a_check_is_not_found(self) -> None:
        self.assertEqual(Node().ask("primary/of/what").code, 404)
