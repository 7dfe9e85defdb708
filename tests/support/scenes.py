"""Scripted clusters: the status document of each member for each second, and a real page over them.
Nothing elects. Everything after the status documents is the code of a node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch
from urllib.request import urlopen

import attrs
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kevy_elect.config import Cluster, ElectConfig, PeerAddr
from kevy_elect.local_server import join_offset
from kevy_elect.ops import page as page_module
from kevy_elect.ops.connections import FewReaders, Pages
from kevy_elect.ops.page import PageResource, StreamResource, Watch
from kevy_elect.service.clock import uptime
from kevy_elect.status import Status, from_object
from tests.support import statuses

Document = dict[str, Any]


@attrs.define(kw_only=True)
class Scene:
    """The state at each time, in seconds since the beginning of the scene; earlier times are
    negative."""

    ids: tuple[str, ...] = ("a", "b", "c")
    me: str = "a"
    primary: str = "b"
    epoch: int = 7
    elected_at: float = -2237.0
    former: str = "a"
    why: str = "primary-gone"
    killed: dict[str, float] = attrs.field(factory=dict)
    """The members whose process dies, with the time."""
    successor: tuple[str, float] | None = None
    """The member that is elected after that, with the time."""
    silent: dict[tuple[str, str], float] = attrs.field(factory=dict)
    """The directions of links that fall silent, with the time."""
    pages_cut: tuple[str, ...] = ()
    """The members whose pages cannot be reached."""
    events: list[tuple[str, float, Document]] = attrs.field(factory=list)
    """Events beside elections: member, time and event."""
    changes: dict[str, Document] = attrs.field(factory=dict)
    """Further values of a member's document."""
    up_for: dict[str, float] = attrs.field(factory=dict)
    job: str = "orders"
    cluster_name: str = ""
    down_after: float = 5.0

    def document(self, node_id: str, now: float) -> Document | None:
        """The document of the member at `now`; None if it does not answer."""
        if self.is_dead(node_id, now) or (node_id != self.me and node_id in self.pages_cut):
            return None
        primary, epoch = self.leader(node_id, now)
        peers = [self.peer(node_id, other, now) for other in self.ids if other != node_id]
        down = [peer["node_id"] for peer in peers if not peer["alive"]]
        has_quorum = len(self.ids) - len(down) > len(self.ids) // 2
        leads = primary == node_id
        writes = leads and has_quorum
        child = statuses.child(
            name=self.job, state="running" if writes else "stopped", pid=4711 if writes else None
        )
        return statuses.document(
            node_id=node_id,
            members=list(self.ids),
            role="primary" if leads else "replica",
            epoch=epoch,
            current_primary=primary,
            primary_addr=None if primary is None else f"10.0.0.{self.ids.index(primary) + 1}:6379",
            has_quorum=has_quorum,
            can_write=writes,
            lease_expires_in=0.98 * self.down_after - now % 0.2 if writes else 0.0,
            down_peers=down,
            settings=attrs.asdict(ElectConfig(down_after=self.down_after)),
            peers=peers,
            children=[child] if self.job else [],
            events=list(self.noted(node_id, now)),
            uptime=self.up_for.get(node_id, 187_000.0) + now,
            cluster_name=self.cluster_name,
        ) | self.changes.get(node_id, {})

    def is_dead(self, node_id: str, now: float) -> bool:
        return node_id in self.killed and now >= self.killed[node_id]

    def leader(self, node_id: str, now: float) -> tuple[str | None, int]:
        """The primary that it follows at `now`, and its epoch."""
        if self.successor is not None and now >= self.successor[1]:
            return self.successor[0], self.epoch + 1
        heard = node_id == self.primary or self.peer(node_id, self.primary, now)["alive"]
        return (self.primary if heard else None), self.epoch

    def peer(self, node_id: str, other: str, now: float) -> Document:
        dead = self.is_dead(other, now)
        quiet_since = self.killed[other] if dead else self.silent.get((other, node_id), now)
        heard_ago = max(0.0, now - quiet_since) + 0.07
        primary, epoch = (
            self.leader(other, now)
            if node_id != other and other != self.primary
            else (self.primary, self.epoch)
        )
        if self.successor is not None and now >= self.successor[1]:
            primary, epoch = self.successor[0], self.epoch + 1
        if dead:  # its last state
            primary, epoch = self.leader(other, self.killed[other] - 0.01)
        age = 186_000.0 + now
        return statuses.peer(
            node_id=other,
            alive=heard_ago < self.down_after,
            heard_ago=heard_ago,
            epoch=epoch,
            role="primary" if primary == other else "replica",
            offset=self.offset(other),
            acknowledging=not dead,
            link="waiting" if dead else "connected",
            link_age=max(0.0, now - quiet_since) if dead else age,
            incoming_age=None if dead else age,
        )

    def offset(self, node_id: str) -> int:
        """The offset in its heartbeats."""
        data = self.changes.get(node_id, {}).get("data")
        return join_offset(data["data_epoch"], data["length"]) if data else 0

    def noted(self, node_id: str, now: float) -> Iterator[Document]:
        found = [
            *self._elections(node_id),
            *((at, each) for who, at, each in self.events if who == node_id),
        ]
        if self.primary in self.killed and node_id != self.primary:
            text = f"lost {self.primary}: it was silent for {self.down_after:g} s"
            lost = {"kind": "primary", "cause": "lost", "member": self.primary, "text": text}
            found.append(
                (self.killed[self.primary] + self.down_after, {"epoch": self.epoch, **lost})
            )
        for at, each in sorted(found, key=lambda pair: pair[0]):
            if at <= now:
                yield statuses.event(ago=now - at, **each)

    def _elections(self, node_id: str) -> Iterator[tuple[float, Document]]:
        start = self.elected_at - 3400.0
        terms = [(self.former, start, self.epoch - 1, "no-primary", None)]
        terms.append((self.primary, self.elected_at, self.epoch, self.why, self.former))
        if self.successor is not None:
            who, at = self.successor
            terms.append((who, at, self.epoch + 1, "primary-down", self.primary))
        for who, at, epoch, why, before in terms:
            if -self.up_for.get(node_id, 187_000.0) > at:
                continue
            if who == node_id:
                run = f"runs for primary in epoch {epoch}: {before or 'nobody'} is gone"
                yield (
                    at - 0.05,
                    {
                        "kind": "candidacy",
                        "epoch": epoch,
                        "cause": why,
                        "member": before,
                        "text": run,
                    },
                )
                votes = ", ".join(self.ids[: len(self.ids) // 2 + 1])
                won = f"elected primary of epoch {epoch} by {votes}"
                yield at, {"kind": "role", "epoch": epoch, "cause": "elected", "text": won}
            else:
                follows = f"follows {who}, primary of epoch {epoch}"
                yield (
                    at + 0.02,
                    {
                        "kind": "primary",
                        "epoch": epoch,
                        "cause": "followed",
                        "member": who,
                        "text": follows,
                    },
                )
                if before == node_id:
                    yield (
                        at,
                        {
                            "kind": "role",
                            "epoch": epoch,
                            "cause": "superseded",
                            "member": who,
                            "text": f"{who} is primary of epoch {epoch}",
                        },
                    )


class _Service:
    """The part of an election service that the page uses."""

    def __init__(self, scene: Scene, now: Callable[[], float]) -> None:
        members = tuple(
            PeerAddr(each, f"10.0.0.{at}", 7101, 6379) for at, each in enumerate(scene.ids, 1)
        )
        self.cluster = Cluster(scene.me, members)
        self.cluster_name = scene.cluster_name
        self.earlier: list[tuple[float, Any]] = []
        self.config = ElectConfig()
        self.reactor = reactor
        self.scene = scene
        self.now = now

    def add_observer(self, observer: object) -> Callable[[], None]:
        return lambda: None

    def recent_events(self) -> list[tuple[float, Any]]:
        return [(0.0, sum(1 for _ in self.scene.noted(self.scene.me, self.now())))]

    def status(self) -> Status:
        return from_object(self.scene.document(self.scene.me, self.now()))


def scene_time(url: str) -> float:
    """The present second of the scene with this page."""
    with urlopen(f"{url}now", timeout=60) as answer:
        now: float = json.load(answer)["now"]
    return now


class Says(Resource):
    """Answers each GET with a document; ends the connection if there is none."""

    isLeaf = True

    def __init__(self, ask: Callable[[], Document | None]) -> None:
        super().__init__()
        self._ask = ask

    def render_GET(self, request: Any) -> Any:
        found = self._ask()
        if found is None:
            request.channel.transport.abortConnection()
            return NOT_DONE_YET
        return json.dumps(found).encode()


@contextmanager
def staged(scene: Scene, start: float = 0.0, *, pages: bool = True) -> Iterator[str]:
    """Serve the page of the scene's `me`, from the scene's second `start` on. Yields its URL."""
    began = uptime() - start
    listening = []

    def now() -> float:
        return uptime() - began

    def serve(factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        listening.append(port)
        number: int = port.getHost().port
        return number

    def said(node_id: str) -> Document | None:
        return scene.document(node_id, now())

    service: Any = _Service(scene, now)
    with patch.object(page_module, "own_status", lambda service, events=True: service.status()):
        others: Mapping[str, str] = {
            each: f"http://127.0.0.1:{serve(Site(Says(partial(said, each))))}"
            for each in scene.ids
            if each != scene.me and pages
        }
        watch = Watch(service, others)
        root = Resource()
        root.putChild(b"", PageResource())
        root.putChild(b"watch", StreamResource(watch))
        root.putChild(b"now", Says(lambda: {"now": now()}))
        try:
            yield f"http://127.0.0.1:{serve(FewReaders(Pages(root, (), reactor), watch.stop))}/"
        finally:
            for port in listening:
                port.stopListening()
