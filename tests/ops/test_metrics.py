from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args
from unittest import mock, skipIf

import attrs
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__, elector, errors, status
from kevy_elect.ballot import Ballot, MemoryBallot
from kevy_elect.children.health_check import HealthCheck
from kevy_elect.driving import Fencing, State
from kevy_elect.events import Cause, Event, EventKind
from kevy_elect.local_server import join_offset
from kevy_elect.messages import Accept, Offer, Role
from kevy_elect.ops import connections, metrics
from kevy_elect.ops.http import site
from kevy_elect.ops.metrics import Metrics
from kevy_elect.service.election import ElectionService
from kevy_elect.settings.links import read_identity
from kevy_elect.status import ChildStatus
from kevy_elect.transport import channel, link
from kevy_elect.transport.channel import PLAIN_SECURITY, Security
from kevy_elect.transport.tls import TlsSecurity
from tests.support import ROOT
from tests.support.certificates import Authority
from tests.support.data_servers import Driven
from tests.support.nodes import FragileBallot
from tests.support.transports import QUICK, Wire, cluster, heartbeat, rng

PAGE = ROOT / "docs/metrics.md"
ALERTS = ROOT / "examples/alerts.yml"
ALERTS_TEST = ROOT / "examples/alerts_test.yml"
DASHBOARD = ROOT / "examples/grafana-dashboard.json"
PROMTOOL = shutil.which("promtool")
TICK = QUICK.hb_interval / 2

needs_promtool = skipIf(PROMTOOL is None, "promtool (Debian: prometheus) is not installed")


