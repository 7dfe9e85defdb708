"""The time in which no node can write when an operator moves the role, without children.

Real nodes run with the default timings, and are commanded by their admin sockets. For comparison
with the state of the machine, it also measures the same socket's answer to `offset`, which needs no
election.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from bench.process import Fleet, wait_for
from bench.report import Table, parser, publish
from kevy_elect.cli.admin_client import UnreachableError, answer
from kevy_elect.cli.demo.ports import HOST, free_ports
from kevy_elect.config import ElectConfig
from tests.support import FOREGROUND

IDS: Final = "abcde"
SETTLED: Final = ElectConfig().down_after + 1.0
"""Seconds after which a started node may run and vote (R4.3, R5)."""


class Nodes:
    """`number` nodes of `twistd kevy-elect` with only the peers as setting."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.ids = IDS[:number]
        ports = zip(self.ids, free_ports(number), strict=True)
        peers = ",".join(f"{node}@{HOST}:{port}" for node, port in ports)
        self._sockets = {node: f"unix:{fleet.directory}/{number}{node}.sock" for node in self.ids}
        for node, socket in self._sockets.items():
            command = [*FOREGROUND, "kevy-elect", "--node-id", node, "--peers", peers]
            fleet.start(f"{number}{node}", [*command, "--admin", socket])

    def ask(self, node: str, command: str, **arguments: Any) -> dict[str, Any]:
        return answer(self._sockets[node], {"command": command, **arguments})

    def primary(self) -> str:
        """The primary that can write and that all follow, as soon as there is one."""
        found: str = wait_for(self._agreed, "a primary that all follow")
        return found

    def _agreed(self) -> str | None:
        try:
            told = [self.ask(node, "status")["status"] for node in self.ids]
        except UnreachableError:
            return None
        writers = [each["node_id"] for each in told if each["can_write"]]
        followed = {each["current_primary"] for each in told}
        return writers[0] if len(writers) == 1 and followed == set(writers) else None


def move(nodes: Nodes, passed_over: int) -> float:
    """Move the role to the candidate with so many better ones, none of which has more data. Return
    the milliseconds in which no node could write."""
    holder = nodes.primary()
    target = [node for node in nodes.ids if node != holder][passed_over]
    told = nodes.ask(holder, "switchover", target=target)
    if not told["ok"]:
        sys.exit(f"switchover to {target} failed: {told['error']}")
    return float(told["unwritable"]) * 1000


def ask_in_vain(nodes: Nodes) -> float:
    """Milliseconds for one request that changes nothing."""
    began = time.monotonic()
    nodes.ask(nodes.ids[0], "offset", offset=0)
    return (time.monotonic() - began) * 1000


def measure(runs: int) -> Table:
    step = ElectConfig().candidate_step
    table = Table(f"switchover: default timings, {runs} runs each, no children")
    table.note(f"candidate_step is {step * 1000:g} ms, the heartbeat's interval {step * 500:g} ms")
    with Fleet() as fleet:
        clusters = {number: Nodes(fleet, number) for number in (3, 5)}
        for nodes in clusters.values():
            nodes.primary()
        time.sleep(SETTLED)
        idle = [ask_in_vain(clusters[3]) for _ in range(runs)]
        base = table.add("a request", "ms", idle)
        for number, passed_over in ((3, 0), (3, 1), (5, 0)):
            to = f"past {passed_over} better" if passed_over else "to the best candidate"
            taken = []
            for run in range(runs):
                print(f"{number} nodes, {to}: {run + 1} of {runs}", file=sys.stderr)
                taken.append(move(clusters[number], passed_over))
            table.compare(f"{number} nodes, {to}", "ms without a writer", taken, base)
    return table


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=50)
    options = made.parse_args()
    publish(options, lambda: [measure(options.runs)])


if __name__ == "__main__":
    main()
