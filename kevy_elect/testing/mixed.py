"""Clusters of our nodes and of the existing implementation's, and their state after a mishap.

    python -m kevy_elect.testing.mixed --seeds 500

prints a table: for every mix of 3 and 5 nodes, the share of clusters with a good end, with all
remedies of the protocol and without each of them.
"""

from __future__ import annotations

import argparse
import enum
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from kevy_elect.elector import Elector
from kevy_elect.messages import Message, Role
from kevy_elect.testing.cluster import SimulatedCluster
from kevy_elect.testing.mutations import NeverRenews
from kevy_elect.testing.schedules import COARSE, SETTLES_WITHIN
from kevy_elect.transport.outbox import Outbox

STEP: Final = COARSE.hb_interval / 4
"""Virtual seconds between two checks."""
FOLLOWS_WITHIN: Final = 3 * COARSE.down_after
"""Virtual seconds within which a restarted node of theirs must follow the primary."""


class Mishap(enum.StrEnum):
    """An event in a cluster whose primary is one of ours. All links are healthy, except for one
    that is cut for a while."""

    RESTART_OF_THEIRS = "theirs restarts"
    CUT = "theirs was cut from ours"
    STEP_DOWN = "ours steps down"
    CRASH = "ours crashes"
    RESTART = "ours restarts"


class End(enum.StrEnum):
    """The state of a cluster at the end."""

    WELL = "well"
    DEPOSED = "primary deposed"
    LEFT_BEHIND = "left behind"
    LEADERLESS = "leaderless"
    DISAGREEING = "theirs disagree"


FINE: Final = {End.WELL, End.DISAGREEING}
"""The ends that are allowed with all remedies. Our nodes cannot make theirs agree."""


@attrs.frozen
class Remedies:
    """The protocol's remedies for clusters with the existing implementation, or all but one."""

    name: str
    elector: type[Elector] = Elector
    outbox: type[Outbox] = Outbox


class _Unordered(Outbox):
    """A queue without the rule that a heartbeat goes before an ANNOUNCE (R2)."""

    def take(self, *, beaten: bool = True) -> Message | None:
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None


class _Talkative(Elector):
    """Sends heartbeats also to peers that take them for a sign of life of their primary (R2)."""

    def _fall_silent(self, now: float) -> None:
        pass


VARIANTS: Final = (
    Remedies("all remedies"),
    Remedies("no heartbeat first (R2)", outbox=_Unordered),
    Remedies("no silence (R2)", elector=_Talkative),
    Remedies("no renewing (R8)", elector=NeverRenews),
)


def run(seed: int, nodes: int, theirs: int, mishap: Mishap, remedies: Remedies) -> End:
    """Run this mishap in one cluster, of which `theirs` nodes are of the existing
    implementation."""
    return _Trial(seed, nodes, theirs, remedies).run(mishap)


