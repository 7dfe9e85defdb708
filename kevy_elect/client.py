"""Finds the primary for programs that are not members, by the members' status pages.

    from kevy_elect.client import Client

    client = Client(["10.0.0.1:8101", "10.0.0.2:8101", "10.0.0.3:8101"])
    primary = client.wait(30)
    connect(primary.host, primary.port)

`AsyncClient` is the same for asyncio. Both ask one page after another until one names a primary,
and begin with that page the next time. They bound the size and the time of an answer, and never use
a part of it.

A client learns of a change only when it asks again. Only the primary itself knows whether it may
write. A fencing token keeps out late writes: `Primary.epoch` is that token.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

import attrs

from kevy_elect.config import join_host_port, parse_advertised
from kevy_elect.errors import ConfigError, ElectError, StatusError
from kevy_elect.messages import is_node_id, is_printable
from kevy_elect.status import MAX_BYTES, Status, address_for_clients, read

TIMEOUT: Final = 1.0
"""Seconds for the answer of one page, from the first attempt to connect to its last byte."""
INTERVAL: Final = 0.25
"""Seconds between two rounds while a client waits or follows."""
MAX_HEAD: Final = 16 * 1024
"""The most bytes of an answer before its document."""
_CHUNK: Final = 64 * 1024


class NoPrimaryError(ElectError):
    """No page named a primary in time. The text has the answer of each page."""


@attrs.frozen
class Primary:
    """The primary that a member names."""

    node_id: str
    address: str
    """`host:port`, with an IPv6 host in brackets."""
    epoch: int
    """The fencing token."""

    @property
    def host(self) -> str:
        """The host for a socket, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port for clients."""
        return int(self.address.rpartition(":")[2])


def named_primary(status: Status) -> Primary:
    """The primary to which the node of this status may send clients.

    Raises NoPrimaryError if the node knows none, is not sure of it, or has no valid address of it.
    """
    address, primary = address_for_clients(status.node_id, status), status.current_primary
    if address is None or primary is None:
        raise NoPrimaryError(f"{status.node_id} knows no primary")
    try:
        address = parse_advertised(address)
    except ConfigError as error:
        raise NoPrimaryError(f"{status.node_id} names a primary, but {error}") from None
    if not (is_printable(address) and is_node_id(primary)):
        raise NoPrimaryError(f"{status.node_id} names a primary that cannot be one")
    # A follower may be in a later epoch than its primary.
    epochs = {peer.node_id: peer.epoch for peer in status.peers}
    return Primary(primary, address, epochs.get(primary, status.epoch))


@attrs.frozen
class _Page:
    """The address of a member's status page."""

    url: str
    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def parse(cls, text: str) -> _Page:
        url = text if "://" in text else f"http://{text}"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # an invalid port, or brackets without address
            parts, port = urlsplit(""), None
        tls = parts.scheme == "https"
        if not parts.hostname or port == 0 or not (tls or parts.scheme == "http"):
            raise ConfigError(f"{text!r} is no status page: write host:port or an http URL")
        if "://" not in text and port is None:
            raise ConfigError(f"{text!r} has no port: write host:port, the port of --http")
        path = parts.path if parts.path not in ("", "/") else "/status"
        if not is_printable(parts.hostname + path):
            raise ConfigError(f"{text!r} is no status page: it is not ASCII")
        return cls(url, parts.hostname, port or (443 if tls else 80), path, tls)

    def request(self, token: str | None = None) -> bytes:
        """The request, in HTTP/1.0, so that the answer ends with its connection and is not
        chunked."""
        head = f"GET {self.path} HTTP/1.0\r\nHost: {join_host_port(self.host, self.port)}\r\n"
        if token is not None:
            head += f"Authorization: Bearer {token}\r\n"
        return (head + "\r\n").encode("ascii")


