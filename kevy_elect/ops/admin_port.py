"""The endpoint for operators' commands that other members forward.

It answers only members, by the keys or certificates of the election's own links. Connections,
bytes and time of all others are bounded. Their handshakes are charged to the same accounts as
those on the election port. No request can be taken for a message of the election, or
the reverse: a request begins with `{`, a message with `*`.
"""

from __future__ import annotations

import json
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from kevy_elect.errors import ConfigError
from kevy_elect.ops.admin import MAX_REQUEST, Admin, Answer
from kevy_elect.ops.lines import ChannelLines
from kevy_elect.transport.handshakes import FLOOD, Handshake, host_of, in_the_way
from kevy_elect.transport.listener import Listener
from kevy_elect.transport.log_limit import Sparing

MAX_MEMBERS: Final = 16
"""Connections at a time."""
REQUEST_WITHIN: Final = 5.0
"""Seconds from the end of the handshake to the whole request."""
READ_WITHIN: Final = 10.0
"""Seconds in which an answer has to be read, once it is complete."""


class _Member(ChannelLines):
    """One request of a member, and its answer."""

    MAX_LENGTH = MAX_REQUEST

    def __init__(self, port: AdminPort) -> None:
        election = port.admin.election
        super().__init__(election.security.accepts(), election.reactor)
        self._port = port
        self.asked = False

    @property
    def host(self) -> str:
        return host_of(self.transport.getPeer())

    def connectionMade(self) -> None:
        accounts = self._port.admin.election.handshakes
        self._handshake = Handshake(accounts, self.channel, self.host)
        self._port.listener.opened(self)
        super().connectionMade()

    def shake(self, data: bytes) -> tuple[bytes, bytes]:
        return self._handshake.receive(data, self._port.admin.election.now())

    def connectionLost(self, reason: object = None) -> None:
        super().connectionLost(reason)
        self._port.listener.lost(self)

    def channelEstablished(self) -> None:
        self.setTimeout(REQUEST_WITHIN)

    def lineReceived(self, line: bytes) -> None:
        self.asked = self.ended = True  # further bytes are not read
        self.setTimeout(None)
        if not self._port.admin.election.security.trusts(self.channel):
            return self.end()  # its key was removed from the list since the handshake
        self._handshake.proven(self._port.admin.election.now())
        who = " or ".join(sorted(self.channel.names or ()))
        answering = Deferred.fromCoroutine(self._port.admin.answer(line, self._tell, who))
        answering.addCallback(self._tell)
        answering.addErrback(lambda f: self._port.log.failure("a member's command failed", f))
        answering.addBoth(lambda _: self._hang_up())
        return None

    def failed(self, why: str) -> None:
        self._port.refused(self.host, why)

    def timeoutConnection(self) -> None:
        if self.ended:
            self.end()
        else:
            self.fail("its handshake and request did not come in time")

    def _tell(self, answer: Answer) -> None:
        if self.transport.connected:
            self.sendLine(json.dumps(answer).encode())

    def _hang_up(self) -> None:
        if self.transport.connected:
            self.setTimeout(READ_WITHIN)
            self.transport.loseConnection()


class _Members(ServerFactory):
    noisy = False

    def __init__(self, port: AdminPort) -> None:
        self._port = port

    def buildProtocol(self, addr: IAddress | None) -> _Member | None:
        """A further connection replaces one without a request. A host that has had too many
        handshakes gets none."""
        election, host = self._port.admin.election, host_of(addr)
        if not election.handshakes.admits(host, election.now()):
            self._port.refused(host, FLOOD)
            return None
        present = [each for each in self._port.listener if each.asked or not each.ended]
        if len(present) >= MAX_MEMBERS:
            strangers = [each for each in present if not each.asked]
            if not strangers:
                return None
            in_the_way(strangers).end()
        return _Member(self._port)


class AdminPort(Service):
    """Lets other members command `admin` on the endpoint of this description."""

    log = Logger()

    def __init__(self, admin: Admin, description: str) -> None:
        """Raises ConfigError if the links of the node have no authentication."""
        if admin.election.security.kind == "plain":
            raise ConfigError("plain links prove nothing: whoever reached it could command")
        self.admin = admin
        self.description = description
        self.listener = Listener[_Member]()
        self._sparing = Sparing()

    def startService(self) -> None:
        """Listen. Raises as `Listener.listen` does."""
        super().startService()
        self.listener.listen(self.description, _Members(self), self.admin.election.reactor)

    def stopService(self) -> Deferred[None]:
        """Fires when the port and all connections are closed."""
        super().stopService()
        return self.listener.close()

    def refused(self, host: str, why: str) -> None:
        """Log why a connection was ended; only a few of many such lines."""
        left_out = self._sparing.line("", self.admin.election.now())
        if left_out is not None:
            self.log.warn(
                "{node}: ended a connection to --admin-listen from {host}: {why}{more}",
                node=self.admin.election.cluster.node_id,
                host=host,
                why=why,
                more=f" (and {left_out} more before)" if left_out else "",
            )
