"""A job that writes to fenced_store.py, on the primary only, with its epoch as the token.

In four terminals, then `kill -9` the node that writes, or stop it for a while with
`kill -STOP`, and watch `curl http://127.0.0.1:8200/`:

    python examples/fenced_store.py
    NODE_ID=a twistd -n --pidfile= -y examples/fenced_job.tac
    NODE_ID=b twistd -n --pidfile= -y examples/fenced_job.tac
    NODE_ID=c twistd -n --pidfile= -y examples/fenced_job.tac
"""

import json
import os
from io import BytesIO

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from kevy_elect import Cluster, ElectConfig, ElectionService, PeerAddr, PrimaryOnly

NODE_ID = os.environ.get("NODE_ID", "a")
PEERS = os.environ.get("PEERS", "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103")
DATA_DIR = os.environ.get("DATA_DIR", f"kevy-elect-{NODE_ID}")
TIMINGS = json.loads(os.environ.get("TIMINGS", "{}"))  # such as {"down_after": 2}
STOP_GRACE = float(os.environ.get("STOP_GRACE", "1"))
STORE = f"http://127.0.0.1:{os.environ.get('STORE_PORT', '8200')}/"
INTERVAL = float(os.environ.get("INTERVAL", "1"))


class Job(TimerService):
    """Writes one line a turn."""

    log = Logger("job")

    def __init__(self) -> None:
        super().__init__(INTERVAL, self.turn)
        self.agent = Agent(reactor, pool=HTTPConnectionPool(reactor))

    def startService(self) -> None:
        # Taken once, when the work begins. Read at the moment of the write, it would let a
        # decision of an earlier epoch pass as one of the present.
        self.epoch = election.state_snapshot().epoch
        super().startService()

    async def turn(self) -> None:
        # No turn may outlast the grace, or PrimaryOnly ends the process.
        # And none may fail: a TimerService would never turn again.
        try:
            answer = await Deferred.fromCoroutine(self.put("a line")).addTimeout(
                STOP_GRACE / 2, reactor
            )
        except Exception:
            self.log.failure("not written; the next turn tries again")
        else:
            self.log.info("epoch {epoch}: {answer}", epoch=self.epoch, answer=answer)

    async def put(self, value: str) -> str:
        headers = Headers({"Epoch": [str(self.epoch)]})
        body = FileBodyProducer(BytesIO(f"{value} of {NODE_ID}".encode()))
        response = await self.agent.request(b"PUT", STORE.encode(), headers, body)
        return (await readBody(response)).decode().strip()


cluster = Cluster(NODE_ID, tuple(PeerAddr.parse(peer) for peer in PEERS.split(",")))
election = ElectionService(cluster, data_dir=DATA_DIR, config=ElectConfig(**TIMINGS))

application = Application("fenced-job")
election.setServiceParent(application)
PrimaryOnly(election, Job(), stop_grace=STOP_GRACE).setServiceParent(application)
