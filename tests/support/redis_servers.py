"""Real Redis servers on loopback."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import redis
from redis.exceptions import RedisError

from tests.support.certificates import Authority
from tests.support.waiting import DEADLINE, wait_for

REDIS_SERVER = shutil.which("redis-server")
VALKEY_SERVER = shutil.which("valkey-server")
FROZEN = ("--replicaof", "127.0.0.1 1")
"""The option for a start without taking writes, as docs/redis.md requires."""


def tls_options(port: int, files: tuple[str, str], authority: Authority) -> tuple[str, ...]:
    """The options of a server with this certificate and key, which requires one of its clients."""
    certificate, key = files
    return (
        *("--tls-port", str(port), "--tls-replication", "yes"),
        *("--tls-cert-file", certificate, "--tls-key-file", key),
        *("--tls-ca-cert-file", str(authority.path)),
    )


class RedisServer:
    """One server, in memory only."""

    def __init__(
        self, port: int, directory: Path, *options: str, program: str | None = REDIS_SERVER
    ) -> None:
        self.program = program
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.log = directory / f"redis-{port}.log"
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(port=port, socket_timeout=DEADLINE, decode_responses=True)

    @property
    def command(self) -> list[str]:
        """What runs it."""
        assert self.program is not None
        return [
            *(self.program, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--save", "", "--repl-diskless-sync-delay", "0"),
            *("--dir", str(self.log.parent)),
            *self.options,
        ]

    def start(self, *more: str) -> None:
        """Start it, and wait until it answers."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def replication(self) -> dict[str, str | int]:
        """The section `replication` of INFO."""
        found: dict[str, str | int] = self.client.info("replication")
        return found

    def takes_writes(self) -> bool:
        return self.replication()["role"] == "master"

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(DEADLINE)
