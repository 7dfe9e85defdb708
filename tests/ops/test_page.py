from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from typing import Any

from twisted.application import strports
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.config import Cluster, PeerAddr
from kevy_elect.errors import ConfigError
from kevy_elect.messages import Announce, Role
from kevy_elect.ops.connections import MAX_READERS
from kevy_elect.ops.http import site
from kevy_elect.ops.page import MAX_WATCHERS, UNREAD_FOR
from kevy_elect.service.election import ElectionService
from kevy_elect.status import EventStatus
from tests.support.transports import QUICK, cluster, heartbeat, rng


class Connection(StringTransport):
    """What a browser's connection does, as far as a stream notices."""

    protocol: Any

    def abortConnection(self) -> None:
        super().abortConnection()
        self.lose()

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def stop_reading(self) -> None:
        self.producer.pauseProducing()

    def read_on(self) -> None:
        self.producer.resumeProducing()

    @property
    def head(self) -> bytes:
        return self.value().partition(b"\r\n\r\n")[0]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events so far: name and data."""
        found = re.findall(rb"event: (\w+)\ndata: (.*)\n\n", self.value())
        return [(name.decode(), json.loads(data)) for name, data in found]

    def names(self) -> list[str]:
        return [name for name, _ in self.events()]

    def last(self, name: str, node_id: str | None = None) -> dict[str, Any]:
        return [
            told
            for kind, told in self.events()
            if kind == name and (node_id is None or told["node_id"] == node_id)
        ][-1]


class WatchTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.serve(cluster())

    def serve(self, members: Cluster) -> None:
        self.service = ElectionService(
            members,
            ballot=MemoryBallot(),
            config=QUICK,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
        )
        self.service.startService()
        self.site = site(self.service)
        self.idle = len(self.reactor.getDelayedCalls())

    def get(self, path: bytes = b"/watch", method: bytes = b"GET") -> Connection:
        connection = Connection()
        connection.protocol = self.site.buildProtocol(None)
        connection.protocol.makeConnection(connection)
        connection.protocol.dataReceived(method + b" " + path + b" HTTP/1.0\r\n\r\n")
        return connection

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.reactor.advance(0.05)


class StreamTests(WatchTestCase):
    def test_a_watcher_is_told_everything_at_once(self) -> None:
        watcher = self.get()
        self.assertIn(b"Content-Type: text/event-stream", watcher.head)
        self.assertEqual(
            watcher.names(), ["cluster", "headline", "links", "history", *["node"] * 3]
        )
        members = watcher.last("cluster")["members"]
        self.assertEqual([each["node_id"] for each in members], ["a", "b", "c"])
        self.assertEqual(watcher.last("node", "a")["role"], "replica")
        self.assertEqual(watcher.last("node", "b")["word"], "never heard")
        self.assertEqual(len(watcher.last("links")["links"]), 6)
        self.assertEqual(watcher.last("headline")["level"], "alarm")

    def test_no_id_of_a_member_is_taken_for_another_kind_of_event(self) -> None:
        ids = ("cluster", "headline", "links", "history")
        peers = tuple(PeerAddr(each, "127.0.0.1", 7201 + i, 6201 + i) for i, each in enumerate(ids))
        self.serve(Cluster("cluster", peers))
        watcher = self.get()
        self.assertEqual(
            watcher.names(), ["cluster", "headline", "links", "history", *["node"] * 4]
        )
        self.assertEqual([watcher.last("node", each)["node_id"] for each in ids], list(ids))

    def test_this_node_is_told_several_times_a_second(self) -> None:
        watcher = self.get()
        watcher.clear()
        self.pass_time(1.0)
        self.assertGreaterEqual(watcher.names().count("node"), 4)
        self.assertEqual({told["node_id"] for name, told in watcher.events()}, {"a"})

    def test_a_change_is_told_at_once(self) -> None:
        watcher = self.get()
        watcher.clear()
        self.service.message_received("b", Announce(7, "b", "192.0.2.2:1"))
        self.reactor.advance(0)
        rows = {row["label"]: row["text"] for row in watcher.last("node", "a")["rows"]}
        self.assertEqual(rows["Follows"], "b; clients go to 192.0.2.2:1")
        self.assertIn("b, the primary,", watcher.last("headline")["lead"])
        newest = watcher.last("history")["epochs"][0]
        self.assertEqual((newest["epoch"], newest["primary"]), ("7", "b"))
        (span,) = watcher.last("history")["lanes"]["a"]["spans"]
        self.assertEqual((span["role"], span["until_ago"]), ("replica", None))

    def test_events_from_before_the_start_are_in_the_timeline(self) -> None:
        watcher = self.get()
        at = self.reactor.seconds() - 100
        elected = EventStatus(
            ago=0, kind="role", text="elected", critical=False, epoch=7, cause="elected"
        )
        self.service.earlier = [(at, elected)]
        self.pass_time(0.2)
        first = watcher.last("history")["lanes"]["a"]["spans"][0]
        self.assertEqual((first["role"], first["epoch"]), ("primary", "7"))
        self.assertApproximates(first["since_ago"], 100, 1)

    def test_what_does_not_change_is_not_told_again(self) -> None:
        self.service.message_received("b", Announce(7, "b", "192.0.2.2:1"))
        watcher = self.get()
        self.pass_time(0.2)
        watcher.clear()
        self.service.message_received("b", heartbeat("b", 7, Role.PRIMARY))
        self.pass_time(0.2)
        self.assertEqual(set(watcher.names()), {"node"})

    def test_nothing_runs_while_nobody_watches(self) -> None:
        watchers = [self.get(), self.get()]
        self.assertGreater(len(self.reactor.getDelayedCalls()), self.idle)
        self.service.message_received("b", Announce(7, "b", "192.0.2.2:1"))
        for watcher in watchers:
            watcher.lose()
        self.assertEqual(len(self.reactor.getDelayedCalls()), self.idle)
        self.pass_time(1)
        self.assertEqual(self.get().last("headline")["level"], "alarm")  # and again

    def test_a_failure_is_logged_and_ends_the_streams(self) -> None:
        watcher = self.get()
        self.patch(self.service, "peer_status", lambda: 1 / 0)
        self.pass_time(0.2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(watcher.disconnecting)
        self.assertEqual(len(self.reactor.getDelayedCalls()), self.idle)

    def test_it_outlives_the_idle_timeout_of_other_requests(self) -> None:
        watcher = self.get()
        self.pass_time(60)
        watcher.clear()
        self.pass_time(1)
        self.assertIn("node", watcher.names())


class SlowReaderTests(WatchTestCase):
    def test_nothing_is_kept_for_who_does_not_read(self) -> None:
        watcher = self.get()
        watcher.stop_reading()
        watcher.clear()
        for epoch in range(2, 100):
            self.service.message_received("b", Announce(epoch, "b", "192.0.2.2:1"))
            self.reactor.advance(0.1)
        self.assertEqual(watcher.value(), b"")

    def test_who_reads_again_is_told_the_newest_once(self) -> None:
        watcher = self.get()
        watcher.stop_reading()
        watcher.clear()
        for epoch in range(2, 100):
            self.service.message_received("b", Announce(epoch, "b", "192.0.2.2:1"))
            self.reactor.advance(0.1)
        watcher.read_on()
        self.assertEqual(len(watcher.names()), len(set(watcher.names())) + 1)  # a and b
        self.assertEqual(watcher.last("node", "a")["epoch"], "99")
        self.assertEqual(watcher.last("node", "a")["age"], 0)

    def test_it_stops_in_the_middle_when_the_connection_is_full(self) -> None:
        watcher = self.get()
        watcher.clear()
        written = watcher.write

        def write_and_fill(data: bytes) -> None:
            written(data)
            watcher.stop_reading()

        self.patch(watcher, "write", write_and_fill)
        self.service.message_received("b", Announce(2, "b", "192.0.2.2:1"))
        self.reactor.advance(0.5)
        self.assertEqual(len(watcher.names()), 1)

    def test_who_never_reads_again_makes_room(self) -> None:
        asleep, awake = self.get(), self.get()
        asleep.stop_reading()
        self.pass_time(UNREAD_FOR - 1)
        self.assertFalse(asleep.disconnecting)
        self.pass_time(1.5)
        self.assertTrue(asleep.disconnecting)
        self.assertFalse(awake.disconnecting)

    def test_what_is_sent_along_is_not_kept_without_bound(self) -> None:
        watcher = self.get()
        for _ in range(100):
            if watcher.producerState != "producing":
                break
            watcher.protocol.dataReceived(b"x" * 1024)
        self.assertEqual(watcher.producerState, "paused")


class BoundTests(WatchTestCase):
    def test_so_many_may_watch_and_the_next_is_told_why_not(self) -> None:
        watchers = [self.get() for _ in range(MAX_WATCHERS)]
        refused = self.get()
        self.assertIn(b" 503 ", refused.head)
        self.assertIn(b"Retry-After: 10", refused.head)
        self.assertIn(b"open that of another node", refused.value())
        watchers[0].lose()
        self.assertIn(b" 200 ", self.get().head)

    def test_watchers_leave_room_for_who_asks_once(self) -> None:
        for _ in range(MAX_WATCHERS):
            self.get()
        for _ in range(MAX_READERS - MAX_WATCHERS):
            self.assertIn(b" 200 ", self.get(b"/status").head)

    def test_head_tells_the_kind_and_is_no_watcher(self) -> None:
        for _ in range(MAX_WATCHERS + 1):
            asked = self.get(method=b"HEAD")
            self.assertIn(b"text/event-stream", asked.head)
            asked.lose()
        self.assertEqual(len(self.reactor.getDelayedCalls()), self.idle)

    def test_nothing_can_be_sent(self) -> None:
        for path in (b"/", b"/watch"):
            for method in (b"POST", b"PUT", b"DELETE"):
                self.assertRegex(self.get(path, method).head, b" (405|501) ")


class PageTests(WatchTestCase):
    def test_it_is_one_page_for_a_browser(self) -> None:
        page = self.get(b"/")
        self.assertIn(b" 200 ", page.head)
        self.assertIn(b"Content-Type: text/html; charset=utf-8", page.head)
        self.assertIn(b"X-Content-Type-Options: nosniff", page.head)

    def test_its_policy_allows_its_own_script_and_style_and_nothing_else(self) -> None:
        page = self.get(b"/")
        found = re.search(rb"Content-Security-Policy: (.*)", page.head)
        assert found is not None
        policy = dict(each.split(b" ", 1) for each in found[1].strip().split(b"; "))
        for element, source in ((b"script", b"script-src"), (b"style", b"style-src")):
            inline = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page.value(), re.DOTALL)
            self.assertEqual(len(inline), 1)
            hashed = base64.b64encode(hashlib.sha256(inline[0]).digest())
            self.assertEqual(policy[source], b"'sha256-" + hashed + b"'")
        for source in (b"default-src", b"base-uri", b"form-action", b"frame-ancestors"):
            self.assertEqual(policy[source], b"'none'")
        self.assertEqual(policy[b"connect-src"], b"'self'")

    def test_it_fetches_nothing_from_elsewhere_and_makes_no_markup_of_text(self) -> None:
        html = self.get(b"/").value().decode()
        self.assertLess(len(html), 60 * 1024)
        self.assertNotRegex(html, r"https?://|//[a-z]|\bimport\b|url\(")
        self.assertNotRegex(html, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(")
        self.assertNotRegex(html, r"\sstyle=|\son[a-z]+=\"")


class OtherAddressTests(WatchTestCase):
    def test_an_address_of_no_member_is_refused(self) -> None:
        with self.assertRaises(ConfigError):
            site(self.service, {"x": "http://192.0.2.1:8101"})


class Watching(Protocol):
    """Asks for the stream, and tells when something of it is there and when it ends."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET /watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        self.received = b""
        self.awaited: list[tuple[bytes, Deferred[None]]] = []
        self.ended: Deferred[None] = Deferred()

    def until(self, text: bytes) -> Deferred[None]:
        """Fires when `text` has been received."""
        waiting: Deferred[None] = Deferred()
        self.awaited.append((text, waiting))
        self.dataReceived(b"")
        return waiting

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for each in list(self.awaited):
            if each[0] in self.received:
                self.awaited.remove(each)
                each[1].callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)


