"""Builds the site and the manual pages, and checks every link in them.

Run as `python docs/build.py [FOLDER]` with the extra `docs` installed; without FOLDER
nothing is kept. Whatever is wrong inside the documentation is an error, and so is a
manual page in docs/man that is no longer what its source makes. A page of somebody
else is one if its server says that there is no such page, and only a warning if no
server can be reached.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
DENIED = re.compile(r"4\d\d |Anchor ")
"""How linkcheck begins what it says of a link if the server did answer."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kevy-elect-docs-") as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        for builder in ("html", "man"):
            say(f"building: {builder}")
            if sphinx(builder, folder, "--fail-on-warning", "--keep-going") != 0:
                sys.exit(f"docs: {builder} has errors, see above")
        for page in sorted((folder / "man").iterdir()):
            if words(page) != words(DOCS / "man" / page.name):
                sys.exit(f"docs: docs/man/{page.name} is out of date: run tox -e man")
        say("checking links to other sites")
        sphinx("linkcheck", folder, "--silent")
        dead = list(judged((folder / "linkcheck/output.json").read_text(encoding="utf-8")))
        if any(dead):
            sys.exit("docs: there are dead links")
    say("the site, the manual pages and their links are fine")


def sphinx(builder: str, folder: Path, *options: str) -> int:
    command = (sys.executable, "-m", "sphinx", "--quiet", "--builder", builder, *options)
    trees = ("--doctree-dir", str(folder / "doctrees"))
    return subprocess.run([*command, *trees, str(DOCS), str(folder / builder)]).returncode


def words(page: Path) -> list[str]:
    """The text of a manual page without its macros, which other versions of Sphinx write
    in another way."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith((".", "'")) for word in line.split()]


def judged(output: str) -> Iterator[bool]:
    """Print what linkcheck found wrong, an object a line; for each whether it is an error."""
    for found in map(json.loads, output.splitlines()):
        if found["status"] in ("broken", "timeout"):
            dead = found["status"] == "broken" and DENIED.match(found["info"]) is not None
            place = f"{found['filename']}:{found['lineno']}: {found['uri']}"
            say(f"{'error' if dead else 'warning'}: {place}: {found['info']}")
            yield dead


def say(text: str) -> None:
    print(f"docs: {text}", flush=True)


if __name__ == "__main__":
    main()
