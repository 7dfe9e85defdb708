"""Attacks on a node's own machine: on its admin socket, its settings file, its directory, and its
commands."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.soak.hostile.cluster import Node
from tests.soak.hostile.scene import Scene

LOGGED: Final = 250_000
"""Bytes a second by which a node's log may grow, whatever a command prints: a megabyte of output in
ten seconds, which the log makes longer if its lines are short."""
RUNS: Final = 10
"""The most runs of a hook in a second."""
_OPERATORS: Final = 24
"""The number of concurrent connections to a node that takes 16."""


# Operators


def admin_garbage(scene: Scene) -> str:
    """Invalid requests, some of them without an end."""
    until = scene.until(20.0)
    said = 0
    words = itertools.cycle(_requests(scene))
    with contextlib.ExitStack() as stack:
        lines: dict[Node, list[socket.socket]] = {node: [] for node in scene.nodes}
        while time.monotonic() < until:
            for node, connections in lines.items():
                connection = socket.socket(socket.AF_UNIX)
                stack.callback(connection.close)
                connection.settimeout(0.2)
                with contextlib.suppress(OSError):
                    connection.connect(str(node.settings.data / "admin.sock"))
                    connection.sendall(next(words))
                    said += 1
                connections.append(connection)
                if len(connections) > _OPERATORS:
                    connections.pop(0).close()
            time.sleep(0.001)
    return f"{said:,} requests, up to {_OPERATORS} connections at a time to each node"


def _requests(scene: Scene) -> list[bytes]:
    """Requests without an effect."""
    asked: Sequence[object] = (
        {"command": "quit"},
        {"command": ["pause"], "seconds": 1},
        {"command": "pause", "seconds": "1"},
        {"command": "pause", "seconds": True},
        {"command": "pause", "seconds": -1},
        {"command": "pause", "seconds": 1e300},
        {"command": "offset", "offset": -(10**300)},
        {"command": "switchover", "target": "x" * 2000},
        {"command": "step-down", "rest": None},
        {"command": "events", "last": -1},
        {"command": "events", "since": 1e9},
        {"command": "status"},
        [],
        None,
    )
    lines = [json.dumps(each).encode() + b"\n" for each in asked]
    noise = [b"\xff" + scene.rng.randbytes(scene.rng.randint(1, 4000)) for _ in range(20)]
    whole = [each.replace(b"\n", b" ") + b"\n" for each in noise]
    deep = [opening * 1500 + b"\n" for opening in (b"[", b'{"a":')]
    return [*lines, *noise, *whole, *deep, b"", b"x" * 100_000, b"\n" * 5000]


# The configuration


def sighup_storm(scene: Scene) -> str:
    """Signals as from a shell loop, each with another invalid file."""
    until = scene.until(20.0)
    texts = {node: node.settings.config.read_text() for node in scene.nodes}
    signals = 0
    try:
        for wrong in itertools.cycle(_files()):
            if time.monotonic() > until:
                break
            for node, text in texts.items():
                _replace(node.settings.config, None if wrong is None else wrong + text)
                for _ in range(5):
                    node.signal(signal.SIGHUP)
                    signals += 1
            time.sleep(0.02)
    finally:
        for node, text in texts.items():
            _replace(node.settings.config, text)
    return f"{signals:,} signals, with {len(_files())} files in turn"


def _files() -> list[str | None]:
    """Texts before the valid settings: valid TOML with invalid settings, and invalid TOML."""
    return [
        "",
        None,
        "x = [" + "1," * 14_000 + "]\n",
        "x = " + "[" * 15_000 + "\n",
        ".".join("a" * 12_000) + " = 1\n",
        "x = '" + "\u00e9" * 13_000 + "'\n",
        "down-after = 1e400\n",
        "\0" * 30_000,
        "#" * 40_000 + "\n",
    ]


def _replace(path: Path, text: str | None) -> None:
    beside = path.with_suffix(".new")
    if text is None:
        path.unlink(missing_ok=True)
        return
    beside.write_text(text)
    beside.replace(path)


# The data directory


def vanished(scene: Scene) -> str:
    """All directories are removed, and come back."""
    until = scene.until(5.0)
    with _taken_away(scene.nodes):
        while time.monotonic() < until:
            if any(node.settings.data.exists() for node in scene.nodes):
                scene.wrong.append("a directory was made again")
                break
            time.sleep(0.05)
    return "three data directories renamed, then put back"


def swapped(scene: Scene) -> str:
    """Other directories take their place shortly before a vote, so that no member can be
    elected."""
    until = scene.until(5.0)
    with _taken_away(scene.replicas):
        for node in scene.replicas:
            node.settings.data.mkdir(mode=0o700)
        scene.leader.kill()
        while time.monotonic() < until:
            told = [node.status() for node in scene.replicas]
            if any(each is not None and each["can_write"] for each in told):
                scene.wrong.append("somebody was elected by votes that are nowhere")
                break
            time.sleep(0.05)
        for node in scene.replicas:
            if any(node.settings.data.iterdir()):
                scene.wrong.append(f"{node.name} used a directory that is not its own")
                break
            node.settings.data.rmdir()
    scene.leader.start()
    return "the replicas' data directories exchanged for empty ones, then the primary killed"


@contextmanager
def _taken_away(nodes: Sequence[Node]) -> Iterator[None]:
    for node in nodes:
        node.settings.data.rename(node.settings.data.with_suffix(".away"))
    try:
        yield
    finally:
        for node in nodes:
            node.settings.data.with_suffix(".away").rename(node.settings.data)


# The commands of a node


def endless_output(scene: Scene) -> str:
    """The command prints without end from its start, so only the log shows the effect."""
    seconds = scene.until(20.0) - time.monotonic()
    with bounded(scene, logged=LOGGED):
        time.sleep(seconds)
    return f"for {seconds:.0f} s"


@contextmanager
def bounded(scene: Scene, logged: int) -> Iterator[None]:
    """Check that log and hooks of each node grow by so much at most."""
    begun = time.monotonic()
    before = {node: (_size(node.log), _size(node.settings.hooks)) for node in scene.nodes}
    yield
    seconds = time.monotonic() - begun + 1.0
    for node, (log, runs) in before.items():
        grown = (_size(node.log) - log) / seconds
        ran = (_size(node.settings.hooks) - runs) / seconds
        if grown > logged:
            scene.wrong.append(f"{node.name} logged {grown:,.0f} bytes a second")
        if ran > RUNS + 1:
            scene.wrong.append(f"{node.name} ran its hook {ran:.0f} times a second")


def _size(path: Path) -> int:
    return os.stat(path).st_size if path.exists() else 0