def exposed(family: Metric) -> str:
    """The name of a family as a scrape has it, which the parser shortens."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric, as the documentation says."""
    rows = re.findall(
        r"^\| `(kevy_elect_\w+)` \| (\w+) \| (.*?)\| ", PAGE.read_text(), re.MULTILINE
    )
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def described(families: list[Metric]) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric of a scrape."""
    return {
        exposed(family): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families
    }


def named(expressions: str) -> set[str]:
    """The metrics of ours that expressions name."""
    return set(re.findall(r"\bkevy_elect_\w+", expressions))


def series(families: list[Metric]) -> set[str]:
    """The names of all series of a scrape."""
    return {sample.name for family in families for sample in family.samples}


def panels() -> list[str]:
    """The expressions of the dashboard, as Grafana would send them."""
    told = json.loads(DASHBOARD.read_text())
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$job", "db")
        for panel in told["panels"]
        for target in panel["targets"]
    ]


class NodeTests(SynchronousTestCase):
    """One node whose clock stands still until it is moved."""

    def setUp(self) -> None:
        self.patch(connections, "KEPT", 0.0)  # what is asked for twice has changed in between
        self.begin()

    def begin(
        self,
        ids: str = "abc",
        ballot: Ballot | None = None,
        security: Security = PLAIN_SECURITY,
    ) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.election = ElectionService(
            cluster(ids=ids),
            ballot=ballot or MemoryBallot(),
            config=QUICK,
            handover=False,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            rng=rng(),
            security=security,
            on_crash=lambda failure: failure.raiseException(),
        )
        self.site: Any = site(self.election)
        self.election.startService()

    def get(self, path: str = "/metrics", method: str = "GET") -> tuple[str, str]:
        """Head and body of the answer."""
        channel, transport = self.site.buildProtocol(None), Wire()
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        return head, body

    def scrape(self) -> list[Metric]:
        return list(text_string_to_metric_families(self.get()[1]))

    def value(self, name: str, **labels: str) -> float:
        (found,) = (
            sample.value
            for family in self.scrape()
            for sample in family.samples
            if (sample.name, sample.labels) == (f"kevy_elect_{name}", labels)
        )
        return float(found)

    def live(self, seconds: float, hearing: str = "", epoch: int = 1) -> None:
        """Tick for so long, with heartbeats of replicas of these ids before each."""
        for _ in range(round(seconds / TICK)):
            for peer in hearing:
                self.election.message_received(peer, heartbeat(peer, epoch))
            self.reactor.advance(TICK)

    def be_primary(self) -> None:
        """Run in epoch 2, as the best candidate of a new cluster, and get the vote of b."""
        self.live(TICK, hearing="bc")
        self.election.message_received("b", Accept(2, "b"))
        assert self.election.can_write()


class PageTests(NodeTests):
    def test_it_is_text_that_every_prometheus_reads(self) -> None:
        head, body = self.get()
        self.assertTrue(head.startswith("HTTP/1.0 200"))
        self.assertIn("content-type: text/plain; version=0.0.4; charset=utf-8", head.lower())
        self.assertTrue(body.endswith("\n"))

    def test_head_has_no_body(self) -> None:
        head, body = self.get(method="HEAD")
        self.assertTrue(head.startswith("HTTP/1.0 200"))
        self.assertEqual(body, "")

    def test_names_keep_to_the_conventions(self) -> None:
        for family in self.scrape():
            name = exposed(family)
            self.assertRegex(name, r"^kevy_elect_[a-z]+(_[a-z]+)*$")
            self.assertEqual(family.type == "counter", name.endswith("_total"), name)
            self.assertNotRegex(name, r"_(ms|milliseconds|minutes|percent|count|sum|created)\b")
            self.assertRegex(family.documentation, r"^[A-Z].*\.$", name)
            if family.type == "histogram":
                self.assertTrue(name.endswith("_seconds"), name)

    def test_each_metric_is_documented_and_each_documented_one_is_there(self) -> None:
        self.election.fence.add(Children(ChildStatus("job", "running")))
        self.election.data = Driven()
        self.assertEqual(described(self.scrape()), documented())

    def test_links_by_what_they_prove(self) -> None:
        self.assertEqual(self.value("link_security", peer="b", kind="plain"), 1)
        self.assertEqual(self.value("link_key_info", peer="b", key=""), 1)
        self.assertNotIn("\nkevy_elect_certificate_end_timestamp_seconds ", self.get()[1])

    def test_what_a_health_check_says(self) -> None:
        self.assertNotIn("\nkevy_elect_healthy ", self.get()[1])
        check = HealthCheck(self.election, ["check"])
        self.assertEqual(self.value("healthy"), 1)
        check.healthy = False
        self.live(1)
        self.assertEqual(self.value("healthy"), 0)

    def test_the_end_of_the_certificate(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        identity = read_identity("a", *authority.member("a", days=20), str(authority.path))
        self.begin(security=TlsSecurity(identity, ["b", "c"]))
        left = self.value("certificate_end_timestamp_seconds") - time.time()
        self.assertTrue(19.9 < left / 86400 <= 20)
        self.assertEqual(self.value("link_security", peer="b", kind="tls"), 1)

    def test_what_is_said_and_done_to_a_node_makes_no_new_series(self) -> None:
        before = [(s.name, s.labels) for f in self.scrape() for s in f.samples]
        self.election.message_received("c", Offer(2, "c", 0))
        self.speak(b"*1\r\n$5\r\nHELLO\r\n", b"?", b"*4\r\n$5\r\nOFFER\r\n$1\r\nx\r\n")
        self.be_primary()
        self.live(2)
        self.live(2, hearing="bc")
        after = [(s.name, s.labels) for f in self.scrape() for s in f.samples]
        self.assertEqual(before, after)

    def speak(self, *frames: bytes) -> None:
        """Connect to the election port and say this, each on a connection of its own."""
        for frame in frames:
            incoming = self.election._acceptor.buildProtocol(None)
            incoming.makeConnection(Wire())
            incoming.dataReceived(frame)

    def test_frames_are_counted_by_what_was_wrong(self) -> None:
        self.speak(b"?", b"?", b"*1\r\n$5\r\nHELLO\r\n")
        self.assertEqual(self.value("refused_frames_total", kind="bad"), 2)
        self.assertEqual(self.value("refused_frames_total", kind="wrong_shape"), 1)
        self.assertEqual(self.value("refused_frames_total", kind="bad_epoch"), 0)

    def test_nodes_of_one_process_are_apart_and_leave_the_global_registry_alone(self) -> None:
        before = {family.name for family in REGISTRY.collect()}
        self.be_primary()
        first = self.site
        self.begin("abcde")
        self.assertEqual(self.value("elections_total", result="elected"), 0)
        self.assertEqual(self.value("epoch"), 1)
        self.site = first
        self.assertEqual(self.value("elections_total", result="elected"), 1)
        self.assertEqual({family.name for family in REGISTRY.collect()}, before)

    def test_a_program_may_serve_them_from_its_own_registry(self) -> None:
        registry = CollectorRegistry(auto_describe=True)
        Metrics(self.election, registry)
        self.assertEqual(registry.get_sample_value("kevy_elect_epoch"), 1)
        self.assertRaises(ValueError, Metrics, self.election, registry)


class WithoutTheLibraryTests(NodeTests):
    def setUp(self) -> None:
        patch = mock.patch.dict(sys.modules, {"prometheus_client": None})
        patch.start()
        self.addCleanup(patch.stop)
        del sys.modules["kevy_elect.ops.metrics"]
        super().setUp()

    def test_the_answer_says_what_to_install(self) -> None:
        head, body = self.get()
        self.assertTrue(head.startswith("HTTP/1.0 501"), head)
        self.assertIn("prometheus_client", body)
        self.assertIn("kevy-elect[metrics]", body)

    def test_all_else_is_served(self) -> None:
        self.assertTrue(self.get("/status")[0].startswith("HTTP/1.0 200"))


class StateTests(NodeTests):
    """What is read when it is asked for."""

    def test_a_node_says_who_it_is_and_how_it_is_set(self) -> None:
        (build,) = (f.samples[0] for f in self.scrape() if f.name == "kevy_elect_build_info")
        self.assertEqual((build.labels["version"], build.value), (__version__, 1))
        self.assertEqual(self.value("node_info", node_id="a", witness="false", cluster=""), 1)
        self.election.cluster_name = "orders"
        self.assertEqual(self.value("node_info", node_id="a", witness="false", cluster="orders"), 1)
        self.assertEqual(self.value("setting_seconds", setting="down_after"), QUICK.down_after)

    def test_maintenance_is_told_with_its_end_by_the_clock_on_the_wall(self) -> None:
        end = "kevy_elect_maintenance_end_timestamp_seconds"
        self.assertEqual(self.value("maintenance"), 0)
        self.assertNotIn(end, {s.name for family in self.scrape() for s in family.samples})
        self.election.maintain(60)
        self.assertEqual(self.value("maintenance"), 1)
        registry = Metrics(self.election, wall=lambda: 1000.0).registry
        self.assertEqual(registry.get_sample_value(end), 1060)
        self.election.maintain(0)
        self.assertEqual(self.value("maintenance"), 0)

    def test_a_replica(self) -> None:
        self.live(TICK)
        self.election.message_received("b", heartbeat("b", 7, Role.PRIMARY))
        self.assertEqual(self.value("role", role="replica"), 1)
        self.assertEqual(self.value("role", role="primary"), 0)
        self.assertEqual(self.value("follows", member="b"), 1)
        self.assertEqual(self.value("follows", member="a"), 0)
        self.assertEqual(self.value("epoch"), 7)
        self.assertEqual((self.value("running"), self.value("can_write")), (1, 0))
        self.assertEqual(self.value("lease_remaining_seconds"), 0)

    def test_a_primary(self) -> None:
        self.be_primary()
        self.assertEqual(self.value("role", role="primary"), 1)
        self.assertEqual(self.value("follows", member="a"), 1)
        self.assertEqual((self.value("can_write"), self.value("has_quorum")), (1, 1))
        left = self.election.state_snapshot().lease_expires_in
        self.assertAlmostEqual(self.value("lease_remaining_seconds"), left)
        self.reactor.advance(0.01)
        self.assertAlmostEqual(self.value("lease_remaining_seconds"), left - 0.01)

    def test_the_lease_of_a_cluster_of_one_never_ends(self) -> None:
        self.begin("a")
        self.assertEqual(self.value("lease_remaining_seconds"), float("inf"))

    def test_a_stopped_node(self) -> None:
        self.be_primary()
        self.election.stopService()
        self.assertEqual(
            [self.value(name) for name in ("running", "can_write", "epoch")], [0, 0, 0]
        )
        self.assertEqual(self.value("elections_total", result="elected"), 1)

    def test_peers_by_when_they_were_heard(self) -> None:
        self.election.message_received("b", heartbeat("b"))
        self.reactor.advance(0.01)
        self.assertAlmostEqual(self.value("peer_silence_seconds", peer="b"), 0.01)
        self.assertEqual(self.value("peer_silence_seconds", peer="c"), float("inf"))
        self.assertEqual(self.value("peer_up", peer="b"), 1)
        self.assertEqual(self.value("peer_up", peer="c"), 0)
        self.assertEqual(self.value("peer_acknowledging", peer="b"), 0)
        self.election.member_connected("b", greeted=True)
        self.assertEqual(self.value("peer_acknowledging", peer="b"), 1)

    def test_links_by_their_state_and_what_waits_for_them(self) -> None:
        self.live(4 * TICK)
        self.assertEqual(self.value("link_state", peer="b", state="connecting"), 1)
        self.assertEqual(self.value("link_state", peer="b", state="connected"), 0)
        self.assertEqual(self.value("link_queued_messages", peer="b"), 1)
        self.assertEqual(self.value("link_dropped_messages_total", peer="b"), 2)

    def test_a_node_that_stands_aside_and_how_much_data_it_has(self) -> None:
        self.election.pause(60)
        self.election.set_repl_offset(42)
        self.reactor.advance(0.5)
        self.assertEqual(self.value("paused_remaining_seconds"), 59.5)
        self.assertEqual(self.value("repl_offset"), 42)

    def test_a_data_server_by_its_state(self) -> None:
        self.election.data = Driven(state="unknown", problem="is asked no more")
        self.assertEqual(self.value("data_state", state="unknown"), 1)
        self.assertEqual(self.value("data_state", state="following"), 0)
        self.assertEqual(self.value("data_problem"), 1)

    def test_a_data_server_and_how_far_it_is_behind_the_primarys(self) -> None:
        self.election.data = Driven(data_epoch=3, length=900)
        self.assertNotIn("\nkevy_elect_data_lag ", self.get()[1])
        said = attrs.evolve(heartbeat("b", 7, Role.PRIMARY), repl_offset=join_offset(3, 1000))
        self.election.message_received("b", said)
        self.assertEqual(self.value("data_lag"), 100)
        found = [self.value(f"data_{name}") for name in ("epoch", "length", "in_sync", "problem")]
        self.assertEqual(found, [3, 900, 1, 0])

    def test_what_fences_a_data_server(self) -> None:
        self.election.data = Driven(fencing="guard")
        found = {kind: self.value("data_fencing", kind=kind) for kind in Fencing}
        self.assertEqual(found, {"supervisor": 0, "guard": 1, "node": 0})

    def test_a_node_without_a_data_server_has_no_series_of_one(self) -> None:
        self.assertNotIn("\nkevy_elect_data_", self.get()[1])

    def test_children_by_name_and_state(self) -> None:
        self.election.fence.add(
            Children(
                ChildStatus("job", "running", restarts=3),
                ChildStatus("Service", "running"),
                ChildStatus("Service", "starting", restarts=1),
            )
        )
        self.assertEqual(self.value("children", child="job", state="running"), 1)
        self.assertEqual(self.value("children", child="job", state="stopped"), 0)
        self.assertEqual(self.value("children", child="Service", state="running"), 1)
        self.assertEqual(self.value("children", child="Service", state="starting"), 1)
        self.assertEqual(self.value("child_restarts_total", child="job"), 3)
        self.assertEqual(self.value("child_restarts_total", child="Service"), 1)


class Children:
    """A writer whose children are as given."""

    def __init__(self, *children: ChildStatus) -> None:
        self.children = children

    def describe(self) -> list[ChildStatus]:
        return list(self.children)

    def when_stopped(self) -> Any:
        raise NotImplementedError


class CountTests(NodeTests):
    """What is counted as it happens."""

    def test_a_candidacy_that_wins_and_a_primary_that_loses_its_lease(self) -> None:
        self.be_primary()
        self.assertEqual(self.value("elections_total", result="elected"), 1)
        self.live(3)
        self.assertEqual(self.value("demotions_total", reason="leaseless"), 1)
        self.assertEqual(self.value("events_total", kind="quorum"), 2)

    def test_terms_by_why_the_node_ran(self) -> None:
        self.be_primary()
        self.assertEqual(self.value("terms_total", cause="no-primary"), 1)
        self.assertEqual(self.value("terms_total", cause="last-will"), 0)
        self.election.member_connected("b", greeted=True)
        for _ in range(2):  # since its start (R4.3)
            self.election.message_received("b", heartbeat("b", 3, Role.PRIMARY))
            self.live(QUICK.down_after / 2, hearing="c", epoch=3)
        will = heartbeat("b", 3)
        self.assertTrue(self.election.expect_last_will(will))
        self.election.message_received("b", will)
        self.live(TICK, hearing="c", epoch=3)
        self.election.message_received("c", Accept(4, "c"))
        self.assertEqual(self.election.began_by_will_of, "b")
        self.assertEqual(self.value("terms_total", cause="last-will"), 1)

    def test_a_candidacy_without_votes(self) -> None:
        self.live(TICK, hearing="bc")
        self.assertEqual(self.value("role", role="candidate"), 1)
        self.live(QUICK.election_timeout + TICK)
        self.assertEqual(self.value("elections_total", result="timeout"), 1)

    def test_the_end_of_a_candidacy_is_no_demotion_and_the_other_way_round(self) -> None:
        self.live(TICK, hearing="bc")
        self.election.message_received("b", heartbeat("b", 3, Role.PRIMARY))
        self.assertEqual(self.value("elections_total", result="superseded"), 1)
        self.assertEqual(self.value("demotions_total", reason="superseded"), 0)
        self.begin()
        self.be_primary()
        self.election.message_received("b", heartbeat("b", 3, Role.PRIMARY))
        self.assertEqual(self.value("elections_total", result="superseded"), 0)
        self.assertEqual(self.value("demotions_total", reason="superseded"), 1)

    def test_a_primary_when_they_are_made_counts_as_one(self) -> None:
        self.be_primary()
        self.site = site(self.election)
        self.election.step_down(1.0, "because")
        self.assertEqual(self.value("demotions_total", reason="resigned"), 1)
        self.assertEqual(self.value("elections_total", result="resigned"), 0)

    def test_refused_votes_by_rule(self) -> None:
        for epoch in (2, 3):
            self.election.message_received("c", Offer(epoch, "c", 0))
        self.assertEqual(self.value("refused_votes_total", rule="R4.3"), 2)
        self.assertEqual(self.value("events_total", kind="refused"), 2)

    def test_ticks_by_how_late_they_were(self) -> None:
        self.live(10 * QUICK.hb_interval)
        self.assertEqual(self.value("tick_lateness_seconds_bucket", le="0.001"), 10)
        self.reactor.advance(QUICK.hb_interval + 0.3)
        self.assertEqual(self.value("tick_lateness_seconds_bucket", le="0.25"), 10)
        self.assertEqual(self.value("tick_lateness_seconds_bucket", le="0.5"), 11)
        self.assertAlmostEqual(self.value("tick_lateness_seconds_sum"), 0.3)
        self.assertEqual(self.value("events_total", kind="pause"), 1)

    def test_a_node_that_was_stopped_for_a_while_is_not_late_when_it_starts_again(self) -> None:
        self.begin("a")
        self.successResultOf(self.election.stopService())
        self.reactor.advance(1000)
        self.election.startService()
        self.live(QUICK.hb_interval)
        self.assertEqual(self.value("tick_lateness_seconds_bucket", le="0.001"), 1)
        self.assertEqual(self.value("tick_lateness_seconds_count"), 1)

    def test_saves_of_the_ballot_by_how_long_they_took(self) -> None:
        self.begin(ballot=SlowBallot(lambda: self.reactor))
        self.be_primary()
        self.assertEqual(self.value("ballot_save_seconds_count"), 1)
        self.assertAlmostEqual(self.value("ballot_save_seconds_sum"), 0.03)
        self.assertEqual(self.value("ballot_save_failures_total"), 0)

    def test_saves_of_the_ballot_that_failed(self) -> None:
        ballot = FragileBallot()
        ballot.full = True
        self.begin(ballot=ballot)
        self.live(TICK, hearing="bc")
        self.assertEqual(self.value("ballot_save_failures_total"), 1)
        self.assertEqual(self.value("ballot_save_seconds_count"), 1)
        self.assertEqual(self.value("events_total", kind="ballot"), 1)
        self.assertEqual(self.value("role", role="replica"), 1)


class SlowBallot(MemoryBallot):
    """Takes 30 ms to save."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor

    def save(self, epoch: int, voted_for: str | None) -> None:
        self._reactor().rightNow += 0.03
        super().save(epoch, voted_for)


