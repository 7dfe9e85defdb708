"""Chromium without a window, driven from a test. Its calls block, so they run in a thread."""

from __future__ import annotations

import base64
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.waiting import DEADLINE

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
ROOT = Path(__file__).resolve().parents[2]
DESKTOP = (1180, 800)
PHONE = (390, 780)


def axe_core() -> Path | None:
    """The path of axe.min.js of the npm package axe-core, if it is installed: the one in AXE_CORE,
    or that of `npm install --no-save axe-core` in the checkout."""
    places = [os.environ.get("AXE_CORE", ""), str(ROOT / "node_modules/axe-core/axe.min.js")]
    return next((Path(each) for each in places if each and Path(each).is_file()), None)


class Browser:
    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(DEADLINE)

    def do(self, name: str, *arguments: Any) -> Deferred[Any]:
        return deferToThread(getattr(self.driver, name), *arguments)

    def run(self, script: str, *arguments: Any) -> Deferred[Any]:
        """The result of a script in JavaScript."""
        return self.do("execute_script", script, *arguments)

    def command(self, name: str, **parameters: Any) -> Deferred[Any]:
        """A command of Chromium's own protocol."""
        return self.do("execute_cdp_cmd", name, parameters)

    async def text(self, selector: str = "body") -> str:
        """The visible text of the first such element, on one line; empty without one."""
        script = (
            "const found = document.querySelector(arguments[0]);"
            "return found && (found.innerText ?? found.textContent)"  # a drawing has the latter
        )
        found = await self.run(script, selector)
        return " ".join((found or "").split())

    async def shows(self, selector: str, pattern: str) -> str:
        """Wait until the text of that element matches, and return it. Fails with the present
        text."""
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, found := await self.text(selector)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{selector} shows {found!r}, not {pattern!r}")
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        return found

    async def resize(self, size: tuple[int, int], scheme: str = "light", media: str = "") -> None:
        """`size` in pixels; `scheme` is light or dark; `media` may be print."""
        width, height = size
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.command("Emulation.setEmulatedMedia", media=media, features=features)

    async def picture(self, top: int | None = None) -> bytes:
        """A PNG of the whole page, or of so many pixels from its top. Fails if anything lies beyond
        the right edge."""
        script = (
            "const page = document.documentElement;"
            "return [page.clientWidth, page.scrollWidth, page.scrollHeight]"
        )
        width, needed, height = await self.run(script)
        assert needed <= width, f"the page needs {needed} pixels of {width}"
        clip = {"x": 0, "y": 0, "width": width, "height": top or height, "scale": 1}
        taken = await self.command(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        return base64.b64decode(taken["data"])

    async def accessible(self) -> set[tuple[str, str]]:
        """Role and name of all elements for a screen reader."""
        tree = await self.command("Accessibility.getFullAXTree")
        return {
            (node["role"]["value"], node["name"]["value"].strip())
            for node in tree["nodes"]
            if not node["ignored"] and node.get("name", {}).get("value")
        }

    async def faults(self, axe: Path) -> list[str]:
        """The problems that axe-core finds in the present page: rules and elements."""
        await self.run(axe.read_text())
        script = "const done = arguments[0]; axe.run().then(done)"
        found = await self.do("execute_async_script", script)
        assert len(found["passes"]) > 10, "axe-core has looked at nothing"
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']]}"
            for each in found["violations"]
        ]

    async def press(self, key: str) -> str:
        """Press a key. Return the text of the element that has the focus then."""
        for kind in ("keyDown", "keyUp"):
            await self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        script = (
            "const it = document.activeElement;"
            "const label = it.getAttribute('aria-label') || (it.labels || [])[0]?.innerText;"
            "return label || it.innerText"
        )
        focused: str = await self.run(script)
        return focused.strip().split("\n")[0]

    async def complaints(self) -> list[str]:
        """The messages of the console, except those about the network, which tests cut on
        purpose."""
        log = await self.do("get_log", "browser")
        return [entry["message"] for entry in log if entry["source"] != "network"]
