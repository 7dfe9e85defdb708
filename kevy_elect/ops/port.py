"""A port without authentication, which logs a warning if other machines can reach it."""

from __future__ import annotations

from typing import Any, Final

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

from kevy_elect.config import is_loopback

WARNING: Final = (
    "{option} listens on {host}: whoever reaches this port is told the state of this cluster, and "
    "can keep others from their answers. Keep it to a network that you trust"
)


class Port(StreamServerEndpointService):
    """Listens on the endpoint `description`, the value of the option of this name. Its start raises
    the reason if it cannot listen."""

    log = Logger()
    _waitingForPort: Any

    def __init__(
        self, option: str, description: str, factory: IProtocolFactory, *, reactor: Any
    ) -> None:
        super().__init__(serverFromString(reactor, description), factory)
        self._raiseSynchronously = True
        self._option = option

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._waitingForPort.addCallback(self._warn)

    def _warn(self, port: IListeningPort | None) -> IListeningPort | None:
        host = None if port is None else getattr(port.getHost(), "host", None)
        if host is not None and not is_loopback(host):
            self.log.warn(WARNING, option=self._option, host=host)
        return port
