"""The course of the demo: nodes start, the primary is killed, and another is elected."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.ballot import FileBallot
from kevy_elect.cli.demo.child import CHILDREN
from kevy_elect.cli.demo.cluster import POLL_FAST, REVIVE_AFTER, Cluster
from kevy_elect.cli.demo.nodes import Node, plan, stop
from kevy_elect.cli.demo.screen import Screen
from kevy_elect.cli.demo.stage import Course, CourseError, Interrupted
from kevy_elect.config import ElectConfig

OPENING: Final = "nodes on this machine"


def make_course(
    names: Sequence[str],
    config: ElectConfig,
    directory: Path,
    screen: Screen,
    caught: Sequence[int],
    options: Sequence[str],
    *,
    rounds: int,
    keep_running: bool,
) -> Course:
    """The course with nodes of these names; see `Prepare`."""
    with_wills = os.path.exists(CHILDREN.format(os.getpid()))
    nodes = plan(names, directory, options, with_wills=with_wills)
    cluster = Cluster(nodes, config, screen, caught)
    return Demo(cluster, screen, rounds, with_wills=with_wills, keep_running=keep_running)


@attrs.frozen
class Failover:
    """The replacement of one killed primary, with its times in seconds after the kill."""

    killed: str
    successor: str
    writable: float
    agreed: float
    with_will: bool = attrs.field(kw_only=True)
    """Whether the last will of the killed node notified the others."""


class Demo:
    """Plays the rounds. Raises CourseError if the cluster does anything unexpected."""

    def __init__(
        self,
        cluster: Cluster,
        screen: Screen,
        rounds: int,
        *,
        with_wills: bool,
        keep_running: bool,
    ) -> None:
        self._cluster = cluster
        self._screen = screen
        self._rounds = rounds
        self._with_wills = with_wills
        self._keep_running = keep_running

    def play(self) -> None:
        """Start all nodes, and fail over in each round without a last will and with one. With
        `keep_running`, continue until interrupted."""
        primary = self._start()
        failovers = []
        for number in range(1, self._rounds + 1):
            for with_will in (False, True) if self._with_wills else (False,):
                failover = self._fail_over(primary, number, with_will=with_will)
                failovers.append(failover)
                primary = self._restart(primary, failover)
        if failovers:
            self._screen.say(summary(failovers))
        if self._keep_running:
            self._screen.say(_things_to_try(self._cluster.nodes, primary))
            with contextlib.suppress(Interrupted):
                for _ in self._cluster.keep_running():
                    pass

    def stop(self) -> None:
        stop(self._cluster.nodes)

    def _start(self) -> Node:
        nodes = self._cluster.nodes
        self._screen.step(f"start {', '.join(node.node_id for node in nodes)}")
        for node in nodes:
            node.start()
        primary = self._cluster.until(self._cluster.followed, "electing the first primary")
        self._screen.step(f"{primary.node_id} is primary, all follow it")
        return primary

    def _fail_over(self, primary: Node, number: int, *, with_will: bool) -> Failover:
        until = self._cluster.until
        until(lambda: self._replaceable(primary), "that all may vote")
        victims = f"{primary.node_id}{' and its wrapper' * (self._with_wills and not with_will)}"
        how = "whose last will notifies the others" if with_will else "without a last will"
        self._screen.step(f"round {number}: kill -9 {victims}, {how}")
        killed_at = time.monotonic()
        if with_will:
            primary.crash()
        else:
            primary.kill()
        successor = until(self._cluster.writer, "electing a successor", POLL_FAST)
        writable = time.monotonic() - killed_at
        agreed_on = until(self._cluster.followed, "agreeing on the successor", POLL_FAST)
        agreed = time.monotonic() - killed_at
        self._expect(agreed_on, successor)
        self._screen.step(
            f"{successor.node_id} could write {writable:.2f} s after the kill, "
            f"all others followed it after {agreed:.2f} s"
        )
        return Failover(primary.node_id, successor.node_id, writable, agreed, with_will=with_will)

    def _restart(self, killed: Node, failover: Failover) -> Node:
        """Start the killed node again, with its ballot, and wait until it follows."""
        ballot = FileBallot(killed.directory)
        epoch, voted_for = ballot.load()
        self._screen.step(f"restart {killed.node_id}")
        killed.start()
        primary = self._cluster.until(self._cluster.followed, f"the return of {killed.node_id}")
        self._expect(primary, self._cluster.named(failover.successor))
        if ballot.load()[0] < epoch:
            raise CourseError(f"{killed.node_id} lost its ballot of epoch {epoch}")
        self._screen.step(
            f"{killed.node_id} is back and follows {primary.node_id}; "
            f"its ballot survived (epoch {epoch}, voted {voted_for or 'for nobody'})"
        )
        return primary

    def _replaceable(self, primary: Node) -> bool | None:
        """Whether its last will is in force, if it has one, and all others may vote."""
        stands = not self._with_wills or (primary.status and primary.status.last_will)
        return (stands and self._cluster.may_vote()) or None

    def _expect(self, primary: Node, expected: Node) -> None:
        if primary is not expected:
            raise CourseError(
                f"the primary is {primary.node_id}, where {expected.node_id} was expected"
            )


def summary(failovers: Sequence[Failover]) -> str:
    """A line for each kill, and a sentence for the kills without a last will and for those with
    one."""
    lines = ["", "killed  last will  successor  writable after  agreed after"]
    lines += [
        f"{each.killed:6}  {'yes' if each.with_will else 'no':9}  {each.successor:9}  "
        f"{each.writable:12.2f} s  {each.agreed:10.2f} s"
        for each in failovers
    ]
    lines.append("")
    for with_will, words in ((False, "Without a last will"), (True, "With a last will")):
        times = [each.writable for each in failovers if each.with_will is with_will]
        if times:
            lines.append(f"{words}, another could write {_spread(times)}.")
    return "\n".join(lines)


def _spread(times: Sequence[float]) -> str:
    """The range of these times after a kill, in words."""
    median = f"{statistics.median(times):.2f} s after the kill"
    if len(times) == 1:
        return median
    return f"{median}, the median of {len(times)} ({min(times):.2f} to {max(times):.2f} s)"


def _things_to_try(nodes: Sequence[Node], primary: Node) -> str:
    urls = " ".join(node.url.removeprefix("http://").removesuffix("/status") for node in nodes)
    return (
        "\nThe cluster runs until Ctrl-C. Try, in another terminal:\n"
        f"  kevy-elect status {urls}\n"
        f"  curl {primary.url}\n"
        f"  kill -9 {primary.pid}    # {primary.node_id}, the primary; "
        f"it is started again after {REVIVE_AFTER:g} s\n"
    )
