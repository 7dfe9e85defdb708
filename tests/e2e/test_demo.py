"""The demo as its user runs it: a process of its own, which starts the nodes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kevy_elect.children.processes import is_running
from tests.support.redis_servers import REDIS_SERVER
from tests.support.waiting import DEADLINE, wait_for

COMMAND = (sys.executable, "-m", "kevy_elect")
Start = Callable[..., "subprocess.Popen[str]"]
CALM = ("--hb-interval=0.1", "--down-after=1.5")
"""A lease that a busy machine does not end, which the demo would not expect."""
needs_redis = pytest.mark.skipif(REDIS_SERVER is None, reason="needs redis-server")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """With a short name: the nodes' sockets lie below it, and their paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a demo whose temporary directory lies in tmp_path; kills it at the deadline."""
    demos: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        demos.append(
            subprocess.Popen(
                [*COMMAND, "demo", *CALM, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"TMPDIR": str(tmp_path)},
            )
        )
        timer = threading.Timer(4 * DEADLINE, demos[-1].kill)
        timers.append(timer)
        timer.start()
        return demos[-1]

    timers: list[threading.Timer] = []
    yield start
    for timer in timers:
        timer.cancel()
    for demo in demos:
        demo.kill()
        demo.communicate()


def read_until(demo: subprocess.Popen[str], what: str) -> str:
    """What the demo prints up to the line with `what`."""
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if what in line:
            return "".join(lines)
    assert demo.stderr is not None
    pytest.fail(f"no {what!r} in:\n{''.join(lines)}{demo.stderr.read()}")


def descendants(pid: int) -> dict[int, str]:
    """The processes that `pid` started, and those that they did, and their command lines."""
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            found |= {int(child): command} | descendants(int(child))
    return found


def is_wrapper(command: str) -> bool:
    return "/wrapper.py " in command


def wait_until_gone(pids: dict[int, str]) -> None:
    wait_for(lambda: not any(is_running(pid) for pid in pids))


