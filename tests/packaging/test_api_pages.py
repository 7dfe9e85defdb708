"""The API's pages have all that guides import and call, with examples that run."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ROOT

API = ROOT / "docs/api"
GUIDES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "docs").glob("*/*.md"),
)
OURS = "kevy_elect"
NOT_OURS = {"Sentinel", "_isLeader"}
"""What guides call of other projects."""


def blocks(page: Path) -> list[str]:
    """The Python that stands in a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def documented() -> dict[str, object]:
    """Each module, class and function that the API's pages document, by its whole name."""
    found: dict[str, object] = {}
    for page in API.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"auto(?:module|class|function):: ([\w.]+)", text):
            try:
                found[name] = importlib.import_module(name)
            except ImportError:
                module, _, attribute = name.rpartition(".")
                found[name] = getattr(importlib.import_module(module), attribute)
    return found


def imported(page: Path) -> Iterator[tuple[str, str]]:
    """Module and name of all that the blocks of a page import from here."""
    for block in blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == OURS:
                yield from ((str(node.module), alias.name) for alias in node.names)


class ImportTests(SynchronousTestCase):
    def test_what_a_guide_imports_is_documented(self) -> None:
        there = documented()
        for page in GUIDES:
            for module, name in imported(page):
                package = importlib.import_module(module)
                home = getattr(getattr(package, name), "__module__", module)
                listed = module in there and module != OURS and name in package.__dict__
                self.assertTrue(
                    listed or home in there or f"{home}.{name}" in there,
                    f"{page.name}: {module}.{name} is not in docs/api",
                )

    def test_what_a_guide_names_in_full_is_documented(self) -> None:
        there = documented()
        for page in GUIDES:
            for name in re.findall(rf"`({OURS}\.[\w.]+)(?:\([^`]*)?`", page.read_text("utf-8")):
                home = name.rpartition(".")[0]
                package = any(each.startswith(f"{name}.") for each in there)
                self.assertTrue(
                    name in there or home in there or package,
                    f"{page.name}: {name} is not in docs/api",
                )


class CallTests(SynchronousTestCase):
    def test_what_a_guide_tells_to_call_is_documented(self) -> None:
        known = {name.rpartition(".")[2] for name in documented()}
        for value in documented().values():
            members = vars(value).values()
            known |= {name for name in vars(value) if not name.startswith("_")}
            for each in members:
                if isinstance(each, type) and each.__module__.startswith(OURS):
                    known |= {name for name in dir(each) if not name.startswith("_")}
        for page in GUIDES:
            if page.parent.name == "man":
                continue
            prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
            called = set(re.findall(r"`(?:\w+\.)*(\w+)\([^`]*\)`", prose))
            self.assertEqual(called - known - NOT_OURS, set(), page.name)


class ExampleTests(SynchronousTestCase):
    def test_each_page_has_one_that_runs(self) -> None:
        for page in sorted(API.glob("*.md")):
            if page.name == "names.md":
                continue  # a list
            examples = blocks(page)
            self.assertTrue(examples, page.name)
            done = subprocess.run(
                [sys.executable, "-c", "\n".join(examples)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                cwd=self.mktemp_directory(),
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""), page.name)

    def mktemp_directory(self) -> str:
        path = Path(self.mktemp())
        path.mkdir(parents=True)
        return str(path)
