"""A cluster whose processes write stamps of their states."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from string import ascii_lowercase

from bench import stamps
from bench.clusters.contender import Contender
from bench.process import Child, wait_for
from bench.stamps import Stamp
from kevy_elect.cli.demo.ports import HOST, free_ports


class StampedCluster(Contender):
    """Each process stamps a `state` when it changes, and a `write` whenever it may write."""

    any_size = True
    rejoining: float
    """Seconds after which a restarted process counts as a full member."""

    def begin(self) -> None:
        self.names = ascii_lowercase[: self.size]
        self.ports = dict(zip(self.names, free_ports(self.size), strict=True))
        self.children: dict[str, Child] = {}
        for name in self.names:
            self.revive(name)

    def addresses(self) -> dict[str, str]:
        return {name: f"{HOST}:{port}" for name, port in self.ports.items()}

    def settle(self) -> str:
        wait_for(self._leader, "a primary that all follow")
        time.sleep(self.rejoining)
        primary: str = wait_for(self._leader, "a primary that all follow")
        return primary

    def kill(self, name: str) -> int:
        return self.children[name].kill()

    def stop(self, name: str) -> None:
        self.children[name].stop()

    def resume(self, name: str) -> None:
        self.children[name].resume()

    def succession(self, old: str, since: int) -> tuple[int, int]:
        times: tuple[int, int] = wait_for(
            lambda: self._succession(old, since), "a successor that all follow"
        )
        return times

    def revive(self, name: str) -> None:
        self.children[name] = self.start(name)

    @abstractmethod
    def start(self, name: str) -> Child:
        """Start the process of this name."""

    def writes(self, name: str, since: int) -> list[int]:
        return [stamp.at for stamp in self._stamps(name, since) if stamp.kind == "write"]

    def _succession(self, old: str, since: int) -> tuple[int, int] | None:
        seen = {name: self._states(name, since) for name in self.names if name != old}
        for name, states in seen.items():
            writable = _first(states, lambda stamp: bool(stamp.told["writable"]))
            if writable:
                agreed = [_followed(others, name) for others in seen.values()]
                return (writable, max(agreed)) if all(agreed) else None
        return None

    def _leader(self) -> str | None:
        last = [self._states(name, self.children[name].started)[-1:] for name in self.names]
        if not all(last):
            return None
        leaders = {states[0].told["primary"] for states in last}
        return leaders.pop() if len(leaders) == 1 else None

    def _states(self, name: str, since: int) -> list[Stamp]:
        return [stamp for stamp in self._stamps(name, since) if stamp.kind == "state"]

    def _stamps(self, name: str, since: int) -> list[Stamp]:
        return list(stamps.read(self.fleet.directory / name / "stamps", since))


def _followed(states: list[Stamp], primary: str) -> int:
    return _first(states, lambda stamp: stamp.told["primary"] == primary)


def _first(states: list[Stamp], condition: Callable[[Stamp], bool]) -> int:
    """The time of the first state for which the condition holds; 0 if there is none."""
    return next((stamp.at for stamp in states if condition(stamp)), 0)
