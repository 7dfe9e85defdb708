"""The command `kevy-elect`, also as `python -m kevy_elect`."""

import sys


def main() -> int:
    """Run the command and return its exit status, also if it is interrupted while it loads."""
    try:
        from kevy_elect.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
