"""The page of the cluster, and the stream of server-sent events that keeps it up to date."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from kevy_elect.config import join_host_port
from kevy_elect.events import Event
from kevy_elect.ops.own_status import own_status
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.ops.page_headline import Headline, headline
from kevy_elect.ops.page_history import epochs, history, lanes
from kevy_elect.ops.page_links import Link, links
from kevy_elect.ops.page_model import Happening, Known, happenings, quiet_after
from kevy_elect.ops.page_nodes import View, view
from kevy_elect.ops.page_poll import Others
from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers

MAX_WATCHERS: Final = 6
"""The most streams at a time. The other connections are for clients with single requests."""
UNREAD_FOR: Final = 20.0
"""Seconds after which an unread stream is ended, because its viewer is gone or asleep."""
RETRY_AFTER: Final = 2
"""Seconds after which a browser whose stream has ended connects again."""
# Keys of events. The other keys are members' ids, which have no colon.
_CLUSTER: Final = ":cluster"
_HEADLINE: Final = ":headline"
_LINKS: Final = ":links"
_HISTORY: Final = ":history"


class Watch:
    """The data for all viewers of one node's page. Nothing is asked or computed without a viewer.

    There are five kinds of events, all JSON: `cluster`, for values that do not change; `headline`;
    `links`; `history`; and `node`, for one member, sent several times a second for this one. Each
    event contains all values of the earlier events of the same kind and member.
    """

    log = Logger()

    def __init__(
        self,
        service: ElectionService,
        urls: Mapping[str, str],
        access: PageAccess | None = None,
    ) -> None:
        """`urls` are the addresses of the members' statuses, with the same access as this node's;
        its own is not asked.

        Raises ConfigError for a URL that cannot be asked.
        """
        self._service = service
        self._me = Known(service.cluster.node_id)
        self._others = Others(
            service.cluster,
            service.config,
            urls,
            reactor=service.reactor,
            clock=service.now,
            answered=self._answered,
            access=access,
        )
        self._streams: list[Stream] = []
        self._loop: LoopingCall | None = None
        self._soon: Any = None
        self._headline: Headline | None = None
        self._links: list[Link] = []
        self._views: dict[str, View] = {}
        self._happened: list[tuple[list[Happening], float | None]] = []
        self._newest: Event | None = None
        self._earlier: Sequence[object] = ()
        self._shared: dict[str, bytes] | None = None
        """The events that were computed for the present change, so that all streams share them."""

    @property
    def is_full(self) -> bool:
        return len(self._streams) >= MAX_WATCHERS

    def join(self, stream: Stream) -> None:
        """Send `stream` all events, and then the changes."""
        self._look()
        if self._loop is None:
            self._begin()
        self._streams.append(stream)
        stream.put(_CLUSTER, _HEADLINE, _LINKS, _HISTORY, *self._service.cluster.ids)

    def leave(self, stream: Stream) -> None:
        """Send `stream` nothing more."""
        if stream in self._streams:
            self._streams.remove(stream)
            if not self._streams:
                self._end()

    def stop(self) -> None:
        """End all streams, and all work for them."""
        for stream in list(self._streams):
            self.leave(stream)
            stream.end()
        if self._loop is not None:
            self._end()

    def sweep(self) -> None:
        """End the unread streams."""
        now = self._service.now()
        for stream in list(self._streams):
            if stream.unread_since is not None and now - stream.unread_since >= UNREAD_FOR:
                self.leave(stream)
                stream.end()

    def event(self, key: str) -> bytes:
        """The present event of this key."""
        if self._shared is None:
            return self._event(key)
        if key not in self._shared:
            self._shared[key] = self._event(key)
        return self._shared[key]

    def _event(self, key: str) -> bytes:
        name = key[1:] if key.startswith(":") else "node"
        return f"event: {name}\ndata: {json.dumps(self._compose(key))}\n\n".encode()

    def now(self) -> float:
        return self._service.now()

    # The work while a page is shown

    def _begin(self) -> None:
        interval = min(max(self._service.config.hb_interval, 0.1), 0.25)
        self._forget = self._service.add_observer(lambda snapshot, reason: self._look_soon())
        self._loop = LoopingCall(self._tick)
        self._loop.clock = timers(self._service.reactor)
        self._loop.start(interval, now=False).addErrback(self._broken)
        self._others.start()

    def _end(self) -> None:
        assert self._loop is not None
        self._forget()
        if self._loop.running:
            self._loop.stop()
        self._loop = None
        self._others.stop()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the page cannot be kept up to date", failure)
        self.stop()

    def _tick(self) -> None:
        self._look()
        self._put(self._me.node_id)
        self.sweep()

    def _look_soon(self) -> None:
        """Look after a change, without delaying the elector."""
        if self._soon is None:
            self._soon = timers(self._service.reactor).callLater(0, self._look_now)

    def _look_now(self) -> None:
        self._soon = None
        self._look()
        self._put(self._me.node_id)
        self._others.ask()

    def _answered(self, node_id: str) -> None:
        self._put(node_id)  # the next tick updates the headline

    def _look(self) -> None:
        """Check the state of this node, and send the resulting changes."""
        now = self._service.now()
        me = self._me
        me.say(own_status(self._service, events=False), now, now)
        self._note_events(now)
        assert me.status is not None
        peers = {peer.node_id: peer for peer in me.status.peers}
        for other in self._others:
            other.see(peers.get(other.node_id), now, quiet_after(me.status))
        self._look_at_links(now)
        found = headline(me, list(self._others), now, self._links)
        if found != self._headline:
            self._headline = found
            self._put(_HEADLINE)
        self._look_at_nodes(now)
        self._look_at_history()

    def _look_at_links(self, now: float) -> None:
        found, before = links(self._everyone(), now), self._links
        if len(found) != len(before) or not all(
            new.is_like(old) for new, old in zip(found, before, strict=True)
        ):
            self._links = found
            self._put(_LINKS)

    def _look_at_nodes(self, now: float) -> None:
        """Send the nodes that have changed, and always this one."""
        for other in self._others:
            seen = view(other, self._me, now)
            if not seen.is_like(self._views.get(other.node_id)):
                self._views[other.node_id] = seen
                self._put(other.node_id)

    def _look_at_history(self) -> None:
        happened = [(known.events, known.lost_at) for known in self._everyone()]
        if len(happened) != len(self._happened) or any(
            events is not before or lost_at != lost_before
            for (events, lost_at), (before, lost_before) in zip(
                happened, self._happened, strict=True
            )
        ):
            self._put(_HISTORY)
        self._happened = happened

    def _note_events(self, now: float) -> None:
        events = self._service.recent_events()
        newest, earlier = events[-1][1] if events else None, self._service.earlier
        if newest is self._newest and earlier is self._earlier:
            return
        self._newest, self._earlier = newest, earlier
        told = own_status(self._service).events
        self._me.events = happenings(self._me.node_id, told, now)

    def _everyone(self) -> list[Known]:
        return [self._me, *self._others]

    def _put(self, key: str) -> None:
        self._shared = {}
        for stream in list(self._streams):
            stream.put(key)
        self._shared = None

    def _compose(self, key: str) -> dict[str, Any]:
        now = self._service.now()
        if key == _CLUSTER:
            return self._cluster()
        if key == _HEADLINE:
            assert self._headline is not None
            return self._headline.told(now)
        if key == _HISTORY:
            everyone = self._everyone()
            known_epochs = epochs(event for known in everyone for event in known.events)
            return history(known_epochs, now) | {"lanes": lanes(everyone, known_epochs, now)}
        if key == _LINKS:
            return {"links": [link.told(now) for link in self._links]}
        known = self._me if key == self._me.node_id else self._others[key]
        return view(known, self._me, now).told()

    def _cluster(self) -> dict[str, Any]:
        cluster = self._service.cluster
        return {
            "me": cluster.node_id,
            "name": self._service.cluster_name,
            "members": [
                {"node_id": each.node_id, "address": join_host_port(each.host, each.elect_port)}
                for each in cluster.members
            ],
            "quorum": cluster.quorum,
        }


@implementer(IPushProducer)
class Stream:
    """One viewer. While it does not read, only the keys of its missing events are kept. The events
    are computed when it reads again, so they are never old."""

    def __init__(self, watch: Watch, request: Request) -> None:
        self._watch = watch
        self._request = request
        self._lacking: dict[str, None] = {}
        self.unread_since: float | None = None

    def begin(self) -> None:
        request = self._request
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-accel-buffering", b"no")  # for proxies, which would buffer the stream
        request.notifyFinish().addBoth(lambda _: self._watch.leave(self))
        request.registerProducer(self, streaming=True)
        request.write(f"retry: {RETRY_AFTER * 1000}\n\n".encode())
        self._watch.join(self)

    def put(self, *keys: str) -> None:
        """Send the events of these keys, now or once the viewer reads."""
        self._lacking.update(dict.fromkeys(keys))
        self._write()

    def end(self) -> None:
        """End the connection without waiting for its reader."""
        channel: Any = self._request.channel
        channel.end()

    def _write(self) -> None:
        while self._lacking and self.unread_since is None:
            key = next(iter(self._lacking))
            del self._lacking[key]
            self._request.write(self._watch.event(key))

    def pauseProducing(self) -> None:
        if self.unread_since is None:
            self.unread_since = self._watch.now()

    def resumeProducing(self) -> None:
        self.unread_since = None
        self._write()

    def stopProducing(self) -> None:
        """The connection is closing; `notifyFinish` reports it."""


class StreamResource(Resource):
    """`GET /watch`, which does not end by itself."""

    isLeaf = True

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def render_GET(self, request: Request) -> Any:
        if self._watch.is_full:
            request.setResponseCode(503)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            request.setHeader(b"retry-after", b"10")
            return (
                f"{MAX_WATCHERS} are watching this node already, and it serves no more at a "
                "time. Close a page elsewhere, or open that of another node.\n"
            ).encode()
        Stream(self._watch, request).begin()
        return NOT_DONE_YET

    def render_HEAD(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/event-stream")
        return b""


@attrs.frozen
class Page:
    """The page, and the policy under which a browser shows it: only its own style and script, by
    their hashes, and this node's stream."""

    html: bytes
    policy: bytes

    @classmethod
    def load(cls) -> Page:
        folder = files("kevy_elect.ops") / "web"
        html = (folder / "page.html").read_bytes()
        for place, names in _PARTS.items():
            parts = b"".join((folder / name).read_bytes() for name in names)
            html = html.replace(place, parts)
        return cls(
            html,
            b"; ".join(
                (
                    b"default-src 'none'",
                    b"style-src " + _hash(html, b"style"),
                    b"script-src " + _hash(html, b"script"),
                    b"require-trusted-types-for 'script'",  # text never becomes markup
                    b"connect-src 'self'",
                    b"img-src data:",
                    b"base-uri 'none'",
                    b"form-action 'none'",
                    b"frame-ancestors 'none'",
                )
            ),
        )


_PARTS: Final = {
    b"/* style */\n": ("page.css",),
    b"// script\n": ("parts.js", "ring.js", "timeline.js", "page.js"),
}
"""The parts of page.html. The page is one answer, and its policy needs no names."""


def _hash(html: bytes, element: bytes) -> bytes:
    found = re.search(b"<" + element + b">(.*?)</" + element + b">", html, re.DOTALL)
    assert found is not None
    return b"'sha256-" + base64.b64encode(hashlib.sha256(found[1]).digest()) + b"'"


class PageResource(Resource):
    """`GET /`."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._page = Page.load()

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"cache-control", b"no-cache")
        request.setHeader(b"content-security-policy", self._page.policy)
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"referrer-policy", b"no-referrer")
        return self._page.html
