"""A web application that serves on the primary; the replicas say where that is.

In three terminals, then ask any of them, and `kill -9` the one that gives tickets:

    NODE_ID=a twistd -n --pidfile= -y examples/web_application.tac
    NODE_ID=b twistd -n --pidfile= -y examples/web_application.tac
    NODE_ID=c twistd -n --pidfile= -y examples/web_application.tac

    curl -i -X POST http://127.0.0.1:8101/

The last port of each peer is the one for clients, here that of the web application.
"""

import json
import os

from twisted.application.internet import TCPServer
from twisted.application.service import Application
from twisted.web.http import combinedLogFormatter, datetimeToLogString
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from kevy_elect import Cluster, ElectConfig, ElectionService, PeerAddr

NODE_ID = os.environ.get("NODE_ID", "a")
PEERS = os.environ.get("PEERS", "a@127.0.0.1:7101:8101,b@127.0.0.1:7102:8102,c@127.0.0.1:7103:8103")
DATA_DIR = os.environ.get("DATA_DIR", f"kevy-elect-{NODE_ID}")
TIMINGS = json.loads(os.environ.get("TIMINGS", "{}"))  # such as {"down_after": 2}


class Tickets(Resource):
    """The application: each ticket is greater than all before, those of other nodes too,
    since the epoch leads it. One that answers later than at once must ask `can_write()`
    again before it writes."""

    isLeaf = True
    given = 0

    def render_POST(self, request: Request) -> bytes:
        self.given += 1
        return f"{election.state_snapshot().epoch}.{self.given}\n".encode()


class Elsewhere(Resource):
    """What a replica answers, whatever it is asked for."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        request.setResponseCode(503)
        request.setHeader("Retry-After", "1")
        primary = election.state_snapshot().primary_addr
        if primary is None:
            return b"there is no primary now\n"
        request.setHeader("X-Primary", primary)
        return f"the primary is {primary}\n".encode()


class OnPrimary(Resource):
    """Stands before an application, and asks at each request whether it may serve."""

    def __init__(self, application: IResource) -> None:
        super().__init__()
        self.application = application

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        request.postpath.insert(0, request.prepath.pop())  # whoever is next begins at this path
        return self.application if election.can_write() else Elsewhere()


def log_line(timestamp: str, request: Request) -> str:
    """An access log with the date: by the monotonic clock, `timestamp` is of 1970."""
    return combinedLogFormatter(datetimeToLogString(), request)


cluster = Cluster(NODE_ID, tuple(PeerAddr.parse(peer) for peer in PEERS.split(",")))
election = ElectionService(cluster, data_dir=DATA_DIR, config=ElectConfig(**TIMINGS))
site = Site(OnPrimary(Tickets()), logFormatter=log_line)

application = Application("web-application")
election.setServiceParent(application)
TCPServer(cluster.me.client_port, site, interface=cluster.me.host).setServiceParent(application)
