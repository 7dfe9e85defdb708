"""Random schedules of faults, each drawn from one seed.

A schedule begins with a settled or a starting cluster, causes faults for a while, and ends all of
them. Then the cluster must settle on a primary that all nodes follow, and keep it.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs

from kevy_elect.config import ElectConfig, quorum
from kevy_elect.elector import Elector
from kevy_elect.testing.checkers import OneWriter, Violation, Whose, default_checkers
from kevy_elect.testing.cluster import SimulatedCluster
from kevy_elect.testing.data.checkers import (
    ConfirmedSurvives,
    OnlyPrimariesServe,
    SwitchoverKeepsAll,
)
from kevy_elect.testing.data.cluster import DataCluster, Pace
from kevy_elect.testing.wrapper import Execution, SimulatedWrapper

COARSE: Final = ElectConfig(
    hb_interval=1.0, down_after=5.0, election_timeout=3.0, pause_after=1.5, lease_margin=2.5
)
"""Timings with few events, so that many schedules run in a second. The margins are the narrowest
that ElectConfig allows, which show mistakes soonest. A tick that is a little late is not a
pause."""

SETTLES_WITHIN: Final = 60.0
"""Virtual seconds after the last fault within which all nodes must follow one primary."""
STAYS_FOR: Final = 4.0
"""Virtual seconds for which that primary must then stay."""
GATHERS_WITHIN: Final = 2
"""The number of down_after after the last fault within which all nodes must be in the epoch of a
primary of ours. The wait of a primary before it renews is added."""
ALIKE_WITHIN: Final = 3
"""The number of down_after within which all data servers must follow the primary's and have its
data, counted from the time when all nodes are in one epoch."""


class Mode(enum.StrEnum):
    """The nodes that acknowledge leases: all, none (`inferred`) or some (`partly`). In `mixed` and
    `uncounted` clusters, the nodes that do not run the existing implementation acknowledge. In
    `uncounted` ones, only these count for the lease, and they are a quorum. With `data-servers`,
    all acknowledge, and all but a witness drive a data server."""

    ACKNOWLEDGED = "acknowledged"
    INFERRED = "inferred"
    PARTLY = "partly"
    MIXED = "mixed"
    UNCOUNTED = "uncounted"
    DATA_SERVERS = "data-servers"


@attrs.frozen
class Fault:
    """A call of `action` of the cluster with `arguments`, `at` so many virtual seconds."""

    at: float
    action: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:8.3f}  {self.action}({', '.join(map(repr, self.arguments))})"


@attrs.frozen
class Schedule:
    """One run to make: the cluster and its faults."""

    seed: int
    nodes: int
    mode: Mode
    silent: Collection[str]
    legacy: Collection[str]
    witnesses: Collection[str]
    one_connection: bool
    max_delay: float
    begins_at: float
    faults: Sequence[Fault]
    ends_at: float
    pace: Pace | None = None
    """The speed of the data servers, if there are any."""


@attrs.frozen
class Outcome:
    """The result of a schedule. Times are virtual seconds."""

    schedule: Schedule
    violations: Sequence[Violation]
    settled_after: float | None
    dual_writable: Mapping[Whose, float]
    """The time for which two nodes could write, by their implementation."""
    trace: Sequence[str]

    @property
    def ours(self) -> list[Violation]:
        """The violations in which nodes of ours took part."""
        return [violation for violation in self.violations if violation.by is not Whose.THEIRS]


def draw_schedule(seed: int, nodes: int, mode: Mode = Mode.ACKNOWLEDGED) -> Schedule:
    """The schedule of this seed, always the same."""
    draw = _DrawWithServers if mode is Mode.DATA_SERVERS else _Draw
    return draw(seed, nodes, mode).schedule()


Mishap = Callable[[], Iterator[Fault]]


class _Draw:
    """Draws one schedule. Each method `_<mishap>` yields the faults of one mishap."""

    def __init__(self, seed: int, nodes: int, mode: Mode) -> None:
        self.rng = random.Random(f"{seed} {nodes} {mode}")
        self.seed = seed
        self.mode = mode
        self.names = [f"n{number}" for number in range(1, nodes + 1)]
        self.at = 0.0
        # R8 alone requires links that fail in both directions at once and stay up for a heartbeat.
        # stay up for a heartbeat.
        self.careful = mode in (Mode.INFERRED, Mode.PARTLY)

    def schedule(self) -> Schedule:
        rng = self.rng
        begins_at = self.at = rng.choice((0.0, rng.uniform(0, 3), rng.uniform(3, 8)))
        faults = [*self._below_wrappers(self._faults(rng.randint(2, 9)))]
        faults += self._handovers(begins_at)
        faults.sort(key=lambda fault: fault.at)
        return Schedule(
            seed=self.seed,
            nodes=len(self.names),
            mode=self.mode,
            silent=self._silent(),
            legacy=self._legacy(),
            witnesses=[self.names[-1]] if rng.random() < 0.1 else [],
            one_connection=rng.random() < 0.5,
            max_delay=rng.choice((0.02, 0.2, 0.4)) * COARSE.hb_interval,
            begins_at=begins_at,
            faults=faults,
            ends_at=self.at + rng.uniform(0, 3),
            pace=self._pace(),
        )

    def _pace(self) -> Pace | None:
        return None

    def _silent(self) -> Collection[str]:
        if self.mode is Mode.INFERRED:
            return self.names
        if self.mode is Mode.PARTLY:
            return self.rng.sample(self.names, self.rng.randint(1, len(self.names) - 1))
        return []

    def _legacy(self) -> Collection[str]:
        """The number follows from the seed, so that consecutive seeds include all mixes."""
        most = len(self.names) - 1
        if self.mode is Mode.UNCOUNTED:
            most = len(self.names) - quorum(len(self.names))
        elif self.mode is not Mode.MIXED:
            most = 0
        return self.rng.sample(self.names, 1 + self.seed % most) if most else []

    def _faults(self, count: int) -> Iterator[Fault]:
        """Use a few kinds of mishaps in each schedule, because many kinds cancel each other's
        effects."""
        rng = self.rng
        kinds = self._kinds()
        for _ in range(count):
            yield from rng.choice(kinds)()
            self.at += rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 3), rng.uniform(4, 7)))

    def _kinds(self) -> list[Mishap]:
        kinds = self._all_kinds()
        return self.rng.sample(kinds, self.rng.randint(2, 6))

    def _all_kinds(self) -> list[Mishap]:
        kinds = [
            self._cut,
            self._isolate,
            self._mute,
            self._partition,
            self._heal,
            self._mend,
            self._reset,
            self._pause,
            self._restart,
            self._disk,
            self._offset,
        ]
        if not self.careful:
            kinds += [self._cut_one_way, self._belate]
        return kinds

    def _below_wrappers(self, faults: Iterator[Fault]) -> Iterator[Fault]:
        """Let a wrapper survive two of three processes that die."""
        rng = random.Random(f"{self.seed} {self.mode} wrappers")
        for fault in faults:
            if fault.action == "crash" and rng.random() < 2 / 3:
                execution = Execution(
                    killing=rng.choice((0.0, rng.uniform(0, 0.5), rng.uniform(0, 6)))
                    * COARSE.hb_interval,
                    reached=rng.sample(self.names, rng.randint(0, len(self.names))),
                    stale=rng.random() < 0.1,
                )
                yield Fault(fault.at, "die", (*fault.arguments, execution))
            else:
                yield fault

    def _handovers(self, since: float) -> Iterator[Fault]:
        """Add handovers to one of four schedules, in addition to its faults."""
        rng = random.Random(f"{self.seed} {self.mode} handovers")
        if rng.random() < 0.25:
            for _ in range(rng.randint(1, 3)):
                yield Fault(rng.uniform(since, self.at), "hand_over", (rng.choice(self.names),))

    def _fault(self, action: str, *arguments: Any, after: float = 0.0) -> Fault:
        return Fault(self.at + after, action, arguments)

    def _pair(self) -> list[str]:
        return self.rng.sample(self.names, 2)

    def _node(self) -> str:
        """A random node. The one that leads without faults is the most probable."""
        return self.rng.choice((self.names[0], *self.names))

    def _other(self, node: str) -> str:
        return self.rng.choice([name for name in self.names if name != node])

    def _cut(self) -> Iterator[Fault]:
        yield self._fault("cut", *self._pair())

    def _cut_one_way(self) -> Iterator[Fault]:
        yield self._fault("cut_one_way", *self._pair())

    def _isolate(self) -> Iterator[Fault]:
        yield self._fault("isolate", self._node())

    def _partition(self) -> Iterator[Fault]:
        names = self.rng.sample(self.names, len(self.names))
        at = self.rng.randrange(1, len(names))
        yield self._fault("partition", sorted(names[:at]), sorted(names[at:]))
        self._stay_up()

    def _heal(self) -> Iterator[Fault]:
        yield self._fault("heal")
        self._stay_up()

    def _mend(self) -> Iterator[Fault]:
        yield self._fault("mend", *self._pair())
        self._stay_up()

    def _mute(self) -> Iterator[Fault]:
        """A node hears the others, and they do not hear it."""
        node = self._node()
        if self.careful:
            yield self._fault("isolate", node)
        else:
            for other in self.names:
                if other != node:
                    yield self._fault("cut_one_way", node, other)

    def _reset(self) -> Iterator[Fault]:
        one, other = self._pair()
        yield self._fault("reset", one, other, self._straggle())
        if self.careful:
            yield self._fault("reset", other, one, self._straggle())
        self._stay_up()

    def _belate(self) -> Iterator[Fault]:
        """Messages of a node arrive late, when it has sent newer ones already."""
        one, other = self._pair()
        said = self.rng.uniform(0.5, 4)
        late = self.rng.uniform(0, 6) * COARSE.down_after
        yield self._fault("cut_one_way", one, other)
        yield self._fault("reset", one, other, late, after=said)
        yield self._fault("mend", one, other, after=said)

    def _pause(self) -> Iterator[Fault]:
        node = self._node()
        length = self.rng.choice((self.rng.uniform(0.5, 2), self.rng.uniform(2, 8)))
        yield self._fault("pause", node)
        if not self.careful:
            # A peer that reconnects meanwhile leaves two connections for it to read.
            other = self._other(node)
            yield self._fault("reset", other, node, 0.0, after=self.rng.uniform(0, length))
        yield self._fault("resume", node, after=length)

    def _restart(self) -> Iterator[Fault]:
        node = self._node()
        down = self.rng.choice((self.rng.uniform(0, 1), self.rng.uniform(1, 8)))
        yield self._fault("crash", node, self._straggle())
        yield self._fault("restart", node, after=down)

    def _disk(self) -> Iterator[Fault]:
        node = self._node()
        yield self._fault("fail_disk", node)
        yield self._fault("mend_disk", node, after=self.rng.uniform(0.5, 8))

    def _offset(self) -> Iterator[Fault]:
        yield self._fault("set_repl_offset", self._node(), self.rng.randrange(3))

    def _straggle(self) -> float | None:
        """The seconds by which messages on their way arrive late; None if they are lost."""
        longest = 0.5 if self.careful else 6 * COARSE.down_after
        return self.rng.choice((None, self.rng.uniform(0, 0.5), self.rng.uniform(0, longest)))

    def _stay_up(self) -> None:
        if self.careful:
            self.at += 2.5 * COARSE.hb_interval


class _DrawWithServers(_Draw):
    """Adds faults and delays of data servers, to which clients write all the time."""

    def _pace(self) -> Pace:
        rng = random.Random(f"{self.seed} {self.mode} pace")
        return Pace(
            command_delay=rng.choice((0.002, 0.05, 0.3)),
            lag=rng.choice((0.02, 0.3, 1.0)),
            copying=rng.choice((0.1, 1.0, 5.0)),
            writing=rng.choice((0.1, 0.3, 1.0)),
        )

    def _kinds(self) -> list[Mishap]:
        """Use mishaps of nodes and links, and mishaps of data servers."""
        rng = self.rng
        kinds = [kind for kind in self._all_kinds() if kind != self._offset]
        of_data = [
            self._kill_server,
            self._hang_server,
            self._slow_down,
            self._lose_host,
            self._leave_behind,
            self._hear_late,
            self._switch_over,
        ]
        some = rng.sample(kinds, rng.randint(1, 4))
        return some + rng.sample(of_data, rng.randint(1, 4))

    def _kill_server(self) -> Iterator[Fault]:
        node, rng = self._node(), self.rng
        down = rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 6)))
        yield self._fault("kill_server", node, rng.choice((0.0, 0.0, rng.random(), 1.0)))
        yield self._fault("start_server", node, after=down)

    def _hang_server(self) -> Iterator[Fault]:
        node = self._node()
        yield self._fault("hang_server", node)
        yield self._fault("free_server", node, after=self.rng.uniform(0.1, 8))

    def _slow_down(self) -> Iterator[Fault]:
        """The data of one follower is late, for a while or until the end."""
        node, rng = self._node(), self.rng
        yield self._fault("slow_down", node, rng.choice((rng.uniform(0.5, 2), rng.uniform(2, 8))))
        if rng.random() < 0.5:
            yield self._fault("slow_down", node, 0.02, after=rng.uniform(2, 12))

    def _lose_host(self) -> Iterator[Fault]:
        """A node dies together with its server. The server keeps its data if another one has lost
        its."""
        node, rng = self._node(), self.rng
        down = rng.choice((rng.uniform(0, 1), rng.uniform(1, 8)))
        yield self._fault("kill_server", node, rng.choice((0.0, 0.0, rng.random())))
        yield self._fault("crash", node, self._straggle())
        yield self._fault("start_server", node, after=down)
        yield self._fault("restart", node, after=down + rng.uniform(0, 1))

    def _leave_behind(self) -> Iterator[Fault]:
        """The primary's node dies and its server lives, or both are cut off from some nodes."""
        node, rng = self._node(), self.rng
        other = self._other(node)
        yield self._fault("slow_down", other, rng.uniform(0.5, 6))
        yield self._fault("crash", node, self._straggle(), after=rng.uniform(0, 3))
        if rng.random() < 0.5:
            yield self._fault("cut", node, other, after=rng.uniform(0, 8))
        yield self._fault("restart", node, after=rng.uniform(4, 16))

    def _hear_late(self) -> Iterator[Fault]:
        """The primary's node dies and its server lives. One follower hears its last messages only
        after it has voted for another node, which it does not hear."""
        node, rng = self._node(), self.rng
        late = self._other(node)
        others = [name for name in self.names if name not in (node, late)]
        yield self._fault("cut_one_way", node, late)
        yield self._fault("crash", node, rng.uniform(3, 9), after=rng.uniform(1, 5))
        yield self._fault("mend", node, late, after=rng.uniform(5, 9))
        for other in others:
            yield self._fault("cut_one_way", other, late, after=rng.uniform(6, 10))
        yield self._fault("restart", node, after=rng.uniform(10, 20))
        self.at += rng.uniform(8, 12)

    def _switch_over(self) -> Iterator[Fault]:
        yield self._fault("switch_over", self.rng.choice(self.names))

    def _handovers(self, since: float) -> Iterator[Fault]:
        yield from super()._handovers(since)
        rng = random.Random(f"{self.seed} {self.mode} elected again")
        if rng.random() < 0.1:
            yield from self._elected_again(rng, rng.uniform(since, self.at))

    def _elected_again(self, rng: random.Random, at: float) -> Iterator[Fault]:
        """A follower's server has no data of the primary yet when it loses all links. The others
        elect the same primary again. Then its node dies, its server lives, and the link of the two
        servers is mended first."""
        node, late, *others = rng.choice((self.names, rng.sample(self.names, len(self.names))))
        yield Fault(at, "kill_server", (late, 0.0))
        for other in (node, *others):
            yield Fault(at, "cut", (other, late))
        yield Fault(at + rng.uniform(0, 2), "start_server", (late,))
        for other in others:
            yield Fault(at, "slow_down", (other, rng.uniform(1, 6)))
        resigns = at + rng.uniform(2, 6)
        yield Fault(resigns, "hand_over", (late,))
        dies = resigns + rng.uniform(2, 6)
        yield Fault(dies, "crash", (node, None))
        for other in others:
            yield Fault(dies, "cut", (node, other))
        mended = dies + rng.uniform(0, 2)
        yield Fault(mended, "mend", (node, late))
        yield Fault(mended + rng.uniform(1, 4), "restart", (node,))
        self.at = max(self.at, mended + rng.uniform(4, 10))


