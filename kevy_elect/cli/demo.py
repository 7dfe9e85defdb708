"""`kevy-elect demo`: real nodes on this machine, whose primary is killed to see who follows.

Every node is a twistd process of its own. The demo only starts and kills
processes and reads status pages, as an operator would; it shares nothing else
with them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import attrs

from kevy_elect.ballot import FileBallot
from kevy_elect.cli.status_client import Answer, ask_all, printable
from kevy_elect.cli.tables import Screen, open_screen
from kevy_elect.config import ElectConfig, PeerAddr
from kevy_elect.errors import ElectError
from kevy_elect.status import Status

HOST: Final = "127.0.0.1"
NAMES: Final = "abcdefghi"
"""Ids of the nodes, so at most nine of them."""
TIMINGS: Final[dict[str, float | None]] = {
    "hb_interval": 0.05,
    "down_after": 0.5,
    "election_timeout": 0.5,
    "election_backoff": 0.1,
    "election_backoff_jitter": 0.4,
    "lease_margin": None,
}
"""The timings that may be given, with the demo's defaults; None leaves it to ElectConfig."""
POLL: Final = 0.1
POLL_FAST: Final = 0.02
"""How often the pages are read while a failover is measured: as exact as its times are."""
ASK_TIMEOUT: Final = 1.0
STOP_TIMEOUT: Final = 3.0
REVIVE_AFTER: Final = 3.0

T = TypeVar("T")


class CourseError(ElectError):
    """The cluster did something other than the demo promises."""


class Interrupted(KeyboardInterrupt):
    """The operator wants the demo to end, by Ctrl-C or another signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the subcommands of `kevy-elect`."""
    parser = commands.add_parser(
        "demo",
        help="start a cluster on this machine, kill its primary, watch the failover",
        description="Start nodes on this machine, kill the primary with SIGKILL, measure how long "
        "it takes until another can write, and restart the killed one. Exit 0 if all went well.",
    )
    parser.add_argument(
        "--nodes", type=int, default=3, choices=range(3, len(NAMES) + 1), help="default: 3"
    )
    parser.add_argument("--rounds", metavar="N", type=_count, default=1, help="default: 1")
    parser.add_argument(
        "--keep-running", action="store_true", help="leave the cluster running until Ctrl-C"
    )
    for name, seconds in TIMINGS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="S",
            type=float,
            default=seconds,
            help="in seconds" if seconds is None else "in seconds (default: %(default)g)",
        )
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Play the demo and return the exit status. Raises ConfigError for timings that do not fit."""
    given = {name: getattr(args, name) for name in TIMINGS}
    config = ElectConfig(**{name: value for name, value in given.items() if value is not None})
    with _caught_signals() as caught:
        directory = Path(tempfile.mkdtemp(prefix="kevy-elect-demo-"))
        _introduce(args, config, directory)
        nodes = _plan(args.nodes, config, directory)
        try:
            with open_screen() as screen:
                Demo(nodes, config, screen, caught).play(args.rounds, args.keep_running)
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


def _introduce(args: argparse.Namespace, config: ElectConfig, directory: Path) -> None:
    timings = (f"{name.replace('_', '-')} {getattr(config, name):g}" for name in TIMINGS)
    print(f"{args.nodes} nodes on this machine; logs and ballots in {directory}")
    print(f"timings in seconds: {', '.join(timings)}\n", flush=True)


# The nodes


@attrs.define
class Node:
    """One node: how it is started, its process, and what it last said of itself."""

    node_id: str
    url: str
    directory: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    answer: Answer | None = None
    ready: bool = False
    """Whether this process ever answered."""
    ended_at: float = 0.0

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def status(self) -> Status | None:
        return None if self.answer is None else self.answer.status

    def start(self) -> None:
        """Start the process, which ends when this one does, however that comes about.

        It waits for the end of its stdin (`run_node`), and only this process holds
        the other end. In a group of its own a Ctrl-C does not reach it.
        """
        self.ready = False
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def hear(self, answer: Answer) -> None:
        self.answer = answer
        self.ready = self.ready or answer.status is not None

    def has_ended(self) -> bool:
        """Whether the process ended without having been killed from here."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()  # reaps it and closes its stdin
            self.process = self.answer = None
            self.ended_at = time.monotonic()


