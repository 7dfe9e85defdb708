"""A loop that turns on the primary only and asks for permission at each turn, by hand.

In three terminals, then `kill -9` the node that works, and watch `tail -f turns.txt`:

    NODE_ID=a twistd -n --pidfile= -y examples/primary_loop.tac
    NODE_ID=b twistd -n --pidfile= -y examples/primary_loop.tac
    NODE_ID=c twistd -n --pidfile= -y examples/primary_loop.tac

This suits work that is done at once. Work that goes on between two questions is for
PrimaryOnly, see singleton_job.tac.
"""

import json
import os
from pathlib import Path

from twisted.application.service import Application
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect import Cluster, ElectConfig, ElectionService, PeerAddr

NODE_ID = os.environ.get("NODE_ID", "a")
PEERS = os.environ.get("PEERS", "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103")
DATA_DIR = os.environ.get("DATA_DIR", f"kevy-elect-{NODE_ID}")
TIMINGS = json.loads(os.environ.get("TIMINGS", "{}"))  # such as {"down_after": 2}
TURNS = Path(os.environ.get("TURNS", "turns.txt"))
INTERVAL = float(os.environ.get("INTERVAL", "1"))
REST = 30.0

log = Logger("loop")
cluster = Cluster(NODE_ID, tuple(PeerAddr.parse(peer) for peer in PEERS.split(",")))
election = ElectionService(cluster, data_dir=DATA_DIR, config=ElectConfig(**TIMINGS))


def turn() -> None:
    if election.can_write():  # the lease may have ended a moment ago
        with TURNS.open("a") as file:
            file.write(f"{election.state_snapshot().epoch} {NODE_ID}\n")


def give_up(failure: Failure) -> None:
    """A LoopingCall ends for good when a turn fails: let another node try."""
    log.failure("a turn failed", failure)
    election.step_down(REST, "a turn failed")


async def follow_role() -> None:
    while True:
        await election.when_primary()
        loop = LoopingCall(turn)
        loop.start(INTERVAL).addErrback(give_up)
        await election.when_not_primary()
        if loop.running:
            loop.stop()


application = Application("primary-loop")
election.setServiceParent(application)
Deferred.fromCoroutine(follow_role()).addErrback(lambda f: log.failure("the role is lost", f))
