"""The page in a real browser: over clusters that are made up, and over a real one that elects and
is partitioned."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet import reactor
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.web.server import Site

from kevy_elect.ballot import MemoryBallot
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService
from tests.support.browser import CHROMIUM, DESKTOP, DRIVER, PHONE, Browser, axe_core
from tests.support.processes import Cluster, poll
from tests.support.scenes import Says, Scene, scene_time, staged
from tests.support.statuses import child, data, event, follower, following
from tests.support.transports import QUICK
from tests.support.transports import cluster as nowhere

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = pytest.mark.skipif(
    None in (CHROMIUM, DRIVER), reason="chromium and its chromedriver are not installed"
)
TIMINGS = ("--hb-interval=0.1", "--down-after=2.5", "--run-primary=sleep 1000", "--stop-grace=0.1")
NAMED = Scene(cluster_name="warehouse")
DEAD = Scene(killed={"b": -3.0, "c": -1.0}, up_for={"a": 900.0})
ONE_WAY = Scene(silent={("c", "a"): -3.0})
UNFOLD = "for (const each of document.querySelectorAll('details')) each.open = true"


@async_yield_fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    browser = await deferToThread(Browser)
    yield browser
    await browser.do("quit")


@ensureDeferred
async def test_a_healthy_cluster_is_told_in_a_sentence_a_picture_and_a_timeline(
    chromium: Browser,
) -> None:
    with staged(Scene()) as url:
        await chromium.resize(DESKTOP)
        await chromium.do("get", url)
        await chromium.shows("#headline", "All is well.*b is primary of epoch 7 and holds its")
        await chromium.shows("#since", r"Since \d.* for 3\d min .* Nothing needs to be done")
        await chromium.shows("#title", "Election of a, b and c")
        await chromium.shows("#about", r"3 members, 1 may fail · kevy-elect 0\.1\.0 · seen from a")
        await chromium.shows("#members tbody", "a this node ○ replica orders waits 2 d 3 h")
        await chromium.shows("#members tbody", "b ★ primary orders runs 2 d 3 h")
        await chromium.shows("#recent", "b was elected primary of epoch 7 because a gave up")
        accessible = await chromium.accessible()
        images = [name for role, name in accessible if role == "image"]
        ring = "a and c: replica. b: primary. All 6 links are up."
        assert ring in images
        assert any("b: replica from" in name and "primary of epoch 7" in name for name in images)
        headings = {name for role, name in accessible if role == "heading"}
        assert headings >= {"What is so", "Members", "The last hour", "Details"}
        assert ("link", "b") in accessible
        assert ("rowheader", "b") in accessible
        assert await chromium.complaints() == []


@ensureDeferred
async def test_the_name_of_the_cluster_is_in_its_title_and_its_head(chromium: Browser) -> None:
    with staged(NAMED) as url:
        await chromium.do("get", url)
        await chromium.shows("#title", "^warehouse: election of a, b and c$")
        await chromium.shows("#headline", "All is well")
        assert "warehouse: " in await chromium.run("return document.title")


@ensureDeferred
async def test_the_lease_runs_down_and_is_filled_again(chromium: Browser) -> None:
    script = """
        const lease = document.querySelector(".node .lease");
        return lease && parseFloat(lease.getAttribute("stroke-dasharray"));
    """

    async def goes(*, down: bool) -> bool:
        before, after = await chromium.run(script), await chromium.run(script)
        if before is None or after is None:  # it is drawn after the headline
            return False
        return bool(after < before if down else after > before)

    with staged(Scene()) as url:
        await chromium.do("get", url)
        await chromium.shows("#headline", "holds its lease")
        await poll(lambda: goes(down=True))
        await poll(lambda: goes(down=False))


@ensureDeferred
async def test_of_a_dead_primary_it_says_when_its_lease_ends(chromium: Browser) -> None:
    """And never that it holds it, nor that anybody confirms it."""
    scene = Scene(down_after=60.0)  # so that there is time to look
    with staged(scene) as url:
        await chromium.do("get", url)
        await chromium.run(UNFOLD)
        await chromium.shows("#headline", "b is primary of epoch 7 and holds its lease")
        scene.killed["b"] = await deferToThread(scene_time, url)
        await chromium.shows(".now", r"b, the primary, cannot be reached; its lease ends in \d+ s")
        assert "holds its lease" not in await chromium.text("#say")
        await chromium.shows("#members tbody", "b ✗ cannot be reached; it was the primary")
        await chromium.shows("#links", "a to b ✗ no connection.* – – ")
        await chromium.shows("#remarks", "Wait: the others elect another primary")
        assert await chromium.complaints() == []


@ensureDeferred
async def test_a_silent_direction_is_named_and_the_time_is_told(chromium: Browser) -> None:
    with staged(ONE_WAY) as url:
        await chromium.do("get", url)
        await chromium.shows("#ring", r"silent \d+(\.\d)? s")
        await chromium.shows(
            "#remarks", "a does not hear c.*The other direction, from a to c, works"
        )
        await chromium.shows("#links", "Links: 1 of 6 broken")
        await chromium.run(UNFOLD)
        await chromium.shows("#links tbody", r"c to a ✗ silent, last heard \d+ s ago")


@ensureDeferred
async def test_the_timeline_can_be_zoomed_and_moved(chromium: Browser) -> None:
    with staged(Scene()) as url:
        await chromium.do("get", url)
        await chromium.shows("#recent", "epoch 7")
        await chromium.shows("#past-title", "The last hour")
        await chromium.shows("#lanes", "★ epoch 6")
        await chromium.run("document.querySelector('#zoom [value=\"300\"]').click()")
        await chromium.shows("#past-title", "The last 5 minutes")
        assert "epoch 6" not in await chromium.text("#lanes")
        await chromium.run("document.getElementById('earlier').click()")
        await chromium.shows("#past-title", r"From \d.* to \d")
        await chromium.run("document.getElementById('later').click()")
        await chromium.shows("#past-title", "The last 5 minutes")


@ensureDeferred
async def test_a_phone_shows_all_of_it_and_paper_what_is_folded(chromium: Browser) -> None:
    servers = {
        "a": {"data": following(source="10.0.0.2:6379")},
        "b": {"data": data(length=2**60)},
        "c": {"data": data(state="unknown", problem="Redis at 10.0.0.3:6379 gave no answer")},
    }
    with staged(Scene(changes=servers)) as url:
        await chromium.do("get", url)
        await chromium.shows("#remarks", "The data server of c is not known")
        for size, scheme, media in ((PHONE, "dark", ""), ((700, 990), "light", "print")):
            await chromium.resize(size, scheme, media)
            await chromium.run("dispatchEvent(new Event('beforeprint'))")
            await chromium.shows(
                "#cards", f"takes the clients' writes; data epoch 3, length {2**60}"
            )
            await chromium.shows("#cards", "not known: Redis at 10.0.0.3:6379 gave no answer")
            assert (await chromium.picture())[:4] == b"\x89PNG"
        await chromium.resize(DESKTOP)
        assert await chromium.complaints() == []


@pytest.mark.skipif(axe_core() is None, reason="axe-core is not installed")
@pytest.mark.parametrize(
    ("scene", "said"),
    [(Scene(), "holds its lease"), (DEAD, "hears too few"), (ONE_WAY, "holds its lease")],
    ids=["healthy", "too few", "one direction"],
)
@ensureDeferred
async def test_axe_core_finds_nothing(scene: Scene, said: str, chromium: Browser) -> None:
    axe = axe_core()
    assert axe is not None
    with staged(scene, start=8.0 if scene is DEAD else 0.0) as url:
        await chromium.resize(DESKTOP)
        await chromium.do("get", url)
        await chromium.shows("#headline", said)
        await chromium.run(UNFOLD)
        await chromium.shows("#cards", "Address")
        for scheme in ("light", "dark"):
            await chromium.resize(DESKTOP, scheme)
            assert await chromium.faults(axe) == []


class Relay(ProxyFactory):
    """One direction between two nodes. While cut, it takes everything and passes nothing on."""

    noisy = False
    protocol = ProxyServer

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.cut = False
        self.open: list[ProxyServer] = []

    def buildProtocol(self, addr: Any) -> Any:
        built = super().buildProtocol(addr)
        if self.cut or not isinstance(built, ProxyServer):
            return None
        self.open.append(built)
        return built

    def sever(self) -> None:
        """Silence, as of a network that drops all packets: nothing is closed."""
        self.cut = True
        for connection in self.open:
            connection.transport.pauseProducing()
            if connection.peer is not None:
                connection.peer.transport.pauseProducing()

    def end(self) -> None:
        for connection in self.open:
            if connection.connected:
                connection.transport.abortConnection()


@pytest.fixture
def relays(cluster: Cluster) -> Iterator[dict[tuple[str, str], Relay]]:
    """A relay in each of the six links, by the node that dials and the one that accepts."""
    entries = cluster["a"].peers.split(",")
    where = {entry[0]: int(entry.rpartition(":")[2]) for entry in entries}
    found: dict[tuple[str, str], Relay] = {}
    ports: list[IListeningPort] = []
    for node in cluster.nodes.values():
        peers = []
        for other in "abc":
            port = where[other]
            if other != node.node_id:
                relay = found[node.node_id, other] = Relay(port)
                ports.append(reactor.listenTCP(0, relay, interface="127.0.0.1"))  # type: ignore[attr-defined]
                port = ports[-1].getHost().port  # type: ignore[attr-defined]
            peers.append(f"{other}@127.0.0.1:{port}")
        node.peers = ",".join(peers)
    yield found
    for listening in ports:
        listening.stopListening()
    for relay in found.values():
        relay.end()


@ensureDeferred
async def test_who_is_on_call_sees_an_election_and_a_partition(
    cluster: Cluster, relays: dict[tuple[str, str], Relay], chromium: Browser
) -> None:
    pages = ",".join(f"{n}@127.0.0.1:{node.http}" for n, node in cluster.nodes.items())

    def start(node_id: str) -> None:
        node = cluster[node_id]
        node.start(node.command(*TIMINGS, f"--http-peers={pages}"))

    for node_id in "abc":
        start(node_id)
    first = (await cluster.settled())["node_id"]
    seen, _ = (node_id for node_id in "abc" if node_id != first)
    await chromium.resize(DESKTOP)
    await chromium.do("get", f"http://127.0.0.1:{cluster[seen].http}/")
    await chromium.run(UNFOLD)

    async def card(node_id: str, pattern: str) -> str:
        return await chromium.shows(
            f"#cards article:nth-child({'abc'.index(node_id) + 1})", pattern
        )

    # All is well.
    await chromium.shows("#headline", rf"{first} is primary of epoch \d+ and holds its lease")
    await card(first, r"primary Lease \d\.\d s left of 2\.45 s .*runs, process \d+")
    await card(seen, "this node, replica .*waits until this node is primary")
    await chromium.shows("#links summary", "^Links: 6$")
    await chromium.shows("#connection", "Live")

    # The primary dies.
    cluster[first].kill()
    second = (await cluster.settled("abc".replace(first, ""), other_than=first))["node_id"]
    await chromium.shows("#headline", rf"{second} is primary of epoch \d+ and holds its lease")
    await chromium.shows("#remarks", rf"{first} cannot be reached.*no other member may fail")
    await card(first, "cannot be reached; it was the primary Lease none: it may not write")
    await card(first, r"Its page connection was refused by other side; it answered last \d+ s ago")
    await chromium.shows("#recent", f"{second} was elected primary .* because {first} was down")
    await chromium.shows("#links summary", "4 of 6 broken")
    (third,) = set("abc") - {first, second}
    await card(third, f"Follows {second}; clients go to")
    await card(second, "Job .*runs, process")

    # It comes back, and cannot talk with the new one.
    start(first)
    await cluster.settled()
    await chromium.shows("#headline", f"All is well.*{second} is primary")
    relays[first, second].sever()
    relays[second, first].sever()
    await chromium.shows("#refused", rf"{third} R4\.6 refused OFFER \d+ of {first}: ")
    await chromium.shows("#remarks", f"{first} does not hear {second}")
    await chromium.shows("#headline", f"{second} is primary of epoch .* holds its lease")
    await chromium.shows("#links summary", "2 of 6 broken")

    # This node stops.
    cluster[seen].kill()
    await chromium.shows("#connection", f"No connection to {seen} since")
    await chromium.shows("#headline", f"What {seen} knows is not known here since")
    start(seen)
    await chromium.shows("#connection", "Live")
    assert await chromium.complaints() == []


@ensureDeferred
async def test_what_others_say_is_text_and_the_keyboard_reaches_all(chromium: Browser) -> None:
    markup = "<img src=x onerror='document.title=1'><script>document.title=2</script>"
    said = follower("b", current_primary=markup, primary_addr=markup, version=markup)
    said["children"] = [child(name=markup, state=markup)]
    said["data"] = data(state=markup, problem=markup, server=markup, source=markup)
    said["check"] = {"healthy": False, "problem": markup}
    said["events"] = [event(kind="refused", text=markup, label=markup)]
    election = ElectionService(
        nowhere(), ballot=MemoryBallot(), config=QUICK, listen="tcp:0:interface=127.0.0.1"
    )
    election.startService()
    ports = []
    try:
        ports.append(reactor.listenTCP(0, Site(Says(lambda: said)), interface="127.0.0.1"))  # type: ignore[attr-defined]
        others = {"b": f"http://127.0.0.1:{ports[0].getHost().port}"}
        ports.append(reactor.listenTCP(0, site(election, others), interface="127.0.0.1"))  # type: ignore[attr-defined]
        await chromium.do("get", f"http://127.0.0.1:{ports[1].getHost().port}/")
        await chromium.run(UNFOLD)
        await chromium.shows("#refused", re.escape(markup))
        await chromium.shows("#cards", re.escape(f"Job {markup} {markup}, process 7"))
        has = f"Data server {markup} {markup}; data epoch 3, length 1000: {markup}"
        await chromium.shows("#cards", re.escape(has))
        await chromium.shows("#cards", re.escape(f"Health check fails: {markup}"))
        await chromium.shows("#about", re.escape(markup))
        assert "✗" in await chromium.run("return document.title")
        assert await chromium.complaints() == []

        focused = [await chromium.press("Tab") for _ in range(14)]
        assert focused[0] == "To what is so now", focused
        assert {"b", "Earlier", "Each member", "Table of links"} <= set(focused), focused
        assert any(each.endswith((" min", " h")) for each in focused), focused
    finally:
        for port in ports:
            await port.stopListening()
        await election.stopService()