def _plan(count: int, config: ElectConfig, directory: Path) -> list[Node]:
    ports = iter(_free_ports(3 * count))
    members = [PeerAddr(name, HOST, next(ports), next(ports)) for name in NAMES[:count]]
    return [_node(member, next(ports), members, config, directory) for member in members]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _node(
    me: PeerAddr, http_port: int, members: Sequence[PeerAddr], config: ElectConfig, top: Path
) -> Node:
    directory = top / me.node_id
    directory.mkdir()
    command = [
        *(sys.executable, "-c", "from kevy_elect.cli.demo import run_node; run_node()"),
        *("--nodaemon", "--pidfile=", "kevy-elect"),
        *("--node-id", me.node_id, "--peers", ",".join(map(str, members))),
        *("--http", f"tcp:{http_port}:interface={HOST}", "--data-dir", str(directory)),
        *(f"--{name.replace('_', '-')}={getattr(config, name)}" for name in TIMINGS),
    ]
    return Node(me.node_id, f"http://{HOST}:{http_port}/status", directory, command)


def run_node() -> None:
    """Be a twistd, with this process's arguments, until stdin ends."""
    from twisted.scripts import twistd

    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    twistd.run()


def _exit_at_end_of_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def stop(nodes: Sequence[Node]) -> None:
    """End all that still run: asked first, killed if that takes too long."""
    processes = [node.process for node in nodes if node.process is not None]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for node in nodes:
        node.kill()


# The course of the demo


@attrs.frozen
class Failover:
    """One killed primary: who followed it, and how many seconds after the kill."""

    killed: str
    successor: str
    writable: float
    agreed: float


class Demo:
    """Plays the rounds. Anything but the expected course raises CourseError."""

    def __init__(
        self, nodes: Sequence[Node], config: ElectConfig, screen: Screen, caught: Sequence[int]
    ) -> None:
        self._nodes = nodes
        self._screen = screen
        self._caught = caught
        # An election that fails starts again after the longest backoff. Several of
        # those, and starting Python on a busy machine, are within what may happen.
        backoff = config.election_backoff + config.election_backoff_jitter
        self._patience = 20 + 5 * (config.down_after + config.election_timeout + backoff)

    def play(self, rounds: int, keep_running: bool) -> None:
        """Start all, fail over `rounds` times, and go on until interrupted if wanted."""
        primary = self._start()
        failovers = []
        for number in range(1, rounds + 1):
            failover = self._fail_over(primary, number)
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

    def _fail_over(self, primary: Node, number: int) -> Failover:
        self._screen.step(f"round {number}: kill -9 {primary.node_id}")
        killed_at = time.monotonic()
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
        return Failover(primary.node_id, successor.node_id, writable, agreed)

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
        running = self._running()
        answers = ask_all([node.url for node in running], ASK_TIMEOUT)
        for node, answer in zip(running, answers, strict=True):
            node.hear(answer)
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

    def _expect(self, primary: Node, expected: Node) -> None:
        if primary is not expected:
            raise CourseError(
                f"the primary is {primary.node_id}, where {expected.node_id} was expected"
            )

    def _expect_running(self) -> None:
        for node in self._running():
            if node.has_ended():
                raise CourseError(why_ended(node))


def why_ended(node: Node) -> str:
    """What to say of a process that ended by itself, by its exit status and log."""
    code = node.process.returncode if node.process else 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    log = node.log.read_text("utf-8", "replace")
    if "Address already in use" in log:
        how += ", because a port that was free has been taken meanwhile; try again"
    elif code >= 0:
        how += f"; its log ends: {printable(log.strip().rpartition(chr(10))[2])}"
    return f"the process of {node.node_id} {how}"


def summary(failovers: Sequence[Failover]) -> str:
    """A line a round, and the least, median and greatest time if there are several."""
    lines = ["", "round  killed  successor  writable after  agreed after"]
    lines += [
        f"{number:5}  {each.killed:6}  {each.successor:9}  "
        f"{each.writable:12.2f} s  {each.agreed:10.2f} s"
        for number, each in enumerate(failovers, 1)
    ]
    if len(failovers) > 1:
        writable = [each.writable for each in failovers]
        agreed = [each.agreed for each in failovers]
        lines += [
            f"{name:>24}  {of(writable):12.2f} s  {of(agreed):10.2f} s"
            for name, of in (("min", min), ("median", statistics.median), ("max", max))
        ]
    return "\n".join(lines)


def _things_to_try(nodes: Sequence[Node], primary: Node) -> str:
    urls = " ".join(node.url.removeprefix("http://").removesuffix("/status") for node in nodes)
    return (
        "\nThe cluster runs until Ctrl-C. Try, in another terminal:\n"
        f"  kevy-elect status {urls}\n"
        f"  curl {primary.url}\n"
        f"  kill -9 {primary.pid}    # {primary.node_id}, the primary; "
        f"it is started again after {REVIVE_AFTER:g} s\n"
    )