def test_fails_over_and_cleans_up(start: Start, tmp_path: Path) -> None:
    demo = start("--rounds", "2")
    out, err = demo.communicate()
    assert (demo.returncode, err) == (0, "")
    assert len(re.findall(r"== \w could write \d\.\d\d s after the kill", out)) == 4
    assert len(re.findall(r"== \w is back and follows \w; its ballot survived", out)) == 4
    without, told = re.findall(r"^With.* could write (\d\.\d\d) s after", out, re.MULTILINE)
    assert float(told) < float(without)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["== start", "== round 1: kill", "== restart"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_time(
    start: Start, tmp_path: Path, signum: signal.Signals, moment: str
) -> None:
    demo = start("--rounds", "100")
    read_until(demo, moment)
    nodes = descendants(demo.pid)
    demo.send_signal(signum)
    out, err = demo.communicate()
    assert (demo.returncode, err) == (128 + signum, "")
    assert out.endswith("all nodes are stopped\n")
    wait_until_gone(nodes)
    assert list(tmp_path.iterdir()) == []


def test_killed_hard(start: Start) -> None:
    demo = start()
    read_until(demo, "all follow it")
    nodes = descendants(demo.pid)
    demo.kill()
    assert len(nodes) >= 4  # three below wrappers; a kill of the primary soon follows
    wait_until_gone(nodes)


def test_unexpected_course(start: Start, tmp_path: Path) -> None:
    """A node ends that the demo has not killed."""
    demo = start("--rounds", "100")
    shown = read_until(demo, "all follow it")
    other = "b" if "== a is primary" in shown else "a"  # the demo kills the primary itself
    nodes = descendants(demo.pid)
    (pid,) = (
        pid
        for pid, command in nodes.items()
        if f"--node-id {other} " in command and not is_wrapper(command)
    )
    os.kill(pid, signal.SIGKILL)
    _, err = demo.communicate()
    assert demo.returncode == 1
    assert f"the process of {other} was ended by SIGKILL" in err
    (kept,) = tmp_path.iterdir()
    assert f"logs and ballots are kept in {kept}" in err
    assert (kept / other / "log").stat().st_size > 0
    wait_until_gone(nodes)


def test_keep_running(start: Start, tmp_path: Path) -> None:
    """The cluster can be asked and hurt from outside, and heals."""
    demo = start("--rounds", "0", "--keep-running")
    shown = read_until(demo, "kill -9")
    urls = re.search(r"kevy-elect status (.*)", shown)
    kill = re.search(r"kill -9 (\d+) ", shown)
    assert urls is not None
    assert kill is not None
    status = subprocess.run(
        [*COMMAND, "status", *urls[1].split()], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (status.returncode, status.stderr) == (0, "")
    assert len(status.stdout.splitlines()) == 4 + 1 + 4
    os.kill(int(kill[1]), signal.SIGKILL)
    read_until(demo, "-> primary")
    read_until(demo, "== restart")
    read_until(demo, "follows")
    nodes = descendants(demo.pid)
    demo.send_signal(signal.SIGINT)
    demo.communicate()
    assert demo.returncode == 0
    assert sum(is_wrapper(command) for command in nodes.values()) == 3
    assert len(nodes) == 6
    wait_until_gone(nodes)
    assert list(tmp_path.iterdir()) == []


def test_watched(start: Start, tmp_path: Path) -> None:
    """Watches see the failover, and leave the terminal in order."""
    demo = start("--rounds", "0", "--keep-running")
    shown = read_until(demo, "kill -9")
    urls = re.search(r"kevy-elect status (.*)", shown)
    kill = re.search(r"kill -9 (\d+) +# (\w)", shown)
    assert urls is not None
    assert kill is not None
    (directory,) = tmp_path.iterdir()
    follower = "b" if kill[2] == "a" else "a"
    node = f"--data-dir={directory / follower}"
    watching = Terminal("status", "--watch", "--interval=0.05", *urls[1].split())
    looking = Terminal("status", "--watch", "--interval=0.05", node)
    lines = subprocess.Popen(
        [*COMMAND, "status", "--watch", "--json", "--interval=0.05", node],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert lines.stdout is not None
        followed = (json.loads(line)["current_primary"] for line in lines.stdout)
        assert next(followed) == kill[2]
        watching.read_until("all is well")
        looking.read_until("connected for")
        os.kill(int(kill[1]), signal.SIGKILL)
        watching.read_until("primary -> silent")
        watching.read_until("-> primary, epoch")
        looking.read_until("down")
        assert next(each for each in followed if each not in (None, kill[2]))
        for terminal, number, status in (
            (watching, signal.SIGINT, 130),
            (looking, signal.SIGTERM, 143),
        ):
            assert terminal.end(number) == status
            assert SHOW_CURSOR in terminal.shown.rpartition(HIDE_CURSOR)[2]
            assert "Traceback" not in terminal.shown
        lines.send_signal(signal.SIGINT)
        assert lines.wait(DEADLINE) == 130
    finally:
        for process in (watching.process, looking.process, lines):
            process.kill()
            process.wait()
        lines.communicate()


SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "60"},
        )
        os.close(theirs)

    def read_until(self, what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while what not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()

    def end(self, number: signal.Signals) -> int:
        """Send the signal and read to the end; the exit status."""
        self.process.send_signal(number)
        deadline = time.monotonic() + DEADLINE
        while self._read():
            assert time.monotonic() < deadline, f"it goes on after {number.name}"
        os.close(self._ours)
        return self.process.wait(DEADLINE)

    def _read(self) -> bytes:
        data = read_terminal(self._ours)
        self.shown += data.decode("utf-8", "replace")
        return data


def test_live_table_on_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    demo = subprocess.Popen(
        [*COMMAND, "demo", *CALM],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    timer = threading.Timer(4 * DEADLINE, demo.kill)
    timer.start()
    shown = b"".join(iter(lambda: read_terminal(ours), b"")).decode()
    timer.cancel()
    os.close(ours)
    assert demo.wait() == 0
    assert "PROCESS" in shown
    assert "could write" in shown
    assert list(tmp_path.iterdir()) == []


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


@needs_redis
def test_redis_loses_no_confirmed_write(start: Start, tmp_path: Path) -> None:
    demo = start("--redis")
    out, err = demo.communicate()
    assert (demo.returncode, err) == (0, "")
    (restarted,) = re.findall(r"== restart (\w): its Redis is empty", out)
    (found,) = re.findall(rf"== {restarted} is back: .* has all ([\d,]+) confirmed writes", out)
    assert int(found.replace(",", "")) > 200
    assert re.search(
        rf"^Round 1: after kill -9 of {restarted} the first write on \w took \d+\.\d\d s, 0 of "
        r"[\d,]+ confirmed writes were lost, and \d+ stayed unconfirmed; the switchover from \w to "
        r"\w left \d+\.\d\d s without a write and lost 0 of [\d,]+ writes\.$",
        out,
        re.MULTILINE,
    )
    assert list(tmp_path.iterdir()) == []


@needs_redis
@pytest.mark.parametrize("moment", ["== start", "== round 1: kill"])
def test_redis_interrupted(start: Start, tmp_path: Path, moment: str) -> None:
    demo = start("--redis")
    read_until(demo, moment)
    processes = descendants(demo.pid)
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate()
    assert (demo.returncode, err) == (130, "")
    assert out.endswith("all nodes are stopped\n")
    wait_until_gone(processes)
    assert list(tmp_path.iterdir()) == []


@needs_redis
def test_redis_killed_hard(start: Start) -> None:
    demo = start("--redis")
    read_until(demo, "begins to write")
    processes = descendants(demo.pid)
    demo.kill()
    assert sum("redis-server 127.0.0.1:" in command for command in processes.values()) == 3
    wait_until_gone(processes)


@needs_redis
def test_redis_keeps_running(start: Start) -> None:
    """A host that is killed from outside comes back, and what became of the writes is said."""
    demo = start("--redis", "--rounds", "0", "--keep-running")
    kill = re.search(r"kill -9 (\d+) (\d+) .* (\w), the primary", read_until(demo, "kill -9"))
    assert kill is not None
    for pid in kill.groups()[:2]:
        os.kill(int(pid), signal.SIGKILL)
    said = read_until(demo, "took its first write")
    assert f"last one of {kill[3]}; 0 of " in said
    for _ in range(2):
        read_until(demo, "== restart")
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate()
    assert (demo.returncode, err) == (0, "")


@needs_redis
def test_redis_on_a_terminal() -> None:
    pytest.importorskip("rich")
    terminal = Terminal("demo", "--redis", *CALM)
    try:
        terminal.read_until("begins to write")
        terminal.read_until("DATA EPOCH")
        terminal.read_until("confirmed by WAIT")
        assert terminal.end(signal.SIGINT) == 130
        assert "Traceback" not in terminal.shown
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_without_a_redis(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--redis"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": str(tmp_path)},
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "install redis-server" in done.stderr
