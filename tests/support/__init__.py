"""Helpers of tests, campaigns and benchmarks."""

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
TWISTD: Final = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
FOREGROUND: Final = (*TWISTD, "-n", "--pidfile=")
"""It logs to its standard output."""
