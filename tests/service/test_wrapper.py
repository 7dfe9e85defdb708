"""The wrapper on real processes, and the will that it reads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import skipUnless

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.service import wrapper
from kevy_elect.service.last_will import Addressee, LastWill
from kevy_elect.service.wrapper import Will
from kevy_elect.transport import credentials
from kevy_elect.transport.channel import PLAIN_SECURITY, Channel, ChannelError, Security
from kevy_elect.transport.noise import NoiseSecurity, public_bytes
from tests.support import ROOT
from tests.support.certificates import Authority
from tests.support.waiting import DEADLINE, wait_for

ON_LINUX = sys.platform == "linux"
WRAPPER = (sys.executable, "-I", "-S", wrapper.__file__)
PATIENT = (
    *WRAPPER[:-1],
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(wrapper.__file__).parent)!r}); import wrapper; "
    f"wrapper.PATIENCE = 30.0; sys.exit(wrapper.main(sys.argv[1:]))",
)
"""The same with time for every message, whatever else the machine does."""
B, C = Addressee("b", "127.0.0.1", 7102), Addressee("c", "::1", 7103)


def lives(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@skipUnless(ON_LINUX, "the wrapper needs Linux")
class WrapperTests(SynchronousTestCase):
    def run_command(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*WRAPPER, *command], capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    def start(self, script: str) -> subprocess.Popen[str]:
        """A wrapper around a shell that has said one line, which is its process id."""
        process = subprocess.Popen(
            [*WRAPPER, "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.pid = int(process.stdout.readline())
        return process

    def test_a_daemon_goes_on_although_the_process_between_ends_late(self) -> None:
        script = """if True:
            import os, time
            from kevy_elect.service.wrapper import VARIABLE, Will
            record = int(os.environ[VARIABLE].split()[0])
            ready, tell = os.pipe()
            if os.fork():
                os.read(ready, 1)
                os._exit(0)
            if os.fork():
                time.sleep(0.3)
                os._exit(0)
            Will(os.getpid()).write(record)
            os.write(tell, b".")
            time.sleep(0.6)
            os._exit(7)
        """
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [*WRAPPER, sys.executable, "-c", script]
        ended = subprocess.run(command, env=environment, timeout=DEADLINE, check=False)
        self.assertEqual(ended.returncode, 7)

    def test_ends_with_the_status_of_the_command(self) -> None:
        self.assertEqual(self.run_command("sh", "-c", "exit 7").returncode, 7)

    def test_ends_by_the_signal_that_ended_the_command(self) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            ended = self.run_command("sh", "-c", f"kill -{number.value} $$")
            self.assertEqual(ended.returncode, -number)

    def test_says_what_it_cannot_run(self) -> None:
        ended = self.run_command("/no/such/program")
        self.assertEqual(ended.returncode, 127)
        self.assertIn("'/no/such/program': No such file", ended.stderr)
        self.assertEqual(self.run_command("/etc/passwd").returncode, 126)

    def test_passes_signals_on(self) -> None:
        process = self.start("trap 'exit 9' USR1; echo $$; while :; do sleep 0.01; done")
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(process.wait(DEADLINE), 9)

    def test_nothing_that_the_command_started_outlives_it(self) -> None:
        # In a session of its own, its parent dead, nothing open: only a subreaper finds it.
        process = self.start("(setsid sleep 600 >&- 2>&- <&- & echo $!) & wait; exec sleep 600")
        wait_for(lambda: b"sleep" in Path(f"/proc/{self.pid}/cmdline").read_bytes())
        (node,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[:1]
        self.assertTrue(lives(self.pid))
        os.kill(int(node), signal.SIGKILL)
        process.wait(DEADLINE)
        self.assertFalse(lives(self.pid))

    def test_collects_orphans_while_the_command_runs(self) -> None:
        process = self.start("(sleep 0 & echo $!) & wait; exec sleep 600")
        wait_for(lambda: not Path(f"/proc/{self.pid}").exists())
        process.terminate()
        self.assertEqual(process.wait(DEADLINE), -signal.SIGTERM)

    def test_tells_systemd_variables_to_whom_they_are_meant_for(self) -> None:
        script = 'echo $$ "$WATCHDOG_PID" "$LISTEN_PID"; sleep 0'
        start = (
            "import os, sys; os.environ.update(WATCHDOG_PID=str(os.getpid()), LISTEN_PID='1');"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        command = [sys.executable, "-c", start, *WRAPPER, "sh", "-c", script]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual(said, [said[0], said[0], "1"])


@skipUnless(ON_LINUX, "the wrapper needs Linux")
class TellingCase(SynchronousTestCase):
    """A process that leaves a will and dies, and a member that may be told."""

    wrapper = WRAPPER
    DYING = (
        "import os, signal, sys, time\n"
        "from kevy_elect.service.wrapper import VARIABLE, Will\n"
        "record = int(os.environ[VARIABLE].split()[0])\n"
        "lock, member, secret, survivor = *sys.argv[1:4], 0\n"
        "if 'survivor' in sys.argv and (survivor := os.fork()) == 0:\n"
        "    time.sleep(0.05)\n"
        "    os.write(1, b'finished')\n"
        "    os._exit(0)\n"
        "proof = secret.encode(), os.pathsep.join(sys.path[1:])\n"
        "Will(os.getpid(), lock, b'frame', (member,), survivor, *proof).write(record)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    def setUp(self) -> None:
        self.member = socket.create_server(("127.0.0.1", 0))
        self.member.settimeout(DEADLINE)
        self.addCleanup(self.member.close)
        self.lock = Path(self.mktemp())
        self.lock.touch()

    def start(self, *more: str, secret: bytes = b"") -> subprocess.Popen[bytes]:
        """A wrapper around a process that leaves a will and kills itself."""
        host, port = self.member.getsockname()
        member = f"{host} {port} b"
        process = subprocess.Popen(
            [*self.wrapper, *self.dying(member, secret.decode()), *more],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        return process

    def dying(self, member: str, secret: str) -> list[str]:
        return [sys.executable, "-c", self.DYING, str(self.lock), member, secret]

    def call(self) -> socket.socket:
        call, _ = self.member.accept()
        self.addCleanup(call.close)
        call.settimeout(DEADLINE)
        return call


@skipUnless(ON_LINUX, "the wrapper needs Linux")
class TellingTests(TellingCase):
    def test_the_message_comes_several_times_and_then_a_reset(self) -> None:
        self.wrapper = PATIENT
        process, call, heard = self.start(), self.call(), b""
        with self.assertRaises(ConnectionResetError):
            while heard := heard + call.recv(1000):
                last = heard
        self.assertEqual(last, wrapper.TIMES * b"frame")
        self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL)

    def test_no_next_life_can_begin_before_all_is_said(self) -> None:
        self.start()
        call = self.call()
        call.recv(1000)
        with open(self.lock) as lock, self.assertRaises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_nobody_is_told_while_a_next_life_runs(self) -> None:
        with open(self.lock) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self.start()
            self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL)
        self.member.setblocking(False)
        with self.assertRaises(BlockingIOError):
            self.member.accept()

    def test_who_has_something_to_finish_does_so_before_anybody_is_told(self) -> None:
        process = self.start("survivor")
        self.call()
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self.assertEqual(process.stdout.read(), b"finished")


@skipUnless(ON_LINUX, "the wrapper needs Linux")
class SecureTellingTests(TellingCase):
    """Members hear only who proves who it is."""

    def ends(self, kind: str) -> tuple[Security, Security]:
        """What a and b prove themselves by."""
        if kind == "noise":
            one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
            keys = {"b": [public_bytes(other)]}
            return NoiseSecurity(one, keys), NoiseSecurity(other, {"a": [public_bytes(one)]})
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        return authority.security("a", "b"), authority.security("b", "a")

    def secret(self, ours: Security) -> bytes:
        return credentials.write(ours, {"b": ours.dials("b")})

    def hear(self, call: socket.socket, channel: Channel) -> bytes:
        """All that is said on this connection, until it is reset."""
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while said := call.recv(4096):
                plain, answer = channel.receive(said)
                call.sendall(answer)
                heard += plain
        return heard

    def test_the_message_is_sealed_as_the_node_would_seal_it(self) -> None:
        self.wrapper = PATIENT
        for kind in ("noise", "tls"):
            ours, theirs = self.ends(kind)
            process, channel = self.start(secret=self.secret(ours)), theirs.accepts()
            heard = self.hear(self.call(), channel)
            self.assertEqual(heard, wrapper.TIMES * b"frame")
            self.assertEqual(channel.names, {"a"})
            self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL)

    def test_nothing_is_told_to_who_does_not_prove_to_be_the_member(self) -> None:
        for kind in ("noise", "tls"):
            ours, _ = self.ends(kind)
            _, strangers = self.ends(kind)
            process, channel = self.start(secret=self.secret(ours)), strangers.accepts()
            try:
                heard = self.hear(self.call(), channel)
            except ChannelError:
                heard = b""
            self.assertEqual(heard, b"")
            self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL)

    def test_who_says_nothing_keeps_nobody_waiting(self) -> None:
        process = self.start(secret=self.secret(self.ends("noise")[0]))
        call = self.call()
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while call.recv(1000):
                pass
        self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL)
        self.assertGreater(time.monotonic() - began, wrapper.PATIENCE / 2)

    def test_a_proof_that_cannot_be_used_is_told_and_no_member_is_called(self) -> None:
        secret = b'{"kind": "noise", "private": "", "peers": {}}'
        ended = subprocess.run(
            [*WRAPPER, *self.dying("127.0.0.1 9 b", secret.decode())],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        self.assertEqual(ended.returncode, -signal.SIGKILL)
        self.assertIn(b"lack of credentials", ended.stderr)


@skipUnless(ON_LINUX, "the wrapper needs Linux")
class WillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.record = os.memfd_create("a will of these tests")
        self.addCleanup(os.close, self.record)

    def test_says_what_a_resignation_says(self) -> None:
        will, _ = self.make()
        will.leave("a", 3, 42, Path("/data/elect.lock"), [B, C])
        found = self.read()
        self.assertEqual(found.frame, wire.encode(Heartbeat(3, "a", Role.REPLICA, 42)))
        self.assertEqual(found.members, ("127.0.0.1 7102 b", "::1 7103 c"))
        self.assertEqual((found.node, found.lock), (os.getpid(), "/data/elect.lock"))
        self.assertTrue(will.stands)

    def test_says_nothing_once_withdrawn(self) -> None:
        will, _ = self.make()
        will.leave("a", 3, 42, Path("/data/elect.lock"), [B])
        will.withdraw()
        self.assertEqual(self.read().frame, b"")
        self.assertFalse(will.stands)

    def test_a_will_that_is_no_news_is_not_written_again(self) -> None:
        will, _ = self.make()
        will.leave("a", 3, 42, Path("/data/elect.lock"), [])
        os.ftruncate(self.record, 0)
        will.leave("a", 3, 42, Path("/data/elect.lock"), [])
        self.assertIsNone(Will.read(self.record))
        will.leave("a", 3, 43, Path("/data/elect.lock"), [])
        self.assertIn(b"43", self.read().frame)

    def test_a_will_that_was_written_in_part_is_none(self) -> None:
        Will(1, "/lock", b"frame", ("::1 1 b",)).write(self.record)
        os.pwrite(self.record, b"F", 14)
        self.assertIsNone(Will.read(self.record))
        os.ftruncate(self.record, 5)
        self.assertIsNone(Will.read(self.record))

    def test_a_dead_wrapper_tells_nobody(self) -> None:
        will, dead = self.make()
        will.leave("a", 3, 42, Path("/data/elect.lock"), [])
        os.close(dead)
        self.assertFalse(will.stands)

    def test_without_a_wrapper_there_is_no_will(self) -> None:
        for value in ("", "7", "x y", "-1 -2", f"{10**6} {10**6}"):
            environment = {wrapper.VARIABLE: value, "HOME": "/"}
            self.assertIsNone(LastWill.take(environment))
            self.assertEqual(environment, {"HOME": "/"})

    def test_the_wrapper_is_woken_to_read_new_credentials_and_only_these(self) -> None:
        sent: list[tuple[int, int]] = []
        self.patch(signal, "pidfd_send_signal", lambda *signal: sent.append(signal))
        will, _ = self.make()
        woken = []
        one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        first, second = (NoiseSecurity(key, {"b": [public_bytes(one)]}) for key in (one, other))
        member = Addressee("b", "127.0.0.1", 7102, first.dials("b"))
        for offset, security in ((1, PLAIN_SECURITY), (2, first), (3, first), (4, second)):
            will.leave("a", 3, offset, Path("/lock"), [member], security=security)
            woken.append(len(sent))
        self.assertEqual(woken, [0, 1, 1, 2])
        self.assertEqual({number for _, number in sent}, {signal.SIGCHLD})
        found = credentials.read(self.read().credentials)
        self.assertEqual(found.dials("b").key, public_bytes(one).hex()[:8])

    def make(self) -> tuple[LastWill, int]:
        """A will, and what to close for its wrapper to be dead."""
        alive, dies = os.pipe()
        self.addCleanup(os.close, alive)
        return LastWill(self.record, alive), dies

    def read(self) -> Will:
        found = Will.read(self.record)
        assert found is not None
        return found
