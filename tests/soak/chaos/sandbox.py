"""The place of a run: mounts, processes and networks that only the run sees.

When its first process ends for any reason, the kernel kills the others and removes every mount,
network namespace and device. Nothing is left to clean up.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from tests.support import ROOT

WORLD: Final = Path("/run")
"""A directory that only the run sees, empty at its start. Its path is short enough for sockets."""
TOOLS: Final = ("unshare", "nsenter", "mount", "umount", "ip")


def obstacle() -> str | None:
    """The reason why no run is possible on this machine; None if it is possible."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, util-linux)"
    probe = subprocess.run(
        _command(["--probe"]), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if probe.returncode == 0:
        return None
    complaint = probe.stderr.strip().splitlines() or [f"status {probe.returncode}"]
    return f"namespaces are not permitted: {complaint[-1]}"


def enter(arguments: Sequence[str], module: str) -> NoReturn:
    """Become `python -m MODULE --inside ARGUMENTS` in a new sandbox."""
    sys.stdout.flush()
    command = _command(arguments, module)
    os.execvp(command[0], command)


def furnish() -> None:
    """Mount an empty WORLD in the sandbox of this process."""
    run("mount", "-t", "tmpfs", "chaos", str(WORLD))


def collect_orphans() -> None:
    """Continue as a child of this process. This process then does the work of the first process of
    a system: it collects orphans that end, and passes SIGTERM on."""
    child = os.fork()
    if child == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child gets it too
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def run(*command: str) -> None:
    """Run a system command. Raises RuntimeError with its output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _command(arguments: Sequence[str], module: str = "tests.soak.chaos") -> list[str]:
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    return [*unshare, sys.executable, "-m", module, "--inside", *arguments]
