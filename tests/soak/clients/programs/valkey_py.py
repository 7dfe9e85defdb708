"""valkey-py."""

import sys
import time

import valkey

print("version", valkey.__version__, flush=True)
sentinels = [(host, int(port)) for host, port in (each.split(":") for each in sys.argv[1:])]
primary = valkey.Sentinel(sentinels, socket_timeout=1.0).master_for("mymaster", socket_timeout=1.0)
number = 0
while True:
    number += 1
    try:
        primary.rpush("numbers", number)
    except valkey.ValkeyError as error:
        print("error", type(error).__name__, error, flush=True)
    else:
        print("written", number, flush=True)
    time.sleep(0.005)
