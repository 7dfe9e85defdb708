"""TLS between a protocol and its TCP connection, by the standard library.

Twisted's TLS needs another library, and cannot replace a certificate while it listens.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

_AT_ONCE: Final = 16 * 1024


class TlsFailed(ConnectionLost):
    """The end of a connection whose ends do not trust or understand each other."""

    def __str__(self) -> str:
        return f"TLS failed: {self.args[0]}"


class TlsConnection(ProtocolWrapper):
    """The protocol within TLS. It counts as connected at once, so that its time limits include the
    handshake. Its bytes wait until the end of the handshake."""

    transport: Any

    def __init__(self, factory: Any, wrapped: Any, context: ssl.SSLContext) -> None:
        super().__init__(factory, wrapped)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in,
            self._out,
            server_side=factory.host is None,
            server_hostname=factory.host,
        )
        self._failed = factory.failed
        self._established = False
        self._over = False
        self._waiting = bytearray()
        self._why: Failure | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._take(b"")

    def dataReceived(self, data: bytes) -> None:
        if not self._over:
            self._take(data)

    def _take(self, data: bytes) -> None:
        plain = bytearray()
        self._in.write(data)
        try:
            if not self._established:
                self._tls.do_handshake()
                self._established = True
                waiting, self._waiting = bytes(self._waiting), bytearray()
                self.write(waiting)
            while part := self._tls.read(_AT_ONCE):
                plain += part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._over = True  # no more requests arrive; the last may still be answered
        except ssl.SSLError as error:
            self._over = True
            self._flush()  # sends the reason to the other end
            why = _reason(error)
            self._why = Failure(TlsFailed(why))
            self._failed(why)
            self.transport.loseConnection()
            return
        self._flush()
        if plain:
            super().dataReceived(bytes(plain))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(self._why or reason)

    def write(self, data: bytes) -> None:
        if not self._established:
            self._waiting += data
        elif data and not self.disconnecting:
            self._tls.write(data)
            self._flush()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self._established and not self.disconnecting:
            with suppress(ssl.SSLError):
                self._tls.unwrap()  # tells the other end that this is no cut
            self._flush()
        super().loseConnection()

    def _flush(self) -> None:
        sealed = self._out.read()
        if sealed:
            self.transport.write(sealed)


class TlsFactory(WrappingFactory):
    """Makes connections of `wrapped` that use TLS with the context of that moment, if there is one.
    `host` is the server's name on a client; without it, this is a server. `failed(why)` is called
    for a connection that failed."""

    noisy = False

    def __init__(
        self,
        wrapped: IProtocolFactory,
        context: Callable[[], ssl.SSLContext | None],
        host: str | None = None,
        failed: Callable[[str], object] = lambda why: None,
    ) -> None:
        super().__init__(wrapped)
        self.host = host
        self.failed = failed
        self._context = context

    def buildProtocol(self, addr: IAddress | None) -> Any:
        inner = self.wrappedFactory.buildProtocol(addr)
        context = self._context()
        return inner if inner is None or context is None else TlsConnection(self, inner, context)


def _reason(error: ssl.SSLError) -> str:
    said = getattr(error, "verify_message", None) or error.reason or "no TLS"
    return str(said).lower().replace("_", " ")
