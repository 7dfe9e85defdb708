"""The course of the demo with Redis: while a client writes, the primary's host is killed and comes
back empty, and the primary hands over."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kevy_elect.cli.admin_client import UnreachableError, answer
from kevy_elect.cli.demo.cluster import REVIVE_AFTER, Cluster
from kevy_elect.cli.demo.nodes import stop
from kevy_elect.cli.demo.redis.account import Takeover, sentence, watched
from kevy_elect.cli.demo.redis.hosts import Host, plan_hosts
from kevy_elect.cli.demo.redis.numbers import Numbers, Tally
from kevy_elect.cli.demo.redis.writer import KEY, Turn, Writer
from kevy_elect.cli.demo.screen import Screen
from kevy_elect.cli.demo.stage import Course, CourseError, Interrupted
from kevy_elect.cli.printable import printable
from kevy_elect.config import ElectConfig
from kevy_elect.replication import is_in_sync

WRITES: Final = 200
"""The number of confirmed writes before the next step."""
ATTEMPTS: Final = 5
"""The number of attempts to switch over."""
SWITCHED_WITHIN: Final = 15.0
"""Seconds within which a switchover must end."""

OPENING: Final = "nodes on this machine, each with a Redis that it drives"


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
    """The course with hosts of these names; see `Prepare`."""
    hosts = plan_hosts(names, directory, options)
    quorum = len(names) // 2 + 1
    writer = Writer({host.name: host.server.port for host in hosts}, len(names) - quorum)
    cluster = Cluster(
        [host.node for host in hosts],
        config,
        screen,
        caught,
        others=[host.server for host in hosts],
        footer=lambda: [state_of_writes(writer)],
    )
    return RedisDemo(hosts, cluster, writer, screen, rounds, keep_running=keep_running)


def state_of_writes(writer: Writer) -> str:
    """The numbers of writes, and the server that took the last one."""
    tally = writer.ledger.tally()
    where = f" (last on {writer.turns[-1].server})" if writer.turns else ""
    return (
        f"writes: {len(tally.acknowledged):,} acknowledged{where}, {len(tally.confirmed):,} "
        f"confirmed by WAIT, {tally.unconfirmed:,} unconfirmed"
    )


class RedisDemo:
    """Plays the rounds. Raises CourseError if the cluster does anything unexpected."""

    def __init__(
        self,
        hosts: Sequence[Host],
        cluster: Cluster,
        writer: Writer,
        screen: Screen,
        rounds: int,
        *,
        keep_running: bool,
    ) -> None:
        self._hosts = {host.name: host for host in hosts}
        self._cluster = cluster
        self._writer = writer
        self._screen = screen
        self._rounds = rounds
        self._keep_running = keep_running

    def play(self) -> None:
        """Start all hosts, and fail over and switch over in each round. With `keep_running`,
        continue until interrupted."""
        self._start()
        for number in range(1, self._rounds + 1):
            crash = self._crash(number)
            self._refill(self._hosts[crash.old])
            switchover = self._switch_over()
            self._screen.say(f"\n{sentence(number, crash, switchover)}\n")
            if crash.lost or switchover.lost:
                raise CourseError("writes were lost that must survive")
        if self._keep_running:
            self._screen.say(self._things_to_try())
            with contextlib.suppress(Interrupted):
                self._watch()

    def stop(self) -> None:
        try:
            self._writer.stop()
            stop(self._cluster.nodes)
        finally:
            for host in self._hosts.values():
                host.kill()

    # The parts of a round

    def _start(self) -> None:
        self._screen.step(f"start a Redis and a node each: {', '.join(self._hosts)}")
        for host in self._hosts.values():
            host.server.start()
            host.node.start()
        primary = self._cluster.until(self._settled, "electing the first primary")
        self._writer.start()
        self._screen.step(
            f"the Redis of {primary.name} takes writes, and the others replicate from it; "
            "a client begins to write numbers"
        )

    def _crash(self, number: int) -> Takeover:
        """Kill the host of the primary."""
        host, before = self._await_writes()
        self._screen.step(f"round {number}: kill -9 the node and the Redis of {host.name}")
        killed_at = time.monotonic()
        host.kill()
        turn = self._await_turn(killed_at, host)
        after, stored = self._await_copies()
        return Takeover(
            host.name,
            turn.server,
            turn.first_at - killed_at,
            written=len(after.confirmed),
            lost=len(after.confirmed - stored),
            unconfirmed=after.unconfirmed - before.unconfirmed,
        )

    def _refill(self, host: Host) -> None:
        """Start a killed host again. Its Redis is empty and receives all of the data."""
        until = self._cluster.until
        host.server.start()
        until(lambda: host.server.answers() or None, f"the start of the {host.server.name}")
        if len(host.server.stored()):
            raise CourseError(f"the {host.server.name} kept what it should have forgotten")
        self._screen.step(f"restart {host.name}: its Redis is empty")
        host.node.start()
        primary = until(self._settled, f"the return of {host.name}")
        confirmed = self._writer.ledger.tally().confirmed
        until(lambda: host.server.has(confirmed) or None, f"filling the {host.server.name}")
        self._screen.step(
            f"{host.name} is back: its Redis replicates from {primary.name}'s, and has all "
            f"{len(confirmed):,} confirmed writes"
        )

    def _switch_over(self) -> Takeover:
        """Make the primary hand over. On a machine under load it may have to keep the role; then
        this tries again."""
        for _ in range(ATTEMPTS):
            host, before = self._await_writes()
            self._screen.step(f"switchover, away from {host.name}")
            began_at = time.monotonic()
            reply = self._order(host)
            if reply.get("ok"):
                return self._switched(host, before, began_at)
            self._screen.step(f"the switchover failed: {printable(str(reply.get('error')))}")
        raise CourseError(f"the switchover failed {ATTEMPTS} times")

    def _order(self, host: Host) -> dict[str, Any]:
        """The node's answer at the end of the switchover."""
        order = Order(host.node.admin)
        return self._cluster.until(lambda: order.reply, "the switchover")

    def _switched(self, host: Host, before: Tally, began_at: float) -> Takeover:
        turn = self._await_turn(began_at, host)
        after, stored = self._await_copies()
        written = after.confirmed | (after.acknowledged - before.acknowledged)
        return Takeover(
            host.name,
            turn.server,
            turn.first_at - self._turn_before(turn).last_at,
            written=len(written),
            lost=len(written - stored),
            unconfirmed=after.unconfirmed - before.unconfirmed,
        )

    # Watching

    def _settled(self) -> Host | None:
        """The host whose Redis takes writes, once the Redis of each running node replicates from
        it."""
        node = self._cluster.followed()
        if node is None:
            return None
        states = {each.node_id: each.status.data for each in self._cluster.running() if each.status}
        lead = states.pop(node.node_id)
        settled = lead and lead.state == "primary"
        settled = settled and all(data and is_in_sync(data) for data in states.values())
        return self._hosts[node.node_id] if settled else None

    def _await_writes(self) -> tuple[Host, Tally]:
        """The host whose Redis takes writes, once it has taken some and another could replace
        it."""
        ledger, turns = self._writer.ledger, self._writer.turns
        enough = len(ledger.tally().confirmed) + WRITES

        def ready() -> Host | None:
            host = self._settled()
            written = len(ledger.tally().confirmed) >= enough
            if host and written and turns[-1].server == host.name and self._cluster.may_vote():
                return host
            return None

        return self._cluster.until(ready, "that writes are confirmed"), ledger.tally()

    def _await_turn(self, moment: float, old: Host) -> Turn:
        turn = self._cluster.until(
            lambda: self._writer.turn_after(moment, old.name), "the first write on another Redis"
        )
        self._screen.step(f"the Redis of {turn.server} takes the writes")
        return turn

    def _await_copies(self) -> tuple[Tally, Numbers]:
        """The tally, and then the data of the primary's server, once others replicate from it."""
        host = self._cluster.until(self._settled, "replicating from the new primary")
        tally = self._writer.ledger.tally()
        return tally, host.server.stored()

    def _turn_before(self, turn: Turn) -> Turn:
        return self._writer.turns[self._writer.turns.index(turn) - 1]

    def _watch(self) -> None:
        """Show the state of the cluster, and the result for the writes at each takeover."""
        seen = len(self._writer.turns)
        for _ in self._cluster.keep_running():
            host = self._settled()
            if host is not None and len(self._writer.turns) > seen:
                with contextlib.suppress(OSError):  # it may be killed at this moment
                    self._screen.step(watched(self._last_takeover(host)))
                    seen = len(self._writer.turns)

    def _last_takeover(self, primary: Host) -> Takeover:
        """Raises OSError if its server cannot be asked."""
        old, new = self._writer.turns[-2:]
        tally = self._writer.ledger.tally()
        lost = len(tally.confirmed - primary.server.stored())
        return Takeover(
            old.server,
            new.server,
            new.first_at - old.last_at,
            written=len(tally.confirmed),
            lost=lost,
            unconfirmed=tally.unconfirmed,
        )

    def _things_to_try(self) -> str:
        primary = self._cluster.until(self._settled, "that all replicate")
        return (
            "The cluster runs until Ctrl-C. Try, in another terminal:\n"
            f"  kevy-elect status --data-dir {primary.node.directory}\n"
            f"  kevy-elect switchover --data-dir {primary.node.directory}\n"
            f"  redis-cli -p {primary.server.port} bitcount {KEY}    # how many were written\n"
            f"  kill -9 {primary.node.pid} {primary.server.pid}    # node and Redis of "
            f"{primary.name}, the primary; they are started again after {REVIVE_AFTER:g} s\n"
        )


class Order:
    """A switchover in a thread of its own, so that the display goes on meanwhile."""

    def __init__(self, admin: str) -> None:
        self.reply: dict[str, Any] | None = None
        """The last object of the node's answer, once it has arrived."""
        self._admin = admin
        threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        request = {"command": "switchover", "timeout": SWITCHED_WITHIN}
        try:
            self.reply = answer(self._admin, request)
        except UnreachableError as error:
            self.reply = {"ok": False, "error": str(error)}
