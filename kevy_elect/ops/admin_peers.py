"""The other members' `--admin-listen`, to which this node forwards operators' commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from kevy_elect.config import parse_host
from kevy_elect.errors import ElectError
from kevy_elect.ops.lines import ChannelLines
from kevy_elect.service.election import ElectionService
from kevy_elect.transport.channel import Channel

CONNECT_WITHIN: Final = 2.0
"""Seconds for a connection to any address of a host."""
MAX_LINE: Final = 1024 * 1024
"""The most bytes of one line of an answer."""
MAX_ANSWER: Final = 4 * MAX_LINE
"""The most bytes of a whole answer."""
TRIES: Final = 2
"""The number of attempts to connect before the request is sent: while a member changes its key, the
first key may be the wrong one."""

Answer = dict[str, Any]


class UnansweredError(ElectError):
    """Another member gave no answer, or an invalid one."""


class AdminPeers:
    """Forwards requests to other members. `addresses` are `host:port` by id; only members count."""

    def __init__(self, election: ElectionService, addresses: Mapping[str, str]) -> None:
        peers = {peer.node_id for peer in election.cluster.peers}
        self._election = election
        self._addresses = {each: where for each, where in addresses.items() if each in peers}

    def __contains__(self, member: object) -> bool:
        """Whether the address of this member is known."""
        return member in self._addresses

    async def ask(
        self,
        member: str,
        request: Mapping[str, Any],
        say: Callable[[Answer], object],
        patience: float,
    ) -> Answer:
        """Send the request, and return the last object of the answer; `say` gets the others.

        Raises UnansweredError if the answer has not ended `patience` seconds after the request.
        """
        where = self._addresses[member]
        for left in reversed(range(TRIES)):
            asking = _Asking(self._election, member, request, say, patience)
            try:
                return await self._ask(where, asking)
            except UnansweredError as error:
                if asking.sent or not left:
                    raise UnansweredError(f"{member} at {where}: {error}") from None
        raise AssertionError

    async def _ask(self, where: str, asking: _Asking) -> Answer:
        reactor = self._election.reactor
        host, port = parse_host(where), int(where.rpartition(":")[2])
        endpoint = HostnameEndpoint(reactor, host, port, timeout=CONNECT_WITHIN)
        try:
            await endpoint.connect(_Only(asking))
        except Exception as error:  # any error of the network and the resolver
            words = (type(error).__doc__ or str(error)).strip().rstrip(".")
            raise UnansweredError(words[:1].lower() + words[1:]) from None
        return await asking.answered


class _Only(Factory):
    noisy = False

    def __init__(self, protocol: _Asking) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> _Asking:
        return self._protocol


class _Asking(ChannelLines):
    """One request and its answer."""

    MAX_LENGTH = MAX_LINE

    def __init__(
        self,
        election: ElectionService,
        member: str,
        request: Mapping[str, Any],
        say: Callable[[Answer], object],
        patience: float,
    ) -> None:
        channel: Channel = election.security.dials(member)
        super().__init__(channel, election.reactor)
        self.answered: Deferred[Answer] = Deferred(lambda _: self.end())
        self.sent = False
        """Whether the other member may get the request."""
        self._request = request
        self._say = say
        self._patience = patience
        self._taken = 0

    def channelEstablished(self) -> None:
        self.sent = True
        self.setTimeout(self._patience)
        self.sendLine(json.dumps(self._request).encode())

    def lineReceived(self, line: bytes) -> None:
        self._taken += len(line)
        if self._taken > MAX_ANSWER:
            return self.fail(f"an answer of more than {MAX_ANSWER} bytes")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            return self.fail("its answer is no JSON object")
        if not isinstance(reply.get("ok"), bool):
            self._say(reply)
            return None
        self.end()
        self.answered.callback(reply)
        return None

    def failed(self, why: str) -> None:
        self._fire(UnansweredError(why))

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self._fire(UnansweredError("it ended the connection before it had answered"))

    def _fire(self, error: Exception) -> None:
        if not self.answered.called:
            self.answered.errback(Failure(error))