def run_schedule(
    schedule: Schedule,
    *,
    tracing: bool = False,
    elector: type[Elector] = Elector,
    wrapper: type[SimulatedWrapper] = SimulatedWrapper,
) -> Outcome:
    """Run a schedule to its end, also after violations."""
    writer = OneWriter()
    checkers = [writer, *(c for c in default_checkers() if not isinstance(c, OneWriter))]
    kind: Callable[..., SimulatedCluster] = SimulatedCluster
    if schedule.pace is not None:
        checkers += [ConfirmedSurvives(), SwitchoverKeepsAll(), OnlyPrimariesServe()]
        kind = partial(DataCluster, pace=schedule.pace)
    counts = schedule.mode is not Mode.UNCOUNTED
    cluster = kind(
        schedule.nodes,
        attrs.evolve(COARSE, count_unacknowledged=counts),
        seed=f"{schedule.seed} {schedule.nodes} {schedule.mode}",
        silent=schedule.silent,
        legacy=schedule.legacy,
        witnesses=schedule.witnesses,
        one_connection=schedule.one_connection,
        max_delay=schedule.max_delay,
        checkers=checkers,
        raising=False,
        elector=elector,
        wrapper=wrapper,
    )
    cluster.tracing = tracing
    try:
        settled_after, failed = _run(schedule, cluster)
    except Exception as error:  # a bug of any kind is a result
        settled_after, failed = None, [Violation(cluster.now, "no exception", repr(error))]
    violations = [*cluster.violations, *failed]
    return Outcome(schedule, violations, settled_after, writer.longest, cluster.trace)


