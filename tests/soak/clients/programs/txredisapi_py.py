"""txredisapi."""

import sys
from importlib.metadata import version

import txredisapi
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater, react


@inlineCallbacks
def main(reactor):
    sentinels = [(host, int(port)) for host, port in (each.split(":") for each in sys.argv[1:])]
    primary = txredisapi.Sentinel(sentinels).master_for("mymaster")
    number = 0
    while True:
        number += 1
        try:
            yield primary.rpush("numbers", [number])
        except txredisapi.RedisError as error:
            print("error", type(error).__name__, error, flush=True)
        else:
            print("written", number, flush=True)
        yield deferLater(reactor, 0.005)


print("version", version("txredisapi"), flush=True)
react(main)
