"""The clients, and the command for the program of each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

PROGRAMS: Final = Path(__file__).with_name("programs")
RUNNERS: Final = {
    ".go": ("go", "run"),
    ".js": ("node",),
    ".php": ("php",),
    ".pl": ("perl",),
    ".rb": ("ruby",),
}
CLIENTS: Final = {
    "redis-py": "redis_py.py",
    "redis-py, sentinels asked once": "redis_py_once.py",
    "redis-py, asyncio": "redis_py_asyncio.py",
    "valkey-py": "valkey_py.py",
    "coredis": "coredis_py.py",
    "txredisapi": "txredisapi_py.py",
    "ioredis": "ioredis.js ioredis plain",
    "ioredis, failoverDetector": "ioredis.js ioredis detecting",
    "iovalkey": "ioredis.js iovalkey plain",
    "iovalkey, failoverDetector": "ioredis.js iovalkey detecting",
    "node-redis": "node_redis.js",
    "phpredis": "phpredis.php",
    "predis": "predis.php",
    "redis-rb": "redis_rb.rb",
    "Perl Redis": "redis_perl.pl",
    "Perl Redis::Fast": "redis_fast.pl",
    "go-redis": "go_redis.go",
}
"""The program of each and its first arguments, by the client's name."""


@attrs.frozen
class Places:
    """The places of libraries that are not installed for the whole machine."""

    python: str = sys.executable
    node_modules: Path | None = None
    gopath: Path | None = None

    def command(self, client: str) -> tuple[str, ...]:
        name, *words = CLIENTS[client].split()
        program = PROGRAMS / name
        return (*RUNNERS.get(program.suffix, (self.python,)), str(program), *words)

    def environment(self) -> Mapping[str, str]:
        more = {}
        if self.node_modules is not None:
            more["NODE_PATH"] = str(self.node_modules.resolve())
        if self.gopath is not None:
            more |= {"GOPATH": str(self.gopath.resolve()), "GO111MODULE": "off"}
        return os.environ | more