class ProbeTests(NodeTests):
    def test_one_that_fails_is_logged_and_harms_nobody(self) -> None:
        self.election.probes.add(FailingProbe())
        self.be_primary()
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(self.value("can_write"), 1)

    def test_one_that_was_removed_is_told_nothing(self) -> None:
        remove = self.election.probes.add(FailingProbe())
        remove()
        remove()
        self.be_primary()
        self.assertEqual(self.flushLoggedErrors(), [])


class FailingProbe:
    def noted(self, event: Event) -> None:
        raise ZeroDivisionError

    def ticked(self, late: float) -> None:
        raise ZeroDivisionError

    def saved(self, took: float, *, kept: bool) -> None:
        raise ZeroDivisionError


class LabelTests(SynchronousTestCase):
    """The values of labels are those that the code has, and are documented."""

    def assert_those_of(self, module: Any, pattern: str, values: Iterable[str]) -> None:
        found = re.findall(pattern, Path(module.__file__).read_text())
        self.assertEqual(set(found), set(values))

    def test_every_way_in_which_a_role_ends_is_counted(self) -> None:
        source = Path(elector.__file__).read_text()
        ended = set(re.findall(r"_become_replica\([^()]*Cause\.(\w+)", source))
        counted = {*metrics.RESULTS, *metrics.DEMOTIONS} - {Cause.ELECTED}
        self.assertEqual({Cause[name] for name in ended}, counted)

    def test_frames(self) -> None:
        assert errors.FrameError.__doc__ is not None
        found = re.findall(r"`(bad\w*|wrong_shape)`", errors.FrameError.__doc__)
        self.assertEqual({*found, *get_args(channel.Fault)}, set(metrics.FRAMES))

    def test_rules(self) -> None:
        source = Path(elector.__file__).read_text()
        named = set(re.findall(r"Cause\.([RD]\d\w*)", source))
        self.assertEqual({Cause[name] for name in named}, set(metrics.RULES))

    def test_children(self) -> None:
        self.assert_those_of(status, r"`(stopped|starting|running|stopping)`", metrics.CHILDREN)

    def test_links(self) -> None:
        self.assert_those_of(link, r'\.state = "(\w+)"', metrics.LINKS)

    def test_each_is_documented(self) -> None:
        page = PAGE.read_text()
        for values in (
            EventKind,
            metrics.RULES,
            metrics.RESULTS,
            metrics.DEMOTIONS,
            metrics.RENEWALS,
            metrics.FRAMES,
            metrics.LINKS,
            metrics.CHILDREN,
            State,
        ):
            self.assertEqual([value for value in values if f"`{value}`" not in page], [])


