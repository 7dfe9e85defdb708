from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.messages import Accept, Role
from kevy_elect.ops.agent_check import MAX_CHECKERS, TIMEOUT, AgentCheckFactory
from kevy_elect.service.election import ElectionService
from tests.support.data_servers import Driven
from tests.support.transports import QUICK, Wire, cluster, heartbeat, rng


class AgentCheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, data: Driven | None = None) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.election = ElectionService(
            cluster(),
            ballot=MemoryBallot(),
            config=QUICK,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
        )
        self.election.data = data
        self.election.startService()
        self.factory = AgentCheckFactory(self.election)

    def connect(self) -> tuple[Any, Wire]:
        protocol, wire = self.factory.buildProtocol(None), Wire()
        if protocol is not None:
            protocol.makeConnection(wire)
        return protocol, wire

    def assert_answer(self, line: bytes) -> None:
        _, wire = self.connect()
        self.assertEqual((wire.value(), wire.disconnecting), (line, True))

    def win(self) -> None:
        for peer in "bc":
            self.election.message_received(peer, heartbeat(peer))
        self.reactor.advance(0.025)
        self.election.message_received("b", Accept(2, "b"))

    def test_the_primary_with_its_lease_is_up(self) -> None:
        self.win()
        self.assert_answer(b"up\n")

    def test_a_primary_whose_lease_has_ended_is_down(self) -> None:
        self.win()
        self.reactor.pump([0.025] * 19)
        self.assertIs(self.election.state_snapshot().role, Role.PRIMARY)
        self.assert_answer(b"down #primary, but may not write now\n")

    def test_a_primary_whose_data_server_is_not_promoted_is_down(self) -> None:
        self.begin(Driven(state="frozen"))
        self.election.server_frozen(0, 0)
        self.win()
        self.assert_answer(b"down #primary, but may not write now\n")
        self.election.server_promoted()
        self.assert_answer(b"up\n")

    def test_a_replica_is_down_and_names_the_primary(self) -> None:
        self.election.message_received("b", heartbeat("b", 2, Role.PRIMARY))
        self.assert_answer(b"down #b is primary\n")

    def test_one_that_knows_no_primary_is_down(self) -> None:
        self.assert_answer(b"down #no primary is known\n")

    def test_a_service_that_does_not_run_is_down(self) -> None:
        self.win()
        self.election.stopService()
        self.assert_answer(b"down #no primary is known\n")

    def test_what_is_sent_changes_nothing(self) -> None:
        protocol, wire = self.connect()
        protocol.dataReceived(b"x" * 1_000_000)
        self.assertEqual(wire.value(), b"down #no primary is known\n")

    def test_so_many_may_ask_at_a_time(self) -> None:
        accepted = [self.connect()[0] for _ in range(100)]
        refused = [protocol is None for protocol in accepted]
        self.assertEqual(refused, [False] * MAX_CHECKERS + [True] * (100 - MAX_CHECKERS))
        accepted[0].connectionLost(None)
        self.assertIsNotNone(self.connect()[0])

    def test_who_does_not_take_the_answer_is_cut_off(self) -> None:
        _, wire = self.connect()
        self.reactor.pump([0.1] * round(TIMEOUT / 0.1 - 1))
        self.assertFalse(wire.aborted)
        self.reactor.pump([0.1] * 2)
        self.assertTrue(wire.aborted)

    def test_nothing_waits_for_one_that_has_gone(self) -> None:
        self.election.stopService()
        before = len(self.reactor.getDelayedCalls())
        protocol, _ = self.connect()
        protocol.connectionLost(None)
        self.assertEqual(len(self.reactor.getDelayedCalls()), before)
