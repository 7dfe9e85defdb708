"""coredis."""

import sys

import anyio
import coredis


async def main() -> None:
    sentinels = [(host, int(port)) for host, port in (each.split(":") for each in sys.argv[1:])]
    number = 0
    async with coredis.Sentinel(sentinels) as sentinel, sentinel.primary_for("mymaster") as primary:
        while True:
            number += 1
            try:
                await primary.rpush("numbers", [number])
            except (coredis.exceptions.RedisError, OSError) as error:
                print("error", type(error).__name__, error, flush=True)
            else:
                print("written", number, flush=True)
            await anyio.sleep(0.005)


print("version", coredis.__version__, flush=True)
anyio.run(main)