class _Answer:
    """The answer of a page, as it arrives."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> bool:
        """Add bytes of the answer; none mark its end. Return whether more can follow."""
        self._bytes += data
        if len(self._bytes) > MAX_HEAD + MAX_BYTES:
            raise StatusError(f"it is longer than {MAX_BYTES} bytes")
        return bool(data)

    def status(self) -> Status:
        """The status that the answer contains. Raises StatusError."""
        head, end, document = bytes(self._bytes).partition(b"\r\n\r\n")
        version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        code = rest[:3]
        if not end or not version.startswith(b"HTTP/1.") or not code.isdigit():
            raise StatusError("the answer is no HTTP")
        if code == b"401":
            raise StatusError("it requires a token")
        if code != b"200":
            raise StatusError(f"HTTP status {code.decode()}")
        return read(document)


_PROBLEMS = (OSError, StatusError, UnicodeError)
_Round = Generator[_Page, "Status | Exception", "Primary | None"]


class _Search:
    """The common part of both clients: which page to ask next, and which answer to use."""

    def __init__(
        self,
        pages: Iterable[str],
        *,
        timeout: float = TIMEOUT,
        token: str | None = None,
        authority: str | None = None,
    ) -> None:
        """`token` is that of the members' --http-token-file. `authority` is a PEM file with the
        authorities for https:// pages, instead of the system's.

        Raises ConfigError if a page is invalid, there is no page, the token cannot be sent, or the
        file cannot be used.
        """
        self._pages = [_Page.parse(page) for page in pages]
        if not self._pages:
            raise ConfigError("there is no page to ask: name each member's --http, as host:port")
        if token is not None and not is_printable(token):
            raise ConfigError("the token is not printable ASCII without spaces")
        self._token = token
        self._context = _context(authority) if any(page.tls for page in self._pages) else None
        self._timeout = timeout
        self._epoch = 0
        self._said: dict[str, str] = {}

    def _round(self) -> _Round:
        """Yields a page to ask and takes the result, until a primary is named.

        A member that was cut off may still name a primary that others have replaced. An answer
        of an epoch below the newest seen is therefore used only if no page has a newer one.
        """
        self._said.clear()
        older: Primary | None = None
        for page in tuple(self._pages):
            answer = yield page
            found = self._named(page, answer)
            if found is not None and found.epoch >= self._epoch:
                self._epoch = found.epoch
                self._pages.remove(page)
                self._pages.insert(0, page)
                return found
            if found is not None and (older is None or found.epoch > older.epoch):
                older = found
        return older

    def _named(self, page: _Page, answer: Status | Exception) -> Primary | None:
        try:
            if isinstance(answer, Exception):
                raise answer
            return named_primary(answer)
        except (*_PROBLEMS, NoPrimaryError) as error:
            self._said[page.url] = _reason(error)
            return None

    def _missed(self, seconds: float) -> NoPrimaryError:
        said = "; ".join(f"{url}: {what}" for url, what in self._said.items())
        return NoPrimaryError(f"no primary within {seconds:g} s: {said}")


def _context(authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ConfigError(f"{authority} holds no authority in PEM ({error})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


class Client(_Search):
    """Finds the primary for programs with blocking calls.

    `pages` are the members' --http, each `host:port` or a URL. A page without a whole answer within
    `timeout` seconds is skipped. Resolving a host name takes additional time, as long as the system
    needs.
    """

    def primary(self) -> Primary | None:
        """Ask each page once; None if no page names a primary."""
        search = self._round()
        page = next(search)
        while True:
            answer = self._try(page)
            try:
                page = search.send(answer)
            except StopIteration as done:
                found: Primary | None = done.value
                return found

    def wait(self, seconds: float) -> Primary:
        """The primary, as soon as there is one. Raises NoPrimaryError after so many seconds."""
        deadline = time.monotonic() + seconds
        while (found := self.primary()) is None:
            if time.monotonic() >= deadline:
                raise self._missed(seconds)
            time.sleep(min(INTERVAL, max(0.0, deadline - time.monotonic())))
        return found

    def changes(self, interval: float = INTERVAL) -> Iterator[Primary | None]:
        """Yield the present primary, then each change; None for no primary. Asks every `interval`
        seconds while it is iterated."""
        found = self.primary()
        yield found
        while True:
            time.sleep(interval)
            before, found = found, self.primary()
            if found != before:
                yield found

    def _try(self, page: _Page) -> Status | Exception:
        try:
            return self._ask(page)
        except _PROBLEMS as error:
            return error

    def _ask(self, page: _Page) -> Status:
        deadline = time.monotonic() + self._timeout
        answer = _Answer()
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(
                socket.create_connection((page.host, page.port), self._timeout)
            )
            if page.tls and self._context is not None:
                wrapped = self._context.wrap_socket(connection, server_hostname=page.host)
                connection = stack.enter_context(wrapped)
            connection.sendall(page.request(self._token))
            more = True
            while more:
                # A socket's timeout restarts with every byte.
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.settimeout(left)
                more = answer.feed(connection.recv(_CHUNK))
        return answer.status()


class AsyncClient(_Search):
    """The same as `Client` for asyncio. Nothing runs between its calls."""

    async def primary(self) -> Primary | None:
        """Ask each page once; None if no page names a primary."""
        search = self._round()
        page = next(search)
        while True:
            answer = await self._try(page)
            try:
                page = search.send(answer)
            except StopIteration as done:
                found: Primary | None = done.value
                return found

    async def wait(self, seconds: float) -> Primary:
        """The primary, as soon as there is one. Raises NoPrimaryError after so many seconds."""
        deadline = time.monotonic() + seconds
        while (found := await self.primary()) is None:
            if time.monotonic() >= deadline:
                raise self._missed(seconds)
            await asyncio.sleep(min(INTERVAL, max(0.0, deadline - time.monotonic())))
        return found

    async def changes(self, interval: float = INTERVAL) -> AsyncIterator[Primary | None]:
        """Yield the present primary, then each change; None for no primary. Asks every `interval`
        seconds while it is iterated."""
        found = await self.primary()
        yield found
        while True:
            await asyncio.sleep(interval)
            before, found = found, await self.primary()
            if found != before:
                yield found

    async def _try(self, page: _Page) -> Status | Exception:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(page)
        except _PROBLEMS as error:
            return error

    async def _ask(self, page: _Page) -> Status:
        answer = _Answer()
        tls = self._context if page.tls else None
        reader, writer = await asyncio.open_connection(page.host, page.port, ssl=tls)
        try:
            writer.write(page.request(self._token))
            while answer.feed(await reader.read(_CHUNK)):
                pass
        finally:
            writer.transport.abort()
        return answer.status()
