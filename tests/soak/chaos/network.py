"""The network between the nodes: every packet passes through this process.

Each node has a namespace with one TUN device, whose other end is a file here. A packet of one node
is passed to the other, unless the condition of that direction says otherwise. So each direction has
faults of its own, without traffic control in the kernel.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from tests.soak.chaos.sandbox import run

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_MTU: Final = 1500
_DESTINATION: Final = slice(16, 20)  # in an IPv4 header


@attrs.frozen
class Condition:
    """The condition of the packets in one direction."""

    loss: float = 0.0
    """The share of packets that is lost: 1 for a cut."""
    delay: float = 0.0


CUT: Final = Condition(loss=1.0)
Way = tuple[str, str]


def ways(some: Iterable[str], others: Iterable[str]) -> list[Way]:
    """The ways from each of `some` to each of `others`."""
    return [(a, b) for a, b in itertools.product(some, others) if a != b]


class Network:
    """A namespace and an address for each name, and the thread that carries the packets."""

    def __init__(self, names: Sequence[str], rng: random.Random) -> None:
        self.addresses = {name: f"10.213.0.{i}" for i, name in enumerate(names, 1)}
        self.conditions: Mapping[Way, Condition] = {}
        """The conditions of all impaired ways. It is replaced as a whole."""
        self._rng = rng
        self._devices = {name: self._connect(name) for name in names}
        self._names = {_packed(address): name for name, address in self.addresses.items()}
        self._due: list[tuple[float, int, str, bytes]] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._carry, name="network", daemon=True).start()

    def impose(self, condition: Condition, affected: Iterable[Way]) -> None:
        """Set `condition` for the `affected` ways. The others keep theirs."""
        self.conditions = {**self.conditions, **dict.fromkeys(affected, condition)}

    def heal(self) -> None:
        self.conditions = {}

    def _connect(self, name: str) -> int:
        """Make the namespace `name` with its device. The device ends with this process."""
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        wanted = struct.pack("16sH22x", name.encode("ascii"), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, wanted)
        run("ip", "netns", "add", name)
        run("ip", "link", "set", name, "netns", name)
        run("ip", "-n", name, "address", "add", f"{self.addresses[name]}/24", "dev", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", name, "mtu", str(_MTU), "up")
        return device

    def _carry(self) -> None:
        with selectors.DefaultSelector() as selector:
            for name, device in self._devices.items():
                selector.register(device, selectors.EVENT_READ, name)
            while True:
                for key, _ in selector.select(self._until_due()):
                    self._take_from(key.data)
                self._deliver_due()

    def _until_due(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _take_from(self, sender: str) -> None:
        try:
            packet = os.read(self._devices[sender], _MTU)
        except OSError:
            return
        receiver = self._names.get(packet[_DESTINATION])
        if receiver is None:  # IPv6 looking for routers, multicast
            return
        condition = self.conditions.get((sender, receiver), Condition())
        if condition.loss and self._rng.random() < condition.loss:
            return
        if condition.delay:
            due = time.monotonic() + condition.delay
            heapq.heappush(self._due, (due, next(self._numbers), receiver, packet))
        else:
            self._deliver(receiver, packet)

    def _deliver_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, receiver, packet = heapq.heappop(self._due)
            self._deliver(receiver, packet)

    def _deliver(self, receiver: str, packet: bytes) -> None:
        try:
            os.write(self._devices[receiver], packet)
        except OSError:
            return  # a full queue loses packets, as networks do


def _packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))
