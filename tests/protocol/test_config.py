"""Members and timings: what is refused, and what is derived."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import (
    Cluster,
    ElectConfig,
    PeerAddr,
    is_loopback,
    is_wildcard,
    parse_advertised,
    quorum,
)
from kevy_elect.errors import ConfigError


def cluster(node_id: str, *members: str) -> Cluster:
    return Cluster(node_id, tuple(map(PeerAddr.parse, members)))


def of_size(members: int) -> Cluster:
    return cluster("n0", *(f"n{i}@host{i}:7101" for i in range(members)))


class ParsingPeers(SynchronousTestCase):
    def test_with_a_client_port(self) -> None:
        peer = PeerAddr.parse("n1@db1.example:7101:6004")
        self.assertEqual(peer, PeerAddr("n1", "db1.example", 7101, 6004))
        self.assertEqual(peer.client_addr, "db1.example:6004")
        self.assertEqual(str(peer), "n1@db1.example:7101:6004")

    def test_without_a_client_port(self) -> None:
        self.assertEqual(PeerAddr.parse("n1@10.0.0.1:7101"), PeerAddr("n1", "10.0.0.1", 7101, 7101))

    def test_ipv6_stands_in_brackets(self) -> None:
        peer = PeerAddr.parse("n1@[fd00::1]:7101:6004")
        self.assertEqual(peer, PeerAddr("n1", "fd00::1", 7101, 6004))
        self.assertEqual(peer.client_addr, "[fd00::1]:6004")
        self.assertEqual(PeerAddr.parse(str(peer)), peer)

    def test_ipv6_without_a_client_port(self) -> None:
        self.assertEqual(PeerAddr.parse("n1@[::1]:7101"), PeerAddr("n1", "::1", 7101, 7101))

    def test_blanks_around_it_do_not_matter(self) -> None:
        self.assertEqual(PeerAddr.parse(" n1@h:1 \n"), PeerAddr("n1", "h", 1, 1))

    def test_ports_from_1_to_65535(self) -> None:
        self.assertEqual(PeerAddr.parse("n1@h:1:65535"), PeerAddr("n1", "h", 1, 65535))

    def test_every_error_quotes_the_text(self) -> None:
        for text in (
            "",
            "n1",
            "n1@",
            "n1@h",
            "n1@:7101",
            "n1@h:",
            "n1@h:0",
            "n1@h:65536",
            "n1@h:-1",
            "n1@h:+1",
            "n1@h:x",
            "n1@h:²",
            "n1@h: 7101",
            "n1@h:7101:",
            "n1@h:7101:0",
            "n1@h:7101:6004:5",
            "n1@h i:7101",
            "n1@::1:7101",
            "n1@[::1]",
            "n1@[::1]7101",
            "n1@[::1:7101",
            "n1@[::1]:",
            "n1@[10.0.0.1]:7101",
            "n1@[::1]:1:2:3",
            "n1@[x]:7101",
        ):
            error = self.assertRaises(ConfigError, PeerAddr.parse, text)
            self.assertIn(repr(text), str(error))

    def test_ids_that_an_operator_may_not_use(self) -> None:
        for node_id in ("", "*", "a*", "a,b", "a:b", "a b", "ä", "a" * 33, "a\t"):
            error = self.assertRaises(ConfigError, PeerAddr.parse, f"{node_id}@h:7101")
            self.assertIn(repr(node_id), str(error))

    def test_an_id_without_its_at_sign(self) -> None:
        # The first @ ends the id, so an id cannot hold one: the host would.
        self.assertRaises(ConfigError, PeerAddr.parse, "a@b@:7101:x")

    def test_ids_that_it_may(self) -> None:
        for node_id in ("a", "n-1", "db_1.eu", "a" * 32, "~!$", "7"):
            self.assertEqual(PeerAddr.parse(f"{node_id}@h:1").node_id, node_id)


class Clusters(SynchronousTestCase):
    def test_me_and_my_peers(self) -> None:
        members = cluster("b", "a@h1:1", "b@h2:2", "c@h3:3")
        self.assertEqual(members.ids, ("a", "b", "c"))
        self.assertEqual(members.me, PeerAddr("b", "h2", 2, 2))
        self.assertEqual([peer.node_id for peer in members.peers], ["a", "c"])

    def test_the_quorum_counts_this_node(self) -> None:
        sizes = {size: of_size(size).quorum for size in range(1, 8)}
        self.assertEqual(sizes, {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4})
        self.assertEqual(quorum(5), 3)

    def test_the_same_id_twice(self) -> None:
        error = self.assertRaises(ConfigError, cluster, "a", "a@h1:1", "b@h2:2", "a@h3:3")
        self.assertIn("a@h1:1", str(error))
        self.assertIn("a@h3:3", str(error))
        self.assertIn("id 'a'", str(error))

    def test_the_same_address_twice(self) -> None:
        error = self.assertRaises(ConfigError, cluster, "a", "a@h1:1", "b@h1:1")
        self.assertIn("b@h1:1", str(error))
        self.assertIn("address", str(error))

    def test_one_host_with_two_ports_is_fine(self) -> None:
        self.assertEqual(cluster("a", "a@h:1", "b@h:2").ids, ("a", "b"))

    def test_this_node_must_be_a_member(self) -> None:
        error = self.assertRaises(ConfigError, cluster, "x", "a@h1:1", "b@h2:2")
        self.assertIn("'x'", str(error))
        self.assertIn("a, b", str(error))

    def test_nobody(self) -> None:
        self.assertRaises(ConfigError, cluster, "a")

    def test_two_members_are_warned(self) -> None:
        self.assertIn("tolerate no failure", of_size(2).warning() or "")

    def test_even_members_are_warned(self) -> None:
        self.assertIn("tolerate 1 failure", of_size(4).warning() or "")
        self.assertIn("tolerate 2 failures", of_size(6).warning() or "")

    def test_odd_members_are_not(self) -> None:
        self.assertEqual([of_size(size).warning() for size in (1, 3, 5)], [None] * 3)


class Timings(SynchronousTestCase):
    def refused(self, *words: str, **settings: Any) -> None:
        """These settings are refused in a message that has these words."""
        error = self.assertRaises(ConfigError, ElectConfig, **settings)
        for word in words:
            self.assertIn(word, str(error))

    def test_defaults(self) -> None:
        expected = {
            "hb_interval": 0.2,
            "down_after": 5.0,
            "election_timeout": 3.0,
            "election_backoff": 1.0,
            "election_backoff_jitter": 4.0,
            "pause_after": 0.4,
            "lease_margin": 1.25,
            "candidate_step": 0.4,
            "announce_interval": 1.0,
            "ack_margin": 0.1,
            "lease_duration": 4.9,
            "count_unacknowledged": True,
        }
        actual = attrs.asdict(ElectConfig())
        self.assertEqual(set(actual), set(expected))
        for name, value in expected.items():
            self.assertAlmostEqual(actual[name], value, msg=name)

    def test_defaults_follow_the_heartbeat(self) -> None:
        config = ElectConfig(hb_interval=1.0, down_after=10.0)
        self.assertEqual(config.pause_after, 2.0)
        self.assertEqual(config.lease_margin, 4.0)
        self.assertEqual(config.candidate_step, 2.0)
        self.assertEqual(config.announce_interval, 5.0)
        self.assertEqual(config.ack_margin, 0.2)
        self.assertEqual(config.lease_duration, 9.8)

    def test_the_lease_margin_follows_down_after_when_that_is_long(self) -> None:
        self.assertEqual(ElectConfig(hb_interval=1.0, down_after=100.0).lease_margin, 25.0)

    def test_fast_ones(self) -> None:
        config = ElectConfig(hb_interval=0.05, down_after=0.5, election_timeout=0.3)
        self.assertAlmostEqual(config.lease_margin, 0.2)

    def test_nothing_below_or_at_zero(self) -> None:
        for field in attrs.fields(ElectConfig):
            if field.name == "count_unacknowledged":
                continue
            self.refused(field.name, **{field.name: -1.0})
            for value in (float("nan"), float("inf")):
                self.refused(field.name, **{field.name: value})
            if field.name != "election_backoff_jitter":
                self.refused(field.name, **{field.name: 0.0})

    def test_no_jitter_is_fine(self) -> None:
        self.assertEqual(ElectConfig(election_backoff_jitter=0).election_backoff_jitter, 0)

    def test_down_after_is_at_least_5_heartbeats(self) -> None:
        self.refused("down_after", "5 × hb_interval", down_after=0.9)
        # The lease margin must be given: 4 heartbeats are more than half of 5.
        ElectConfig(hb_interval=0.1, down_after=0.5, pause_after=0.1, lease_margin=0.2)

    def test_election_timeout_is_at_least_2_heartbeats(self) -> None:
        self.refused("election_timeout", "2 × hb_interval", election_timeout=0.39)
        ElectConfig(election_timeout=0.4)

    def test_pause_after_is_at_least_a_heartbeat(self) -> None:
        self.refused("pause_after", "hb_interval", pause_after=0.19)
        ElectConfig(pause_after=0.2)

    def test_the_lease_margin_is_at_least_a_heartbeat_and_a_pause(self) -> None:
        self.refused("lease_margin", "hb_interval + pause_after", lease_margin=0.59)
        ElectConfig(lease_margin=0.6)
        # 0.1 + 0.2 is not 0.3 in binary; it is meant to be.
        ElectConfig(hb_interval=0.1, pause_after=0.2, lease_margin=0.3, down_after=1.0)

    def test_the_lease_margin_is_at_most_half_of_down_after(self) -> None:
        self.refused("lease_margin", "down_after / 2", lease_margin=2.51)
        ElectConfig(lease_margin=2.5)

    def test_the_ack_margin_is_at_most_half_of_down_after(self) -> None:
        """A greater one would leave no lease that anybody could write under."""
        self.refused("ack_margin", "down_after / 2", ack_margin=6.0)
        ElectConfig(ack_margin=2.5)

    def test_the_lease_ends_before_the_promise_that_it_rests_on(self) -> None:
        self.refused("lease_duration", "down_after − ack_margin", lease_duration=4.91)
        self.refused(
            "lease_duration", "down_after − ack_margin (4 s)", ack_margin=1, lease_duration=5
        )
        ElectConfig(lease_duration=4.9)

    def test_the_lease_lasts_for_two_heartbeats_and_a_pause(self) -> None:
        self.refused("lease_duration", "2 × hb_interval + pause_after", lease_duration=0.79)
        ElectConfig(lease_duration=0.8)

    def test_the_default_margin_is_checked_too(self) -> None:
        self.refused("lease_margin", "down_after / 2", hb_interval=0.2, down_after=1.5)


class AdvertisedAddresses(SynchronousTestCase):
    def test_what_clients_can_reach(self) -> None:
        for text in ("db1.example:6004", "10.0.0.1:6004", "[fd00::1]:6004", "localhost:1"):
            self.assertEqual(parse_advertised(text), text)

    def test_wildcards(self) -> None:
        for text in ("0.0.0.0:6004", "[::]:6004", "*:6004"):
            error = self.assertRaises(ConfigError, parse_advertised, text)
            self.assertIn(repr(text), str(error))
            self.assertIn("wildcard", str(error))

    def test_no_host_and_port(self) -> None:
        for text in ("", "h", "h:", ":6004", "h:0", "h:65536", "h:1:2", "fd00::1:6004", "[::1]"):
            error = self.assertRaises(ConfigError, parse_advertised, text)
            self.assertIn(repr(text), str(error))

    def test_is_wildcard(self) -> None:
        for host in ("", "*", "0.0.0.0", "::"):
            self.assertTrue(is_wildcard(host), host)
        for host in ("127.0.0.1", "::1", "10.0.0.1", "db1.example"):
            self.assertFalse(is_wildcard(host), host)

    def test_is_loopback(self) -> None:
        for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1"):
            self.assertTrue(is_loopback(host), host)
        for host in ("0.0.0.0", "::", "10.0.0.1", "db1.example", ""):
            self.assertFalse(is_loopback(host), host)


class BlameTests(SynchronousTestCase):
    def test_an_error_carries_the_settings_that_do_not_fit_together(self) -> None:
        error = self.assertRaises(ConfigError, ElectConfig, lease_margin=3.0)
        assert isinstance(error, ConfigError)
        self.assertEqual(error.settings, ("lease_margin", "down_after"))
        self.assertEqual(error.remedies, ("hb_interval",))

    def test_it_can_name_them_as_another_does(self) -> None:
        error = self.assertRaises(ConfigError, ElectConfig, down_after=0.5)
        assert isinstance(error, ConfigError)
        self.assertIn(
            "down_after (0.5 s) must be at least 1 s, which is 5 × hb_interval", str(error)
        )
        self.assertIn(
            "DOWN_AFTER (0.5 s) must be at least 1 s, which is 5 × HB_INTERVAL",
            error.naming(str.upper),
        )

    def test_one_about_something_else_carries_none_and_may_have_braces(self) -> None:
        error = ConfigError("{what} is no node id")
        self.assertEqual((str(error), error.settings), ("{what} is no node id", ()))
