"""Hosts, each with a network, a name, processes and the directories to which the page writes.

They share one kernel, its time and the programs below /usr. They vanish when the process that made
them ends.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import attrs

from tests.soak.chaos.sandbox import run

SHARED: Final = Path("/srv")
"""A directory that is the same on every host: it represents a store that all can reach."""
SWITCH: Final = "switch"
PATIENCE: Final = 240.0
"""Seconds that one command may take."""
TOOLS: Final = ("unshare", "nsenter", "mount", "ip", "runuser", "useradd", "bash", "curl", "git")
_ENVIRONMENT: Final = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
}
_END: Final = re.compile(rb"\n\x01([0-9]+)\x01\n")


class StuckError(Exception):
    """A command took longer than PATIENCE."""


@attrs.frozen
class Told:
    """The result of a command."""

    output: str
    status: int


class Shell:
    """A bash that runs one command at a time."""

    def __init__(self, *prefix: str, environment: dict[str, str], directory: Path) -> None:
        self._process = subprocess.Popen(
            [*prefix, "bash", "--noprofile", "--norc"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, text: str) -> Told:
        """Run a command. Raises StuckError if it does not end."""
        typing, told = self._process.stdin, self._process.stdout
        assert typing is not None
        assert told is not None
        ended = "printf '\\n\\001%d\\001\\n' $?"
        typing.write(f"{{ {text}\n}} </dev/null 2>&1; {ended}\n".encode())
        typing.flush()
        deadline, seen = time.monotonic() + PATIENCE, b""
        while (end := _END.search(seen)) is None:
            ready, _, _ = select.select([told], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(told.fileno(), 65536) if ready else b""
            if not more:
                raise StuckError(f"{text}\n{seen.decode(errors='replace')}")
            seen += more
        return Told(seen[: end.start()].decode(errors="replace"), int(end[1]))

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Host:
    """A machine that runs until `power_off`. `directory` is its disk."""

    def __init__(self, name: str, address: str, directory: Path, shared: Path) -> None:
        self.name = name
        self.directory = directory
        self._shared = shared
        run("ip", "netns", "add", name)
        cable = ("type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", SWITCH, "link", "add", "name", name, *cable)
        run("ip", "-n", SWITCH, "link", "set", "dev", name, "master", "bridge", "up")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "lo", "up")
        self._shell = self._boot()

    def run(self, text: str) -> Told:
        return self._shell.run(text)

    def power_off(self) -> None:
        """End all its processes at once, and remove its disk."""
        self._shell.end()
        run("ip", "-n", self.name, "link", "set", "eth0", "down")
        shutil.rmtree(self.directory)

    def replace(self) -> None:
        """Replace it by a new machine with an empty disk."""
        self._shell = self._boot()

    def _boot(self) -> Shell:
        for part in ("root", "etc", "local"):
            (self.directory / part).mkdir(parents=True)
            (self.directory / f"{part}.work").mkdir()
        run("ip", "-n", self.name, "link", "set", "eth0", "up")
        # The shell is process 1 there, so all processes of the host end with it.
        shell = Shell(
            *("nsenter", f"--net=/run/netns/{self.name}"),
            *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
            environment=_ENVIRONMENT,
            directory=Path("/"),
        )
        for command in self._furnish():
            told = shell.run(command)
            if told.status != 0:
                raise RuntimeError(f"{self.name}: {command}: {told.output}")
        return shell

    def _furnish(self) -> list[str]:
        disk = self.directory
        return [
            f"hostname {self.name}",
            f"mount --bind {self._shared} {SHARED}",
            f"mount --bind {disk}/root /root",
            *(
                f"mount -t overlay -o lowerdir={at},upperdir={disk}/{part},"
                f"workdir={disk}/{part}.work host {at}"
                for part, at in (("etc", "/etc"), ("local", "/usr/local"))
            ),
            *(
                f"mount -t tmpfs -o mode=755,size=256m host {at}"
                for at in ("/opt", "/run", "/var/log", "/var/lib")
            ),
            "mount -t tmpfs host /tmp",
            f"echo {self.name} > /etc/hostname",
            "cd",
        ]


def make_switch() -> None:
    """Make the switch that connects all hosts."""
    run("ip", "netns", "add", SWITCH)
    run("ip", "-n", SWITCH, "link", "add", "bridge", "type", "bridge")
    run("ip", "-n", SWITCH, "link", "set", "bridge", "up")