class ExampleTests(SynchronousTestCase):
    """Alerts and dashboard."""

    def promtool(self, *arguments: str, given: str | None = None) -> str:
        """What it printed; fails unless its exit status is 0."""
        assert PROMTOOL is not None
        done = subprocess.run(
            [PROMTOOL, *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_each_alert_says_what_it_means_and_what_to_do(self) -> None:
        rules = ALERTS.read_text().split("- alert: ")[1:]
        self.assertGreater(len(rules), 10)
        for rule in rules:
            for part in ("severity: ", "summary: ", "description: "):
                self.assertEqual(rule.count(part), 1, rule)

    def test_each_alert_is_seen_to_fire(self) -> None:
        alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
        expected = set(re.findall(r'alertname="(\w+)"', ALERTS_TEST.read_text()))
        self.assertEqual(set(alerts), expected)

    def test_alerts_and_dashboard_name_only_what_is_documented(self) -> None:
        for text in (ALERTS.read_text(), ALERTS_TEST.read_text(), "\n".join(panels())):
            names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named(text)}
            self.assertEqual(names - set(documented()), set())

    def test_the_dashboard_shows_every_count(self) -> None:
        counts = {name for name, (kind, _) in documented().items() if kind != "gauge"}
        shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named("\n".join(panels()))}
        self.assertEqual(counts - shown, set())

    @needs_promtool
    def test_the_alerts_are_valid(self) -> None:
        self.promtool("check", "rules", str(ALERTS))

    @needs_promtool
    def test_the_alerts_fire_when_they_should_and_only_then(self) -> None:
        self.promtool("test", "rules", str(ALERTS_TEST))

    @needs_promtool
    def test_the_expressions_of_the_dashboard_are_valid(self) -> None:
        rules = [
            {"record": f"panel:{number}", "expr": expression}
            for number, expression in enumerate(panels())
        ]
        written = Path(self.mktemp())
        written.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
        told = self.promtool("check", "rules", str(written))
        self.assertIn(f"{len(rules)} rules found", told)
