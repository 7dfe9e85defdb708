"""redis-py, which asks each sentinel once instead of eleven times before the next."""

import sys
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

print("version", redis.__version__, flush=True)
sentinels = [(host, int(port)) for host, port in (each.split(":") for each in sys.argv[1:])]
once = {"socket_timeout": 1.0, "retry": Retry(NoBackoff(), 0)}
primary = redis.Sentinel(sentinels, sentinel_kwargs=once).master_for("mymaster", socket_timeout=1.0)
number = 0
while True:
    number += 1
    try:
        primary.rpush("numbers", number)
    except redis.RedisError as error:
        print("error", type(error).__name__, error, flush=True)
    else:
        print("written", number, flush=True)
    time.sleep(0.005)
