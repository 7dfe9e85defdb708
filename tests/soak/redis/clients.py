"""A client of one server that does not follow the primary: it writes whenever the server takes
writes.

`python -m tests.soak.redis.clients NAME ADDRESS JOURNAL`. The journal has a line for each
acknowledged write: the time of sending, the time of the acknowledgement, the value, and the number
of replicas that confirmed it. Times are seconds of the clock that all processes share.
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
"""Milliseconds for which WAIT waits for a replica."""
PAUSE: Final = 0.001
"""Seconds between two writes."""
REFUSED: Final = 0.01
"""Seconds to the next write after a refused one."""


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
