"""`python -m kevy_elect` is the command `kevy-elect`."""

import sys

from kevy_elect.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
