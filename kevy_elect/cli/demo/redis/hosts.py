"""The hosts of the demo: on each a Redis and the node that drives it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs
import hiredis

from kevy_elect.cli.demo.child import Child
from kevy_elect.cli.demo.nodes import Node, plan
from kevy_elect.cli.demo.ports import HOST
from kevy_elect.cli.demo.redis import supervisor
from kevy_elect.cli.demo.redis.client import Client, Word
from kevy_elect.cli.demo.redis.numbers import Numbers
from kevy_elect.cli.demo.redis.writer import KEY

FILE: Final = "dump.rdb"
"""The file of a Redis's data, in its directory."""


@attrs.define
class Server(Child):
    """One Redis below a supervisor. It is empty after each start."""

    port: int = 0

    def start(self) -> None:
        # A replica keeps the file that its source sent, and would load it.
        (self.directory / FILE).unlink(missing_ok=True)
        super().start()

    def ask(self, *words: Word) -> Any:
        """The reply to one command. Raises OSError."""
        with closing(Client(HOST, self.port)) as client:
            return client.ask(*words)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return not isinstance(self.ask("PING"), hiredis.ReplyError)
        return False

    def stored(self) -> Numbers:
        """The numbers in its data. Raises OSError if it cannot be asked now."""
        found = self.ask("GET", KEY)
        if isinstance(found, hiredis.ReplyError):
            raise ConnectionError(f"the {self.name} answers {str(found)!r}")
        return Numbers(found or b"")

    def has(self, numbers: Numbers) -> bool:
        """Whether it answers and has all of these."""
        with contextlib.suppress(OSError):
            return not len(numbers - self.stored())
        return False

    def strike(self) -> None:
        if self.process is not None:
            # A supervisor that has ended may have left the server behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@attrs.frozen
class Host:
    """The processes that end when a machine fails."""

    node: Node
    server: Server

    @property
    def name(self) -> str:
        return self.node.node_id

    def kill(self) -> None:
        for child in (self.node, self.server):
            child.strike()
        for child in (self.node, self.server):
            child.kill()


def plan_hosts(names: Sequence[str], directory: Path, options: Sequence[str]) -> list[Host]:
    """Hosts of these names, each with directories below `directory` and these `options` of
    nodes."""
    return [_host(node, directory) for node in plan(names, directory, options)]


def _host(node: Node, top: Path) -> Host:
    node.command = [*node.command, "--redis", node.address]
    port = int(node.address.rpartition(":")[2])
    directory = top / f"redis-{node.node_id}"
    directory.mkdir()
    command = [
        *(sys.executable, "-I", "-S", supervisor.__file__),
        *("redis-server", "--port", str(port), "--bind", HOST),
        *("--dir", str(directory), "--dbfilename", FILE),
        *("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"),
        *("--replicaof", f"{HOST} 1"),  # takes no writes until its node says so
    ]
    server = Server(f"Redis of {node.node_id}", directory, command, wrapped=True, port=port)
    return Host(node, server)
