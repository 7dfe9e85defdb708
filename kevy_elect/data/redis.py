"""A Redis, or a server with the same commands, as a data server."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from twisted.application.internet import ClientService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    fail,
    gatherResults,
)
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, UserError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, Logger
from zope.interface import provider

from kevy_elect.config import join_host_port, split_address
from kevy_elect.data.resp_client import RespClient, Word
from kevy_elect.data.server import DataServerError
from kevy_elect.driving import Frozen, Report
from kevy_elect.errors import ConfigError
from kevy_elect.service.timers import timers
from kevy_elect.settings.pem import ClientTls
from kevy_elect.transport.tls_streams import TlsFactory

NOBODY: Final = ("127.0.0.1", "1")
"""The source of a frozen Redis: there is no such server."""
CONNECT: Final = 0.5
"""Seconds that a connection may take."""
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 1.0
"""The longest wait before a connection is made again, in seconds. The wait doubles up to this."""
NAME: Final = "kevy-elect"
"""The name of this node's connections in CLIENT LIST."""

T = TypeVar("T")


def _wait(failures: int) -> float:
    """Seconds before the next attempt; the first one after the end of a connection is number 1."""
    base: float = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures - 1, 5))
    return base * random.uniform(0.9, 1.1)


@provider(ILogObserver)
def _unheard(event: LogEvent) -> None:
    """Ignore the event."""


class _Connection(ClientService):
    """A connection that is dialled again for ever, without a line of log for each attempt. Commands
    to the server report the problem."""

    _log = Logger(observer=_unheard)


class _TlsEndpoint:
    """Connects by TLS, with the present contents of the files."""

    def __init__(self, plain: HostnameEndpoint, host: str, tls: ClientTls) -> None:
        self._plain = plain
        self._host = host
        self._tls = tls

    def connect(self, factory: Any) -> Deferred[Any]:
        try:
            context = self._tls.context()
        except ConfigError as error:
            return fail(ConnectError(string=str(error)))
        within = TlsFactory(factory, lambda: context, self._host)
        connecting: Deferred[Any] = self._plain.connect(within)
        return connecting.addCallback(lambda connection: connection.wrappedProtocol)


