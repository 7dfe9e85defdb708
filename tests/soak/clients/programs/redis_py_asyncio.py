"""redis-py, in asyncio."""

import asyncio
import sys

import redis
from redis.asyncio import Sentinel


async def main() -> None:
    sentinels = [(host, int(port)) for host, port in (each.split(":") for each in sys.argv[1:])]
    primary = Sentinel(sentinels, socket_timeout=1.0).master_for("mymaster", socket_timeout=1.0)
    number = 0
    while True:
        number += 1
        try:
            await primary.rpush("numbers", number)
        except redis.RedisError as error:
            print("error", type(error).__name__, error, flush=True)
        else:
            print("written", number, flush=True)
        await asyncio.sleep(0.005)


print("version", redis.__version__, flush=True)
asyncio.run(main())
