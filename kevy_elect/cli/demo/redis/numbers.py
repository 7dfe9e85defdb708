"""Sets of the written numbers, one bit for each, so that hours of writing fit into memory."""

from __future__ import annotations

import threading

import attrs


class Numbers:
    """A set of numbers from 0, from the bits that a Redis stores by SETBIT."""

    def __init__(self, bits: bytes | bytearray = b"") -> None:
        self._bits = bytearray(bits)

    def add(self, number: int) -> None:
        place, bit = divmod(number, 8)
        self._bits.extend(bytes(max(0, place + 1 - len(self._bits))))
        self._bits[place] |= 128 >> bit

    def copy(self) -> Numbers:
        return Numbers(self._bits)

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "big").bit_count()

    def __sub__(self, other: Numbers) -> Numbers:
        """The numbers that are not in the other set."""
        size = max(len(self._bits), len(other._bits))
        bits = self._wide(size) & ~other._wide(size)
        return Numbers(bits.to_bytes(size, "big"))

    def __or__(self, other: Numbers) -> Numbers:
        """The numbers that are in one of the sets."""
        size = max(len(self._bits), len(other._bits))
        return Numbers((self._wide(size) | other._wide(size)).to_bytes(size, "big"))

    def _wide(self, size: int) -> int:
        return int.from_bytes(self._bits.ljust(size, b"\0"), "big")


@attrs.frozen
class Tally:
    """The state of all numbers that were sent so far."""

    acknowledged: Numbers
    """The numbers that a server acknowledged."""
    confirmed: Numbers
    """The numbers that WAIT confirmed on enough replicas."""
    unconfirmed: int
    """The number of writes that were sent, and perhaps acknowledged, but not confirmed."""


class Ledger:
    """The tally of one writer. Other threads may ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged, self._confirmed, self._unconfirmed = Numbers(), Numbers(), 0

    def acknowledge(self, number: int) -> None:
        with self._lock:
            self._acknowledged.add(number)

    def settle(self, number: int, *, confirmed: bool) -> None:
        """Record the end of a number that was sent."""
        with self._lock:
            if confirmed:
                self._confirmed.add(number)
            else:
                self._unconfirmed += 1

    def tally(self) -> Tally:
        with self._lock:
            return Tally(self._acknowledged.copy(), self._confirmed.copy(), self._unconfirmed)
