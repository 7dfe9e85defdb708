"""What `from kevy_elect import …` gives, and what it costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import kevy_elect
from tests.support import ROOT


def run(program: str) -> str:
    """What a Python program prints, run by a Python of its own, which has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded(*modules: str) -> set[str]:
    """Which packages outside of Python's library these modules import."""
    imports = f"import {', '.join(modules)}"
    found = run(
        f"import sys; before = {{*sys.modules}}; {imports}; print(*{{*sys.modules}} - before)"
    )
    return {name.partition(".")[0] for name in found.split()} - sys.stdlib_module_names


class NamesTests(SynchronousTestCase):
    def test_each_is_there_and_documented(self) -> None:
        pages = "".join(page.read_text() for page in sorted((ROOT / "docs/api").glob("*.md")))
        documented = set(re.findall(r"automodule:: (\S+)", pages))
        listed = set(re.findall(r"`~(kevy_elect\S+)`", (ROOT / "docs/api/names.md").read_text()))
        found = set()
        for name in kevy_elect.__all__:
            value = getattr(kevy_elect, name)
            self.assertTrue(value.__doc__, f"{name} has no docstring")
            self.assertIn(value.__module__, documented, f"{name}: docs/api has no such module")
            found.add(f"{value.__module__}.{name}")
        self.assertEqual(listed, found, "docs/api/names.md")

    def test_type_checkers_find_them_where_python_does(self) -> None:
        tree = ast.parse(Path(kevy_elect.__file__).read_text())
        imported = {
            (alias.name, node.module)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kevy_elect.")
            for alias in node.names
        }
        found = {(name, getattr(kevy_elect, name).__module__) for name in kevy_elect.__all__}
        self.assertEqual(imported, found)

    def test_dir_has_them(self) -> None:
        self.assertTrue(set(dir(kevy_elect)).issuperset(kevy_elect.__all__))

    def test_others_are_not_there(self) -> None:
        with self.assertRaisesRegex(AttributeError, "module 'kevy_elect' has no attribute 'N'"):
            kevy_elect.N  # type: ignore[attr-defined] # noqa: B018

    def test_help_begins_with_an_example_that_works_as_do_those_of_the_pages(self) -> None:
        self.assertTrue(kevy_elect.__doc__)
        prose = re.findall(r"\n\n((?: {4}.*\n|\n)+)", kevy_elect.__doc__ or "")
        self.assertTrue(prose)
        pages = "".join((ROOT / name).read_text() for name in ("README.md", "docs/embedding.md"))
        shown = re.findall(r"^```python\n(.*?)^```", pages, re.M | re.S)
        self.assertEqual(len(shown), 2)
        for example in (textwrap.dedent(prose[0]), *shown):
            tried = "write_something = print\n" + example + "\nwork()\nprint(application)"
            self.assertIn("Componentized", run(tried))


class WeightTests(SynchronousTestCase):
    """Who asks for little loads little."""

    def test_the_package_loads_nothing(self) -> None:
        self.assertEqual(loaded("kevy_elect"), {"kevy_elect"})

    def test_the_election_loads_no_twisted(self) -> None:
        self.assertNotIn("twisted", loaded("kevy_elect.elector", "kevy_elect.testing"))

    def test_a_client_loads_no_twisted(self) -> None:
        self.assertNotIn("twisted", loaded("kevy_elect.cli.main"))
