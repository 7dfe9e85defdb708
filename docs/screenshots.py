"""Takes pictures of the page in many states, which are made up by `tests/support/scenes.py`.

    python docs/screenshots.py                  # those of docs/page.md, into docs/images
    python docs/screenshots.py --all DIR        # every state, light, dark, on a phone and on paper
    python docs/screenshots.py --all DIR dead   # only those whose name contains this

It needs chromium and its chromedriver, the extra `browser`, and for docs/images `pngquant`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import DESKTOP, PHONE, Browser  # noqa: E402
from tests.support.scenes import Scene, scene_time, staged  # noqa: E402
from tests.support.statuses import data, following  # noqa: E402

IMAGES: Final = ROOT / "docs/images"
LOOKS: Final = {
    "light": (DESKTOP, "light", ""),
    "dark": (DESKTOP, "dark", ""),
    "phone": (PHONE, "light", ""),
    "phone-dark": (PHONE, "dark", ""),
    "paper": ((760, 1000), "light", "print"),
}
DOCUMENTED: Final = {
    "page-healthy": ("healthy", "light", None),
    "page-dead": ("dead-2s", "light", None),
    "page-silent": ("one-way", "dark", None),
    "page-phone": ("elected", "phone", None),
    "page-twenty-five": ("twenty-five-dead", "light", 560),
}
"""Which scene and look a picture has, and how many pixels of it if not all."""
MANY: Final = tuple(f"n{number:02}" for number in range(1, 26))


@attrs.frozen
class Shot:
    """A scene, from when on it is watched, and when the picture is taken."""

    scene: Scene
    start: float
    at: float


def shots() -> dict[str, Shot]:
    dead = Scene(killed={"b": 2.0})
    elected = Scene(killed={"b": 2.0}, successor=("c", 7.1))
    parted = {(one, other): -4.0 for one in "ab" for other in "cde"}
    parted |= {(other, one): at for (one, other), at in parted.items()}
    five = tuple("abcde")
    slow = {"settings": Scene().document("c", 0.0)["settings"] | {"down_after": 8.0}}  # type: ignore[index]
    return {
        "healthy": Shot(Scene(), 0.0, 1.5),
        "dead-0.5s": Shot(dead, 0.5, 2.5),
        "dead-2s": Shot(dead, 0.5, 4.0),
        "dead-6s": Shot(dead, 0.5, 8.0),
        "elected": Shot(elected, 0.5, 9.5),
        "one-way": Shot(Scene(silent={("c", "a"): -1.2}), 0.0, 2.0),
        "partition": Shot(Scene(ids=five, silent=parted), 0.0, 1.5),
        "blind": Shot(
            Scene(
                silent={(x, y): -9.0 for x in "abc" for y in "abc" if "a" in (x, y)},
                pages_cut=("b", "c"),
            ),
            0.0,
            3.0,
        ),
        "no-quorum": Shot(Scene(killed={"b": -20.0, "c": -30.0}), -24.0, -13.0),
        "handover": Shot(Scene(changes={"b": {"can_write": False}}), 0.0, 1.5),
        "just-handed-over": Shot(Scene(elected_at=-4.0, why="primary-gone"), 0.0, 1.5),
        "mixed-timings": Shot(Scene(changes={"c": slow}), 0.0, 1.5),
        "data-server": Shot(_with_servers(), 0.0, 1.5),
        "restarted": Shot(Scene(up_for={"c": 130.0, "a": 1900.0}), 0.0, 1.5),
        "events": Shot(Scene(events=_trouble()), 0.0, 1.5),
        "witness": Shot(Scene(changes={"c": {"witness": True, "children": []}}), 0.0, 1.5),
        "one": Shot(Scene(ids=("a",), primary="a", job=""), 0.0, 1.5),
        "two": Shot(Scene(ids=("a", "b")), 0.0, 1.5),
        "long-names": Shot(
            Scene(
                ids=(
                    "orders-1.example",
                    "orders-2.example",
                    "orders-3.example",
                    "orders-4.example",
                ),
                me="orders-1.example",
                primary="orders-3.example",
                former="orders-1.example",
                silent={("orders-4.example", "orders-2.example"): -3.0},
            ),
            0.0,
            1.5,
        ),
        "seven": Shot(Scene(ids=tuple("abcdefg"), silent={("g", "a"): -2.0}), 0.0, 1.5),
        "twenty-five": Shot(Scene(ids=MANY, me="n01", primary="n07", former="n02"), 0.0, 2.0),
        "twenty-five-dead": Shot(
            Scene(
                ids=MANY,
                me="n01",
                primary="n07",
                former="n02",
                killed={"n12": -40.0, "n19": -9.0},
                silent={("n03", "n04"): -2.0},
            ),
            0.0,
            2.5,
        ),
        "no-pages": Shot(Scene(), 0.0, 1.5),
    }


def _with_servers() -> Scene:
    primary = data(server="Redis at 10.0.0.2:6379", data_epoch=7, length=1_042_113)
    behind = following(
        server="Redis at 10.0.0.1:6379", data_epoch=7, length=1_041_900, source="10.0.0.2:6379"
    )
    problem = "Redis at 10.0.0.3:6379 gave no answer within 1 s"
    unknown = data(server="Redis at 10.0.0.3:6379", state="unknown", problem=problem, data_epoch=0)
    return Scene(
        job="",
        changes={"a": {"data": behind}, "b": {"data": primary}, "c": {"data": unknown}},
    )


def _trouble() -> list[tuple[str, float, dict[str, Any]]]:
    found = [
        ("b", -1300.0, {"kind": "quorum", "epoch": 7, "cause": "lost", "text": "lost the lease"}),
        (
            "b",
            -1299.0,
            {"kind": "quorum", "epoch": 7, "cause": "gained", "text": "has a lease again"},
        ),
        (
            "c",
            -1700.0,
            {
                "kind": "pause",
                "epoch": 7,
                "cause": None,
                "text": "this process was paused for 3.1 s",
            },
        ),
    ]
    text = "refused OFFER 8 of c: it hears its primary, b"
    found += [
        (
            who,
            -900.0 + i,
            {"kind": "refused", "epoch": 7, "cause": "R4.6", "member": "c", "text": text},
        )
        for i, who in enumerate("ab")
    ]
    return found


async def take(
    browser: Browser, name: str, shot: Shot, looks: list[str], top: int | None = None
) -> dict[str, bytes]:
    """The pictures of one scene."""
    with staged(shot.scene, shot.start, pages=name != "no-pages") as url:
        await browser.resize(DESKTOP)
        await browser.do("get", url)
        while (await deferToThread(scene_time, url)) < shot.at:
            await _rest(0.02)
        found = {}
        for look in looks:
            size, scheme, media = LOOKS[look]
            if media:
                await browser.run("dispatchEvent(new Event('beforeprint'))")
            await browser.resize(size, scheme, media)
            await _rest(0.3)
            found[look] = await browser.picture(top)
        for complaint in await browser.complaints():
            print(f"{name}: {complaint}", file=sys.stderr)
        return found


def _rest(seconds: float) -> Deferred[None]:
    from twisted.internet import reactor

    return deferLater(reactor, seconds)  # type: ignore[arg-type]


async def take_all(folder: Path, wanted: str) -> None:
    browser = await deferToThread(Browser)
    try:
        for name, shot in shots().items():
            if wanted in name:
                for look, png in (await take(browser, name, shot, list(LOOKS))).items():
                    (folder / f"{name}.{look}.png").write_bytes(png)
    finally:
        await browser.do("quit")


async def take_documented() -> None:
    browser = await deferToThread(Browser)
    try:
        for image, (name, look, top) in DOCUMENTED.items():
            file = IMAGES / f"{image}.png"
            file.write_bytes((await take(browser, name, shots()[name], [look], top))[look])
            subprocess.run(
                ["pngquant", "--force", "--strip", "--output", file, "64", file], check=True
            )
    finally:
        await browser.do("quit")


def main(_: object, *arguments: str) -> Deferred[None]:
    if arguments[:1] == ("--all",):
        folder = Path(arguments[1])
        folder.mkdir(parents=True, exist_ok=True)
        return Deferred.fromCoroutine(take_all(folder, "".join(arguments[2:])))
    return Deferred.fromCoroutine(take_documented())


if __name__ == "__main__":
    react(main, sys.argv[1:])
