"""`kevy-elect status --watch`: one look after the other, at pages or at one node."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import io
import json
import re
import signal
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli import status_command as report
from kevy_elect.cli import terminal as screen
from kevy_elect.cli.main import main
from kevy_elect.cli.responses import Changes, Response, said
from kevy_elect.cli.status_command import MAX_ROWS, RECENT, ChangeLog, View, verdict
from kevy_elect.cli.tables import Grid, drawn
from kevy_elect.cli.terminal import PlainBoard, fitted, painted
from kevy_elect.local_server import join_offset
from kevy_elect.status import from_object
from tests.support.statuses import child, data, document, event, following, peer, replica

HOSTILE = "\x1b[2J[red]\u202e"
needs_rich = skipIf(importlib.util.find_spec("rich") is None, "rich is not installed")


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def node(tell: Callable[[], Any], **more: object) -> Iterator[str]:
    """A node's admin endpoint that tells this as its status."""
    reply = {"ok": True, "http_peers": {}} | more

    class Admin(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(json.dumps(reply | {"status": tell()}).encode() + b"\n")

    with serving(Admin) as port:
        yield f"tcp:127.0.0.1:{port}"


@contextlib.contextmanager
def status_page(tell: Callable[[], Any]) -> Iterator[str]:
    """A node's status page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(tell()).encode())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with serving(Page) as port:
        yield f"http://127.0.0.1:{port}/status"


class NameTests(SynchronousTestCase):
    """The name of the cluster."""

    def test_it_is_the_first_line(self) -> None:
        named = view(document(cluster_name="orders"), replica("b"))
        self.assertEqual(named.page()[0], "cluster orders")
        self.assertEqual(named.warnings(), [])
        self.assertNotIn("cluster", "\n".join(map(str, view(document()).page())))

    def test_several_are_a_warning(self) -> None:
        two = view(document(cluster_name="orders"), replica("b", cluster_name="st\x1bck" * 99))
        (warning,) = two.warnings()
        self.assertIn("orders on a; st\\x1bck", warning.replace("\\\\", "\\"))
        self.assertTrue(warning.endswith("correct its address"))
        self.assertNotIn("\x1b", two.page()[0])


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.waits: list[float] = []

    def watch(self, *arguments: str, looks: int = 2) -> int:
        """Watch until Ctrl-C after so many looks; the exit status."""

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            if len(self.waits) >= looks:
                raise KeyboardInterrupt

        self.patch(report.time, "sleep", sleep)
        before = signal.getsignal(signal.SIGTERM)
        status = main(["status", "--watch", *arguments])
        self.assertIs(signal.getsignal(signal.SIGTERM), before)
        return status

    def test_one_node_with_its_links_and_events(self) -> None:
        with node(document) as where:
            self.assertEqual(self.watch(f"--admin={where}"), 130)
        shown = self.out.getvalue()
        self.assertEqual(shown.count("all is well"), 2)
        self.assertEqual(shown.count("a     primary  3      a        3.40 s  yes     -"), 2)
        self.assertIn(
            "b     replica  3      7       0.1 s ago  for 11 s  connected for 12 s", shown
        )
        self.assertRegex(shown, r"\d\d:\d\d:\d\d  3 +role  elected primary of epoch 3 by a, b")

    def test_only_the_last_events_are_shown(self) -> None:
        events = [event(text=f"number {number}") for number in range(RECENT + 1)]
        with node(lambda: document(events=events)) as where:
            self.watch(f"--admin={where}", looks=1)
        self.assertNotIn("number 0\n", self.out.getvalue())
        self.assertIn(f"number {RECENT}\n", self.out.getvalue())

    def test_all_members_with_the_links_and_events_of_each(self) -> None:
        mine = document(peers=[peer(), peer(node_id="c")], children=[child()])
        other = document(
            node_id="b",
            role="replica",
            can_write=False,
            witness=True,
            check={"healthy": False, "problem": "exited with status 1"},
            peers=[peer(node_id="a", role="primary", offset=9)],
            events=[event(ago=9.0, text="first"), event(ago=1.0, text="last")],
        )
        with (
            status_page(lambda: other) as url,
            node(lambda: mine, http_peers={"b": url, "d": "127.0.0.1:1"}) as where,
        ):
            self.assertEqual(self.watch("--all", f"--admin={where}", looks=1), 130)
        shown = self.out.getvalue()
        self.assertIn("b     replica  3      a        -       yes     -", shown)
        self.assertIn("c     error: its page is not in this node's --http-peers", shown)
        self.assertIn("a     c     replica  3      7  ", shown)
        self.assertIn("b     a     primary  3      9  ", shown)
        self.assertIn("\na: child counter: running, process 7\n", shown)
        self.assertIn("\nb: check: unhealthy: exited with status 1\n", shown)
        self.assertIn("\nb: this node is a witness", shown)
        self.assertRegex(
            shown,
            r"WHEN +NODE  EPOCH  KIND  WHAT AND WHY\n"
            r"\S+  b     3      role  first\n"
            r"\S+  a     3      role  elected primary of epoch 3 by a, b\n"
            r"\S+  b     3      role  last\n",
        )

    def test_pages_with_the_last_events_of_all(self) -> None:
        def events(name: str) -> list[dict[str, Any]]:
            return [event(ago=20.0 - each, text=f"{name}{each}") for each in range(RECENT)]

        with (
            status_page(lambda: document(events=events("of a, number "))) as a,
            status_page(lambda: document(node_id="b", events=events("of b, number "))) as b,
        ):
            self.watch(a, b, a.replace("127.0.0.1", "localhost"), looks=1)
        shown = self.out.getvalue()
        self.assertEqual(
            re.findall(r"of (\w), number (\d)\n", shown),
            [(name, str(number)) for number in range(RECENT // 2, RECENT) for name in "ab"],
        )
        self.assertEqual(shown.count("connected for 12 s"), 2)

    def test_one_page_needs_no_names(self) -> None:
        with status_page(document) as url:
            self.watch(url, looks=1)
        self.assertIn("\nPEER  ROLE", self.out.getvalue())
        self.assertIn("\nb     replica  3      7  ", self.out.getvalue())
        self.assertIn("WHEN      EPOCH  KIND  WHAT AND WHY\n", self.out.getvalue())

    def test_pages_with_what_changed_since_it_began(self) -> None:
        roles = iter(["replica", "primary"])
        with status_page(lambda: document(role=next(roles))) as url:
            self.assertEqual(self.watch(url), 130)
        shown = self.out.getvalue()
        self.assertRegex(shown, r"\d\d:\d\d:\d\d  a +replica, epoch 3, follows a\n")
        self.assertRegex(shown, r"\d\d:\d\d:\d\d  a +replica -> primary, epoch 3, can write\n")

    def test_a_node_may_go_and_come_back(self) -> None:
        with node(document) as where:
            pass
        self.assertEqual(self.watch(f"--admin={where}"), 130)
        self.assertEqual(self.out.getvalue().count("the node does not answer"), 2)
        self.assertIn("this node  error: no node answers on", self.out.getvalue())

    def test_a_problem_is_named_and_does_not_end_it(self) -> None:
        with status_page(lambda: document(can_write=False)) as url:
            self.assertEqual(self.watch(url), 130)
        self.assertEqual(self.out.getvalue().count("no primary holds its lease"), 2)

    def test_json_is_one_object_a_line(self) -> None:
        with node(document) as where:
            self.watch(f"--admin={where}", "--json")
        first, second = map(json.loads, self.out.getvalue().splitlines())
        self.assertEqual(
            (first["ok"], first["node_id"], first["peers"][0]["offset"]), (True, "a", 7)
        )
        self.assertLessEqual(first["at"], second["at"])

    def test_json_of_pages(self) -> None:
        with status_page(document) as url:
            self.watch(url, "--json", looks=1)
        (only,) = map(json.loads, self.out.getvalue().splitlines())
        self.assertEqual([each["node_id"] for each in only["nodes"]], ["a"])

    def test_the_interval_counts_from_look_to_look(self) -> None:
        def slow() -> dict[str, Any]:
            threading.Event().wait(0.1)
            return document()

        with status_page(slow) as url:
            self.watch(url, "--interval=5", looks=1)
            self.watch(url, "--interval=0.05", looks=1)
        self.assertLess(self.waits[0], 4.95)
        self.assertEqual(self.waits[1], 0)

    def test_the_interval_is_one_second_unless_said(self) -> None:
        with status_page(document) as url:
            self.watch(url, looks=1)
        self.assertLess(0.5, self.waits[0])
        self.assertLessEqual(self.waits[0], 1)

    def test_an_interval_of_nothing(self) -> None:
        self.assertEqual(main(["status", "h:1", "--interval=2"]), 2)
        self.assertIn("--watch", self.err.getvalue())
        wrong = ["status", "h:1", "--watch", "--interval=0"]
        self.assertEqual(self.assertRaises(SystemExit, main, wrong).code, 2)

    def test_a_terminal_is_redrawn_in_place_and_left_in_order(self) -> None:
        self.patch(self.out, "isatty", lambda: True)
        with status_page(document) as url:
            self.assertEqual(self.watch(url), 130)
        shown = self.out.getvalue()
        self.assertTrue(shown.startswith(screen.HIDE_CURSOR))
        self.assertTrue(shown.endswith(screen.SHOW_CURSOR))
        self.assertEqual(len(re.findall(r"\x1b\[\d+F", shown)), 1)

    def test_nothing_that_is_told_reaches_the_terminal_raw(self) -> None:
        hostile = document(
            node_id=HOSTILE,
            current_primary=HOSTILE,
            down_peers=[HOSTILE],
            peers=[peer(node_id=HOSTILE, link=HOSTILE)],
            events=[event(text=HOSTILE, kind=HOSTILE)],
            children=[child(name=HOSTILE, state=HOSTILE)],
            data=data(state=HOSTILE, server=HOSTILE, problem=HOSTILE, source=HOSTILE),
        )
        with node(lambda: hostile, http_peers={HOSTILE: HOSTILE}) as where:
            with (
                status_page(lambda: hostile) as a,
                status_page(lambda: document(node_id=7)) as b,
            ):
                for what in (
                    (f"--admin={where}",),
                    (f"--admin={where}", "--all"),
                    (f"--admin={where}", "--json"),
                    (a,),
                    (a, b),
                    (a, b, "--json"),
                ):
                    self.waits.clear()
                    self.watch(*what, looks=1)
            main(["status", f"--admin={where}"])
        self.assertIn("\\x1b[2J[red]", self.out.getvalue())
        told = self.out.getvalue() + self.err.getvalue()
        self.assertTrue(all(" " <= each <= "~" for each in told.replace("\n", "")))

    def test_rows_are_bounded(self) -> None:
        many = {"peers": [peer()] * 300, "events": [event()] * 300}
        responses = [Response(name, from_object(document(node_id=name, **many))) for name in "ab"]
        view = View(responses, None)
        self.assertEqual(len(view.links().rows), 2 * MAX_ROWS)
        self.assertEqual(len(view.events().rows), RECENT)


def driven(**own: object) -> dict[str, Any]:
    """What b says, whose server follows that of a, which has 1000 of data epoch 3."""
    heard = peer(node_id="a", role="primary", offset=join_offset(3, 1000))
    return replica("b", peers=[heard], data=following(**own))


def view(*found: dict[str, Any]) -> View:
    responses = [Response("h:1", from_object(each)) for each in found]
    return View(responses, verdict(responses), alone=len(found) == 1)


class ServerTests(SynchronousTestCase):
    """The data servers that nodes drive."""

    def test_a_cluster_without_any_has_no_table_of_them(self) -> None:
        self.assertEqual(view(document(), replica("b")).servers(), [])
        self.assertEqual(view(document(), replica("b")).warnings(), [])

    def test_each_with_its_state_and_how_far_it_is_behind(self) -> None:
        unknown = driven(state="unknown", length=0) | {"node_id": "c"}
        (table,) = view(document(data=data()), driven(length=900), unknown).servers()
        self.assertEqual(
            str(table),
            "NODE  SERVER     DATA EPOCH  LENGTH  BEHIND  IN SYNC\n"
            "a     primary    3           1000    -       -\n"
            "b     following  3           900     100     yes\n"
            "c     unknown    3           0       ?       no",
        )

    def test_it_fits_into_60_columns(self) -> None:
        large = driven(data_epoch=2**20, length=2**40)
        widest = view(document(data=data()), large).servers()[0]
        self.assertLessEqual(max(map(len, str(widest).splitlines())), 60)

    def test_one_node_alone_tells_of_its_own(self) -> None:
        shown = "\n".join(map(str, view(driven(in_sync=False)).page()))
        self.assertIn("b     following  3           1000    0       no\n", shown)

    def test_one_node_alone_tells_what_fences_its_own(self) -> None:
        for fencing, remarks in (
            ("guard", ["should this node die or hang, its guard freezes the data server"]),
            ("", []),
        ):
            found = view(driven(fencing=fencing)).remarks()
            self.assertEqual([each for each in found if "should this node" in each], remarks)

    def test_what_is_wrong_with_a_server_is_a_warning(self) -> None:
        problem = "Redis at h:1 was restarted\x1b"
        found = view(document(data=data()), driven(problem=problem))
        self.assertEqual(found.warnings(), ["b: Redis at h:1 was restarted\\x1b"])
        self.assertEqual(found.page()[-1], "warning: b: Redis at h:1 was restarted\\x1b")
        self.assertIn(
            "warning: b: Redis at h:1 was restarted\\x1b", view(driven(problem=problem)).page()
        )

    def test_a_member_without_a_server_beside_others_is_a_warning(self) -> None:
        witness = replica("d", witness=True)
        (said,) = view(document(data=data()), driven(), replica("c"), witness).warnings()
        self.assertIn("c drives no data server, and others do", said)

    def test_a_primary_whose_server_is_not_promoted_cannot_be_written_to(self) -> None:
        frozen = document(can_write=False, data=data(state="frozen"))
        said = "a is primary, but its data server takes no writes: frozen"
        self.assertEqual(view(frozen, driven()).problem, said)
        self.assertEqual(report._own_problem(from_object(frozen)), said)

    def test_a_watch_tells_when_a_server_changes(self) -> None:
        log = ChangeLog()
        for state in ("frozen", "frozen", "following"):
            log.note(view(driven(state=state)))
        self.assertEqual(
            [row[-1] for row in log.page().rows],
            [f"replica, epoch 3, follows a, server {state}" for state in ("frozen", "following")],
        )
        self.assertIn("b     following", "\n".join(map(str, report._watched(view(driven()), log))))


def large(node_id: str, **more: Any) -> dict[str, Any]:
    """What a node of five says, with a link that is down and much that happened."""
    others = [each for each in "abcde" if each != node_id]
    peers = [peer(node_id=each) for each in others]
    peers[-1] = peer(node_id=others[-1], alive=False, link="waiting")
    events = [
        event(ago=60.0 - at, text=f"{at}: primary no more, since others are in a higher epoch")
        for at in range(RECENT)
    ]
    return document(node_id=node_id, peers=peers, events=events, **more)


class SizeTests(SynchronousTestCase):
    """What is watched fits into its terminal."""

    def page(self) -> list[Any]:
        others = [
            large(each, role="replica", can_write=False, current_primary="a") for each in "bcde"
        ]
        found, log = view(large("a"), *others), ChangeLog()
        return list(report._watched(found, log, small=True))

    def test_five_nodes_in_24_lines_and_80_or_60_columns(self) -> None:
        words = {word for part in self.page() for word in str(part).split()}
        for columns in (80, 60):
            lines = fitted(self.page(), columns, 23)
            self.assertLessEqual(len(lines), 23)
            self.assertLessEqual(max(map(len, lines)), columns)
            shown = "\n".join(lines)
            for node_id in "abcde":
                self.assertRegex(shown, rf"(?m)^{node_id} +(primary|replica)")
            self.assertEqual(set(shown.split()) - words, set())
            self.assertIn(f"{RECENT - 1}: primary no more", shown)
            self.assertIn("waiting for", shown)

    def test_of_what_happened_the_newest_is_shown(self) -> None:
        grid = Grid(("WHEN", "WHAT"), [(str(each), "it was so") for each in range(50)], grows=True)
        lines = fitted(["all is well", grid], 60, 10)
        self.assertEqual(lines[-1], "49    it was so")
        self.assertEqual(lines[:2], ["all is well", "WHEN  WHAT"])
        self.assertLessEqual(len(lines), 10)

    def test_columns_that_can_be_spared_make_room(self) -> None:
        grid = Grid(("A", "B", "C"), [("a" * 20, "b" * 20, "some words here")], spare=("A",))
        self.assertEqual(fitted([grid], 60, 9)[0].split(), ["A", "B", "C"])
        self.assertEqual(fitted([grid], 50, 9)[0].split(), ["B", "C"])

    def test_colours_are_for_terminals_that_want_them(self) -> None:
        class Out(io.StringIO):
            def isatty(self) -> bool:
                return True

        for environment, colourful in (
            ({}, True),
            ({"NO_COLOR": "1"}, False),
            ({"NO_COLOR": ""}, True),
            ({"TERM": "dumb"}, False),
        ):
            self.patch(screen.os, "environ", environment)
            self.assertEqual(screen.is_colourful(Out()), colourful)
            self.assertFalse(screen.is_colourful(io.StringIO()))
        rows = [("a", "primary"), ("b", "replica"), ("h:9", "error: refused")]
        self.assertEqual(
            painted([Grid(("NODE", "ROLE"), rows), "warning: x"]),
            "NODE  ROLE\n\x1b[1;32ma     primary\x1b[0m\nb     replica\n"
            "\x1b[31mh:9   error: refused\x1b[0m\n\n\x1b[33mwarning: x\x1b[0m",
        )

    def test_durations_are_said_as_people_say_them(self) -> None:
        for seconds, words in (
            (0.4, "0 s"),
            (59.4, "59 s"),
            (287.0, "4 min 47 s"),
            (3600.0, "1 h 0 min"),
            (86399.0, "23 h 59 min"),
            (200000.0, "2 d 7 h"),
        ):
            self.assertEqual(said(seconds), words)


class ScreenTests(SynchronousTestCase):
    GRID = Grid(("NODE", "ROLE", "EPOCH"), [("a", "primary", "[red]3"), ("h:9", "error: \\x1b")])

    def test_changes_are_news_once(self) -> None:
        changes = Changes()
        self.assertEqual(changes.note("a", ("replica", "epoch 1")), "replica, epoch 1")
        self.assertIsNone(changes.note("a", ("replica", "epoch 1")))
        self.assertEqual(changes.note("b", ("replica", "epoch 1")), "replica, epoch 1")
        self.assertEqual(changes.note("a", ("silent", "")), "replica -> silent")

    def test_plain_pages_follow_each_other(self) -> None:
        out = io.StringIO()
        board = PlainBoard(out)
        board.show(["one", self.GRID])
        board.show(["two"])
        self.assertEqual(
            out.getvalue(),
            "one\nNODE  ROLE     EPOCH\na     primary  [red]3\nh:9   error: \\x1b\n\ntwo\n\n",
        )

    @needs_rich
    def test_on_a_terminal_nothing_is_markup_and_an_error_has_its_own_line(self) -> None:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
        console.print(drawn(["[bold]x", self.GRID]))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        self.assertIn("[bold]x", shown)
        self.assertIn("[red]3", shown)
        self.assertIn("h:9: error: \\x1b", shown)
        self.assertIn("silent", shown)
