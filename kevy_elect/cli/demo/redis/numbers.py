"""Sets of the numbers that were written, a bit each, so that hours of writing fit into memory."""

from __future__ import annotations

import threading

import attrs


class Numbers:
    """A set of numbers from 0, made of the bits that a Redis keeps them in by SETBIT."""

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
        """Those that are not in the other."""
        size = max(len(self._bits), len(other._bits))
        bits = self._wide(size) & ~other._wide(size)
        return Numbers(bits.to_bytes(size, "big"))

    def __or__(self, other: Numbers) -> Numbers:
        """Those that are in one of both."""
        size = max(len(self._bits), len(other._bits))
        return Numbers((self._wide(size) | other._wide(size)).to_bytes(size, "big"))

    def _wide(self, size: int) -> int:
        return int.from_bytes(self._bits.ljust(size, b"\0"), "big")


@attrs.frozen
class Tally:
    """What came of the numbers that were sent until now."""

    acknowledged: Numbers
    """A server said that it has them."""
    confirmed: Numbers
    """WAIT said besides that enough others have them."""
    unconfirmed: int
    """How many were sent, perhaps acknowledged, and not confirmed."""


class Ledger:
    """The tally of one writer. Another thread may ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._acknowledged, self._confirmed, self._unconfirmed = Numbers(), Numbers(), 0

    def acknowledge(self, number: int) -> None:
        with self._lock:
            self._acknowledged.add(number)

    def settle(self, number: int, *, confirmed: bool) -> None:
        """Note how a number ended that was sent."""
        with self._lock:
            if confirmed:
                self._confirmed.add(number)
            else:
                self._unconfirmed += 1

    def tally(self) -> Tally:
        with self._lock:
            return Tally(self._acknowledged.copy(), self._confirmed.copy(), self._unconfirmed)
