"""One copy of a web service behind a load balancer; `web.tac` runs it.

A POST is a write: the primary with its lease answers it, and all others refuse it with 503. Each
answered write is stamped first. A GET is a read, which all copies answer. The environment variable
BENCH contains its identity in JSON.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from twisted.application.internet import TCPServer
from twisted.application.service import Application
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from bench.stamps import Stamps
from kevy_elect.cli.demo.ports import HOST
from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.ops.admin import Admin
from kevy_elect.ops.agent_check import AgentCheckFactory
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService, use_monotonic_time


class Web(Resource):
    isLeaf = True

    def __init__(self, election: ElectionService, stamps: Stamps, *, trusting: bool) -> None:
        """`trusting` means, wrongly, that every write from the balancer is for the primary."""
        super().__init__()
        self._election = election
        self._stamps = stamps
        self._trusting = trusting

    def render_GET(self, request: Request) -> bytes:
        return self._say(role=self._election.state_snapshot().role)

    def render_POST(self, request: Request) -> bytes:
        asked = time.monotonic_ns()
        if not (self._trusting or self._election.can_write()):
            request.setResponseCode(503)
            return self._say()
        epoch, number = self._election.state_snapshot().epoch, int(request.path[1:])
        self._stamps.put("served", epoch=epoch, asked=asked, request=number)
        return self._say(epoch=epoch, request=number)

    def _say(self, **told: Any) -> bytes:
        return json.dumps({"node": self._election.cluster.node_id, **told}).encode()


def make_application() -> Application:
    setting = json.loads(os.environ["BENCH"])
    use_monotonic_time()
    application = Application("web")
    peers = tuple(PeerAddr.parse(peer) for peer in setting["peers"].split(","))
    cluster = Cluster(setting["name"], peers)
    election = ElectionService(cluster, data_dir="ballot", config=ElectConfig(**setting["timings"]))
    election.setServiceParent(application)
    Admin(election, "unix:ballot/admin.sock").setServiceParent(application)
    web = Site(Web(election, Stamps.append_to("stamps"), trusting=setting["trusting"]))
    web.log = lambda request: None  # type: ignore[method-assign]
    for port, factory in (
        (cluster.me.client_port, web),
        (setting["http"], site(election)),
        (setting["agent"], AgentCheckFactory(election)),
    ):
        TCPServer(port, factory, interface=HOST).setServiceParent(application)
    return application
