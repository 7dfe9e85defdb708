"""The documentation against the tree: rules, examples, settings and links."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.config import ElectConfig
from tests.support import ROOT

PROTOCOL = ROOT / "docs/protocol.md"
RULES = [f"R{number}" for number in range(1, 11)]
NOT_OURS = re.compile(r"\..*|_trial_temp.*|_?build|dist|.*\.egg-info|__pycache__")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def files(folder: Path, suffix: str) -> Iterator[Path]:
    """The files of `folder` and below with this suffix, but for what tools have put there."""
    for path in sorted(folder.iterdir()):
        if NOT_OURS.fullmatch(path.name) or (path / "pyvenv.cfg").exists():
            continue
        if path.is_dir():
            yield from files(path, suffix)
        elif path.suffix == suffix:
            yield path


def cited(text: str) -> set[str]:
    """The rules that a text names, R4.2 as R4.2 and as R4; a class R4Pledges names R4."""
    found = set(re.findall(r"\bR\d+(?:\.\d+)?(?=\b|[A-Z])", text))
    return found | {rule.partition(".")[0] for rule in found}


def without_code(markdown: str) -> str:
    """Markdown without its code, where a bracket is no link."""
    text = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def links(markdown: str) -> list[str]:
    """The targets of all links and images: inline, by reference, and in HTML."""
    text = without_code(markdown)
    return [
        *re.findall(r"\]\(\s*<?([^)\s>]+)", text),
        *re.findall(r"^ {0,3}\[[^]]+\]:\s*<?([^\s>]+)", text, flags=re.MULTILINE),
        *re.findall(r"""\b(?:href|src)=["']([^"']+)""", text),
    ]


def anchors(markdown: str) -> set[str]:
    """What can stand after `#` in a link to this page: its headings, as GitHub names them."""
    text = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, flags=re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]
    repeats = (slugs[:at].count(slug) for at, slug in enumerate(slugs))
    return {f"{slug}-{n}" if n else slug for slug, n in zip(slugs, repeats, strict=True)}


class RulesTests(SynchronousTestCase):
    """The rules are numbered in docs/protocol.md and cited by code and tests."""

    def assert_each_rule_cited(self, paths: Iterator[Path], where: str) -> None:
        found = set().union(*(cited(read(path)) for path in paths))
        self.assertEqual([rule for rule in RULES if rule not in found], [], f"not cited in {where}")

    def test_each_has_its_heading(self) -> None:
        headings = re.findall(r"^#+ (R\d+):", read(PROTOCOL), flags=re.MULTILINE)
        self.assertEqual(headings, RULES)

    def test_each_is_cited_by_the_code(self) -> None:
        self.assert_each_rule_cited(files(ROOT / "kevy_elect", ".py"), "kevy_elect")

    def test_each_is_cited_by_a_test(self) -> None:
        here = Path(__file__).resolve()
        tests = (path for path in files(ROOT / "tests", ".py") if path != here)
        self.assert_each_rule_cited(tests, "tests")

    def test_no_citation_is_of_a_rule_that_is_not_there(self) -> None:
        there = cited(read(PROTOCOL))
        for folder in ("kevy_elect", "tests"):
            for path in files(ROOT / folder, ".py"):
                self.assertEqual(cited(read(path)) - there, set(), path)


