"""The command `kevy-elect`, also as `python -m kevy_elect`.

It loads nothing before `main` decides what becomes of Ctrl-C.
"""

import sys


def main() -> int:
    """Run the command and return its exit status.

    Ctrl-C ends the process at once, until a command that has something to put in order decides
    otherwise. As an exception it would be printed if it came while modules are loaded: Python
    ignores some of them there, with a traceback.
    """
    try:
        import signal

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        from kevy_elect.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
