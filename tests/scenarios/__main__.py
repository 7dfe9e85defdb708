"""Show how the scenario files differ from what happens now, or rewrite them."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence

from tests.scenarios.script import paths, replay


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a file differs and is not rewritten, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description=__doc__)
    parser.add_argument("--rewrite", action="store_true", help="write what happens now")
    options = parser.parse_args(arguments)
    differs = 0
    for path in paths():
        before = path.read_text(encoding="utf-8")
        now = replay(before)
        if before == now:
            continue
        if options.rewrite:
            path.write_text(now, encoding="utf-8")
            print(f"rewrote {path.name}")
        else:
            differs = 1
            lines = before.splitlines(), now.splitlines()
            print("\n".join(difflib.unified_diff(*lines, path.name, "now", lineterm="")))
    return differs


if __name__ == "__main__":
    sys.exit(main())
