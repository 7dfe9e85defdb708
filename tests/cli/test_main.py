"""The command `kevy-elect`: what it asks, believes, shows and returns."""

from __future__ import annotations

import argparse
import contextlib
import http.server
import io
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__
from kevy_elect.cli.admin_client import ADMIN, DATA_DIR
from kevy_elect.cli.main import main
from kevy_elect.cli.printable import MAX_TEXT, printable
from kevy_elect.cli.responses import Response
from kevy_elect.cli.status_client import ask, ask_all
from kevy_elect.cli.status_command import View, status_url, verdict
from kevy_elect.errors import StatusError
from kevy_elect.status import MAX_BYTES, from_object
from tests.support import statuses
from tests.support.statuses import document


def answer(**changes: object) -> Response:
    return Response("http://h:1/status", from_object(document(**changes)))


def replica(node_id: str, primary: str | None = "a", **changes: object) -> Response:
    return Response("http://h:1/status", from_object(statuses.replica(node_id, primary, **changes)))


def table(*responses: Response) -> str:
    return str(View(responses, None).nodes())


SILENT = Response("http://h:9/status", error="Connection refused")


@contextlib.contextmanager
def served(pages: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """Serve these on loopback; gives the URL before their paths."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, headers, body = pages[self.path]
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have heard enough
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with listening(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def talking(talk: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[str]:
    """Serve what `talk` writes, HTTP or not."""

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                talk(self)

    with listening(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)) as port:
        yield f"http://127.0.0.1:{port}/status"


@contextlib.contextmanager
def listening(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class StatusUrlTests(SynchronousTestCase):
    def test_completed(self) -> None:
        for text, url in {
            "127.0.0.1:8101": "http://127.0.0.1:8101/status",
            "localhost:8101": "http://localhost:8101/status",
            "[::1]:8101": "http://[::1]:8101/status",
            "http://h:1": "http://h:1/status",
            "http://h:1/": "http://h:1/status",
            "https://h/status": "https://h/status",
            "h:1/behind/a/gateway": "http://h:1/behind/a/gateway",
        }.items():
            self.assertEqual(status_url(text), url)

    def test_refused(self) -> None:
        for text in (
            "",
            "a",
            "127.0.0.1",
            ":8101",
            "ftp://h:1/",
            "file:///etc/passwd",
            "h:port",
            "h:0",
            "[::1:1",
        ):
            self.assertRaises(argparse.ArgumentTypeError, status_url, text)


class ShownTests(SynchronousTestCase):
    @given(st.sampled_from(sorted(document())), st.recursive(st.none() | st.text(), st.lists))
    def test_any_text_is_shown_safely(self, name: str, value: object) -> None:
        """Whatever passes as a status prints as one line of plain ASCII."""
        try:
            found = answer(**{name: value})
        except StatusError:
            return
        lines = table(found).split("\n")
        self.assertEqual(len(lines), 2)
        self.assertTrue(all(" " <= character <= "~" for character in "".join(lines)))


class PrintableTests(SynchronousTestCase):
    def test_nothing_for_a_terminal_to_obey(self) -> None:
        self.assertEqual(
            printable("a\x1b[2J\r\n\x9b\x7f\u202e\ud800"), "a\\x1b[2J\\r\\n\\x9b\\x7f\\u202e\\ud800"
        )

    def test_bounded(self) -> None:
        self.assertEqual(len(printable("x" * 10_000)), MAX_TEXT)
        self.assertEqual(len(printable("\x1b" * 10_000)), MAX_TEXT)
        self.assertEqual(printable("x" * MAX_TEXT), "x" * MAX_TEXT)


class TableTests(SynchronousTestCase):
    def test_aligned(self) -> None:
        shown = table(answer(down_peers=["c", "d"]), replica("node-b", has_quorum=False), SILENT)
        self.assertEqual(
            shown.split("\n"),
            [
                "NODE    ROLE     EPOCH  PRIMARY  LEASE   QUORUM  DOWN",
                "a       primary  3      a        3.40 s  yes     c,d",
                "node-b  replica  3      a        -       no      -",
                "h:9     error: Connection refused",
            ],
        )

    def test_lease_without_end(self) -> None:
        self.assertIn("no end", table(answer(lease_expires_in=None)))

    def test_only_errors(self) -> None:
        self.assertIn("h:9   error: Connection refused", table(SILENT))

    def test_who_has_no_url_is_called_as_it_is(self) -> None:
        for name in ("c", "//[", "this node"):
            self.assertIn(f"\n{name}  ", table(Response(name, error="Connection refused")))


class VerdictTests(SynchronousTestCase):
    def test_one_primary(self) -> None:
        self.assertIsNone(verdict([answer(), replica("b"), replica("c")]))

    def test_the_silent_have_no_say(self) -> None:
        self.assertIsNone(verdict([answer(), SILENT]))

    def test_problems(self) -> None:
        for responses, problem in (
            ([SILENT], "no node answered"),
            ([answer(can_write=False), replica("b")], "no primary holds its lease"),
            ([answer(), answer(node_id="b")], "2 nodes claim the lease: a, b"),
            (
                [answer(), replica("b", None), replica("c", "b"), replica("d")],
                "a holds the lease, but is not followed by b, c",
            ),
            (
                [answer(node_id="\x1b[31m"), replica("b")],
                "\\x1b[31m holds the lease, but is not followed by \\x1b[31m, b",
            ),
        ):
            self.assertEqual(verdict(responses), problem)


class AskTests(SynchronousTestCase):
    def test_each_document(self) -> None:
        healthy = json.dumps(document()).encode()
        pages = {
            "/status": (200, {}, healthy),
            "/gone": (404, {}, healthy),
            "/moved": (302, {"Location": "/status"}, b""),
            "/endless": (200, {}, b" " * (MAX_BYTES + 1)),
            "/text": (200, {}, b"\x1b[2J"),
        }
        with served(pages) as base:
            responses = ask_all([base + path for path in pages], 5)
        self.assertEqual(
            [each.error for each in responses],
            [
                None,
                "HTTP status 404",
                "HTTP status 302",
                f"no valid status: it is longer than {MAX_BYTES} bytes",
                "no valid status: it is no JSON",
            ],
        )
        self.assertEqual(responses[0].status, answer().status)

    def test_no_http(self) -> None:
        with talking(lambda peer: peer.wfile.write(b"\x1b[2J\r\n" * 9) and None) as url:
            self.assertEqual(ask(url, 5).error, "the answer is no HTTP")

    def test_refused(self) -> None:
        with served({}) as base:
            pass
        self.assertEqual(ask(base, 5).error, "Connection refused")

    def test_trickle(self) -> None:
        """A page that sends a byte now and then cannot hold up the others."""
        done = threading.Event()

        def trickle(peer: socketserver.StreamRequestHandler) -> None:
            while not done.wait(0.02):
                peer.wfile.write(b"H")

        started = time.monotonic()
        with talking(trickle) as slow, served({"/": (404, {}, b"")}) as base:
            late, other = ask_all([slow, base + "/"], 0.3)
            took = time.monotonic() - started
            done.set()
        self.assertEqual(late.error, "no answer within 0.3 s")
        self.assertEqual(other.error, "HTTP status 404")
        self.assertLess(took, 30)

    def test_no_proxy(self) -> None:
        self.patch(os, "environ", os.environ | {"http_proxy": "http://127.0.0.1:9"})
        with served({"/status": (200, {}, json.dumps(document()).encode())}) as base:
            self.assertIsNone(ask(base + "/status", 5).error)


class MainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def test_healthy(self) -> None:
        with served({"/status": (200, {}, json.dumps(document()).encode())}) as base:
            self.assertEqual(main(["status", base]), 0)
        self.assertIn("primary  3", self.out.getvalue())
        self.assertEqual(self.err.getvalue(), "")

    def test_problem(self) -> None:
        lost = json.dumps(document(can_write=False)).encode()
        with served({"/status": (200, {}, lost)}) as base:
            self.assertEqual(main(["status", base]), 1)
        self.assertEqual(self.err.getvalue(), "kevy-elect: no primary holds its lease\n")

    def test_the_same_page_twice(self) -> None:
        with served({"/status": (200, {}, json.dumps(document()).encode())}) as base:
            self.assertEqual(main(["status", base, base + "/status"]), 0)

    def test_json(self) -> None:
        pages = {"/status": (200, {}, json.dumps(document()).encode()), "/bad": (200, {}, b"{")}
        with served(pages) as base:
            self.assertEqual(main(["status", "--json", base, base + "/bad"]), 0)
        shown = json.loads(self.out.getvalue())
        self.assertEqual((shown["ok"], shown["problem"]), (True, None))
        first, second = shown["nodes"]
        self.assertEqual((first["node_id"], first["epoch"], first["error"]), ("a", 3, None))
        self.assertEqual(second, {"url": base + "/bad", "error": "no valid status: it is no JSON"})
        self.assertEqual(set(first), {"url", "error", "data", *document()})

    def test_usage_errors(self) -> None:
        for argv in (
            ["status", "ftp://h"],
            ["status", "a"],
            ["status", "h:1", "--timeout", "0"],
            ["status", "h:1", "--timeout", "nan"],
            ["status", "h:1", "--timeout", "1e300"],
            ["demo", "--nodes", "2"],
            ["demo", "--rounds", "-1"],
            ["demo", "--down-after", "x"],
        ):
            self.assertEqual(self.assertRaises(SystemExit, main, argv).code, 2)

    def test_without_a_command_there_is_help(self) -> None:
        self.assertEqual(main([]), 2)
        self.assertIn("show the state of nodes", self.err.getvalue())

    def test_a_misspelt_command_says_which_was_meant(self) -> None:
        for word, meant in (("stauts", "status"), ("swichover", "switchover")):
            self.assertEqual(self.assertRaises(SystemExit, main, [word]).code, 2)
            self.assertIn(f"no command '{word}'; did you mean {meant}?", self.err.getvalue())
        self.assertEqual(self.assertRaises(SystemExit, main, ["x"]).code, 2)
        self.assertIn("no command 'x'; see kevy-elect --help", self.err.getvalue())

    def test_a_command_that_does_not_know_which_node_says_how_to_tell(self) -> None:
        unsaid = {name: os.environ[name] for name in {*os.environ} - {ADMIN, DATA_DIR}}
        self.patch(os, "environ", unsaid)
        directory = Path(self.mktemp())
        directory.mkdir()
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(directory)
        self.assertEqual(main(["status"]), 2)
        self.assertIn("no node has a data directory kevy-elect-* here", self.err.getvalue())
        self.assertIn("--data-dir or --admin, or by the environment", self.err.getvalue())
        for name in "ab":
            Path(f"kevy-elect-{name}").mkdir()
            Path(f"kevy-elect-{name}/admin.sock").touch()
        self.assertEqual(main(["status"]), 2)
        self.assertIn("several nodes have", self.err.getvalue())
        self.assertIn("\n  --data-dir kevy-elect-a\n  --data-dir kevy-elect-b", self.err.getvalue())

    def test_timings_that_do_not_fit(self) -> None:
        self.assertEqual(main(["demo", "--down-after", "0.1"]), 2)
        self.assertIn("down_after (0.1 s) must be at least", self.err.getvalue())

    def test_version(self) -> None:
        self.assertEqual(self.assertRaises(SystemExit, main, ["--version"]).code, 0)
        self.assertEqual(self.out.getvalue(), f"kevy-elect {__version__}\n")


class StartTests(SynchronousTestCase):
    def test_help_loads_no_node_no_twisted_and_no_http(self) -> None:
        """They would double the time until it is there."""
        program = "import sys; from kevy_elect.cli.main import make_parser as make; make()"
        done = subprocess.run(
            [sys.executable, "-c", f"{program}.format_help(); print(*sys.modules)"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(done.stdout.split())
        self.assertIn("kevy_elect.cli.demo.command", loaded)
        own = ("children", "ops", "service", "transport", "cli.demo.nodes")
        unwanted = {*(f"kevy_elect.{name}" for name in own), "twisted", "http.client", "ssl"}
        self.assertEqual(unwanted & loaded, set())
