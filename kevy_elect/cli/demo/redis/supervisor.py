"""The supervisor of a Redis of the demo, which kills it when the demo ends.

    supervisor.py COMMAND [ARGUMENT...]

runs the command, kills it when stdin ends, and exits as the command did. It is run by its path, and
imports little.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run the command to its end, and exit as it did."""
    no_input = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[no_input])
    threading.Thread(target=_kill_at_end_of_stdin, args=[pid], daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def _kill_at_end_of_stdin(pid: int) -> None:
    while os.read(0, 1):
        pass
    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
