"""Health checks over HTTP for load balancers and orchestrators: yes is 200, no is 503.

docs/health.md describes the meaning and the use of each check.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import attrs
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from kevy_elect.messages import Role
from kevy_elect.replication import is_in_sync
from kevy_elect.service.election import ElectionService

METHODS: Final = (b"GET", b"HEAD", b"OPTIONS")
"""The allowed methods. All answer with the same status, and only GET has a body."""

Question = Callable[[ElectionService], bool]


def is_primary(election: ElectionService) -> bool:
    """Whether this node is primary with its lease: the only one that may write."""
    return election.can_write()


def is_replica(election: ElectionService) -> bool:
    """Whether this node holds a copy and follows a primary heard less than down_after ago.

    A witness has no copy. Only the owner of the data knows whether the copy is up to date. A data
    server that this node drives has to be in sync.
    """
    snapshot = election.state_snapshot()
    primary = snapshot.current_primary
    return (
        not election.witness
        and snapshot.role is Role.REPLICA
        and primary is not None
        and primary not in snapshot.down_peers
        and _has_data_in_place(election)
    )


def is_live(election: ElectionService) -> bool:
    """Whether the elector runs. An election or a lost quorum does not make this false.

    An elector that has not run for down_after has sent no heartbeat for as long either, and
    its peers count it as dead.
    """
    return election.last_tick_ago() < election.config.down_after


def is_ready(election: ElectionService) -> bool:
    """Whether this node knows a primary and sees a quorum, so that the cluster works.

    Its data server, if it drives one, has to take the clients' writes or to be in sync with the
    primary's: until then no other node must be taken out.
    """
    snapshot = election.state_snapshot()
    known = snapshot.current_primary is not None and snapshot.has_quorum
    return known and _has_data_in_place(election)


def _has_data_in_place(election: ElectionService) -> bool:
    """Whether the data server that this node drives, if any, is in the state of its role."""
    if election.data is None:
        return True
    data = election.data.status()
    if election.state_snapshot().role is Role.PRIMARY:
        return data.state == "primary"
    return is_in_sync(data)


QUESTIONS: Final[dict[bytes, Question]] = {
    b"primary": is_primary,
    b"replica": is_replica,
    b"health": is_live,
    b"liveness": is_live,
    b"readiness": is_ready,
}


def health(election: ElectionService) -> dict[str, Any]:
    """The state of a node at this moment, for JSON: times are seconds, or null if endless."""
    known = attrs.asdict(election.state_snapshot()) | {
        "node_id": election.cluster.node_id,
        "witness": election.witness,
        "last_tick_ago": election.last_tick_ago(),
        "data": None if election.data is None else attrs.asdict(election.data.status()),
    }
    return {name: None if value == math.inf else value for name, value in known.items()}


class HealthCheck(Resource):
    """Answers one check, as it is at that moment."""

    def __init__(self, election: ElectionService, question: Question) -> None:
        super().__init__()
        self._election = election
        self._question = question

    def render(self, request: Request) -> bytes:
        request.setHeader(b"cache-control", b"no-store")
        if request.method not in METHODS:
            return self._refuse(request)
        yes = self._question(self._election)
        request.setResponseCode(HTTPStatus.OK if yes else HTTPStatus.SERVICE_UNAVAILABLE)
        if request.method == b"OPTIONS":
            request.setHeader(b"allow", b", ".join(METHODS))
            return b""
        body = json.dumps(health(self._election)).encode() + b"\n"
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", b"%d" % len(body))
        return body if request.method == b"GET" else b""

    @staticmethod
    def _refuse(request: Request) -> bytes:
        request.setResponseCode(HTTPStatus.METHOD_NOT_ALLOWED)
        request.setHeader(b"allow", b", ".join(METHODS))
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return b"a health check can only be asked: use GET, HEAD or OPTIONS\n"


def routes(election: ElectionService) -> dict[bytes, IResource]:
    """The health checks of this node by their names, for the root of a site."""
    return {name: HealthCheck(election, question) for name, question in QUESTIONS.items()}
