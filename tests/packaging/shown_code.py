"""`python tests/packaging/shown_code.py`: types of the code that README, docs and examples show.

mypy --strict and, where it is installed, pyright check it as a user's own code: without this
package's configuration and without the plugin for zope's interfaces. Calls into Twisted that are
untyped are not reported, and examples that pass objects for interfaces of zope's are left out.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ("README.md", "docs/embedding.md", "docs/asyncio.md", "docs/clients.md")
EXAMPLES: Final = ("asgi_app.py", "primary_loop.tac", "singleton_job.tac")
BEFORE: Final = "def write_something(token: int) -> None: ...\n"
"""What the pages leave to the reader."""
MYPY: Final = ("--strict", "--config-file=", "--allow-untyped-calls", "--allow-untyped-defs")


def shown() -> Iterator[tuple[str, str]]:
    """A name and the text of each piece of code."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for code in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            yield Path(page).stem.lower(), BEFORE + code
    for name in EXAMPLES:
        yield Path(name).stem, (ROOT / "examples" / name).read_text(encoding="utf-8")


def main() -> int:
    """Check them; returns 0 if there is no error."""
    with tempfile.TemporaryDirectory() as place:
        names = []
        for name, code in shown():
            names.append(f"{name}_shown.py")
            (Path(place) / names[-1]).write_text(code, encoding="utf-8")
        mypy = [sys.executable, "-m", "mypy", *MYPY, "--follow-imports=silent", *names]
        failed = subprocess.run(mypy, cwd=place, check=False).returncode
        if shutil.which("pyright"):
            settings = {"include": ["."], "extraPaths": [str(ROOT)]}
            (Path(place) / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
            pyright = ["pyright", "--pythonpath", sys.executable]
            failed |= subprocess.run(pyright, cwd=place, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