def _run(schedule: Schedule, cluster: SimulatedCluster) -> tuple[float | None, list[Violation]]:
    for fault in schedule.faults:
        cluster.advance(fault.at - cluster.now)
        _strike(cluster, fault)
    cluster.advance(max(0.0, schedule.ends_at - cluster.now))
    cluster.recover()
    return _settle(cluster)


def _strike(cluster: SimulatedCluster, fault: Fault) -> None:
    """Cause a fault. A crashed node can neither crash nor pause."""
    if fault.action in ("crash", "die", "pause") and not cluster.nodes[fault.arguments[0]].running:
        return
    getattr(cluster, fault.action)(*fault.arguments)


def _settle(cluster: SimulatedCluster) -> tuple[float | None, list[Violation]]:
    """The seconds until all nodes follow one primary and keep it; None if they never do."""
    healed_at = since = cluster.now
    settled = cluster.leader()
    while settled is None or cluster.now < since + STAYS_FOR:
        if since - healed_at > SETTLES_WITHIN:
            text = f"no lasting primary in {SETTLES_WITHIN:g} s without faults"
            by = Whose.THEIRS if _theirs_disagree(cluster) else Whose.OURS
            return None, [Violation(cluster.now, "settling", text, by)]
        cluster.advance(COARSE.hb_interval / 4)
        found = cluster.leader()
        if found is None or found != settled:
            settled, since = found, cluster.now
    return since - healed_at, _left_behind(cluster, healed_at)


