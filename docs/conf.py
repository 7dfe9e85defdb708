"""Sphinx makes a site of docs/ and the manual pages in docs/man: see docs/build.py."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import attrs
from sphinx.application import Sphinx

from kevy_elect import __version__

sys.path.insert(0, str(Path(__file__).parent))  # for command_line.py

project = "kevy-elect"
author = "The kevy_elect authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["command_line", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
smartquotes = False  # "--" is how options begin
html_theme = "furo"
html_title = f"kevy-elect {release}"
html_copy_source = False
suppress_warnings = ["misc.highlighting_failure"]  # what is left out in code is an ellipsis
linkcheck_timeout = 10

# As on a forge, headings are anchors. What is no page of the site, such as an
# example, becomes a file to download.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

# Docstrings are plain sentences with code in single backticks or indented.
default_role = "code"
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": "log"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True

# A link to what is not there is an error, but for types that have no page here: other
# projects', and those that a module keeps to itself.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!kevy_elect\.).*"),
    ("py:class", r"kevy_elect\.(\w+\.)+T"),
    ("py:class", r"kevy_elect\.testing\.(cluster\.SimulatedNode|wrapper\.SimulatedWrapper)"),
]

man_pages = [
    ("man/kevy-elect", "kevy-elect", "looks at kevy-elect nodes and commands them", "", 1),
    ("man/twistd-kevy-elect", "twistd-kevy-elect", "elects one primary among copies", "", 8),
]
today = " "  # no date in a manual page, or it would be another one each day

# Forges expect these above docs/; on the site they are pages like the others.
ABOVE = {
    "README.md": "docs/index.md",
    "CHANGELOG.md": "docs/versions.md",
    "CONTRIBUTING.md": "docs/contributing.md",
    "SECURITY.md": "docs/security.md",
}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)#\s]+")


def relinked(markdown: str, source: str, page: str) -> str:
    """The Markdown of the file `source` with its relative links as they are from `page`."""

    def from_page(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[0]))
        return posixpath.relpath(ABOVE.get(target, target), posixpath.dirname(page))

    return LINK.sub(from_page, markdown)


def on_source_read(app: Sphinx, name: str, text: list[str]) -> None:
    text[0] = relinked(text[0], f"docs/{name}.md", f"docs/{name}.md")


def on_include_read(app: Sphinx, path: Path, parent: str, text: list[str]) -> None:
    source = posixpath.normpath(f"docs/{path.as_posix()}")
    text[0] = relinked(text[0], source, f"docs/{app.env.docname}.md")


def on_docstring(
    app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]
) -> None:
    """Have what is indented be a literal block, as it would be in Markdown."""
    for at in reversed(range(2, len(lines))):
        before, blank, line = lines[at - 2 : at + 1]
        if line.startswith("    ") and not blank and not before.startswith(" "):
            lines[at:at] = ["::", ""]


def on_signature(
    app: Sphinx, what: str, name: str, documented: Any, options: Any, *signature: str | None
) -> tuple[str | None, ...]:
    """Write as in the source what attrs and zope.interface write in a way of their own."""

    def default(field: re.Match[str]) -> str:
        return repr(attrs.fields_dict(documented)[field[1]].default)

    def as_written(part: str) -> str:
        part = re.sub(r"attr_dict\['(\w+)'\]\.default", default, part)
        return re.sub(r"<InterfaceClass ([\w.]+)>", r"\1", part).replace("= NOTHING", "= ...")

    return tuple(part and as_written(part) for part in signature)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("source-read", on_source_read)
    app.connect("include-read", on_include_read)
