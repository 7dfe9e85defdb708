"""The course of the demo: nodes are started, the primary is killed, another follows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import attrs

from kevy_elect.ballot import FileBallot
from kevy_elect.cli.demo.nodes import CHILDREN, Node, plan, stop, why_ended
from kevy_elect.cli.demo.screen import Screen, open_screen
from kevy_elect.config import ElectConfig
from kevy_elect.errors import ElectError

POLL: Final = 0.1
"""Seconds between two looks at the nodes."""
POLL_FAST: Final = 0.002
"""The same while a failover is measured, which may take some ten milliseconds."""
ASK_TIMEOUT: Final = 1.0
REVIVE_AFTER: Final = 3.0

T = TypeVar("T")


class CourseError(ElectError):
    """The cluster did something other than the demo promises."""


class Interrupted(KeyboardInterrupt):
    """The operator wants the demo to end, by Ctrl-C or another signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def play(
    names: Sequence[str],
    config: ElectConfig,
    timings: Mapping[str, float],
    *,
    rounds: int,
    keep_running: bool,
) -> int:
    """Play the demo with nodes of these names; returns the exit status.

    `timings` are those of `config` that are shown, and given to the nodes.
    """
    with _caught_signals() as caught:
        directory = Path(tempfile.mkdtemp(prefix="kevy-elect-demo-"))
        print(f"{len(names)} nodes on this machine; logs and ballots in {directory}")
        shown = (f"{name} {seconds:g}" for name, seconds in timings.items())
        print(f"timings in seconds: {', '.join(shown)}\n", flush=True)
        options = [f"--{name}={seconds}" for name, seconds in timings.items()]
        with_wills = os.path.exists(CHILDREN.format(os.getpid()))
        nodes = plan(names, directory, [*options, *["--last-will"] * with_wills])
        try:
            with open_screen() as screen:
                demo = Demo(nodes, config, screen, caught, with_wills=with_wills)
                demo.play(rounds, keep_running=keep_running)
            status = 0
        except Interrupted as interrupted:
            status = 128 + interrupted.signum
        except (ElectError, OSError) as error:
            print(f"kevy-elect: the demo failed: {error}", file=sys.stderr)
            print(f"kevy-elect: logs and ballots are kept in {directory}", file=sys.stderr)
            return 1
        finally:
            stop(nodes)
        shutil.rmtree(directory, ignore_errors=True)
        print("\nall nodes are stopped")
        return status


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """The signals to end that came in. They are looked at between two polls only.

    Raising from a signal handler instead could interrupt the stopping of the nodes.
    """
    caught: list[int] = []
    before = {
        signum: signal.signal(signum, lambda number, _: caught.append(number))
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@attrs.frozen
class Failover:
    """One killed primary: who followed it, and how many seconds after the kill."""

    told: bool
    """Whether its last will told the others."""
    killed: str
    successor: str
    writable: float
    agreed: float


class Demo:
    """Plays the rounds. Anything but the expected course raises CourseError."""

    def __init__(
        self,
        nodes: Sequence[Node],
        config: ElectConfig,
        screen: Screen,
        caught: Sequence[int],
        *,
        with_wills: bool,
    ) -> None:
        self._nodes = nodes
        self._screen = screen
        self._caught = caught
        self._with_wills = with_wills
        self._abstention = config.down_after
        # An election that fails starts again after the longest backoff. Several of
        # those, and starting Python on a busy machine, are within what may happen.
        backoff = config.election_backoff + config.election_backoff_jitter
        self._patience = 20 + 5 * (config.down_after + config.election_timeout + backoff)

    def play(self, rounds: int, *, keep_running: bool) -> None:
        """Start all, fail over `rounds` times without a last will and with one, and go on until
        interrupted if wanted."""
        primary = self._start()
        failovers = []
        for number in range(1, rounds + 1):
            for told in (False, True) if self._with_wills else (False,):
                failover = self._fail_over(primary, number, told=told)
                failovers.append(failover)
                primary = self._restart(primary, failover)
        if failovers:
            self._screen.say(summary(failovers))
        if keep_running:
            self._screen.say(_things_to_try(self._nodes, primary))
            with contextlib.suppress(Interrupted):
                self._keep_running()

    def _start(self) -> Node:
        self._screen.step(f"start {', '.join(node.node_id for node in self._nodes)}")
        for node in self._nodes:
            node.start()
        primary = self._until(self._followed, "electing the first primary", POLL)
        self._screen.step(f"{primary.node_id} is primary, all follow it")
        return primary

    def _fail_over(self, primary: Node, number: int, *, told: bool) -> Failover:
        self._until(lambda: self._replaceable(primary), "that all may vote", POLL)
        victims = f"{primary.node_id}{' and its wrapper' * (self._with_wills and not told)}"
        self._screen.step(f"round {number}: kill -9 {victims}, {_what_follows(told)}")
        killed_at = time.monotonic()
        if told:
            primary.crash()
        else:
            primary.kill()
        successor = self._until(self._writer, "electing a successor", POLL_FAST)
        writable = time.monotonic() - killed_at
        agreed_on = self._until(self._followed, "agreeing on the successor", POLL_FAST)
        agreed = time.monotonic() - killed_at
        self._expect(agreed_on, successor)
        self._screen.step(
            f"{successor.node_id} could write {writable:.2f} s after the kill, "
            f"all others followed it after {agreed:.2f} s"
        )
        return Failover(told, primary.node_id, successor.node_id, writable, agreed)

    def _restart(self, killed: Node, failover: Failover) -> Node:
        """Start the killed one again: it comes back with its ballot and follows."""
        ballot = FileBallot(killed.directory)
        epoch, voted_for = ballot.load()
        self._screen.step(f"restart {killed.node_id}")
        killed.start()
        primary = self._until(self._followed, f"the return of {killed.node_id}", POLL)
        self._expect(primary, self._named(failover.successor))
        if ballot.load()[0] < epoch:
            raise CourseError(f"{killed.node_id} lost its ballot of epoch {epoch}")
        self._screen.step(
            f"{killed.node_id} is back and follows {primary.node_id}; "
            f"its ballot survived (epoch {epoch}, voted {voted_for or 'for nobody'})"
        )
        return primary

    def _keep_running(self) -> None:
        """Show what happens until interrupted; a node that ends is started again later."""
        while True:
            for node in self._nodes:
                if node.has_ended():
                    node.kill()
                elif node.process is None and time.monotonic() - node.ended_at > REVIVE_AFTER:
                    node.start()
                    self._screen.step(f"restart {node.node_id}: process {node.pid}")
            self._poll()
            time.sleep(POLL)

    # Watching

    def _until(self, condition: Callable[[], T | None], what: str, interval: float) -> T:
        """Poll until the condition gives something."""
        deadline = time.monotonic() + self._patience
        while True:
            self._poll()
            self._expect_running()
            found = condition()
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise CourseError(f"{what} took longer than {self._patience:g} s")
            time.sleep(interval)

    def _poll(self) -> None:
        if self._caught:
            raise Interrupted(self._caught[0])
        for node in self._running():
            node.ask(ASK_TIMEOUT)
        self._screen.show(self._nodes)

    def _running(self) -> list[Node]:
        return [node for node in self._nodes if node.process is not None]

    def _named(self, node_id: str) -> Node:
        return next(node for node in self._nodes if node.node_id == node_id)

    def _writer(self) -> Node | None:
        """The one node that can write."""
        writers = [node for node in self._running() if node.status and node.status.can_write]
        return writers[0] if len(writers) == 1 else None

    def _followed(self) -> Node | None:
        """The one that can write, if all that run follow it."""
        writer = self._writer()
        if writer is None:
            return None
        followed = (
            node.status and node.status.current_primary == writer.node_id
            for node in self._running()
        )
        return writer if all(followed) else None

    def _replaceable(self, primary: Node) -> bool | None:
        """Whether its will stands, if it has one, and all others may vote: whoever has just
        started may not (R4.3)."""
        starts = [node.ready_at for node in self._running()]
        ripe_at = max(time.monotonic() if at is None else at for at in starts) + self._abstention
        stands = not self._with_wills or (primary.status and primary.status.last_will)
        return (stands and time.monotonic() > ripe_at) or None

    def _expect(self, primary: Node, expected: Node) -> None:
        if primary is not expected:
            raise CourseError(
                f"the primary is {primary.node_id}, where {expected.node_id} was expected"
            )

    def _expect_running(self) -> None:
        for node in self._running():
            if node.has_ended():
                raise CourseError(why_ended(node))


def _what_follows(told: bool) -> str:
    return "whose last will tells the others" if told else "so that nobody is told"


def summary(failovers: Sequence[Failover]) -> str:
    """A line a kill, and a sentence for those without a last will and for those with one."""
    lines = ["", "killed  last will  successor  writable after  agreed after"]
    lines += [
        f"{each.killed:6}  {'yes' if each.told else 'no':9}  {each.successor:9}  "
        f"{each.writable:12.2f} s  {each.agreed:10.2f} s"
        for each in failovers
    ]
    lines.append("")
    for told, words in ((False, "Without a last will"), (True, "With a last will")):
        times = [each.writable for each in failovers if each.told is told]
        if times:
            lines.append(f"{words}, another could write {_spread(times)}.")
    return "\n".join(lines)


def _spread(times: Sequence[float]) -> str:
    """These times after a kill, in words."""
    told = f"{statistics.median(times):.2f} s after the kill"
    if len(times) == 1:
        return told
    return f"{told}, the median of {len(times)} ({min(times):.2f} to {max(times):.2f} s)"


def _things_to_try(nodes: Sequence[Node], primary: Node) -> str:
    urls = " ".join(node.url.removeprefix("http://").removesuffix("/status") for node in nodes)
    return (
        "\nThe cluster runs until Ctrl-C. Try, in another terminal:\n"
        f"  kevy-elect status {urls}\n"
        f"  curl {primary.url}\n"
        f"  kill -9 {primary.pid}    # {primary.node_id}, the primary; "
        f"it is started again after {REVIVE_AFTER:g} s\n"
    )
