"""Free ports of loopback for processes that start soon."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import sys
from collections.abc import Iterator
from typing import Final

HOST: Final = "127.0.0.1"
_BLOCK: Final = 40
_claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Ports that are not in use at the moment, all different.

    No port is returned twice while this process runs; on Linux also not by another process. All are
    below the ports that the kernel uses for outgoing connections.
    """
    return list(itertools.islice(_free, count))


def _candidates() -> Iterator[int]:
    starts = range(20_000, 32_000, _BLOCK)
    for start in random.SystemRandom().sample(starts, len(starts)):
        if _claim(start):
            yield from filter(_is_free, range(start, start + _BLOCK))


_free: Final = _candidates()


def _claim(start: int) -> bool:
    """Reserve a block of ports for this process by a name in Linux's abstract namespace, which is
    freed when the process ends."""
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0kevy-elect ports from {start}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_server((HOST, port)).close()
        return True
    return False
