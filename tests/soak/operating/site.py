"""The surroundings of the cluster: the source code, the program that it runs, and its store.

The program is the counter of tests.soak.counter. It increments a number in a file that all hosts
share, as fast as the disk allows, without asking. Only the election keeps two from doing so at
once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.soak.counter.counter import Counter
from tests.soak.counter.journal import Line, read
from tests.soak.operating.hosts import SHARED, Host, Shell, Told
from tests.soak.operating.page import WORKSTATION
from tests.support import ROOT

ADDRESSES: Final = {name: f"10.0.0.{number}" for number, name in enumerate("abcde", 1)} | {
    "m": "10.0.0.9"
}
POWER_OFF: Final = "poweroff"
JOB: Final = (
    f"#!/bin/sh\nPYTHONPATH={SHARED} exec /usr/bin/python3 -m tests.soak.counter.work {SHARED}\n"
)
SCP: Final = """\
#!/bin/sh
# Stands for scp: there is no sshd on the hosts.
cp -r "$2" {disks}/"${{3%%:*}}"/root/
"""
_COMMITTER: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "nobody"), ("EMAIL", "nobody@example.org"))
}
_VERSION: Final = re.compile(r'(?<=__version__ = ")[^"]+')


class Site:
    """All hosts, and the workstation `w`, which is this machine itself, in a clone."""

    def __init__(self, directory: Path, before: str | None) -> None:
        """`before` is the revision that is installed first; without it, this tree."""
        self.shared = directory / "shared"
        self._disks = directory / "disks"
        self._furnish_shared()
        self._furnish_workstation(directory / "workstation", before)
        self.hosts = {
            name: Host(name, address, self._disks / name, self.shared)
            for name, address in ADDRESSES.items()
        }
        for host in self.hosts.values():
            self._bring_program(host)
        self._off: set[str] = set()

    def run(self, name: str, text: str) -> Told:
        """Run `text` on a host. Hosts that were powered off are replaced by empty ones before the
        next command of the workstation."""
        if name == WORKSTATION:
            for each in self._off:
                self.hosts[each].replace()
                self._bring_program(self.hosts[each])
            self._off.clear()
            return self._workstation.run(text)
        if text == POWER_OFF:
            self._off.add(name)
            self.hosts[name].power_off()
            return Told("", 0)
        return self.hosts[name].run(text)

    def lines(self) -> list[Line]:
        """The lines that the program has written so far."""
        return read(self.shared / "journal")

    @property
    def counter(self) -> Counter:
        return Counter(self.shared)

    def end(self) -> None:
        """Power off all hosts."""
        for name, host in self.hosts.items():
            if name not in self._off:
                host.power_off()
        self._workstation.end()

    def _furnish_shared(self) -> None:
        program = self.shared / "tests" / "soak" / "counter"
        program.mkdir(parents=True)
        self.shared.chmod(0o777)  # for any user of the nodes
        for name in ("__init__.py", "soak/__init__.py", "soak/counter/__init__.py",
                     "soak/counter/counter.py", "soak/counter/journal.py",
                     "soak/counter/work.py"):  # fmt: skip
            shutil.copy(ROOT / "tests" / name, self.shared / "tests" / name)

    @staticmethod
    def _bring_program(host: Host) -> None:
        program = Path("/usr/local/bin/job")
        host.run(f"cat > {program} <<'END'\n{JOB}END\nchmod +x {program}")

    def _furnish_workstation(self, directory: Path, before: str | None) -> None:
        tools = directory / "tools"
        tools.mkdir(parents=True)
        scp = tools / "scp"
        scp.write_text(SCP.format(disks=self._disks))
        scp.chmod(0o755)
        origin = directory / "origin"
        origin.mkdir()
        _git(origin, "init", "--quiet", "--initial-branch=main")
        _fill(origin, before)
        _git(origin, "commit", "--quiet", "--message=installed first")
        clone = directory / "kevy-elect"
        _git(directory, "clone", "--quiet", str(origin), str(clone))
        _fill(origin, None)
        version = origin / "kevy_elect" / "__init__.py"
        version.write_text(_VERSION.sub(r"\g<0>.post1", version.read_text()))
        _git(origin, "commit", "--quiet", "--all", "--message=the next version")
        path = f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"
        # pip's output would contain settings of this machine.
        environment = {**os.environ, "PATH": path, "PIP_QUIET": "2"}
        self._workstation = Shell(environment=environment, directory=clone)


def _fill(origin: Path, revision: str | None) -> None:
    """Fill `origin` with that revision of this repository, or with its present files."""
    _git(origin, "rm", "-r", "--quiet", "--ignore-unmatch", ".")
    if revision is not None:
        archive = subprocess.run(
            ["git", "archive", revision], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x"], cwd=origin, input=archive.stdout, check=True)
    else:
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, files.decode().split("\0")):
            if (ROOT / name).is_file():
                (origin / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, origin / name)
    _git(origin, "add", "--all")


def _git(directory: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=directory, check=True, env={**os.environ, **_COMMITTER})
