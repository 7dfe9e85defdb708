"""What clients of Redis Sentinel are told, and how little a stranger on that port can do."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import MemoryBallot
from kevy_elect.config import Cluster, PeerAddr
from kevy_elect.messages import Accept, Announce, Role
from kevy_elect.ops import sentinel_port
from kevy_elect.ops.resp import Error, Push, Simple, encode
from kevy_elect.ops.sentinel import Sentinel, run_id
from kevy_elect.ops.sentinel_port import (
    IDLE,
    MAX_CLIENTS,
    MAX_LINE,
    MAX_SUBSCRIPTIONS,
    MAX_TURN,
    PATIENCE,
    Client,
    SentinelFactory,
)
from kevy_elect.service.election import ElectionService
from kevy_elect.wire import MAX_UNDECODED
from tests.support.data_servers import Driven
from tests.support.transports import QUICK, Wire, cluster, heartbeat, rng

FACES = {"a": "127.0.0.1:26379", "b": "127.0.0.1:26380", "c": "[::1]:26381"}
GET_ADDRESS = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")


def request(*words: str) -> bytes:
    return encode(list(words), 2)


def reply(data: bytes) -> tuple[Any, bytes]:
    """The first reply in `data`, and the rest. Its own reader: it shares nothing with `encode`."""
    line, _, rest = data.partition(b"\r\n")
    kind, text = line[:1], line[1:].decode("latin-1")
    if kind == b"+":
        return Simple(text), rest
    if kind == b"-":
        return Error(text), rest
    if kind == b":":
        return int(text), rest
    if kind == b"_" or (kind == b"*" and text == "-1"):
        return None, rest
    if kind == b"$":
        return rest[: int(text)].decode("latin-1"), rest[int(text) + 2 :]
    items = []
    for _ in range(int(text) * (2 if kind == b"%" else 1)):
        item, rest = reply(rest)
        items.append(item)
    if kind == b"%":
        return dict(zip(items[::2], items[1::2], strict=True)), rest
    assert kind in (b"*", b">"), line
    return (Push(items) if kind == b">" else items), rest


def replies(data: bytes) -> list[Any]:
    found = []
    while data:
        item, data = reply(data)
        found.append(item)
    return found


def pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Bounded(Wire):
    """A wire whose reader can stop: it tells its producer so, as a TCP transport does."""

    LIMIT = 65536

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None and len(self.value()) > self.LIMIT:
            self.producer.pauseProducing()

    def read(self) -> bytes:
        """What was written; it is read by that."""
        data = bytes(self.value())
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()
        return data


class SentinelTestCase(SynchronousTestCase):
    password: bytes | None = None
    witness = False
    members = cluster()
    data: Driven | None = None

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(100)
        self.election = ElectionService(
            self.members,
            ballot=MemoryBallot(),
            config=QUICK,
            reactor=self.reactor,
            clock=self.reactor.seconds,
            witness=self.witness,
            rng=rng(),
        )
        self.election.data = self.data
        self.election.startService()
        self.sentinel = Sentinel(self.election, "mymaster", FACES)
        self.factory = SentinelFactory(self.election, self.sentinel, self.password)
        self.factory.doStart()
        self.addCleanup(self.election.stopService)
        self.addCleanup(self.factory.doStop)

    def connect(self) -> tuple[Client, Bounded]:
        client, wire = self.factory.buildProtocol(None), Bounded()
        assert client is not None
        client.makeConnection(wire)
        return client, wire

    def said(self, *requests: Iterable[str]) -> list[Any]:
        """What a new client is answered."""
        client, wire = self.connect()
        client.dataReceived(b"".join(request(*each) for each in requests))
        self.reactor.advance(0)
        return replies(wire.read())

    def turn(self) -> None:
        self.reactor.advance(0)

    def live(self, seconds: float, *hearing: Any) -> None:
        for _ in range(round(seconds / 0.025)):
            for message in hearing:
                self.election.message_received(message.sender, message)
            self.reactor.advance(0.025)

    def win(self) -> None:
        for peer in "bc":
            self.election.message_received(peer, heartbeat(peer))
        self.reactor.advance(0.025)
        self.election.message_received("b", Accept(2, "b"))
        self.assertTrue(self.election.can_write())

    def follow(self, primary: str = "b", epoch: int = 2) -> None:
        port = 6101 + "abc".index(primary)
        self.election.message_received(primary, Announce(epoch, primary, f"127.0.0.1:{port}"))
        self.election.message_received(primary, heartbeat(primary, epoch, Role.PRIMARY))
        self.assertEqual(self.election.state_snapshot().current_primary, primary)


class DataServerTests(SentinelTestCase):
    data = Driven(state="frozen")

    def test_the_primary_names_itself_only_while_its_data_server_is_promoted(self) -> None:
        self.election.server_frozen(0, 0)
        for peer in "bc":
            self.election.message_received(peer, heartbeat(peer))
        self.reactor.advance(0.025)
        self.election.message_received("b", Accept(2, "b"))
        self.assertIs(self.election.state_snapshot().role, Role.PRIMARY)
        self.assertEqual(self.said(GET_ADDRESS), [None])
        self.assertEqual(self.sentinel.news(), [])
        self.election.server_promoted()
        self.assertEqual(self.said(GET_ADDRESS), [["127.0.0.1", "6101"]])
        self.election.server_lost("gave no answer")
        self.assertEqual(self.said(GET_ADDRESS), [None])


class AnswersTests(SentinelTestCase):
    def test_without_a_primary_there_is_no_address_and_the_master_is_down(self) -> None:
        address, (master,) = self.said(GET_ADDRESS, ("SENTINEL", "MASTERS"))
        self.assertIsNone(address)
        self.assertEqual(pairs(master)["flags"], "s_down,o_down,master")

    def test_the_primary_names_itself(self) -> None:
        self.win()
        self.assertEqual(self.said(GET_ADDRESS), [["127.0.0.1", "6101"]])

    def test_a_replica_names_the_primary_that_it_hears(self) -> None:
        self.follow()
        self.assertEqual(self.said(GET_ADDRESS), [["127.0.0.1", "6102"]])

    def test_nobody_is_named_when_the_lease_has_ended_or_the_primary_is_silent(self) -> None:
        self.win()
        self.live(0.475)
        self.assertIs(self.election.state_snapshot().role, Role.PRIMARY)
        self.assertEqual(self.said(GET_ADDRESS), [None])

    def test_the_master_keeps_its_last_address_while_it_is_down(self) -> None:
        self.follow()
        self.live(0.5)
        (master,) = self.said(("SENTINEL", "MASTER", "mymaster"))
        found = pairs(master)
        self.assertEqual((found["ip"], found["port"]), ("127.0.0.1", "6102"))
        self.assertEqual(found["flags"], "s_down,o_down,master")

    def test_an_instance_begins_with_what_some_read_by_position(self) -> None:
        self.follow()
        for verb in ("MASTER", "REPLICAS", "SLAVES", "SENTINELS"):
            (found,) = self.said(("SENTINEL", verb, "mymaster"))
            for each in [found] if verb == "MASTER" else found:
                self.assertEqual(each[::2][:5], ["name", "ip", "port", "runid", "flags"])
                self.assertTrue(0 < int(pairs(each)["port"]) < 65536)
                self.assertRegex(pairs(each)["runid"], "^[0-9a-f]{40}$")

    def test_the_master_of_a_healthy_cluster(self) -> None:
        self.follow()
        (master,) = self.said(("sentinel", "master", "mymaster"))
        expected = {
            "name": "mymaster",
            "flags": "master",
            "runid": run_id("b"),
            "num-slaves": "2",
            "num-other-sentinels": "2",
            "quorum": "2",
            "config-epoch": "2",
            "down-after-milliseconds": "500",
        }
        self.assertEqual(pairs(master) | expected, pairs(master))

    def test_replicas_are_all_members_but_the_primary_and_flagged_when_down(self) -> None:
        self.follow()
        (found,) = self.said(("SENTINEL", "REPLICAS", "mymaster"))
        flags = {pairs(each)["name"]: pairs(each)["flags"] for each in found}
        self.assertEqual(
            flags, {"127.0.0.1:6101": "slave", "127.0.0.1:6103": "s_down,slave,disconnected"}
        )

    def test_sentinels_are_the_other_members_faces(self) -> None:
        self.follow()
        (found,) = self.said(("SENTINEL", "SENTINELS", "mymaster"))
        places = [(pairs(each)["ip"], pairs(each)["port"]) for each in found]
        self.assertEqual(places, [("127.0.0.1", "26380"), ("::1", "26381")])
        self.assertEqual(pairs(found[0])["flags"], "sentinel")
        self.assertEqual(pairs(found[1])["flags"], "s_down,sentinel,disconnected")

    def test_another_name_is_unknown(self) -> None:
        self.follow()
        found = self.said(*(("SENTINEL", verb, "other") for verb in (GET_ADDRESS[1], "MASTER")))
        self.assertEqual(found, [None, Error("ERR No such master with that name")])

    def test_there_is_nothing_to_command(self) -> None:
        self.win()
        for words in (
            ("SENTINEL", "FAILOVER", "mymaster"),
            ("SENTINEL", "SET", "mymaster", "quorum", "1"),
            ("SENTINEL",),
            ("SENTINEL", "MASTER"),
            ("SENTINEL", "MASTERS", "x"),
            ("MONITOR",),
            ("RESET",),
            ("SHUTDOWN",),
            ("CLIENT", "KILL"),
            ("CLIENT", "MAINT_NOTIFICATIONS", "ON"),
            ("a\r\n+OK",),
            ("x" * 512,),
        ):
            (found,) = self.said(words)
            self.assertIsInstance(found, Error, words)
            self.assertRegex(found.text, "^ERR unknown (sub)?command", words)
            self.assertLess(len(found.text), 80)

    def test_hello_3_makes_maps_pushes_and_nulls(self) -> None:
        found = self.said(("HELLO", "3"), GET_ADDRESS, ("SENTINEL", "MASTER", "mymaster"))
        self.assertEqual((found[0]["proto"], found[0]["mode"]), (3, "sentinel"))
        self.assertIsNone(found[1])
        self.assertEqual(found[2]["name"], "mymaster")
        client, wire = self.connect()
        client.dataReceived(request("HELLO", "3") + request("SUBSCRIBE", "x") + request("PING"))
        self.assertEqual(replies(wire.read())[1:], [Push(["subscribe", "x", 1]), Simple("PONG")])

    def test_hello_of_no_such_version_is_refused_in_redis_words(self) -> None:
        for words in (("HELLO", "4"), ("HELLO", "x")):
            self.assertEqual(self.said(words), [Error("NOPROTO unsupported protocol version")])
        self.assertEqual(self.said(("HELLO", "3", "x")), [Error("ERR Syntax error in HELLO")])
        self.assertEqual(
            self.said(("HELLO", "2", "SETNAME", "me", "AUTH", "u", "p"))[0][1], "redis"
        )

    def test_what_clients_send_on_their_way(self) -> None:
        found = self.said(
            ("PING",),
            ("PING", "x"),
            ("CLIENT", "SETINFO", "LIB-NAME", "x"),
            ("CLIENT", "SETNAME", "x"),
            ("ROLE",),
            ("SENTINEL", "MYID"),
            ("QUIT",),
            ("PING",),
        )
        ok = Simple("OK")
        expected = [Simple("PONG"), "x", ok, ok, ["sentinel", ["mymaster"]], run_id("a"), ok]
        self.assertEqual(found, expected)

    def test_info_says_that_it_is_a_sentinel_and_where_the_master_is(self) -> None:
        self.follow()
        (found,) = self.said(("INFO", "replication"))
        self.assertIn("redis_mode:sentinel\r\n", found)
        self.assertIn("redis_version:", found)
        place = "status=ok,address=127.0.0.1:6102,slaves=2,sentinels=3\r\n"
        self.assertIn(
            f"\r\n# Sentinel\r\nsentinel_masters:1\r\nmaster0:name=mymaster,{place}", found
        )

    def test_a_line_will_do(self) -> None:
        client, wire = self.connect()
        client.dataReceived(b"\r\n  ping\r\nPI")
        client.dataReceived(b"NG x\nsentinel get-master-addr-by-name mymaster\r\n")
        self.assertEqual(replies(wire.read()), [Simple("PONG"), "x", None])

    def test_what_is_no_request_ends_the_connection(self) -> None:
        for data in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"x" * (MAX_LINE + 1),
            b"*1\r\n+PING\r\n",
            b"*1000000000\r\n",
            b"*1\r\n$1000000000\r\n",
            b"*17\r\n",
            b"*1\r\n$4\r\nPINGPING\r\n",
            b"*-1\r\n",
            b"\x16\x03\x01\x02\x00\n",
        ):
            client, wire = self.connect()
            client.dataReceived(data)
            (found,) = replies(wire.read())
            self.assertIsInstance(found, Error, data)
            self.assertTrue(wire.disconnecting, data)
            client.dataReceived(request("PING"))
            self.turn()
            self.assertEqual(wire.read(), b"")

    def test_requests_at_any_split(self) -> None:
        self.follow()
        data = request("HELLO", "3") + request(*GET_ADDRESS) + request("SENTINEL", "MASTERS")
        client, wire = self.connect()
        for i in range(len(data)):
            client.dataReceived(data[i : i + 1])
        _, *whole = self.said(("HELLO", "3"), GET_ADDRESS, ("SENTINEL", "MASTERS"))
        self.assertEqual(replies(wire.read())[1:], whole)


class WitnessTests(SentinelTestCase):
    witness = True

    def test_it_answers_and_is_no_replica_itself(self) -> None:
        self.follow()
        address, found = self.said(GET_ADDRESS, ("SENTINEL", "REPLICAS", "mymaster"))
        self.assertEqual(address, ["127.0.0.1", "6102"])
        self.assertEqual([pairs(each)["port"] for each in found], ["6103"])


class NoClientPortTests(SentinelTestCase):
    members = Cluster(
        "a",
        tuple(PeerAddr.parse(each) for each in ("a@h:7101:6101", "b@h:7102:6102", "c@h:7103")),
    )

    def test_a_member_without_a_client_port_is_no_replica(self) -> None:
        self.follow()
        (found,) = self.said(("SENTINEL", "REPLICAS", "mymaster"))
        self.assertEqual([pairs(each)["name"] for each in found], ["h:6101"])


class SubscriptionTests(SentinelTestCase):
    def subscriber(self, *words: str) -> tuple[Client, Bounded]:
        client, wire = self.connect()
        client.dataReceived(request(*words))
        self.assertTrue(wire.read())
        return client, wire

    def test_a_change_of_the_primary_is_published_and_its_replicas(self) -> None:
        self.follow("b")
        _, wire = self.subscriber("SUBSCRIBE", "+switch-master", "+slave")
        self.follow("c", 3)
        found = replies(wire.read())
        about = "@ mymaster 127.0.0.1 6103"
        expected = [
            ["+switch-master", "mymaster 127.0.0.1 6102 127.0.0.1 6103"],
            ["+slave", f"slave 127.0.0.1:6101 127.0.0.1 6101 {about}"],
            ["+slave", f"slave 127.0.0.1:6102 127.0.0.1 6102 {about}"],
        ]
        self.assertEqual(found, [["message", *each] for each in expected])

    def test_the_first_primary_is_published_too(self) -> None:
        _, wire = self.subscriber("SUBSCRIBE", "+switch-master")
        self.follow("b")
        text = "mymaster 127.0.0.1 6102 127.0.0.1 6102"
        self.assertEqual(replies(wire.read()), [["message", "+switch-master", text]])

    def test_nothing_is_published_twice(self) -> None:
        self.follow("b")
        _, wire = self.subscriber("SUBSCRIBE", "+switch-master")
        self.live(2, heartbeat("b", 2, Role.PRIMARY), heartbeat("c", 2))
        self.assertEqual(wire.read(), b"")

    def test_members_that_go_and_come_are_published(self) -> None:
        self.follow("b")
        self.live(0.2, heartbeat("b", 2, Role.PRIMARY), heartbeat("c", 2))
        _, wire = self.subscriber("PSUBSCRIBE", "[-+]sdown", "nothing*")
        self.live(0.8, heartbeat("b", 2, Role.PRIMARY))
        text = "slave 127.0.0.1:6103 127.0.0.1 6103 @ mymaster 127.0.0.1 6102"
        self.assertEqual(replies(wire.read()), [["pmessage", "[-+]sdown", "+sdown", text]])
        self.live(0.2, heartbeat("b", 2, Role.PRIMARY), heartbeat("c", 2))
        self.assertEqual(replies(wire.read()), [["pmessage", "[-+]sdown", "-sdown", text]])

    def test_pushes_in_version_3(self) -> None:
        client, wire = self.subscriber("HELLO", "3")
        client.dataReceived(request("PSUBSCRIBE", "*"))
        self.assertEqual(replies(wire.read()), [Push(["psubscribe", "*", 1])])
        self.follow("b")
        kinds = {each.items[2] for each in replies(wire.read())}
        self.assertEqual(kinds, {"+switch-master", "+slave", "-sdown"} & kinds)
        self.assertIn("+switch-master", kinds)

    def test_while_subscribed_in_version_2_little_else_is_taken(self) -> None:
        client, wire = self.subscriber("SUBSCRIBE", "x")
        client.dataReceived(request("PING") + request("PING", "y") + request("SENTINEL", "MASTERS"))
        found = replies(wire.read())
        self.assertEqual(found[:2], [["pong", ""], ["pong", "y"]])
        self.assertIsInstance(found[2], Error)

    def test_subscriptions_end(self) -> None:
        client, wire = self.subscriber("SUBSCRIBE", "x", "+switch-master")
        client.dataReceived(request("UNSUBSCRIBE") + request("PUNSUBSCRIBE", "y") + request("PING"))
        self.assertEqual(
            replies(wire.read()),
            [
                ["unsubscribe", "x", 1],
                ["unsubscribe", "+switch-master", 0],
                ["punsubscribe", "y", 0],
                Simple("PONG"),
            ],
        )
        self.follow("b")
        self.assertEqual(wire.read(), b"")

    def test_no_more_than_so_many(self) -> None:
        client, wire = self.connect()
        for i in range(100):
            client.dataReceived(request("SUBSCRIBE", f"x{i}"))
            client.dataReceived(request("PSUBSCRIBE", f"[{i}*{'[a-' * i}"))
        self.assertEqual(client.subscribed, MAX_SUBSCRIPTIONS)
        self.assertIsInstance(replies(wire.read())[-1], Error)

    def test_patterns_of_any_kind_harm_nobody(self) -> None:
        for pattern in ("*a" * 250, "[" * 512, "[z-a]", "\\", "[!", "**", "\xff", "(?:x", "[^-]*"):
            client, wire = self.subscriber("PSUBSCRIBE", pattern)
            self.assertEqual(client.subscribed, 1)
            self.assertFalse(wire.aborted)

    def test_a_subscriber_that_does_not_read_is_ended(self) -> None:
        client, wire = self.subscriber("SUBSCRIBE", "+switch-master")
        client.is_read(reading=False)
        self.follow("b")
        self.assertTrue(wire.aborted)


class StrangerTests(SentinelTestCase):
    def test_who_asks_without_reading_is_answered_no_further_and_then_ended(self) -> None:
        self.follow()
        client, wire = self.connect()
        client.dataReceived(request("SENTINEL", "REPLICAS", "mymaster") * 5_000)
        for _ in range(500):
            self.turn()
        self.assertLess(len(wire.value()), Bounded.LIMIT + 4096)
        self.assertEqual(wire.producerState, "paused")
        self.reactor.pump([1.0] * round(PATIENCE + 1))
        self.assertTrue(wire.aborted)

    def test_who_reads_late_is_answered_in_full(self) -> None:
        client, wire = self.connect()
        client.dataReceived(request("SENTINEL", "MASTERS") * 5_000)
        count = 0
        for _ in range(2_000):
            self.turn()
            count += len(replies(wire.read()))
        self.assertEqual(count, 5_000)
        self.assertEqual(wire.producerState, "producing")

    def test_one_turn_answers_so_many_and_the_others_have_theirs(self) -> None:
        client, wire = self.connect()
        client.dataReceived(request("PING") * 4_000)
        self.assertEqual(len(replies(wire.read())), MAX_TURN)
        self.assertEqual(wire.producerState, "paused")
        self.assertEqual(self.said(("PING",)), [Simple("PONG")])

    def test_so_many_at_a_time_and_the_first_that_only_waits_makes_room(self) -> None:
        wires = [self.connect()[1] for _ in range(MAX_CLIENTS)]
        self.assertFalse(any(wire.aborted for wire in wires))
        self.connect()
        self.assertEqual([wire.aborted for wire in wires[:2]], [True, False])

    def test_subscribers_are_not_put_out_but_one_more_is_refused(self) -> None:
        clients = [self.connect()[0] for _ in range(MAX_CLIENTS)]
        for client in clients:
            client.dataReceived(request("SUBSCRIBE", "x"))
        self.assertIsNone(self.factory.buildProtocol(None))
        clients[3].connectionLost(None)
        self.assertIsNotNone(self.factory.buildProtocol(None))

    def test_a_request_that_trickles_is_cut_off(self) -> None:
        client, wire = self.connect()
        data = request("PING", "x" * 500)
        for i in range(round(PATIENCE) + 1):
            client.dataReceived(data[i : i + 1])
            self.reactor.advance(1)
        self.assertTrue(wire.aborted)

    def test_a_request_that_never_ends_is_cut_off(self) -> None:
        client, wire = self.connect()
        client.dataReceived(b"*16\r\n" + b"$512\r\n" + b"x" * 512 + b"\r\n")
        client.dataReceived(b"*0\r\n" * (MAX_UNDECODED // 4 + 1))
        self.turn()
        self.assertTrue(wire.disconnecting)

    def test_empty_requests_are_free_and_answered_by_nothing(self) -> None:
        client, wire = self.connect()
        client.dataReceived(b"*0\r\n" * 20_000 + request("PING"))
        self.turn()
        self.assertEqual(replies(wire.read()), [Simple("PONG")])

    def test_who_asks_nothing_is_let_go_unless_it_is_subscribed(self) -> None:
        subscriber, kept = self.connect()
        subscriber.dataReceived(request("SUBSCRIBE", "x"))
        _, silent = self.connect()
        asking, busy = self.connect()
        for _ in range(3):
            self.reactor.pump([IDLE / 10] * 5)
            asking.dataReceived(request("PING"))
        self.assertEqual([kept.aborted, silent.aborted, busy.aborted], [False, True, False])

    def test_all_end_with_the_port(self) -> None:
        client, wire = self.connect()
        client.dataReceived(request("SUBSCRIBE", "x") + request("PING") * 1_000)
        self.factory.doStop()
        self.assertTrue(wire.aborted)
        client.connectionLost(None)
        self.factory.doStart()

    def test_bytes_at_random_raise_nothing(self) -> None:
        self.follow()
        chance = random.Random(7)
        parts = [b"*", b"$", b"\r\n", b"1", b"4", b"PING", b"\xff", b"SENTINEL", b"*3\r\n", b" "]
        parts += [request(*GET_ADDRESS), request("HELLO", "3"), request("PSUBSCRIBE", "*")]
        for _ in range(2_000):
            client, wire = self.connect()
            for _ in range(chance.randrange(1, 8)):
                client.dataReceived(b"".join(chance.choices(parts, k=chance.randrange(1, 9))))
            self.turn()
            replies(wire.read())
            client.connectionLost(None)


class PasswordTests(SentinelTestCase):
    password = b"secret"

    def test_nothing_is_told_without_it(self) -> None:
        self.win()
        for words in (GET_ADDRESS, ("PING",), ("INFO",), ("SUBSCRIBE", "x"), ("FLUSHALL",)):
            (found,) = self.said(words)
            self.assertEqual(found, Error("NOAUTH Authentication required."))
        (found,) = self.said(("HELLO", "3"))
        self.assertEqual(found.text[:6], "NOAUTH")

    def test_each_way_to_give_it(self) -> None:
        for words in (
            ("AUTH", "secret"),
            ("AUTH", "default", "secret"),
            ("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "x"),
        ):
            found = self.said(words, ("PING",))
            self.assertEqual(found[1], Simple("PONG"), words)

    def test_a_wrong_one_is_refused(self) -> None:
        for words in (
            ("AUTH", "wrong"),
            ("AUTH", ""),
            ("AUTH", "somebody", "secret"),
            ("AUTH", "secret\xff"),
            ("HELLO", "2", "AUTH", "default", "wrong"),
        ):
            found = self.said(words, ("PING",))
            self.assertEqual(found[0].text[:9], "WRONGPASS", words)
            self.assertEqual(found[1].text[:6], "NOAUTH", words)

    def test_who_does_not_give_it_has_not_long(self) -> None:
        client, wire = self.connect()
        for _ in range(round(PATIENCE) + 1):
            client.dataReceived(request("AUTH", "wrong"))
            self.reactor.advance(1)
        self.assertTrue(wire.aborted)


class NoPasswordTests(SentinelTestCase):
    def test_a_client_that_gives_one_is_told_that_there_is_none(self) -> None:
        (found,) = self.said(("AUTH", "secret"))
        self.assertIn("no password", found.text)


class EncodingTests(SynchronousTestCase):
    @given(
        st.recursive(
            st.none() | st.integers(-(2**63), 2**63) | st.text(st.characters(max_codepoint=255)),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        )
    )
    def test_what_is_written_in_version_3_is_read_as_it_was(self, value: Any) -> None:
        if isinstance(value, dict):
            value = {
                key.encode("latin-1", "replace").decode("latin-1"): value[key] for key in value
            }
        found, rest = reply(encode(value, 3))
        self.assertEqual((repr(found), rest), (repr(_latin(value)), b""))

    def test_a_line_cannot_be_broken(self) -> None:
        self.assertEqual(encode(Error("ERR a\r\n+OK\xe9"), 2), b"-ERR a??+OK?\r\n")


def _latin(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1", "replace").decode("latin-1")
    if isinstance(value, list):
        return [_latin(each) for each in value]
    if isinstance(value, dict):
        return {_latin(key): _latin(value[key]) for key in value}
    return value


class ConstantsTests(SynchronousTestCase):
    def test_what_all_strangers_together_can_hold_is_bounded(self) -> None:
        """In: one read, and what was not decoded before. Out: 64 KiB and one reply."""
        each = 65536 + MAX_UNDECODED + 65536 + 8192
        self.assertLess(sentinel_port.MAX_CLIENTS * each, 48 * 2**20)