class ProtocolPageTests(SynchronousTestCase):
    """What docs/protocol.md shows is what the code does."""

    def test_example_frames(self) -> None:
        """The lengths in each are right, and `wire` reads and writes them so."""
        quoted = re.findall(r"^ {4}.*?(\*\d+\\r\\n\S*)$", read(PROTOCOL), flags=re.MULTILINE)
        verbs = set()
        for text in quoted:
            frame = text.replace("\\r\\n", "\r\n")
            words = frame.split("\r\n")[2::2]
            elements = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            self.assertEqual(frame, f"*{len(words)}\r\n{elements}")
            verb = words[0] if words else "nothing"
            verbs.add(verb)
            if verb not in ("nothing", "ACK"):  # these two are no messages, see section 4
                found = wire.decode(frame.encode())
                assert found is not None, frame
                self.assertEqual(found[1], len(frame))
                self.assertEqual(wire.encode(found[0]), frame.encode())
        self.assertEqual(verbs, {"HB", "OFFER", "ACCEPT", "ANNOUNCE", "ACK", "nothing"})

    def test_settings(self) -> None:
        """The table of settings has each field of ElectConfig, in order."""
        table = re.findall(r"^\| (\w+) \| [^|]+ \| [^|]+ \|$", read(PROTOCOL), flags=re.MULTILINE)
        at = table.index("setting") + 1
        names = [field.name for field in attrs.fields(ElectConfig)]
        self.assertEqual(table[at : at + len(names)], names)

    def test_bounds(self) -> None:
        text = read(PROTOCOL)
        self.assertIn(f"| elements of an array | {wire.MAX_ELEMENTS} |", text)
        self.assertIn(f"| bytes of an element | {wire.MAX_ELEMENT} |", text)
        self.assertIn(f"16 KiB ({wire.MAX_UNDECODED:,})", text)


class LinkTests(SynchronousTestCase):
    """No page links to what is not there."""

    def test_relative_links_resolve(self) -> None:
        pages = list(files(ROOT, ".md"))
        self.assertIn(PROTOCOL, pages)
        broken = []
        for page in pages:
            for link in links(read(page)):
                if re.match(r"[a-z][a-z0-9+.-]*:", link, flags=re.IGNORECASE):
                    continue  # not relative: a scheme such as https: or mailto:
                name, _, anchor = link.partition("#")
                target = (page.parent / name).resolve() if name else page
                if (
                    name.startswith("/")
                    or not target.is_relative_to(ROOT)
                    or not target.exists()
                    or (anchor and anchor not in anchors(read(target)))
                ):
                    broken.append(f"{page.relative_to(ROOT)}: {link}")
        self.assertEqual(broken, [])

    def test_what_counts_as_a_link(self) -> None:
        page = (
            "[a](one.md#x) ![b](<two.png> 'title') `[c](no.md)` [[d](three.md)](four.md)\n"
            "[e]: five.md\n<img src='six.svg'>\n```\n[f](no.md)\n```\n"
        )
        found = ["one.md#x", "two.png", "three.md", "four.md", "five.md", "six.svg"]
        self.assertEqual(links(page), found)

    def test_what_counts_as_an_anchor(self) -> None:
        page = "# The `wire`: 1. A_b\n## R8, again\n## R8, again\n```\n# no\n```\n"
        self.assertEqual(anchors(page), {"the-wire-1-a_b", "r8-again", "r8-again-1"})


class OtherSitesTests(SynchronousTestCase):
    """What docs/build.py makes of the links that Sphinx could not follow."""

    def judged(self, status: str, info: str) -> tuple[list[bool], str]:
        spec = importlib.util.spec_from_file_location("build", ROOT / "docs/build.py")
        assert spec is not None
        assert spec.loader is not None
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        found = {"status": status, "info": info, "filename": "a.md", "lineno": 7, "uri": "x:y"}
        with contextlib.redirect_stdout(io.StringIO()) as said:
            return list(build.judged(json.dumps(found) + "\n")), said.getvalue()

    def test_a_page_that_its_server_does_not_have_is_an_error(self) -> None:
        for info in ("404 Client Error: Not Found for url: x:y", "Anchor 'z' not found"):
            errors, said = self.judged("broken", info)
            self.assertEqual(errors, [True])
            self.assertIn("error: a.md:7: x:y", said)

    def test_a_server_that_is_out_of_reach_is_a_warning(self) -> None:
        for status, info in (("broken", "Failed to resolve 'x'"), ("timeout", "timed out")):
            errors, said = self.judged(status, info)
            self.assertEqual(errors, [False])
            self.assertIn("warning: a.md:7: x:y", said)

    def test_what_was_found_is_not_worth_a_word(self) -> None:
        self.assertEqual(self.judged("working", ""), ([], ""))
