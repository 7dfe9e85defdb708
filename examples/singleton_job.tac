"""A job that must run once in the whole cluster: PrimaryOnly runs it on the primary alone.

In three terminals, then `kill -9` the node that numbers, and watch `tail -f numbers.txt`:

    NODE_ID=a twistd -n --pidfile= -y examples/singleton_job.tac
    NODE_ID=b twistd -n --pidfile= -y examples/singleton_job.tac
    NODE_ID=c twistd -n --pidfile= -y examples/singleton_job.tac

On machines of your own, let something start it again when it ends, such as systemd with
`Restart=always`: a node that was paused while it worked ends itself. If it was paused right
between a question and the write, that write comes late: fenced_job.tac is safe from that too.
"""

import json
import os
from pathlib import Path

from twisted.application.service import Application, Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect import Cluster, ElectConfig, ElectionService, PeerAddr, PrimaryOnly

NODE_ID = os.environ.get("NODE_ID", "a")
PEERS = os.environ.get("PEERS", "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103")
DATA_DIR = os.environ.get("DATA_DIR", f"kevy-elect-{NODE_ID}")
TIMINGS = json.loads(os.environ.get("TIMINGS", "{}"))  # such as {"down_after": 2}
STOP_GRACE = float(os.environ.get("STOP_GRACE", "1"))
NUMBERS = Path(os.environ.get("NUMBERS", "numbers.txt"))
INTERVAL = float(os.environ.get("INTERVAL", "1"))


class Numbering(Service):
    """The application as it was, but for one question: appends the next number to a file.

    It reads the file only when it starts, so two at once would give a number twice.
    """

    log = Logger("numbering")

    def startService(self) -> None:
        self.loop = LoopingCall(self.turn)
        NUMBERS.touch()
        self.last = len(NUMBERS.read_text().splitlines())
        super().startService()
        self.loop.start(INTERVAL).addErrback(self.failed)

    def stopService(self) -> None:
        super().stopService()
        if self.loop.running:
            self.loop.stop()

    def turn(self) -> None:
        if not election.can_write():
            return  # paused until a moment ago, and PrimaryOnly did not run yet
        self.last += 1
        with NUMBERS.open("a") as file:
            file.write(f"{self.last} {NODE_ID}\n")

    def failed(self, failure: Failure) -> None:
        # PrimaryOnly looks at `running`, and then lets another node try.
        # TimerService stays `running` when its function has failed.
        self.log.failure("the numbering failed", failure)
        self.running = False


cluster = Cluster(NODE_ID, tuple(PeerAddr.parse(peer) for peer in PEERS.split(",")))
election = ElectionService(cluster, data_dir=DATA_DIR, config=ElectConfig(**TIMINGS))

application = Application("singleton-job")
election.setServiceParent(application)
PrimaryOnly(election, Numbering(), stop_grace=STOP_GRACE).setServiceParent(application)