class Mute(Protocol):
    """Takes a question and never answers."""


class RealNodeTests(TestCase):
    """Over real sockets; trial's own check at the end of each test is that nothing is left."""

    def node(self, node_id: str, http: list[int], *asked: str) -> Any:
        """A node of three, its links to nowhere, and what serves its page."""
        service = ElectionService(
            cluster(node_id),
            ballot=MemoryBallot(),
            config=QUICK,
            listen="tcp:0:interface=127.0.0.1",
            clock=time.monotonic,
        )
        port = http["abc".index(node_id)]
        others = {each: f"http://127.0.0.1:{http['abc'.index(each)]}" for each in asked}
        page = strports.service(f"tcp:{port}:interface=127.0.0.1", site(service, others))
        for each in (service, page):
            each.startService()
            self.addCleanup(each.stopService)
        return page

    @inlineCallbacks
    def watch(self, port: int) -> Any:
        from twisted.internet.endpoints import TCP4ClientEndpoint

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        watcher = yield endpoint.connect(Factory.forProtocol(Watching))
        return watcher

    @inlineCallbacks
    def test_the_others_are_seen_through_this_node(self) -> Any:
        http = free_ports(3)
        self.node("a", http, "b", "c")
        self.node("b", http)
        watcher = yield self.watch(http[0])
        yield watcher.until(
            b'{"node_id": "b", "url": "http://127.0.0.1:%d", "role": "replica"' % http[1]
        )
        yield watcher.until(b"connection was refused by other side")  # that is c
        watcher.transport.loseConnection()
        yield watcher.ended

    @inlineCallbacks
    def test_stopping_ends_the_streams_and_the_questions_under_way(self) -> Any:
        http = free_ports(3)
        mute = Factory.forProtocol(Mute)
        port = reactor.listenTCP(http[1], mute, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        page = self.node("a", http, "b")
        watchers = []
        for _ in range(3):
            watchers.append((yield self.watch(http[0])))
        for watcher in watchers:
            yield watcher.until(b"event: node")
        yield page.stopService()
        for watcher in watchers:
            yield watcher.ended
