"""The client for programs: whom it asks, what it believes, how long it waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.client import MAX_HEAD, AsyncClient, Client, NoPrimaryError, Primary
from kevy_elect.errors import ConfigError
from kevy_elect.status import MAX_BYTES, address_for_clients, from_object
from tests.support.statuses import document, peer, replica

A = Primary("a", "127.0.0.1:6001", 3)
OK = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"


@contextlib.contextmanager
def page(tell: Callable[[], Any]) -> Iterator[str]:
    """A page that answers with this: bytes as they are, chunks of them one by one, or a document
    as JSON."""

    class Page(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            told = tell()
            if isinstance(told, dict):
                told = OK + json.dumps(told).encode()
            with contextlib.suppress(OSError):
                for chunk in [told] if isinstance(told, bytes) else told:
                    self.wfile.write(chunk)

    class Server(socketserver.ThreadingTCPServer):
        block_on_close = False
        daemon_threads = True

    with Server(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def silent() -> str:
    """Where nobody listens."""
    return f"127.0.0.1:{free_ports(1)[0]}"


def trickle() -> Iterator[bytes]:
    while True:
        time.sleep(0.02)
        yield b"H"


class AskingTests(SynchronousTestCase):
    """By the client that blocks; `AsyncAskingTests` asks the same by the other."""

    def client(self, *pages: str, timeout: float = 5.0) -> Any:
        return Client(pages, timeout=timeout)

    def call(self, found: Any) -> Any:
        return found

    def ask(self, *pages: str, timeout: float = 5.0) -> Primary | None:
        found: Primary | None = self.call(self.client(*pages, timeout=timeout).primary())
        return found

    def assert_problem(self, told: Any, problem: str, timeout: float = 5.0) -> None:
        with page(lambda: told) as url, self.assertRaises(NoPrimaryError) as caught:
            self.call(self.client(url, timeout=timeout).wait(0))
        self.assertIn(problem, str(caught.exception))

    def test_a_primary_names_itself(self) -> None:
        with page(document) as url:
            self.assertEqual(self.ask(url), A)
            self.assertEqual(self.ask(f"http://{url}/status"), A)

    def test_a_replica_names_the_primary_and_its_epoch_not_its_own(self) -> None:
        told = replica("c", epoch=9, peers=[peer(), peer(node_id="a", epoch=3)])
        with page(lambda: told) as url:
            self.assertEqual(self.ask(url), A)

    def test_members_that_do_not_answer_are_passed_over(self) -> None:
        with page(lambda: b"HTTP/1.1 500 No\r\n\r\n") as broken, page(document) as url:
            self.assertEqual(self.ask(silent(), broken, url), A)

    def test_a_primary_without_its_lease_names_nobody(self) -> None:
        self.assert_problem(document(can_write=False), "a knows no primary")

    def test_a_replica_whose_primary_is_silent_names_nobody(self) -> None:
        self.assert_problem(replica("c", down_peers=["a"]), "c knows no primary")

    def test_a_member_without_a_quorum_names_nobody(self) -> None:
        self.assert_problem(replica("c", has_quorum=False), "c knows no primary")

    def test_a_primary_that_is_not_announced_yet_is_not_named(self) -> None:
        self.assert_problem(replica("c", primary_addr=None), "c knows no primary")

    def test_an_address_that_is_none_is_not_used(self) -> None:
        for address in ("nowhere", "h:0", "0.0.0.0:1", "\x1b[2J:1", "h\n:1"):
            self.assert_problem(document(primary_addr=address), "a names a primary")
        self.assert_problem(document(node_id="a\n", current_primary="a\n"), "that cannot be one")

    def test_what_is_no_answer_is_an_error_in_words(self) -> None:
        for told, problem in (
            (b"", "the answer is no HTTP"),
            (b"*3\r\n\r\n\r\n", "the answer is no HTTP"),
            (b"HTTP/1.1 200 OK\r\n", "the answer is no HTTP"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://h/\r\n\r\n", "HTTP status 302"),
            (OK + b"[]", "it is no JSON object"),
            (OK + b"\xff", "it is no JSON"),
            (OK + b"[" * 10_000, "it is no JSON"),
        ):
            self.assert_problem(told, problem)

    def test_an_endless_answer_is_not_read_to_its_end(self) -> None:
        chunk, sent = b"x" * 65536, []

        def endless() -> Iterator[bytes]:
            while True:
                sent.append(len(chunk))
                yield chunk

        self.assert_problem(endless(), f"longer than {MAX_BYTES} bytes")
        self.assertLess(sum(sent), 64 * (MAX_HEAD + MAX_BYTES))  # the rest is in sockets

    def test_a_page_that_trickles_takes_no_longer_than_its_timeout(self) -> None:
        begin = time.monotonic()
        self.assert_problem(trickle(), "no answer in time", timeout=0.3)
        self.assertLess(time.monotonic() - begin, 30)

    def test_an_older_primary_is_believed_only_if_nobody_names_a_newer(self) -> None:
        newest = {"epoch": 5}
        old = replica("c", peers=[peer(node_id="a", epoch=3)])
        with page(lambda: old) as cut_off, page(lambda: document(**newest)) as url:
            client = self.client(url, cut_off)
            self.assertEqual(self.call(client.primary()).epoch, 5)
            newest["can_write"] = False
            self.assertEqual(self.call(client.primary()).epoch, 3)
            newest["can_write"] = True
            self.assertEqual(self.call(client.primary()).epoch, 5)
            client = self.client(cut_off, url)
            self.assertEqual(self.call(client.primary()).epoch, 3)  # it knows no better yet

    def test_the_page_that_named_one_is_asked_first_the_next_time(self) -> None:
        asked = []

        def tell() -> dict[str, Any]:
            asked.append(1)
            return replica("c", primary=None)

        with page(tell) as other, page(document) as url:
            client = self.client(other, url)
            for _ in range(3):
                self.assertEqual(self.call(client.primary()), A)
        self.assertEqual(len(asked), 1)

    def test_it_waits_until_there_is_one(self) -> None:
        answers = iter([replica("c", primary=None), document()])
        with page(lambda: next(answers)) as url:
            self.assertEqual(self.call(self.client(url).wait(30)), A)

    def test_it_waits_no_longer_than_told_and_says_what_each_page_said(self) -> None:
        with page(lambda: replica("c", primary=None)) as url:
            nobody = silent()
            with self.assertRaises(NoPrimaryError) as caught:
                self.call(self.client(url, nobody).wait(0.05))
        self.assertEqual(
            str(caught.exception),
            f"no primary within 0.05 s: http://{url}: c knows no primary; "
            f"http://{nobody}: {self.refused(nobody)}",
        )

    def refused(self, nobody: str) -> str:
        return "Connection refused"

    def changes(self, url: str, count: int) -> list[Primary | None]:
        following = self.client(url).changes(0.001)
        return [next(following) for _ in range(count)]

    def test_it_follows_changes_and_repeats_nothing(self) -> None:
        nobody = document(can_write=False)
        told = [document(), document(), nobody, nobody, document(epoch=4), document(epoch=4)]
        answers = iter(told + [document(epoch=5)] * 1000)
        with page(lambda: next(answers)) as url:
            found = self.changes(url, 4)
        self.assertEqual([each and each.epoch for each in found], [3, None, 4, 5])


class AsyncAskingTests(AskingTests):
    def client(self, *pages: str, timeout: float = 5.0) -> Any:
        return AsyncClient(pages, timeout=timeout)

    def call(self, found: Any) -> Any:
        return asyncio.run(found)

    def refused(self, nobody: str) -> str:
        host, port = nobody.split(":")
        return f"Connect call failed ('{host}', {port})"

    def changes(self, url: str, count: int) -> list[Primary | None]:
        async def follow() -> list[Primary | None]:
            found: list[Primary | None] = []
            async with contextlib.aclosing(self.client(url).changes(0.001)) as following:
                async for each in following:
                    found.append(each)
                    if len(found) == count:
                        break
            return found

        return asyncio.run(follow())


class PagesTests(SynchronousTestCase):
    def test_what_is_no_page_is_refused_at_once(self) -> None:
        for text, problem in (
            ("10.0.0.1", "has no port"),
            ("ftp://h:1/", "is no status page"),
            ("http://", "is no status page"),
            ("h:0", "is no status page"),
            ("h:x", "is no status page"),
            ("http://h:1/a b", "is no status page"),
            ("http://h:1/\u20ac", "is no status page"),
            ("h X:1", "is no status page"),
        ):
            with self.assertRaisesRegex(ConfigError, problem):
                Client(["h:1", text])

    def test_none_is_refused(self) -> None:
        with self.assertRaisesRegex(ConfigError, "there is no page to ask"):
            Client([])

    def test_host_and_port_are_what_a_socket_takes(self) -> None:
        found = Primary("a", "[::1]:6379", 3)
        self.assertEqual((found.host, found.port), ("::1", 6379))


class AddressForClientsTests(SynchronousTestCase):
    """Whom a node names: the rule that client, command and Sentinel face have in common."""

    def test_only_what_is_sure_now(self) -> None:
        for told, address in (
            (document(), "127.0.0.1:6001"),
            (document(can_write=False), None),
            (replica("c"), "127.0.0.1:6001"),
            (replica("c", down_peers=["a"]), None),
            (replica("c", down_peers=["b"]), "127.0.0.1:6001"),
            (replica("c", has_quorum=False), None),
            (replica("c", primary=None), None),
            (replica("c", primary_addr=None), None),
        ):
            status = from_object(told)
            self.assertEqual(address_for_clients(status.node_id, status), address, told)
