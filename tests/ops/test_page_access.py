"""Pages by TLS, and for those who send the token."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import time
from pathlib import Path

import attrs
from cryptography import x509
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.status_client import ask_all
from kevy_elect.client import Client
from kevy_elect.errors import ConfigError
from kevy_elect.ops.health import QUESTIONS
from kevy_elect.ops.http import site
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.ops.page_poll import Others
from kevy_elect.settings.pages import (
    PageSecurity,
    is_in_the_clear,
    read_contexts,
    read_token,
    token_warning,
)
from tests.service.test_election import ServiceTests
from tests.support.certificates import HERE, Authority
from tests.support.transports import QUICK, cluster

TOKEN = "0123456789abcdef"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


class TokenTests(SynchronousTestCase):
    def test_it_is_taken_as_a_bearers_and_as_a_password_and_no_other_is(self) -> None:
        access = PageAccess(PageSecurity(token=TOKEN.encode()))
        for taken in (f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(TOKEN)):
            self.assertTrue(access.admits(taken.encode()), taken)
        for refused in (
            "",
            TOKEN,
            "Bearer",
            "Bearer ",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Digest {TOKEN}",
            basic(""),
            basic(TOKEN + "x"),
            "Basic " + base64.b64encode(TOKEN.encode()).decode(),
            "Basic \xff\xff",
            "Basic !",
        ):
            self.assertFalse(access.admits(refused.encode("latin-1")), refused)
        self.assertFalse(access.admits(None))
        self.assertTrue(PageAccess().admits(None))

    def test_its_file_holds_one_that_can_be_sent_and_is_private(self) -> None:
        path = self.mktemp()
        for content, mode, complaint in (
            (TOKEN, 0o640, "group or others"),
            (TOKEN[:-1], 0o600, "holds no token"),
            (TOKEN + " x", 0o600, "holds no token"),
            (TOKEN * 17, 0o600, "holds no token"),
            (f"{TOKEN}\n{TOKEN}", 0o600, "holds no token"),
        ):
            Path(path).write_text(content)
            os.chmod(path, mode)
            error = self.assertRaises(ConfigError, read_token, path)
            self.assertIn(complaint, str(error))
            self.assertNotIn(TOKEN, str(error))
        Path(path).write_text(f"{TOKEN}\n")
        self.assertEqual(read_token(path), TOKEN.encode())
        self.assertNotIn(TOKEN, repr(PageSecurity(token=TOKEN.encode())))

    def test_it_is_warned_of_where_a_network_could_read_it(self) -> None:
        for http, cert, warned in (
            ("tcp:8101", None, True),
            ("tcp:8101:interface=10.0.0.1", None, True),
            ("tcp:8101:interface=127.0.0.1", None, False),
            (r"tcp6:8101:interface=\:\:1", None, False),
            ("unix:/run/page", None, False),
            ("tcp:8101", "page.pem", False),
        ):
            values = {"http": http, "http-cert": cert, "http-token-file": "token"}
            self.assertEqual(token_warning(values) is not None, warned, http)
            self.assertIsNone(token_warning(values | {"http-token-file": None}))
        for url, clear in (
            ("10.0.0.1:8101", True),
            ("http://db.example/status", True),
            ("https://db.example", False),
            ("127.0.0.1:8101", False),
            ("http://[::1]:8101/", False),
        ):
            self.assertEqual(is_in_the_clear(url), clear, url)


class ServedTests(ServiceTests):
    """One node and its pages, on a real socket."""

    async def begin(self, access: PageAccess) -> None:
        self.make("a")
        self.start("a")
        await self.poll(self.nodes["a"].can_write)
        port = self.reactor.listenTCP(
            0, site(self.nodes["a"], access=access), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        self.number = port.getHost().port

    def get(self, path: str, authorization: str = "") -> str:
        """Head and body of an answer without TLS."""
        given = f"Authorization: {authorization}\r\n" if authorization else ""
        with socket.create_connection(("127.0.0.1", self.number), 10) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n{given}\r\n".encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode()

    async def test_without_the_token_there_are_health_checks_and_nothing_else(self) -> None:
        await self.begin(PageAccess(PageSecurity(token=TOKEN.encode())))
        for path in ("/", "/status", "/metrics", "/watch", "/nothing", "/primary/x", "//primary"):
            answer = await deferToThread(self.get, path)
            self.assertRegex(answer, "^HTTP/1.[01] 401 ", path)
            self.assertIn('WWW-Authenticate: Bearer realm="kevy-elect"', answer)
            self.assertIn('WWW-Authenticate: Basic realm="kevy-elect"', answer)
            self.assertNotIn("epoch", answer)
        for name in QUESTIONS:
            answer = await deferToThread(self.get, f"/{name.decode()}")
            self.assertRegex(answer, "^HTTP/1.[01] (200|503) ")
        for path in ("/", "/status", "/metrics"):
            for authorization in (f"Bearer {TOKEN}", basic(TOKEN)):
                answer = await deferToThread(self.get, path, authorization)
                self.assertRegex(answer, "^HTTP/1.[01] 200 ")

    async def test_a_token_that_was_replaced_is_not_taken_any_more(self) -> None:
        access = PageAccess(PageSecurity(token=TOKEN.encode()))
        await self.begin(access)
        access.present = attrs.evolve(access.present, token=b"another-token-of-some-length")
        answer = await deferToThread(self.get, "/status", f"Bearer {TOKEN}")
        self.assertRegex(answer, "^HTTP/1.[01] 401 ")

    async def test_clients_send_it(self) -> None:
        await self.begin(PageAccess(PageSecurity(token=TOKEN.encode())))
        page = f"127.0.0.1:{self.number}"
        found = await deferToThread(Client([page], token=TOKEN).wait, 5)
        self.assertEqual(found.node_id, "a")
        client = Client([page])
        self.assertIsNone(await deferToThread(client.primary))
        self.assertIn("requires a token", str(client._said))
        self.assertRaises(ConfigError, Client, [page], token="x\r\ny")
        url = f"http://{page}/status"
        (told,) = await deferToThread(ask_all, [url], 5, TOKEN)
        self.assertIsNotNone(told.status)
        (told,) = await deferToThread(ask_all, [url], 5)
        self.assertIn("--token-file", told.error or "")


class TlsTests(ServedTests):
    """The same page within TLS."""

    def setUp(self) -> None:
        super().setUp()
        directory = Path(self.mktemp())
        directory.mkdir()
        self.authority = Authority(directory)
        self.other = Authority(directory, "other")

    def secured(self, authority: Authority, token: bytes | None = None) -> PageSecurity:
        names = [HERE, x509.DNSName("localhost")]
        files = authority.sign(f"page-of-{authority.path.stem}", names)
        serving, asking, content = read_contexts(*files, str(authority.path))
        return PageSecurity(token=token, serving=serving, asking=asking, content=content)

    async def begin(self, access: PageAccess) -> None:
        access.present = self.secured(self.authority, access.present.token)
        await super().begin(access)

    def connect(self, authority: Authority) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(authority.path))
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.number), 10),
            server_hostname="localhost",
            suppress_ragged_eofs=False,
        )

    def get(self, path: str, authorization: str = "") -> str:
        """Head and body of an answer, whose end was said and is no cut."""
        given = f"Authorization: {authorization}\r\n" if authorization else ""
        found = bytearray()
        with self.connect(self.authority) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n{given}\r\n".encode())
            while data := connection.recv(65536):
                found += data
        return found.decode()

    async def test_clients_send_it(self) -> None:
        await self.begin(PageAccess(PageSecurity(token=TOKEN.encode())))
        page = f"https://127.0.0.1:{self.number}"
        trusted = str(self.authority.path)
        found = await deferToThread(Client([page], token=TOKEN, authority=trusted).wait, 5)
        self.assertEqual(found.node_id, "a")
        client = Client([page], token=TOKEN, authority=str(self.other.path))
        self.assertIsNone(await deferToThread(client.primary))
        self.assertRaises(ConfigError, Client, [page], authority="/nowhere")

    async def test_a_new_certificate_is_used_by_the_next_connection(self) -> None:
        access = PageAccess()
        await self.begin(access)
        access.present = self.secured(self.other)
        connection = await deferToThread(self.connect, self.other)
        connection.close()

    async def test_nodes_ask_one_another_with_token_and_certificate(self) -> None:
        access = PageAccess(PageSecurity(token=TOKEN.encode()))
        await self.begin(access)
        url = f"https://127.0.0.1:{self.number}"
        for asking, problem in (
            (access.present, None),
            (self.secured(self.authority, b"another-token-of-some-length"), "another token"),
            (self.secured(self.other, TOKEN.encode()), "no TLS with it: "),
        ):
            others = Others(
                cluster("b", "ab"),
                QUICK,
                {"a": url},
                reactor=self.reactor,
                clock=time.monotonic,
                answered=lambda node_id: None,
                access=PageAccess(asking),
            )
            others.start()
            known = others["a"]
            await self.poll(lambda known=known: known.status or known.error, "an answer")
            others.stop()
            if problem is None:
                self.assertIsNone(known.error)
            else:
                self.assertIn(problem, known.error or "")

    async def test_what_is_no_tls_is_cut_off(self) -> None:
        await self.begin(PageAccess())
        for said in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(1000)):
            heard = await deferToThread(self.say, said)
            self.assertNotIn(b"HTTP", heard)
        answer = await deferToThread(self.get, "/status")
        self.assertIn("200 OK", answer)

    def say(self, said: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.number), 10) as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                try:
                    return answer.read()
                except ConnectionResetError:
                    return b""

    async def test_files_that_do_not_fit_are_refused_by_name(self) -> None:
        certificate, key = self.authority.sign("one", [])
        other, _ = self.authority.sign("two", [])
        for files, complaint in (
            ((other, key, None), "no certificate and its private key"),
            ((certificate, "/nowhere", None), "/nowhere cannot be read"),
            ((certificate, key, key), "no certificate of an authority"),
        ):
            error = self.assertRaises(ConfigError, read_contexts, *files)
            self.assertIn(complaint, str(error))
