"""The page in a real browser, while a real cluster elects and is partitioned.

With KEVY_SCREENSHOTS=DIR in the environment the pictures of docs/page.md are made there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.web.resource import Resource
from twisted.web.server import Site

from kevy_elect.ballot import MemoryBallot
from kevy_elect.local_server import join_offset
from kevy_elect.messages import Announce, Heartbeat, Role
from kevy_elect.ops.http import site
from kevy_elect.service.election import ElectionService
from tests.ops.test_page_model import page, writer
from tests.support.data_servers import Driven
from tests.support.processes import Cluster, poll
from tests.support.statuses import child, data, event
from tests.support.transports import QUICK, free_ports
from tests.support.transports import cluster as nowhere
from tests.support.waiting import DEADLINE

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    None in (CHROMIUM, DRIVER), reason="chromium and its chromedriver are not installed"
)
TIMINGS = ("--down-after=1.2", "--run-primary=sleep 1000", "--stop-grace=0.1")
DESKTOP = (1000, 800)
PHONE = (360, 740)


class Browser:
    """Chromium without a window. Its calls block, so they run in a thread."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def do(self, name: str, *arguments: Any) -> Deferred[Any]:
        return deferToThread(getattr(self.driver, name), *arguments)

    def command(self, name: str, **parameters: Any) -> Deferred[Any]:
        return self.do("execute_cdp_cmd", name, parameters)

    async def text(self, selector: str = "body") -> str:
        """What a reader sees of the first such element, on one line; empty if it is not there."""
        script = (
            "const found = document.querySelector(arguments[0]); return found && found.innerText"
        )
        found = await self.do("execute_script", script, selector)
        return " ".join((found or "").split())

    async def shows(self, selector: str, pattern: str) -> str:
        """Wait until that element's text matches; the text. Fails with what is there instead."""
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, found := await self.text(selector)):
            if time.monotonic() > deadline:
                pytest.fail(f"{selector} shows {found!r}, not {pattern!r}")
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        return found

    async def lease_moves(self, down: bool) -> bool:
        """Whether the bar of the lease is seen to go down, or to be filled again."""
        script = "return document.querySelector('#nodes .primary meter').value"
        before = await self.do("execute_script", script)
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        after = await self.do("execute_script", script)
        return bool(after < before if down else after > before)

    async def resize(self, size: tuple[int, int], scheme: str = "light") -> None:
        width, height = size
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.command("Emulation.setEmulatedMedia", features=media)

    async def picture(self, name: str, size: tuple[int, int], scheme: str = "light") -> None:
        """A picture of the whole page; nothing of it may lie beyond the right edge."""
        await self.resize(size, scheme)
        page = (
            "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        needed, height = await self.do("execute_script", page)
        assert needed <= size[0]
        clip = {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}
        taken = await self.command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        if "KEVY_SCREENSHOTS" in os.environ:
            folder = Path(os.environ["KEVY_SCREENSHOTS"])
            (folder / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    async def accessible(self) -> set[tuple[str, str]]:
        """Role and name of everything that a screen reader is told."""
        tree = await self.command("Accessibility.getFullAXTree")
        return {
            (node["role"]["value"], node["name"]["value"].strip())
            for node in tree["nodes"]
            if not node["ignored"] and node.get("name", {}).get("value")
        }

    async def complaints(self) -> list[str]:
        """What the console says, but for the network, which is cut here on purpose."""
        log = await self.do("get_log", "browser")
        return [entry["message"] for entry in log if entry["source"] != "network"]


@async_yield_fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    browser = await deferToThread(Browser)
    yield browser
    await browser.do("quit")


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

    async def card(node_id: str, pattern: str) -> str:
        return await chromium.shows(f"#nodes li:nth-child({'abc'.index(node_id) + 1})", pattern)

    # All is well.
    await chromium.shows("#headline", rf"OK: {first} is primary of epoch \d+ and holds its lease")
    leading = await card(first, r"primary .*Runs .*running, process \d+")
    assert re.search(r"Lease \d\.\d s of 1\.18 s left", leading), leading
    assert re.search(r"replica this node As of now", await card(seen, "Runs .*stopped"))
    await poll(lambda: chromium.lease_moves(down=True))
    await poll(lambda: chromium.lease_moves(down=False))
    await chromium.shows("#links-summary", "All 6 are up")
    await chromium.shows("#connection", f"Live from {seen}")
    accessible = await chromium.accessible()
    assert ("meter", f"what is left of the lease of {first}") in accessible
    assert {name for role, name in accessible if role == "heading"} >= {
        "Nodes",
        "Links",
        "Epochs",
        "Refused votes",
        f"{first} primary",
    }
    assert any(role == "table" and "Each direction" in name for role, name in accessible)

    # The primary dies.
    cluster[first].kill()
    second = (await cluster.settled("abc".replace(first, ""), other_than=first))["node_id"]
    await chromium.shows(
        "#headline", rf"Attention: {second} is primary .* {first} cannot be reached"
    )
    gone = await card(first, "cannot be reached, was primary .*Lease none: may not write")
    assert re.search(r"As of (< )?\d+ s ago; connection was refused", gone), gone
    assert re.search(r"Runs then .*: running, process", gone), gone
    await chromium.shows("#epochs > li", rf"Epoch \d+: {second} primary From .* was down")
    assert f"{first} primary" in await chromium.text("#epochs > li:nth-child(2)")
    await chromium.shows("#links-summary", f"4 of 6 not up: .*{seen} to {first}")
    (third,) = set("abc") - {first, second}
    await card(third, f"Primary {second}, at")
    await card(second, "Runs .*running")
    await chromium.picture("election", DESKTOP)
    await chromium.picture("election-phone", PHONE)

    # It comes back, and cannot talk with the new one.
    start(first)
    await cluster.settled()
    await chromium.shows("#headline", f"OK: {second} is primary")
    relays[first, second].sever()
    relays[second, first].sever()
    await chromium.shows("#refused", rf"{third} R4\.6 refused OFFER \d+ of {first}: ")
    deaf = await chromium.shows("#headline", f"{first} does not hear {second}")
    assert f"{second} is primary" in deaf
    assert "holds its lease" in deaf
    for link in (f"{first} to {second}", f"{second} to {first}"):
        await chromium.shows("#links-summary", f"2 of 6 not up: .*{link}")
    await chromium.picture("partition", DESKTOP, "dark")
    await chromium.picture("partition-phone", PHONE)

    # This node stops.
    cluster[seen].kill()
    await chromium.shows("#connection", f"No connection to {seen} since")
    await chromium.shows("#headline", f"Attention: What {seen} knows is not known here since")
    start(seen)
    await chromium.shows("#connection", f"Live from {seen}")
    assert await chromium.complaints() == []


@ensureDeferred
async def test_data_servers_are_told_in_plain_words(chromium: Browser) -> None:
    said = writer("b", data=data(length=2**60), lease_expires_in=5.0)
    election = ElectionService(
        nowhere(), ballot=MemoryBallot(), config=QUICK, listen="tcp:0:interface=127.0.0.1"
    )
    own = election.data = Driven(length=900)
    election.startService()
    ports = []
    try:
        ports.append(reactor.listenTCP(0, Site(Said(said)), interface="127.0.0.1"))  # type: ignore[attr-defined]
        others = {"b": f"http://127.0.0.1:{ports[0].getHost().port}"}
        ports.append(reactor.listenTCP(0, site(election, others), interface="127.0.0.1"))  # type: ignore[attr-defined]
        await chromium.resize(PHONE)
        await chromium.do("get", f"http://127.0.0.1:{ports[1].getHost().port}/")
        mine, other = "#nodes li:nth-child(1)", "#nodes li:nth-child(2)"
        await chromium.shows(
            mine, "Server follows 127.0.0.1:6001, in sync; data epoch 3, length 900"
        )
        await chromium.shows(
            other, f"Server takes the clients' writes; data epoch 3, length {2**60}"
        )
        election.message_received("b", Announce(3, "b", "127.0.0.1:6001"))
        election.message_received("b", Heartbeat(3, "b", Role.PRIMARY, join_offset(3, 1000)))
        await chromium.shows(
            mine, "Server follows 127.0.0.1:6001, in sync, 100 behind; data epoch 3"
        )
        own.become(state="unknown", problem="Redis at 127.0.0.1:6379 gave no answer within 1 s")
        await chromium.shows(
            mine, "Server not known: Redis at 127.0.0.1:6379 gave no answer within"
        )
        await chromium.picture("data-server-phone", PHONE)
        assert await chromium.complaints() == []
    finally:
        for port in ports:
            await port.stopListening()
        await election.stopService()


@ensureDeferred
async def test_it_says_what_to_do_when_data_servers_cannot_be_reached(
    cluster: Cluster, chromium: Browser
) -> None:
    pages = ",".join(f"{n}@127.0.0.1:{node.http}" for n, node in cluster.nodes.items())
    (nobody,) = free_ports(1)
    for node in cluster.nodes.values():
        node.start(
            node.command(
                f"--redis=127.0.0.1:{nobody}", "--advertise=127.0.0.1:1", f"--http-peers={pages}"
            )
        )
    await poll(cluster["a"].status)
    await chromium.do("get", f"http://127.0.0.1:{cluster['a'].http}/")
    unknown = "The data servers of a, b and c are not known: a, b and c neither vote nor run."
    await chromium.shows("#headline", f"Alarm: Nobody is primary: nobody may write.* {unknown}")
    await chromium.shows("#advice", "Start the data servers of a, b and c, or repair what keeps")
    await chromium.shows("#nodes", f"not known: Redis at 127.0.0.1:{nobody} cannot be reached")


class Said(Resource):
    """The status of a node that says whatever it likes."""

    isLeaf = True

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__()
        self._found = found

    def render_GET(self, request: Any) -> bytes:
        return json.dumps(self._found).encode()


@ensureDeferred
async def test_what_others_say_is_text_and_the_keyboard_reaches_all(chromium: Browser) -> None:
    markup = "<img src=x onerror='document.title=1'><script>document.title=2</script>"
    said = page("b", current_primary=markup, primary_addr=markup)
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
        ports.append(reactor.listenTCP(0, Site(Said(said)), interface="127.0.0.1"))  # type: ignore[attr-defined]
        others = {"b": f"http://127.0.0.1:{ports[0].getHost().port}"}
        ports.append(reactor.listenTCP(0, site(election, others), interface="127.0.0.1"))  # type: ignore[attr-defined]
        await chromium.do("get", f"http://127.0.0.1:{ports[1].getHost().port}/")
        await chromium.shows("#refused", re.escape(markup))
        await chromium.shows("#nodes", re.escape(f"{markup}: {markup}"))
        has = "; data epoch 3, length 1000: "
        await chromium.shows("#nodes", re.escape(f"Server {markup}{has}{markup}"))
        await chromium.shows("#nodes", re.escape(f"Check unhealthy: {markup}"))
        assert "Alarm" in await chromium.do("execute_script", "return document.title")
        assert await chromium.complaints() == []

        focused = []
        for _ in range(5):
            await chromium.command("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab")
            script = "return document.activeElement.innerText.split('\\n')[0]"
            focused.append(await chromium.do("execute_script", script))
        assert focused[0] == "To the nodes", focused
        assert any(text.startswith("1 event") for text in focused), focused
    finally:
        for port in ports:
            await port.stopListening()
        await election.stopService()
