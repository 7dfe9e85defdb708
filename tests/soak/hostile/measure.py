"""The effect of an attack, seen from outside: by /proc, the logs, and the nodes' writes."""

from __future__ import annotations

import collections
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.soak.chaos.journal import read
from tests.soak.chaos.judge import judge
from tests.soak.chaos.outages import longest_gap
from tests.soak.hostile.cluster import POLL, Cluster
from tests.soak.hostile.scene import Case, Scene

SAMPLE_EVERY: Final = 0.05
BACK_WITHIN: Final = 10.0
BEARABLE_LOSSES: Final = 1
"""Lost leases that are no failure: a process that is stopped for a moment loses its lease."""
TURN: Final = 0.06
"""Seconds of processor time that a node may use for other work before it runs its election."""
GROWTH: Final = 5 * 1024
"""Kilobytes by which a node's memory may grow."""
_NANO: Final = 1e-9
_DETAILS: Final = re.compile(r"b'.*'|b\".*\"|'[^']*'|\"[^\"]*\"|\d+(\.\d+)*(:\d+)?")
_ELECTED: Final = re.compile("elected primary of epoch")
_LOST: Final = re.compile("lost the lease")


@attrs.frozen(kw_only=True)
class Result:
    """The figures of one case; of several nodes, the worst figure."""

    case: str
    title: str
    did: str
    seconds: float
    elections: int
    epochs: int
    """The growth of the highest epoch with a write."""
    leases_lost: int
    """The greater of two numbers: refusals after a write, and lost leases in the primary's log."""
    calm_gap: float
    """The longest time between two writes before the attack, in seconds."""
    gap: float
    """The longest time between two writes during the attack, in seconds."""
    turn: float
    """The most processor time that a node used before it ran its election again, in seconds."""
    memory: int
    """The kilobytes by which a node grew."""
    descriptors: tuple[int, int, int]
    """The numbers before, at most and after, of the node that had most."""
    threads: tuple[int, int, int]
    """The same as for descriptors."""
    hooks: int
    """The runs of a hook in the node that had most of them."""
    log_bytes: int
    """The bytes of the log that grew most."""
    log_lines: int
    log_rate: float
    """Lines a second of the commonest cause, in one node."""
    log_cause: str
    back_after: float | None
    """Seconds until all was as before; None if that did not happen."""
    failures: list[str]
    """The failures: two writers, a needless election, lost leases, no recovery."""


class Sampler:
    """Records memory and descriptors of all nodes until stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.memory: dict[str, int] = collections.defaultdict(int)
        self.descriptors: dict[str, int] = collections.defaultdict(int)
        self.threads: dict[str, int] = collections.defaultdict(int)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY):
            for node in self._cluster:
                name = node.name
                self.memory[name] = max(self.memory[name], node.memory())
                self.descriptors[name] = max(self.descriptors[name], node.descriptors())
                self.threads[name] = max(self.threads[name], node.threads())


def measure(case: Case, cluster: Cluster, seed: int, *, quick: bool) -> Result:
    """Watch the cluster before the attack, attack, and wait until all is as before."""
    agreed = cluster.wait_until_agreed(BACK_WITHIN)
    if agreed is None:
        raise RuntimeError(f"no agreement before {case.name}; see {cluster.directory}")
    primary, epoch = agreed
    calm_from = time.monotonic()
    with Sampler(cluster) as calm:
        time.sleep(0.3 if quick else 2.0)
    begin = time.monotonic()
    logs = {node.name: _size(node.log) for node in cluster}
    refused = _size(cluster.refusals)
    hooks = {node.name: _size(node.settings.hooks) for node in cluster}
    scene = Scene(cluster, primary, epoch, quick, random.Random(seed))
    with Sampler(cluster) as sampler:
        did = case.attack(scene)
        end = time.monotonic()
        back = _wait_until_back(cluster, calm.descriptors, end)
    after = max(node.descriptors() for node in cluster)
    threads = max(node.threads() for node in cluster)
    finished = time.monotonic()
    lines = {node.name: _lines(node.log, logs[node.name]) for node in cluster}
    everything = [line for told in lines.values() for line in told]
    writes = read(cluster.journal)
    verdict = judge(writes)
    times = sorted(write.asked * _NANO for write in writes)
    noted = sum(1 for line in everything if _LOST.search(line))
    elections = sum(1 for line in everything if _ELECTED.search(line))
    leases_lost = max(noted, len(_lines(cluster.refusals, refused)))
    cause, count = _commonest(lines.values())
    result = Result(
        case=case.name,
        title=case.title,
        did=did,
        seconds=end - begin,
        elections=elections,
        epochs=verdict.highest_epoch - epoch,
        leases_lost=leases_lost,
        calm_gap=longest_gap(times, calm_from, begin),
        gap=longest_gap(times, begin, finished),
        turn=max(_longest_turn(node.settings.turns, begin, finished) for node in cluster),
        memory=max(sampler.memory[node.name] - calm.memory[node.name] for node in cluster),
        descriptors=(
            max(calm.descriptors.values()),
            max(sampler.descriptors.values()),
            after,
        ),
        threads=(max(calm.threads.values()), max(sampler.threads.values()), threads),
        hooks=max(_size(node.settings.hooks) - hooks[node.name] for node in cluster),
        log_bytes=max(_size(node.log) - logs[node.name] for node in cluster),
        log_lines=len(everything),
        log_rate=count / max(1.0, end - begin),
        log_cause=cause,
        back_after=back,
        failures=[
            *verdict.violations,
            *scene.wrong,
            *_harm(case, cluster, elections, leases_lost, back),
        ],
    )
    if case.unfelt and not quick:
        result.failures.extend(_felt(result))
    return result


def _felt(result: Result) -> Iterator[str]:
    if result.turn > TURN:
        yield f"did something else for {1000 * result.turn:.0f} ms"
    if result.memory > GROWTH:
        yield f"grew by {result.memory / 1024:.1f} MB"


def _harm(
    case: Case, cluster: Cluster, elections: int, leases_lost: int, back: float | None
) -> Iterator[str]:
    if cluster.links in case.unpreventable:
        return
    if elections > case.elections:
        yield f"{elections} elections"
    if leases_lost > BEARABLE_LOSSES + case.elections:
        yield f"{leases_lost} leases lost"
    if back is None:
        yield f"not as before after {BACK_WITHIN:.0f} s"


def _wait_until_back(cluster: Cluster, before: dict[str, int], end: float) -> float | None:
    """Seconds from `end` until all agree and no node has more descriptors than before."""
    while time.monotonic() < end + BACK_WITHIN:
        agreed = cluster.agreement()
        time.sleep(POLL)  # then the connections of these checks are closed
        if agreed and all(node.descriptors() <= before[node.name] for node in cluster):
            return time.monotonic() - end
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lines(path: Path, begin: int) -> list[str]:
    if not path.exists():
        return []
    with open(path, "rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace").splitlines()


def _longest_turn(path: Path, begin: float, end: float) -> float:
    turns = [line.split() for line in _lines(path, 0)]
    return max(
        (float(took) for at, took in turns if begin <= int(at) * _NANO <= end + 1), default=0.0
    )


def _commonest(logs: Iterable[list[str]]) -> tuple[str, int]:
    """The text, without times and other details, that one node logged most often."""
    found = ("", 0)
    for lines in logs:
        texts = collections.Counter(_DETAILS.sub("…", line)[26:126] for line in lines)
        for text, count in texts.most_common(1):
            found = max(found, (text, count), key=lambda each: each[1])
    return found
