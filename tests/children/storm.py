"""A supervised command that does not want to die, among processes that end with this one.

    unshare --pid --fork --mount-proc --kill-child python -m tests.children.storm HOW CHAINS

runs so many chains of processes that fork and exit, each process in a session of its own, for
six seconds; under a supervisor with HOW that is to kill all of them once it rages. It prints
about how many of them there were, how many seconds after that the last one still wrote, how long
the supervisor took, how many it left alive, and whether they were in a control group.
`without-cgroup` in HOW takes the control groups away.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from kevy_elect.children.processes import is_running, now

LONGEST = 6.0
"""Seconds after which a storm ends by itself, whatever becomes of who should end it."""
GRACE = 0.2
BEGUN = 100
"""So many processes make it a storm."""


def rage(shared: str, chains: int) -> None:
    """Be a storm; the time and number of each process are written to a file in memory."""
    until = now() + LONGEST
    signal.alarm(10)
    with open(shared, "r+b") as file:
        last = mmap.mmap(file.fileno(), 16)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(chains):
        if os.fork() == 0:
            while now() < until:
                os.setsid()
                _, processes = struct.unpack("dq", last)
                last[:] = struct.pack("dq", now(), processes + 1)
                if os.fork():
                    os._exit(0)
            os._exit(0)
    time.sleep(LONGEST)


def supervise(how: str, chains: int) -> str:
    """Run a storm under a supervisor; what became of it."""
    from kevy_elect.children import supervised  # Twisted too, which a storm should not fork

    words = how.split(",")
    if "without-cgroup" in words:
        _unmount_cgroups()
    shared = Path(f"/dev/shm/kevy-elect-storm-{time.time_ns()}")
    shared.write_bytes(bytes(16))
    report, reported = os.pipe()
    start = [sys.executable, "-I", "-S", "-c", supervised._START, supervised._ROOT]
    storm = [sys.executable, "-m", __spec__.name, "rage", str(shared), str(chains)]
    try:
        process = subprocess.Popen(
            [*start, str(GRACE), "inf", how, *storm],
            stdin=subprocess.PIPE,
            preexec_fn=lambda: os.dup2(reported, 3),
            close_fds=False,
        )
        os.close(reported)
        until = now() + 20
        while struct.unpack("dq", shared.read_bytes())[1] < BEGUN and now() < until:
            time.sleep(0.01)
        stop_at = now() + 0.3
        assert process.stdin is not None
        process.stdin.write(f"{stop_at} {GRACE}\n".encode())
        process.stdin.flush()
        process.wait()
        took = now() - stop_at - GRACE
        last, processes = struct.unpack("dq", shared.read_bytes())
    finally:
        shared.unlink()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    left = [pid for pid in pids if pid != os.getpid() and is_running(pid)]
    grouped = os.read(report, 200).split()[2] != b"-"
    return f"{processes} {last - stop_at - GRACE:.3f} {took:.3f} {len(left)} {grouped:d}"


def _unmount_cgroups() -> None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            subprocess.check_call(["umount", "--lazy", line.split()[4]])


if __name__ == "__main__":
    if sys.argv[1] == "rage":
        rage(sys.argv[2], int(sys.argv[3]))
    else:
        print(supervise(sys.argv[1], int(sys.argv[2])))
