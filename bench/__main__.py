"""`python -m bench`: lists the measurements."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

NAMES: Final = (
    "codec",
    "can_write",
    "ingest",
    "links",
    "idle",
    "failover",
    "redis_failover",
    "haproxy",
    "pause",
    "scale",
    "switchover",
)


def main() -> None:
    here = Path(__file__).parent
    for name in NAMES:
        docstring = ast.get_docstring(ast.parse((here / f"{name}.py").read_text())) or ""
        print(f"python -m bench.{name:<10} {docstring.splitlines()[0]}")
    print("\neach takes --help, and --json FILE to keep its numbers")


if __name__ == "__main__":
    main()