class Redis:
    """The Redis at `address`, `host:port`.

    It has two connections: one for commands, and a spare one for freezing, so that a slow
    answer does not delay that. `deadline` is how many seconds each answer may take;
    `credentials` are the arguments of AUTH: a password, or a user and a password. With `tls`,
    the port is one for TLS, and the server's certificate has to name the host of `address`.
    """

    log = Logger()

    def __init__(
        self,
        address: str,
        *,
        reactor: Any,
        deadline: float = 1.0,
        credentials: Callable[[], Sequence[Word]] = tuple,
        tls: ClientTls | None = None,
    ) -> None:
        """Raises ConfigError for an invalid address."""
        host, port = split_address(address)
        self._host, self._port = host, port
        self.address = join_host_port(host, port)
        self.deadline = deadline
        self._reactor = reactor
        self._timers = timers(reactor)
        self._credentials = credentials
        self.tls = tls
        self.lost: Callable[[], object] = lambda: None
        self._kind = "Redis"
        self._open: int | None = None  # connections, None before the first
        self._has_writers = True  # whether it may have clients from its time as primary
        self._main = self._connection(host, port)
        self._spare = self._connection(host, port)

    @property
    def name(self) -> str:
        return f"{self._kind} at {self.address}"

    @property
    def freezes_within(self) -> float:
        return self.deadline

    @property
    def starts_frozen_with(self) -> str:
        return f"'replicaof {' '.join(NOBODY)}' in its configuration"

    def for_guard(self) -> dict[str, object]:
        """How a guard reaches it. Raises ConfigError if the password cannot be read."""
        words = [
            word if isinstance(word, str) else word.decode("utf-8", "surrogateescape")
            for word in self._credentials()
        ]
        tls = self.tls
        files = [] if tls is None else [tls.authority, tls.certificate, tls.key]
        return {"server": [self._host, self._port, *words], "tls": files}

    def start(self) -> None:
        self._main.startService()
        self._spare.startService()

    def stop(self) -> Deferred[None]:
        ends = [each.stopService() for each in (self._main, self._spare) if each.running]
        stopped: Deferred[None] = DeferredList(ends).addCallback(lambda _: None)
        return stopped

    def report(self) -> Deferred[Report]:
        return self._within(self._report())

    def freeze(self) -> Deferred[Frozen]:
        return self._within(self._freeze())

    def promote(self) -> Deferred[Report]:
        return self._within(self._promote())

    def follow(self, address: str) -> Deferred[None]:
        return self._within(self._follow(address))

    def _connection(self, host: str, port: int) -> ClientService:
        factory = Factory.forProtocol(partial(RespClient, self._greeting, self._ended))
        factory.noisy = False
        endpoint: Any = HostnameEndpoint(self._reactor, host.encode("idna"), port, timeout=CONNECT)
        if self.tls is not None:
            endpoint = _TlsEndpoint(endpoint, host, self.tls)
        return _Connection(endpoint, factory, retryPolicy=_wait, clock=self._timers)

    def _ended(self) -> None:
        """Handle the end of a connection. If it was the last one, the server has probably ended."""
        assert self._open is not None
        self._open -= 1
        if not self._open:
            self.lost()

    def _greeting(self) -> Iterator[Sequence[Word]]:
        self._open = (self._open or 0) + 1
        if credentials := self._credentials():
            yield "AUTH", *credentials
        yield "CLIENT", "SETNAME", NAME

    def _within(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """The result of `work`, or DataServerError."""
        done = Deferred.fromCoroutine(work)
        done.addTimeout(self.deadline, self._timers, self._late)
        return done

    def _late(self, result: Any, timeout: float) -> Any:
        raise DataServerError(f"gave no answer within {timeout:g} s")

    async def _on(self, service: ClientService) -> RespClient:
        """The connection of a service. Waits for one in progress. Raises DataServerError if it
        fails, or at once when all connections have ended."""
        if self._open == 0:
            self._open = None
            raise DataServerError("ended its connections")
        connecting = service.whenConnected(failAfterFailures=1)
        waits = not connecting.called
        try:
            client = await connecting
        except (ConnectError, DNSLookupError, UserError) as error:
            raise DataServerError(f"cannot be reached: {error}") from error
        except CancelledError as error:
            raise DataServerError("takes no more commands") from error
        finally:
            if waits:  # the caller may stop the service, which this loop does not expect
                await deferLater(self._reactor, 0)
        return cast(RespClient, client)  # a proxy of one

    async def _report(self) -> Report:
        client = await self._on(self._main)
        asked = [client.command(*words) for words in _ASK]
        info = b"".join(await _gather(asked))
        fields = _fields(info)
        self._kind = _kind(fields)
        return _parse(fields)

    async def _freeze(self) -> Frozen:
        client = await self._on(self._spare)
        *before, _, server, replication = await _at_once(
            client, *_ASK, ("REPLICAOF", *NOBODY), *_ASK
        )
        found = _parse(_fields(b"".join(before)))
        if found.takes_writes:
            await _end_clients(client)
        return Frozen(found, _parse(_fields(server + replication)))

    async def _promote(self) -> Report:
        client = await self._on(self._main)
        self._has_writers = True
        *_, server, replication = await _at_once(client, ("REPLICAOF", "NO", "ONE"), *_ASK)
        return _parse(_fields(server + replication))

    async def _follow(self, address: str) -> None:
        host, port = split_address(address)
        client = await self._on(self._main)
        reply = await client.command("REPLICAOF", host, str(port))
        if self._has_writers and not reply.startswith(b"OK Already"):
            # Some reconnected before they knew the next primary, and would stay.
            await _end_clients(client)
        self._has_writers = False


_WRITABLE: Final = (
    "takes writes also as a replica, so it cannot be frozen: set 'replica-read-only yes' in its "
    "configuration, and now by CONFIG SET. Until then this node neither votes nor becomes primary"
)
_ASK: Final = (("INFO", "server"), ("INFO", "replication"))


async def _end_clients(client: RespClient) -> None:
    """End all connections but this one, also this node's other one and the guard's, which
    redial."""
    for kind in ("normal", "pubsub"):
        await client.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def _gather(asked: Sequence[Deferred[Any]]) -> list[Any]:
    """All replies. Raises the first DataServerError, if there is one."""
    try:
        return await gatherResults(asked, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()


async def _at_once(client: RespClient, *commands: Sequence[Word]) -> list[bytes]:
    """The replies to these commands, which no other client's command interrupts."""
    whole = (("MULTI",), *commands, ("EXEC",))
    *_, replies = await _gather([client.command(*words) for words in whole])
    if not isinstance(replies, list):
        raise DataServerError("did not execute the command at once")
    for reply in replies:
        if isinstance(reply, Exception):
            raise DataServerError(f"answers {str(reply)[:200]!r}")
    return replies


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _kind(fields: dict[str, str]) -> str:
    """The common name of this server's kind."""
    return "Valkey" if fields.get("server_name") == "valkey" else "Redis"


def _parse(fields: dict[str, str]) -> Report:
    """The sections `server` and `replication` of INFO. Raises DataServerError, also for a replica
    that takes writes: it cannot be frozen."""
    try:
        is_replica = fields["role"] == "slave"
        if is_replica and fields.get("slave_read_only") == "0":
            raise DataServerError(_WRITABLE)
        source = ""
        if is_replica and (fields["master_host"], fields["master_port"]) != NOBODY:
            source = join_host_port(fields["master_host"], int(fields["master_port"]))
        length = fields.get("slave_repl_offset") if is_replica else None
        if (length, fields["master_repl_offset"]) == ("1", "0"):
            length = "0"  # reported by a server that never had data
        return Report(
            run=fields["run_id"],
            process=int(fields.get("process_id", 0)),
            takes_writes=not is_replica,
            source=source,
            in_sync=fields.get("master_link_status") == "up",
            is_copying=fields.get("master_sync_in_progress") == "1",
            history=fields["master_replid"],
            length=max(0, int(length or fields["master_repl_offset"])),
        )
    except (KeyError, ValueError) as error:
        raise DataServerError(f"gives an INFO without a required field ({error})") from error
