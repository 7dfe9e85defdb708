"""The metrics of a node: `GET /metrics`. Needs prometheus_client, the extra `metrics`.

docs/metrics.md describes each metric. Gauges are read at each scrape; counters count
events as they happen.
"""

from __future__ import annotations

import platform
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

import attrs
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from twisted.web.resource import Resource
from twisted.web.server import Request

from kevy_elect import __version__
from kevy_elect.driving import Fencing, State
from kevy_elect.events import Cause, Event, EventKind
from kevy_elect.messages import Role
from kevy_elect.ops.connections import Copy
from kevy_elect.ops.own_status import own_status
from kevy_elect.replication import is_in_sync, lag
from kevy_elect.service.election import ElectionService
from kevy_elect.transport.channel import Fault, Kind

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

# All values of the labels, so that each counter exists before its first count: Prometheus
# sees no increase in a new series.
RESULTS: Final = (
    *(Cause.ELECTED, Cause.RESIGNED, Cause.SUPERSEDED, Cause.TIMEOUT, Cause.WITHDRAWN),
)
TERMS: Final = (
    *(Cause.PRIMARY_DOWN, Cause.PRIMARY_GONE, Cause.LAST_WILL),
    *(Cause.NO_PRIMARY, Cause.OTHERS_AHEAD),
)
DEMOTIONS: Final = (
    *(Cause.HANDED_OVER, Cause.LEASELESS, Cause.RESIGNED, Cause.SUPERSEDED, Cause.WITHDRAWN),
)
RULES: Final = tuple(cause for cause in Cause if cause[1:2].isdigit())
RENEWALS: Final = (Cause.OTHERS_AHEAD, Cause.ELECTED, Cause.TIMEOUT)
FRAMES: Final = (
    *("bad", "bad_epoch", "bad_numeric", "bad_role", "bad_sender", "wrong_shape"),
    *get_args(Fault),
)
SECURITIES: Final = get_args(Kind)
LINKS: Final = ("connecting", "connected", "waiting", "stopped")
CHILDREN: Final = ("stopped", "starting", "running", "stopping")

LATENESS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: a tick of up to 1 ms late is on time, one 10 s late was a stopped process."""
SAVING: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: from a RAM disk to a disk that delays the node's heartbeats."""


