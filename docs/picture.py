"""Draws docs/images/architecture.svg: the rooms of kevy_elect and what each imports.

Run as `python docs/picture.py` with the extra `lint` installed. With `--check` it draws nothing
and fails if the picture is not what today's code makes. The rows are those of the layers contract
in pyproject.toml; the modules in a box and the imports below them are read from the code.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import attrs
import grimp

ROOT: Final = Path(__file__).resolve().parents[1]
PICTURE: Final = ROOT / "docs/images/architecture.svg"
PACKAGE: Final = "kevy_elect"

MEANINGS: Final = {
    "__main__": "python -m kevy_elect",
    "tap": "twistd kevy-elect: options, and the node made of them",
    "cli": "the command kevy-elect",
    "ops": "what operators and their tools see of a node, and its admin socket",
    "testing": "clusters simulated in virtual time, and their checkers",
    "children": "programs and services that run on the primary only",
    "data": "drives the data server beside a member",
    "client": "finds the primary, for programs that are no members",
    "aio": "an election in a program of asyncio's",
    "service": "the election as a Twisted service",
    "transport": "links between members",
    "settings": "options, environment and file, resolved and checked",
    "elector": "the rules R1 to R10, D1 to D6",
    "peers": "what a member knows of the others",
    "grace": "how much of a lease a stop needs",
    "acks": "which heartbeat an ACK confirms",
    "failback": "when a preferred member gets the role",
    "config": "members and timings",
    "ballot": "the vote, kept on disk",
    "replication": "how the data servers stand to one another",
    "wire": "messages as bytes",
    "status": "the status document",
    "directory": "a node's directory, locked",
    "events": "what an elector notes",
    "driving": "what a driver of a data server decides",
    "local_server": "the duty of a data server, and its offset",
    "messages": "what members say to one another",
    "errors": "what can go wrong",
}

LEFT: Final = 64
RIGHT: Final = 1076
GAP: Final = 12
PADDING: Final = 14
LINE: Final = 16
SMALL: Final = 6.5
"""Width of a letter at the small size, so that lines are broken where they fit."""

STYLE: Final = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #3b4252 }
.ground { fill: #ffffff } .pure-ground { fill: #f1f9f3 }
.name { font-size: 15px; font-weight: 600 } .meaning { font-size: 13px }
.modules, .imports { font-size: 12px } .modules { fill: #6b7280 } .imports { font-style: italic }
rect.twisted { fill: #e6eefb; stroke: #2b5fb0 } text.twisted { fill: #2b5fb0 }
rect.client { fill: #fdf2dc; stroke: #a26a00 } text.client { fill: #8a5a00 }
rect.pure { fill: #dff2e5; stroke: #2f7d4f } text.pure { fill: #256b42 }
.rail { stroke: #6b7280; stroke-width: 1.5; fill: none } .head { fill: #6b7280 }
@media (prefers-color-scheme: dark) {
text { fill: #d5dae3 }
.ground { fill: #14181f } .pure-ground { fill: #17211b }
.modules { fill: #9aa3b2 }
rect.twisted { fill: #1c2a42; stroke: #6f9fe8 } text.twisted { fill: #8db6f5 }
rect.client { fill: #362a12; stroke: #d9a441 } text.client { fill: #eabf6b }
rect.pure { fill: #1b3425; stroke: #5fb583 } text.pure { fill: #84d0a2 }
.rail { stroke: #9aa3b2 } .head { fill: #9aa3b2 }
}
"""
LEGEND: Final = {
    "twisted": "runs in Twisted's reactor",
    "client": "needs no Twisted to be imported",
    "pure": "pure: no Twisted, clock or socket; time and randomness are arguments",
}


@attrs.frozen
class Room:
    """A module or package of the top level."""

    name: str
    kind: str
    modules: Sequence[str]
    imports: Sequence[str]
    """What it imports directly of the other rooms, those apart that follow from another one."""

    @property
    def title(self) -> str:
        return f"{self.name}/" if self.modules else self.name


def rows() -> list[list[Room]]:
    """The rooms of today's code, in the order of the layers contract."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    names = {each.partition(".")[2] for each in graph.find_children(PACKAGE)}
    inside: dict[str, list[str]] = {}
    imports: dict[str, set[str]] = {}
    for name in names:
        room = f"{PACKAGE}.{name}"
        below = graph.find_descendants(room)
        inside[name] = sorted(each.removeprefix(f"{room}.") for each in below)
        imported = (graph.find_modules_directly_imported_by(each) for each in (room, *below))
        found = {f"{each}.".split(".")[1] for each in set().union(*imported)}
        imports[name] = found & names - {name}
    kinds = kinds_of(imports)
    layers = [
        [name for each in layer.split("|") if (name := each.strip(" ()")) in names]
        for layer in contract("Imports go downwards")["layers"]
    ]
    order = [name for layer in layers for name in layer]
    if missing := names.symmetric_difference(order) | (names - MEANINGS.keys()):
        sys.exit(f"picture: the contract or MEANINGS does not have {sorted(missing)}")
    return [
        [
            Room(
                name,
                kinds[name],
                inside[name],
                sorted(direct(name, imports), key=order.index),
            )
            for name in layer
        ]
        for layer in layers
        if layer
    ]


def contract(name: str) -> dict[str, Any]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, Any]] = config["tool"]["importlinter"]["contracts"]
    return next(each for each in contracts if each["name"] == name)


def kinds_of(imports: dict[str, set[str]]) -> dict[str, str]:
    """Each room's kind: pure if the contract says so, client if the command needs it."""
    listed = contract("The protocol and its simulation are pure")["source_modules"]
    pure = {each.partition(".")[2] for each in listed}
    client = {"__main__"} | closure("__main__", imports)
    return {
        name: "pure" if name in pure else "client" if name in client else "twisted"
        for name in imports
    }