def _left_behind(cluster: SimulatedCluster, healed_at: float) -> list[Violation]:
    """A violation if some nodes stay in another epoch than the primary. Nodes of the existing
    implementation may refuse to vote for it, and so delay it for long."""
    mixed = any(node.legacy for node in cluster.nodes.values())
    waits = GATHERS_WITHIN + _longest_wait(cluster)
    until = healed_at + (SETTLES_WITHIN if mixed else waits * COARSE.down_after)
    while not _all_together(cluster):
        if cluster.now >= until:
            epochs = {name: node.machine.epoch for name, node in cluster.nodes.items()}
            text = f"without faults, and still in epochs {epochs}"
            by = Whose.THEIRS if _theirs_disagree(cluster) else Whose.OURS
            return [Violation(cluster.now, "no node is left behind", text, by)]
        cluster.advance(COARSE.hb_interval / 4)
    return _unlike(cluster) if isinstance(cluster, DataCluster) else []


def _unlike(cluster: DataCluster) -> list[Violation]:
    """A violation if some data servers still lack data of the primary's."""
    cluster.stop_clients()
    until = cluster.now + ALIKE_WITHIN * COARSE.down_after
    while not cluster.are_alike():
        if cluster.now >= until:
            have = {name: server.report() for name, server in cluster.servers.items()}
            text = f"without faults and writes, and the data servers are still {have}"
            return [Violation(cluster.now, "no data server is left behind", text)]
        cluster.advance(COARSE.hb_interval / 4)
    return []


def _longest_wait(cluster: SimulatedCluster) -> int:
    """The number of down_after that a primary may now wait before it renews: 1, or more after
    failed renewals, as with a broken disk (R8)."""
    ours = [node for node in cluster.nodes.values() if not node.legacy]
    return max(view.wait for node in ours for view in node.elector.peers)


def _all_together(cluster: SimulatedCluster) -> bool:
    """Whether all nodes back the primary in its epoch, if it is one of ours."""
    leader = cluster.nodes.get(cluster.leader() or "")
    if leader is None or leader.legacy:
        return leader is not None
    return all(node is leader or node.is_with(leader) for node in cluster.nodes.values())


def _theirs_disagree(cluster: SimulatedCluster) -> bool:
    """Whether nodes of the existing implementation follow different primaries, which our nodes
    cannot always prevent."""
    return len({n.machine.current_primary for n in cluster.nodes.values() if n.legacy}) > 1