class Metrics:
    """Measures one node for as long as it lives.

    `registry` has the metrics; the default is one of its own, because several nodes of one process
    cannot share one. `wall` returns the time of day, in seconds since 1970. Counts begin when this
    is created, so create it before the service starts, and collect it in the reactor's thread.
    """

    def __init__(
        self,
        election: ElectionService,
        registry: CollectorRegistry | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._election = election
        self._wall = wall
        self._leads = election.state_snapshot().role is Role.PRIMARY
        self._ran: Cause | None = None  # why it ran last
        self._events = self._counter(
            "kevy_elect_events", "Events of this node, by kind.", "kind", EventKind
        )
        self._elections = self._counter(
            "kevy_elect_elections",
            "Candidacies of this node, by result.",
            "result",
            RESULTS,
        )
        self._terms = self._counter(
            "kevy_elect_terms",
            "Elections of this node as primary, by why it ran: last-will if a dead primary's last "
            "will was heard.",
            "cause",
            TERMS,
        )
        self._demotions = self._counter(
            "kevy_elect_demotions",
            "Changes of this node from primary to replica, by reason.",
            "reason",
            DEMOTIONS,
        )
        self._renewals = self._counter(
            "kevy_elect_renewals",
            "Renewals of this primary in a higher epoch: others-ahead when it asks, then elected "
            "or timeout.",
            "step",
            RENEWALS,
        )
        self._refused_votes = self._counter(
            "kevy_elect_refused_votes",
            "Votes that this node refused to candidates, by rule.",
            "rule",
            RULES,
        )
        self._lateness = Histogram(
            "kevy_elect_tick_lateness_seconds",
            "Seconds by which the elector's tick was late, measured from the tick before.",
            buckets=LATENESS,
            registry=self.registry,
        )
        self._saving = Histogram(
            "kevy_elect_ballot_save_seconds",
            "Seconds that a save of the ballot took, whether or not it succeeded.",
            buckets=SAVING,
            registry=self.registry,
        )
        self._unsaved = Counter(
            "kevy_elect_ballot_save_failures",
            "Failures to save the ballot.",
            registry=self.registry,
        )
        self.registry.register(self)
        election.probes.add(self)

    def _counter(self, name: str, text: str, label: str, values: Iterable[str]) -> Counter:
        counter = Counter(name, text, [label], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    # As a probe of the node

    def noted(self, event: Event) -> None:
        self._events.labels(event.kind).inc()
        if event.kind is EventKind.REFUSED:
            self._refused_votes.labels(event.cause).inc()
        elif event.kind is EventKind.RENEWAL:
            self._renewals.labels(event.cause).inc()
        elif event.kind is EventKind.CANDIDACY and event.cause is not Cause.EPOCHS_USED_UP:
            self._leads = False
            self._ran = event.cause
        elif event.kind is EventKind.ROLE:
            ended = self._demotions if self._leads else self._elections
            ended.labels(event.cause).inc()
            self._leads = event.cause is Cause.ELECTED
            if self._leads:
                self._terms.labels(self._ran).inc()

    def ticked(self, late: float) -> None:
        self._lateness.observe(late)

    def saved(self, took: float, *, kept: bool) -> None:
        self._saving.observe(took)
        if not kept:
            self._unsaved.inc()

    # As a collector of the registry

    def collect(self) -> Iterator[Metric]:
        """The values at this moment."""
        yield from self._identity()
        yield from self._state()
        yield from self._peers()
        yield from self._refused_frames()
        yield from self._children()
        yield from self._data_server()

    def _identity(self) -> Iterator[Metric]:
        election = self._election
        yield InfoMetricFamily(
            "kevy_elect_build",
            "The version of kevy-elect, and of the Python that runs it.",
            {"version": __version__, "python": platform.python_version()},
        )
        yield InfoMetricFamily(
            "kevy_elect_node",
            "The id of this member, whether it only votes, and the name of its cluster.",
            {
                "node_id": election.cluster.node_id,
                "witness": str(election.witness).lower(),
                "cluster": election.cluster_name,
            },
        )
        settings = GaugeMetricFamily(
            "kevy_elect_setting_seconds", "The timings in force, in seconds.", labels=["setting"]
        )
        for name, value in attrs.asdict(election.config).items():
            settings.add_metric([name], value)
        yield settings
        certificate = GaugeMetricFamily(
            "kevy_elect_certificate_end_timestamp_seconds",
            "When this node's certificate expires, in seconds since 1970.",
        )
        if election.certificate_ends is not None:
            certificate.add_metric([], election.certificate_ends)
        yield certificate

    def _state(self) -> Iterator[Metric]:
        election, now = self._election, self._election.state_snapshot()
        yield _gauge("kevy_elect_running", "Whether the elector runs.", election.is_electing)
        yield _one_of("kevy_elect_role", "The role of this node.", "role", [*Role], now.role)
        yield _one_of(
            "kevy_elect_follows",
            "The primary, as far as this node knows.",
            "member",
            election.cluster.ids,
            now.current_primary,
        )
        yield _gauge("kevy_elect_epoch", "The epoch of this node, the fencing token.", now.epoch)
        yield _gauge("kevy_elect_has_quorum", "Whether a quorum backs this node.", now.has_quorum)
        yield _gauge(
            "kevy_elect_can_write", "Whether this node is primary with its lease.", now.can_write
        )
        yield _gauge(
            "kevy_elect_lease_remaining_seconds",
            "Seconds until the lease ends if no message arrives; 0 without, +Inf if it never does.",
            now.lease_expires_in,
        )
        yield _gauge(
            "kevy_elect_paused_remaining_seconds",
            "Seconds for which this node will still not run for election; 0 if it may run.",
            election.paused_for(),
        )
        yield from self._maintenance()
        yield _gauge(
            "kevy_elect_last_will",
            "Whether the other members would be notified at once if this primary's process died.",
            bool(election.last_will),
        )
        check = GaugeMetricFamily(
            "kevy_elect_healthy", "Whether the health check finds this node healthy."
        )
        found = None if election.health_check is None else election.health_check.status()
        if found is not None:
            check.add_metric([], found.healthy)
        yield check
        yield _gauge(
            "kevy_elect_repl_offset", "How much data this node states.", election.repl_offset
        )

    def _maintenance(self) -> Iterator[Metric]:
        left = self._election.maintained_for()
        yield _gauge(
            "kevy_elect_maintenance",
            "Whether this node takes over from nobody by itself.",
            left > 0,
        )
        end = GaugeMetricFamily(
            "kevy_elect_maintenance_end_timestamp_seconds",
            "When that ends by itself, in seconds since 1970.",
        )
        if left > 0:
            end.add_metric([], self._wall() + left)
        yield end

    def _peers(self) -> Iterator[Metric]:
        up = _by_peer("peer_up", "Whether the peer was heard less than down_after ago.")
        silence = _by_peer(
            "peer_silence_seconds", "Seconds since the peer's last message; +Inf if there was none."
        )
        acknowledging = _by_peer(
            "peer_acknowledging", "Whether the peer acknowledges heartbeats (section 4)."
        )
        link = _by_peer("link_state", "The connection that this node dials.", "state")
        security = _by_peer(
            "link_security", "The kind of authentication of the link; plain: none.", "kind"
        )
        keys = InfoMetricFamily(
            "kevy_elect_link_key",
            "The first eight digits of the key or certificate that the peer has proven.",
            labels=["peer"],
        )
        queued = _by_peer("link_queued_messages", "Messages that wait for the peer.")
        dropped = CounterMetricFamily(
            "kevy_elect_link_dropped_messages",
            "Messages that newer ones replaced before they could be sent.",
            labels=["peer"],
        )
        for peer in self._election.peer_status():
            name = [peer.node_id]
            up.add_metric(name, peer.alive)
            silence.add_metric(name, float("inf") if peer.heard_ago is None else peer.heard_ago)
            acknowledging.add_metric(name, peer.acknowledging)
            for state in LINKS:
                link.add_metric([*name, state], state == peer.link)
            for kind in SECURITIES:
                security.add_metric([*name, kind], kind == peer.security)
            keys.add_metric(name, {"key": peer.key})
            queued.add_metric(name, peer.queued)
            dropped.add_metric(name, peer.dropped)
        yield from (up, silence, acknowledging, link, security, keys, queued, dropped)

    def _refused_frames(self) -> Iterator[Metric]:
        frames = CounterMetricFamily(
            "kevy_elect_refused_frames",
            "Frames and handshakes that ended their connection, by fault.",
            labels=["kind"],
        )
        refused = self._election.refused_frames()
        for kind in FRAMES:
            frames.add_metric([kind], refused[kind])
        yield frames

    def _children(self) -> Iterator[Metric]:
        """Children of one name are counted together: a name may be that of their class."""
        states: Tally[tuple[str, str]] = Tally()
        restarts: Tally[str] = Tally()
        for child in self._election.children():
            states[child.name, child.state] += 1
            restarts[child.name] += child.restarts
        children = GaugeMetricFamily(
            "kevy_elect_children",
            "Children that run only on the primary, by state.",
            labels=["child", "state"],
        )
        restarted = CounterMetricFamily(
            "kevy_elect_child_restarts",
            "Restarts of children that had ended by themselves.",
            labels=["child"],
        )
        for name, times in restarts.items():
            for state in CHILDREN:
                children.add_metric([name, state], states[name, state])
            restarted.add_metric([name], times)
        yield from (children, restarted)

    def _data_server(self) -> Iterator[Metric]:
        """Only the names of the metrics on a node that drives no server."""
        status = own_status(self._election, events=False)
        data = status.data
        state = GaugeMetricFamily(
            "kevy_elect_data_state", "The state of the data server.", labels=["state"]
        )
        values = {
            "problem": "Whether the data server is not in the required state.",
            "epoch": "The epoch of the history that its data is part of; 0 if that is not known.",
            "length": "How much of that history it has.",
            "in_sync": "Whether it has all that its source sent, and receives from it now.",
            "lag": "How much more of that history the primary's server has.",
        }
        gauges = {
            name: GaugeMetricFamily(f"kevy_elect_data_{name}", text)
            for name, text in values.items()
        }
        fencing = GaugeMetricFamily(
            "kevy_elect_data_fencing",
            "What keeps the data server from taking writes when the node cannot.",
            labels=["kind"],
        )
        if data is not None:
            for each in State:
                state.add_metric([each], each == data.state)
            for kind in Fencing:
                fencing.add_metric([kind], kind == data.fencing)
            gauges["problem"].add_metric([], bool(data.problem))
            gauges["epoch"].add_metric([], data.data_epoch)
            gauges["length"].add_metric([], data.length)
            gauges["in_sync"].add_metric([], is_in_sync(data))
            if (behind := lag(status)) is not None:
                gauges["lag"].add_metric([], behind)
        yield from (state, fencing, *gauges.values())


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _one_of(
    name: str, text: str, label: str, values: Iterable[str], present: str | None
) -> GaugeMetricFamily:
    """1 for the value of the label that is present, 0 for the others."""
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        gauge.add_metric([value], value == present)
    return gauge


def _by_peer(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kevy_elect_{name}", text, labels=["peer", *labels])


@attrs.frozen
class _WithoutCreated:
    """A registry without the times at which counters were created. The library would add
    them as another series for each counter; only OpenMetrics uses them."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [each for each in metric.samples if not each.name.endswith("_created")]
            yield metric


class MetricsPage(Resource):
    """A node's metrics, in the text format that every Prometheus reads."""

    isLeaf = True

    def __init__(self, election: ElectionService) -> None:
        super().__init__()
        registry = _WithoutCreated(Metrics(election).registry)
        self._metrics = Copy(lambda: generate_latest(registry), election.now)

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", CONTENT_TYPE)
        request.setHeader(b"cache-control", b"no-store")
        return self._metrics()
