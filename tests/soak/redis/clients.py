"""One client of one server, which does not care who is primary: it writes what it can.

`python -m tests.soak.redis.clients NAME ADDRESS JOURNAL`. A line of the journal for each write
that was acknowledged: time sent, time acknowledged, the value, and on how many replicas it was
confirmed. Times are seconds of the clock that all processes share.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

KEY: Final = "writes"
TIMEOUT: Final = 0.5
"""Seconds that an answer may take."""
CONFIRM: Final = 200
"""Milliseconds that WAIT waits for a replica."""
PAUSE: Final = 0.001
"""Seconds between two writes."""
REFUSED: Final = 0.01
"""Seconds after one that was refused."""


def main(name: str, address: str, journal: str) -> None:
    host, _, port = address.partition(":")
    number = 0
    with open(journal, "a", buffering=1) as file:
        while True:
            client = Redis(
                host,
                int(port),
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
            try:
                while True:
                    number += 1
                    value = f"{name}-{number}"
                    sent = time.monotonic()
                    client.rpush(KEY, value)
                    acknowledged = time.monotonic()
                    try:
                        confirmed = client.wait(1, CONFIRM)
                    except RedisError:
                        confirmed = 0
                    file.write(f"{sent:.6f} {acknowledged:.6f} {value} {confirmed}\n")
                    time.sleep(PAUSE)
            except RedisError:
                client.close()
                time.sleep(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])