class _Trial:
    """One cluster that has settled on a primary of ours. All nodes have the same data."""

    def __init__(self, seed: int, nodes: int, theirs: int, remedies: Remedies) -> None:
        self.rng = random.Random(f"{seed} {nodes} {theirs}")
        names = [f"n{number + 1}" for number in range(nodes)]
        self.theirs = self.rng.sample(names, theirs)
        self.primary = self.rng.choice([name for name in names if name not in self.theirs])
        self.cluster = cluster = SimulatedCluster(
            names,
            COARSE,
            seed=f"{seed} {nodes} {theirs}",
            legacy=self.theirs,
            checkers=(),
            elector=remedies.elector,
            outbox=remedies.outbox,
        )
        cluster.tracing = False
        cluster.set_repl_offset(self.primary, 1)
        cluster.settle()
        cluster.set_repl_offset(self.primary, 0)
        cluster.advance(self.rng.uniform(1, 2) * COARSE.down_after)

    def run(self, mishap: Mishap) -> End:
        cluster, downtime = self.cluster, self.rng.uniform(0, 2) * COARSE.down_after
        match mishap:
            case Mishap.RESTART_OF_THEIRS:
                victim = self.rng.choice(self.theirs)
                cluster.crash(victim)
                if self._is_deposed_within(downtime):
                    return End.DEPOSED
                cluster.restart(victim)
                if self._is_deposed_within(FOLLOWS_WITHIN):
                    return End.DEPOSED
                follows = cluster.snapshot(victim).current_primary == self.primary
                return End.WELL if follows else End.LEFT_BEHIND
            case Mishap.CUT:
                cluster.cut(self.primary, self.rng.choice(self.theirs))
                cluster.advance(COARSE.down_after + downtime)
                cluster.heal()
                if self._agree_within(SETTLES_WITHIN):
                    return End.WELL
                return End.DISAGREEING if self._theirs_disagree() else End.LEFT_BEHIND
            case Mishap.STEP_DOWN:
                cluster.step_down(self.primary)
            case Mishap.CRASH:
                cluster.crash(self.primary)
            case Mishap.RESTART:
                cluster.crash(self.primary)
                cluster.advance(downtime)
                cluster.restart(self.primary)
        return End.WELL if self._agree_within(SETTLES_WITHIN) else End.LEADERLESS

    def _steps(self, seconds: float) -> Iterator[None]:
        ends_at = self.cluster.now + seconds
        while self.cluster.now < ends_at:
            self.cluster.advance(STEP)
            yield

    def _is_deposed_within(self, seconds: float) -> bool:
        node = self.cluster.nodes[self.primary]
        return any(node.machine.role is not Role.PRIMARY for _ in self._steps(seconds))

    def _agree_within(self, seconds: float) -> bool:
        return any(self._agree() for _ in self._steps(seconds))

    def _agree(self) -> bool:
        """Whether all running nodes follow one running primary. If it is one of ours, they are also
        in its epoch. A primary of theirs never adopts a higher epoch of a follower."""
        running = self.cluster.running()
        followed = {node.machine.current_primary for node in running}
        leaders = [node for node in running if node.machine.role is Role.PRIMARY]
        if len(leaders) != 1 or followed != {leaders[0].node_id}:
            return False
        together = {node.machine.epoch for node in running} == {leaders[0].machine.epoch}
        return together or leaders[0].legacy

    def _theirs_disagree(self) -> bool:
        """Whether nodes of theirs follow different primaries, which no remedy prevents."""
        nodes = self.cluster.nodes
        return len({nodes[name].machine.current_primary for name in self.theirs}) > 1


def measure(
    seeds: range, nodes: int, theirs: int, remedies: Remedies
) -> dict[Mishap, Counter[End]]:
    """Count the ends of each mishap in the clusters of this mix."""
    return {
        mishap: Counter(run(seed, nodes, theirs, mishap, remedies) for seed in seeds)
        for mishap in Mishap
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Return 1 if a cluster with all remedies has another end than FINE."""
    parser = argparse.ArgumentParser(
        prog="python -m kevy_elect.testing.mixed",
        description="Measure how clusters of our nodes and of the existing implementation end.",
    )
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="clusters of each mix")
    seeds = range(parser.parse_args(arguments).seeds)
    bad = 0
    print(f"| remedies | ours + theirs | {' | '.join(Mishap)} |")
    print("|---" * (2 + len(Mishap)) + "|")
    for remedies in VARIANTS:
        for nodes in (3, 5):
            for theirs in range(1, nodes):
                ends = measure(seeds, nodes, theirs, remedies).values()
                cells = " | ".join(f"{100 * end[End.WELL] / len(seeds):g} %" for end in ends)
                print(f"| {remedies.name} | {nodes - theirs} + {theirs} | {cells} |", flush=True)
                if remedies is VARIANTS[0] and any(end.keys() - FINE for end in ends):
                    bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