def closure(name: str, imports: dict[str, set[str]]) -> set[str]:
    """All that a room imports, itself or through others."""
    found: set[str] = set()
    new = imports[name]
    while new:
        found |= new
        new = set().union(*(imports[each] for each in new)) - found
    return found


def direct(name: str, imports: dict[str, set[str]]) -> set[str]:
    return {
        each
        for each in imports[name]
        if not any(each in closure(other, imports) for other in imports[name] - {each})
    }


# What is drawn


def svg(layers: Sequence[Sequence[Room]]) -> str:
    boxes: list[str] = []
    y = first = 70
    pure_from = 0
    for layer in layers:
        if not pure_from and all(room.kind == "pure" for room in layer):
            y += 30
            pure_from = y
            y += 40
        width = (RIGHT - LEFT - GAP * (len(layer) - 1)) // len(layer)
        texts = [lines(room, width) for room in layer]
        height = LINE * max(map(len, texts)) + 16
        for at, (room, words) in enumerate(zip(layer, texts, strict=True)):
            boxes += box(room, words, LEFT + at * (width + GAP), y, width, height)
        y += height + GAP
    bottom = y + 14
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {RIGHT + 24} {bottom + 10}" '
            'role="img">',
            "<title>The modules of kevy_elect, and what they import</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{RIGHT + 24}" height="{bottom + 10}" rx="10"/>',
            f'<rect class="pure-ground" x="{LEFT - 14}" y="{pure_from}" '
            f'width="{RIGHT - LEFT + 28}" height="{bottom - pure_from}" rx="10"/>',
            text(LEFT, pure_from + 25, "meaning pure", "The protocol"),
            *legend(),
            f'<path class="rail" d="M28,{first} V{y - GAP - 8}"/>',
            f'<path class="head" d="M22,{y - GAP - 10} h12 l-6,10 z"/>',
            f'<text class="meaning" transform="translate(20 {(first + y) // 2}) rotate(-90)" '
            'text-anchor="middle">imports go down</text>',
            *boxes,
            "</svg>",
            "",
        ]
    )


def legend() -> Iterator[str]:
    x = LEFT
    for kind, meaning in LEGEND.items():
        yield f'<rect class="{kind}" x="{x}" y="28" width="16" height="16" rx="3"/>'
        yield text(x + 24, 41, "meaning", meaning)
        x += 56 + int(len(meaning) * 6.8)


def lines(room: Room, width: int) -> list[tuple[str, str]]:
    """What is written in a box: each line with its class."""
    imports = f"imports {', '.join(room.imports)}" if room.imports else ""
    if width > 600 and not room.modules:  # the only one of its row, and small
        return [("name", room.title)]
    return [
        ("name", room.title),
        *(("meaning", line) for line in broken(MEANINGS[room.name].split(), width, " ")),
        *(("modules", line) for line in broken(room.modules, width, "  ")),
        *(("imports", line) for line in broken(imports.split(), width, " ")),
    ]


def broken(words: Sequence[str], width: int, space: str) -> list[str]:
    found: list[str] = []
    for word in words:
        if found and len(f"{found[-1]}{space}{word}") * SMALL <= width - 2 * PADDING:
            found[-1] += space + word
        else:
            found.append(word)
    return found


def box(
    room: Room, words: Sequence[tuple[str, str]], x: int, y: int, width: int, height: int
) -> Iterator[str]:
    yield (f'<rect class="{room.kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>')
    for at, (style, line) in enumerate(words):
        colour = f"name {room.kind}" if style == "name" else style
        yield text(x + PADDING, y + 21 + LINE * at, colour, line)
    if len(words) == 1:
        yield text(x + 130, y + 21, "meaning", MEANINGS[room.name])
        if room.imports:
            yield text(x + 520, y + 21, "imports", f"imports {', '.join(room.imports)}")


def text(x: int, y: int, style: str, words: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}" xml:space="preserve">{escape(words)}</text>'


def main(arguments: Sequence[str]) -> None:
    drawn = svg(rows())
    if arguments == ["--check"]:
        if not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != drawn:
            sys.exit(f"picture: {PICTURE.name} is out of date: run python docs/picture.py")
    elif arguments:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
