"""The attacks, a function for each: it attacks, restores what it changed, and returns a short text
about what it did."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

from kevy_elect import wire
from kevy_elect.elector import EPOCH_LEAP
from kevy_elect.messages import U64_MAX, Announce, Heartbeat, Message, Offer, Role
from tests.soak.hostile import machine, pages, web
from tests.soak.hostile.cluster import Node
from tests.soak.hostile.scene import Case, Scene
from tests.soak.hostile.strangers import (
    STRANGER,
    Mutator,
    Trickle,
    dial,
    held,
    is_open,
    keep_saying,
    say,
)
from tests.support.secured import KINDS

FLOOD: Final = 64 * 1024
"""Bytes of one write of a flood."""
FRAMES_A_CONNECTION: Final = 10
DESCRIPTORS: Final = 64
LOGGED: Final = 10_000
"""Bytes a second by which a sender that speaks as a member may make the log grow."""


# Strangers


def frames(scene: Scene) -> str:
    mutator = Mutator(scene.rng, [node.name for node in scene.nodes])
    pool = [mutator.frame() for _ in range(5000)]
    total = scene.scaled(1_000_000, 20_000)
    connections = refused = 0
    for at in range(0, total, FRAMES_A_CONNECTION):
        chosen = scene.rng.choices(pool, k=FRAMES_A_CONNECTION)
        connection = dial(scene.nodes[connections % len(scene.nodes)].port)
        connections += 1
        refused += connection is None
        if connection is not None:
            say(connection, b"".join(chosen))
            connection.close()
        if at % 1000 == 0 and scene.quick:
            time.sleep(0)  # let the sampler run
    return f"{total:,} frames on {connections:,} connections, {refused:,} of them not accepted"


def trickle(scene: Scene) -> str:
    """The longest frames that the bounds allow, with a new connection for each that is ended."""
    element = b"$512\r\n" + b"x" * wire.MAX_ELEMENT + b"\r\n"
    stream = ((b"*16\r\n" + element * wire.MAX_ELEMENTS) * 2)[: wire.MAX_UNDECODED]
    until = time.monotonic() + (2.0 if scene.quick else 30.0)
    trickles = [Trickle(scene.nodes[i % len(scene.nodes)].port, stream) for i in range(200)]
    while time.monotonic() < until and not all(each.done for each in trickles):
        for each in trickles:
            each.send_one()
    for each in trickles:
        each.close()
    sent = sum(each.sent for each in trickles)
    dialled = sum(each.dialled for each in trickles)
    return f"{sent:,} single bytes, {dialled:,} connections, 200 at a time"


def silent(scene: Scene) -> str:
    return _crowd(scene, b"")


def half(scene: Scene) -> str:
    frame = wire.encode(Heartbeat(scene.epoch, scene.replicas[0].name, Role.REPLICA, 0))
    return _crowd(scene, frame[: len(frame) // 2])


def _crowd(scene: Scene, words: bytes) -> str:
    """Open connections that send only this to each node, until the nodes have ended them all."""
    number = scene.scaled(2000, 200)
    begun = time.monotonic()
    with held() as connections:
        for _ in range(number):
            for node in scene.nodes:
                connection = dial(node.port)
                if connection is not None:
                    connections.append(connection)
                    say(connection, words)
        opened = time.monotonic() - begun
        total = len(connections)
        left = _wait_until_ended(connections, 5.0)
    fate = f"{left} not ended 5 s later" if left else "all ended by the nodes"
    return f"{total:,} connections in {opened:.1f} s, {fate}"


def _wait_until_ended(connections: list[socket.socket], seconds: float) -> int:
    """The number of connections that are still open after so many seconds."""
    deadline = time.monotonic() + seconds
    left = list(connections)
    while left and time.monotonic() < deadline:
        left = [connection for connection in left if is_open(connection)]
        time.sleep(0.05)
    return len(left)


def health_checks(scene: Scene) -> str:
    until = scene.until(10.0)
    count = 0
    begun = time.monotonic()
    while time.monotonic() < until:
        for node in scene.nodes:
            connection = dial(node.port)
            if connection is not None:
                connection.close()
                count += 1
        time.sleep(max(0.0, begun + count / len(scene.nodes) / 50 - time.monotonic()))
    return f"{count:,} connections, opened and closed at once"


def nothing(scene: Scene) -> str:
    """Empty arrays, which carry no message, as fast as they are read."""
    burst = wire.GREETING * (FLOOD // len(wire.GREETING))
    nodes = [node for node in scene.nodes for _ in range(8)]
    dialled = _speak(scene, nodes, lambda: itertools.repeat(burst), 0.0, scene.until(5.0))
    return f"{dialled:,} connections, 8 at a time to each node"


def crowded(scene: Scene) -> str:
    """A member comes back while strangers connect as fast as they are accepted."""
    victim = scene.replicas[0]
    until = time.monotonic() + (3.0 if scene.quick else 10.0)
    with ThreadPoolExecutor(len(scene.nodes)) as pool:
        said = [pool.submit(_press, node.port, until) for node in scene.nodes]
        with _gone(victim):
            time.sleep(0.6)
        begun = time.monotonic()
        agreed = scene.cluster.wait_until_agreed(until - begun)
        took = time.monotonic() - begun
        dialled = sum(each.result() for each in said)
    back = f"after {took:.1f} s" if agreed else "only afterwards"
    return f"{dialled:,} connections; a restarted replica was back {back}"


def _press(port: int, until: float) -> int:
    dialled = 0
    with held() as connections:
        while time.monotonic() < until:
            connection = dial(port)
            if connection is not None:
                dialled += 1
                connections.append(connection)
            if len(connections) > 100:
                connections.pop(0).close()
    return dialled


def forged(scene: Scene) -> str:
    """First messages by a key of no member, each of them new."""
    return _hands(scene, scene.cluster.stranger.opening)


def replayed(scene: Scene) -> str:
    """Recorded first messages of members."""
    return _hands(scene, lambda name: scene.cluster.stranger.recorded[name])


def garbled(scene: Scene) -> str:
    """Invalid first messages of the right length."""
    return _hands(scene, lambda _: b"\x00\x60" + scene.rng.randbytes(96))


def _hands(scene: Scene, opening: Callable[[str], bytes]) -> str:
    """As many handshakes as the nodes accept, all from one address."""
    total = scene.scaled(10_000, 300)
    begun = time.monotonic()
    refused = 0
    with held() as connections:
        for number in range(total):
            node = scene.nodes[number % len(scene.nodes)]
            connection = dial(node.port, STRANGER)
            if connection is None or not say(connection, opening(node.name)):
                refused += 1
            if connection is not None:
                connections.append(connection)
            if len(connections) > 100:
                connections.pop(0).close()
    took = time.monotonic() - begun
    return f"{total:,} in {took:.1f} s from one address, {refused:,} of them not taken"


# Senders that speak as a member


def as_replica(scene: Scene) -> str:
    victim = scene.replicas[0]
    word = Heartbeat(scene.epoch + 1, victim.name, Role.REPLICA, 0)
    return _flood_as(scene, victim, word)


def as_primary(scene: Scene) -> str:
    word = Heartbeat(scene.epoch, scene.primary, Role.REPLICA, 0)
    return _flood_as(scene, scene.leader, word)


def as_primary_crowd(scene: Scene) -> str:
    frame = wire.encode(Heartbeat(scene.epoch, scene.primary, Role.REPLICA, 0))
    nodes = [node for node in scene.replicas for _ in range(3)]
    dialled = _speak(scene, nodes, lambda: itertools.repeat(frame), 0.01, scene.until(5.0))
    return f"{dialled} connections, 3 at a time to each replica"


def _flood_as(scene: Scene, victim: Node, word: Message) -> str:
    frame = wire.encode(word)
    burst = frame * (FLOOD // len(frame))
    dialled = _say_to_all(scene, victim, lambda: itertools.repeat(burst), 0.0, scene.until(5.0))
    return f"{dialled} connections from a stranger's address, each as fast as it is read"


def _say_to_all(
    scene: Scene, victim: Node, words: Callable[[], Iterator[bytes]], pause: float, until: float
) -> int:
    """Send to all nodes but `victim`, to each from the beginning of the words."""
    return _speak(scene, scene.others(victim), words, pause, until)


def _speak(
    scene: Scene,
    nodes: Sequence[Node],
    words: Callable[[], Iterator[bytes]],
    pause: float,
    until: float,
) -> int:
    """Send on one connection to each of the nodes. Return the number of connections."""
    stranger = scene.cluster.stranger
    with ThreadPoolExecutor(len(nodes)) as pool:
        said = [
            pool.submit(
                keep_saying, node.port, words(), pause, until, partial(stranger.opening, node.name)
            )
            for node in nodes
        ]
        return sum(each.result() for each in said)


def usurper(scene: Scene) -> str:
    """A stranger speaks for the primary while the primary is stopped for a moment."""
    frame = wire.encode(Heartbeat(scene.epoch, scene.primary, Role.PRIMARY, 0))
    until = time.monotonic() + 1.0
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(
            _say_to_all, scene, scene.leader, lambda: itertools.repeat(frame), 0.02, until
        )
        time.sleep(0.3)
        with _stopped(scene.leader):
            time.sleep(0.25)
        dialled = said.result()
    return f"{dialled} connections for 1 s, the primary stopped for 0.25 s of it"


def leap(scene: Scene) -> str:
    victim = scene.replicas[0]
    return _leap(scene, victim, scene.until(3.0))


def leap_alone(scene: Scene) -> str:
    victim = scene.replicas[0]
    with _gone(victim):
        return _leap(scene, victim, scene.until(3.0))


def _leap(scene: Scene, victim: Node, until: float) -> str:
    words = (
        Heartbeat(U64_MAX, victim.name, Role.PRIMARY, 0),
        Offer(U64_MAX, victim.name, U64_MAX),
        Announce(U64_MAX, victim.name, "10.0.0.1:6379"),
    )
    frames = [wire.encode(word) for word in words]
    dialled = _say_to_all(scene, victim, lambda: itertools.cycle(frames), 0.01, until)
    return f"{dialled} connections"


def below_replica(scene: Scene) -> str:
    epochs = itertools.repeat(scene.epoch + EPOCH_LEAP - 1)  # it changes no node's epoch
    return _below_the_bound(scene, Role.REPLICA, lambda: epochs)


def below_primary(scene: Scene) -> str:
    leap = EPOCH_LEAP - 1
    return _below_the_bound(scene, Role.PRIMARY, lambda: itertools.count(scene.epoch + leap, leap))


def _below_the_bound(scene: Scene, role: Role, epochs: Callable[[], Iterator[int]]) -> str:
    victim = scene.replicas[0]

    def claims() -> Iterator[bytes]:
        return (wire.encode(Heartbeat(epoch, victim.name, role, 0)) for epoch in epochs())

    with _gone(victim):
        dialled = _say_to_all(scene, victim, claims, 0.05, scene.until(3.0))
    return f"{dialled} connections, as {role}"


def absent(scene: Scene) -> str:
    """A stranger speaks in place of an absent member, with a change in each message: the address,
    the role, the epoch, or a failed election."""
    victim = scene.replicas[0]
    until = scene.until(20.0)

    def words() -> Iterator[bytes]:
        for number in itertools.count():
            epoch = scene.epoch + number // 50
            port = 1024 + number % 60_000
            said: tuple[Message, ...] = (
                Heartbeat(epoch, victim.name, (Role.PRIMARY, Role.REPLICA)[number % 2], number),
                Announce(epoch, victim.name, f"10.0.0.1:{port}"),
                Offer(epoch + 1, victim.name, number),
            )
            yield b"".join(map(wire.encode, said))

    with _gone(victim), machine.bounded(scene, logged=LOGGED):
        dialled = _say_to_all(scene, victim, words, 0.002, until)
    return f"{dialled} connections, some hundred words a second on each"


# Members that misbehave


def wild_replica(scene: Scene) -> str:
    return _wild(scene, scene.replicas[0])


def wild_primary(scene: Scene) -> str:
    return _wild(scene, scene.leader)


def _wild(scene: Scene, node: Node) -> str:
    seconds = scene.until(5.0) - time.monotonic()
    _flood(node, seconds)
    return f"for {seconds:.0f} s as fast as they are read"


def _flood(node: Node, seconds: float) -> None:
    node.signal(signal.SIGUSR1)
    time.sleep(seconds)
    node.signal(signal.SIGUSR2)


def deaf(scene: Scene) -> str:
    """In place of a member, a stranger accepts and never reads, and another sends far too much."""
    victim, talker = scene.replicas
    until = scene.until(10.0)
    with _gone(victim), held() as connections, _deaf_listener(victim.port) as listener:
        while time.monotonic() < until:
            _flood(talker, 0.1)
            for _ in range(8):
                with contextlib.suppress(TimeoutError):
                    connections.append(listener.accept()[0])
        return f"accepted {len(connections)} connections in turn and read none"


@contextmanager
def _deaf_listener(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        listener.settimeout(0.1)
        yield listener


# Clients of the port of --http


def pipelined_read(scene: Scene) -> str:
    return _pipelined(scene, read=True)


def pipelined_unread(scene: Scene) -> str:
    return _pipelined(scene, read=False)


def _pipelined(scene: Scene, *, read: bool) -> str:
    routes = web.ROUTES[: scene.scaled(len(web.ROUTES), 3)]
    port = scene.leader.settings.http
    dialled = [web.pipeline(port, path, scene.until(30.0), read=read) for path in routes]
    return f"{sum(dialled):,} connections, {web.READERS} at a time, to {', '.join(routes)} in turn"


def slow_readers(scene: Scene) -> str:
    ports = [node.settings.http for node in scene.nodes]
    number = scene.scaled(3000, 150)
    dialled = web.drip(ports, number, scene.until(30.0))
    return f"{dialled:,} connections, {number:,} at a time, that ask byte by byte"


# A lack of resources on the machine


def descriptors_of_primary(scene: Scene) -> str:
    return _exhaust(scene, scene.leader)


def descriptors_of_replica(scene: Scene) -> str:
    return _exhaust(scene, scene.replicas[0])


def _exhaust(scene: Scene, node: Node) -> str:
    before = node.limit_descriptors(DESCRIPTORS)
    most = 0
    with held() as connections:
        until = scene.until(5.0)
        while time.monotonic() < until:
            for port in (node.port, node.settings.http):
                connection = dial(port)
                if connection is not None:
                    connections.append(connection)
            most = max(most, node.descriptors())
            time.sleep(0.01)
        total = len(connections)
    node.limit_descriptors(before)
    return f"{total:,} connections to both ports of one node, {most} of {DESCRIPTORS} descriptors"


@contextmanager
def _stopped(node: Node) -> Iterator[None]:
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


@contextmanager
def _gone(node: Node) -> Iterator[None]:
    node.kill()
    try:
        yield
    finally:
        node.start()


CASES: Final = {
    case.name: case
    for case in (
        Case("frames", "random and mutated frames", frames),
        Case("trickle", "16 KiB byte by byte from 200 connections", trickle),
        Case("silent", "connections that say nothing", silent),
        Case("half", "connections that say half a frame", half),
        Case("nothing", "empty arrays", nothing),
        Case("forged", "handshakes by a key of nobody", forged),
        Case("replayed", "handshakes of members, said again", replayed),
        Case("garbled", "handshakes that are none", garbled),
        Case("crowded", "a member returns in a crowd of strangers", crowded),
        Case("health", "health checks, 50 a second to each node", health_checks),
        Case("as-replica", "a stranger's flood as a replica, in a higher epoch", as_replica),
        Case("as-primary", "a stranger's flood as the primary, resigning", as_primary),
        Case("as-primary-crowd", "several strangers as the primary at once", as_primary_crowd),
        Case("usurper", "a stranger speaks for a paused primary, and leaves", usurper),
        Case(
            "absent",
            "news without end in the name of an absent member",
            absent,
            unpreventable=("plain",),
        ),
        Case("wild-replica", "a replica's flood", wild_replica),
        Case("wild-primary", "the primary's flood", wild_primary, unpreventable=KINDS),
        Case("deaf", "a peer that never reads a flood", deaf),
        Case("pipelined-read", "pipelined requests, answers read", pipelined_read, unfelt=True),
        Case(
            "pipelined-unread", "pipelined requests, answers unread", pipelined_unread, unfelt=True
        ),
        Case("slow-readers", "slow readers by the thousand", slow_readers, unfelt=True),
        Case("pages", "malicious status pages at --http-peers", pages.malicious, unfelt=True),
        Case("admin", "garbage at the operators' socket", machine.admin_garbage, unfelt=True),
        Case("sighup", "a storm of SIGHUP", machine.sighup_storm, unfelt=True),
        Case("vanished", "data directories that vanish", machine.vanished, unfelt=True),
        Case("swapped", "others in their place", machine.swapped, elections=5),
        Case("yes", "a command that prints without end", machine.endless_output, command="yes"),
        Case("descriptors-primary", "the primary has no descriptors", descriptors_of_primary),
        Case("descriptors-replica", "a replica has no descriptors", descriptors_of_replica),
        Case("leap", "epoch 2^64-1 beside the member", leap),
        Case("leap-alone", "epoch 2^64-1 in place of the member", leap_alone),
        Case("below-replica", "a replica just below the bound", below_replica),
        Case(
            "below-primary",
            "a primary just below the bound, again and again",
            below_primary,
            unpreventable=("plain",),
        ),
    )
}
