"""The double of the existing node does what the existing node was recorded to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.messages import Accept, Announce, Heartbeat, Message, Offer, Outbound, Role
from kevy_elect.testing.legacy import LegacyNode, constant_jitter

RECORDED = json.loads((Path(__file__).parent / "vectors" / "legacy.json").read_text())
MS = 10**6
"""Nanoseconds: whole numbers, so that a limit is met exactly."""

VERBS: dict[str, type[Message]] = {
    "HB": Heartbeat,
    "OFFER": Offer,
    "ACCEPT": Accept,
    "ANNOUNCE": Announce,
}


@attrs.frozen
class _Timings:
    hb_interval: int
    down_after: int
    election_timeout: int
    election_backoff: int


class _Store:
    """A ballot that counts how often it was written, and knows whether it ever was."""

    def __init__(self, stored: list[Any] | None) -> None:
        self.stored = stored
        self.saves = 0

    def load(self) -> tuple[int, str | None]:
        return (self.stored[0], self.stored[1]) if self.stored else (0, None)

    def save(self, epoch: int, voted_for: str | None) -> None:
        self.stored = [epoch, voted_for]
        self.saves += 1


class _Replay:
    """One recorded node, run again: its inputs come from the trace."""

    def __init__(self, trace: dict[str, Any]) -> None:
        self.trace = trace
        self.store = _Store(trace["stored"]) if trace["store"] else None
        self.node = self.start(Role(trace["role"]))

    def start(self, role: Role) -> LegacyNode:
        trace = self.trace
        *durations, maximum = (ms * MS for ms in trace["cfg"])
        fixed = trace["jitter"]
        system = constant_jitter(trace["id"], maximum)
        return LegacyNode(
            trace["id"],
            tuple(trace["peers"]),
            _Timings(*durations),
            address=trace["addr"],
            ballot=self.store,
            role=role,
            jitter=system if fixed == "system" else min(fixed * MS, maximum),
        )

    def apply(self, kind: str, fields: list[Any], now: int) -> list[Outbound]:
        match kind:
            case "tick":
                return self.node.tick(now)
            case "offset":
                self.node.set_repl_offset(fields[0])
            case "restart":
                self.node = self.start(Role(fields[0]))
            case verb if verb in VERBS:
                message = _message(verb, fields)
                return self.node.on_message(message.sender, message, now)
            case _:
                assert kind == "look"
        return []

    def step(self, at: int, given: list[Any]) -> list[Any]:
        """What the trace records of a step: the outputs, the saves and the state after it."""
        before = self.store.saves if self.store else 0
        out = self.apply(given[0], given[1:], at * MS)
        saves = self.store.saves - before if self.store else 0
        return [[_sent(outbound) for outbound in out], saves, self.state(at * MS)]

    def state(self, now: int) -> list[Any]:
        node = self.node
        stored = self.store.stored if self.store else None
        quorum, down = node.has_quorum(now), node.down(now)
        return [node.role.value, node.epoch, node.current_primary, stored, quorum, down]


def _message(verb: str, fields: list[Any]) -> Message:
    if verb == "HB":
        epoch, node_id, role, offset = fields
        return Heartbeat(epoch, node_id, Role(role), offset)
    return VERBS[verb](*fields)


def _sent(outbound: Outbound) -> list[Any]:
    message = outbound.message
    verb = next(verb for verb, kind in VERBS.items() if type(message) is kind)
    return [outbound.to, verb, *attrs.astuple(message)]


class LegacyNodeTests(SynchronousTestCase):
    def test_every_recorded_trace_is_repeated_exactly(self) -> None:
        for trace in RECORDED["traces"]:
            replay = _Replay(trace)
            for number, (at, given, *recorded) in enumerate(trace["steps"]):
                where = f"{trace['name']}, step {number}, {at} ms: {given}"
                self.assertEqual(replay.step(at, given), recorded, where)

    def test_the_traces_hold_each_input_and_each_change_of_role(self) -> None:
        steps = [step for trace in RECORDED["traces"] for step in trace["steps"]]
        inputs = {step[1][0] for step in steps}
        self.assertEqual(inputs, {*VERBS, "tick", "offset", "restart", "look"})
        self.assertEqual({step[4][0] for step in steps}, {role.value for role in Role})
        self.assertGreater(len(steps), 5000)

    def test_the_jitter_of_the_backoff_is_a_constant_of_id_and_maximum(self) -> None:
        for text, recorded in RECORDED["system_jitter_ns"].items():
            node_id, _, maximum = text.removesuffix(" ms").partition(", maximum ")
            self.assertEqual(constant_jitter(node_id, int(maximum) * MS), recorded, text)

    def test_votes_against_a_primary_that_it_hears(self) -> None:
        node = LegacyNode("b", ("a", "b", "c"), _Timings(50, 500, 500, 100), address="b:1")
        node.on_message("a", Heartbeat(1, "a", Role.PRIMARY, 0), 0)
        self.assertEqual(node.on_message("a", Offer(2, "a", 0), 1), [Outbound("a", Accept(2, "b"))])
        self.assertEqual(node.current_primary, "a")

    def test_stays_writable_without_a_quorum(self) -> None:
        node = LegacyNode("a", ("a", "b", "c"), _Timings(50, 500, 500, 100), address="a:1")
        node.on_message("b", Announce(2, "a", "a:1"), 0)
        self.assertFalse(node.has_quorum(5000))
        self.assertTrue(node.can_write(5000))
