"""The program above a node, which notifies the other members at once when the node has died.

    wrapper.py COMMAND [ARGUMENT...]

runs the command, forwards signals to it and exits as it did: with its status, or by the same
signal, which a shell reports as 128 and the signal's number. Once the command has ended, the
wrapper kills all processes that it ever started, except one process that the will may name, which
finishes its work and ends by itself. If the node was a primary and left a will, the wrapper then
notifies the other members that it is primary no more (R7). At that time no process is left that
could write under its lease. The node has not started again either, because a service manager that
restarts it waits for this program, which also holds the data directory's lock.

A will is a file without a name, which exists only as long as this program. The environment variable
VARIABLE has that file's descriptor, and one that shows whether this program lives.

It is run by its path, imports little, and needs Linux, because only there it can find all
descendants, wherever they moved (PR_SET_CHILD_SUBREAPER). Of the package it imports only the
modules that authenticate the node, once a will needs them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import zlib
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kevy_elect.transport.channel import Channel, Security

VARIABLE = "KEVY_LAST_WILL"
TIMES = 5
"""The number of times that the message is sent, because members ignore messages that arrive before
they know that the node's own connection has ended."""
SURVIVOR_PATIENCE = 5.5
"""Seconds that the survivor may take. It may run a command, which has five."""
INTERVAL = 0.02
"""Seconds between two of these."""
PATIENCE = 0.5
"""The longest time for the notification, in seconds."""

_PR_SET_CHILD_SUBREAPER = 36
_AT_ONCE = 64 * 1024
"""The most bytes that are read at once; a handshake has fewer."""
_BETWEEN_LOOKS = 0.005
"""Seconds between two checks for processes that should be dead."""
_FROM_KEYBOARD = {signal.SIGINT, signal.SIGQUIT}
_FORWARDED = _FROM_KEYBOARD | {
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_WATCHED = _FORWARDED | {signal.SIGCHLD}
_OURS = ("WATCHDOG_PID", "LISTEN_PID")
"""Variables of systemd that contain the id of the process that they are for."""


class Will:
    """The will of a process: its id, and the message for the members after its death."""

    def __init__(
        self,
        node: int,
        lock: str = "",
        frame: bytes = b"",
        members: tuple[str, ...] = (),
        survivor: int = 0,
        credentials: bytes = b"",
        path: str = "",
    ) -> None:
        """`node` is a process id, `lock` the path of the data directory's lock, `frame` the
        message, and `members` its receivers, as `host port id` with numbers for host and port.
        `survivor` is the id of a process that finishes its work first, 0 for none. With secure
        links, `credentials` authenticate the node, and `path`, in the form of PYTHONPATH, is the
        import path for them."""
        self.node = node
        self.survivor = survivor
        self.lock = lock
        self.frame = frame
        self.members = members
        self.credentials = credentials
        self.path = path

    def write(self, record: int) -> None:
        """Replace the will."""
        pids = [b"%d" % self.node, b"%d" % self.survivor]
        members = [member.encode() for member in self.members]
        paths = [os.fsencode(self.lock), os.fsencode(self.path)]
        body = b"\0".join([*pids, *paths, self.credentials, self.frame, *members])
        # A process that was killed while it wrote leaves a mixture, which the checksum detects.
        os.pwrite(record, struct.pack("=II", len(body), zlib.crc32(body)) + body, 0)

    @classmethod
    def read(cls, record: int) -> Will | None:
        """The last will, if it was written completely."""
        head = os.pread(record, 8, 0)
        if len(head) < 8:
            return None
        length, checksum = struct.unpack("=II", head)
        body = os.pread(record, length, 8)
        if zlib.crc32(body) != checksum:
            return None
        node, survivor, lock, path, credentials, frame, *members = body.split(b"\0")
        receivers = tuple(member.decode() for member in members)
        where = os.fsdecode(path)
        return cls(
            int(node), os.fsdecode(lock), frame, receivers, int(survivor), credentials, where
        )


class Wrapper:
    """Runs one command until all processes that it started are dead."""

    def __init__(self) -> None:
        self._record = os.memfd_create("last will")
        self._pid = 0
        self._proof = Proof()

    def run(self, command: list[str]) -> int:
        """Run the command. Return its status, or a negative number for a signal."""
        _become_subreaper()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        alive = os.pidfd_open(os.getpid())
        self._pid = os.fork()
        if self._pid == 0:
            self._execute(command, alive, mask)
        status = self._wait()
        will = Will.read(self._record)
        ended = _end_descendants(will.survivor if will is not None else 0)
        if will is not None and will.frame and ended:
            lock = _take(will.lock)
            if lock is not None and self._proof.read(will):
                tell(will, self._proof.security)
        return status

    def _execute(self, command: list[str], alive: int, mask: set[signal.Signals | int]) -> None:
        try:
            os.environ[VARIABLE] = f"{self._record} {alive}"
            for name in _OURS:
                if os.environ.get(name) == str(os.getppid()):
                    os.environ[name] = str(os.getpid())
            for descriptor in (self._record, alive):
                os.set_inheritable(descriptor, True)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvp(command[0], command)
        except OSError as error:
            _complain(f"cannot run {command[0]!r}: {error.strerror}")
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)
        finally:
            os._exit(126)

    def _wait(self) -> int:
        """Forward signals until the node has ended. Return its status, or a negative number for a
        signal."""
        while True:
            caught = signal.sigwaitinfo(_WATCHED)
            number = caught.si_signo
            if number == signal.SIGCHLD:
                status = self._collect()
                if status is not None:
                    return status
                will = Will.read(self._record)  # the node may have signalled a new will
                if will is not None:
                    self._proof.read(will)
            elif caught.si_code <= 0 or number not in _FROM_KEYBOARD:
                # A signal of a terminal reaches its whole foreground group anyway.
                os.kill(self._pid, number)

    def _collect(self) -> int | None:
        """Collect dead children. Return the node's status if it is one of them."""
        while True:
            pid, ended = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            if pid == self._pid and not self._goes_on():
                return os.waitstatus_to_exitcode(ended)

    def _goes_on(self) -> bool:
        """Whether the node continues as another process than the one started here, as a daemon
        does. The processes between that one and this are dead, or about to end."""
        will = Will.read(self._record)
        if will is None or will.node == self._pid:
            return False
        alive = _is_below(will.node)
        if alive:
            self._pid = will.node
        return alive


class Proof:
    """The node's credentials, for this program."""

    security: Security | None = None
    """None for plain links, which have no authentication."""

    def __init__(self) -> None:
        self._read = b""
        self._useless = b""

    def read(self, will: Will) -> bool:
        """Read the credentials from the will, and import their modules, unless that is done. Return
        whether they can be used. Call it while the node lives, because it takes longer than all
        later steps, and the imported files may be replaced."""
        if will.credentials == self._read:
            return True
        sys.path += [each for each in will.path.split(os.pathsep) if each not in sys.path]
        try:
            from kevy_elect.transport import credentials

            self.security = credentials.read(will.credentials) if will.credentials else None
        except Exception as error:  # in any case the node continues
            if will.credentials != self._useless:
                self._useless = will.credentials
                _complain(f"no member would be notified, for lack of credentials: {error}")
            return False
        self._read = will.credentials
        return True


def tell(will: Will, security: Security | None = None) -> None:
    """Send the message to all members at once, in at most PATIENCE seconds.

    The connections are reset afterwards, so that nothing can arrive after the node's next start.
    """
    poll = select.poll()
    calls = {}
    for member in will.members:
        call = Call(member, will.frame, security)
        calls[call.socket.fileno()] = call
        poll.register(call.socket, select.POLLOUT)
    over_at = time.monotonic() + PATIENCE
    while calls and (now := time.monotonic()) < over_at:
        for descriptor, call in list(calls.items()):
            if call.due <= now and not call.speak(now):
                del calls[descriptor]
        wait = min([call.due for call in calls.values()], default=now) - now
        for descriptor, _ in poll.poll(1000 * max(0.001, min(wait, over_at - now))):
            poll.unregister(descriptor)
            if calls[descriptor].proceed():
                poll.register(descriptor, select.POLLIN)


class Call:
    """A connection to one member, which is reset once the message was sent often enough."""

    def __init__(self, member: str, frame: bytes, security: Security | None) -> None:
        self.due = float("inf")
        """The time of the next sending, once the member is connected and authenticated."""
        # Without a greeting: nothing is read here, and the member knows a last will by that.
        self._frames = TIMES * [frame]
        host, port, node_id = member.split()
        self._channel: Channel | None = None if security is None else security.dials(node_id)
        self._dialled = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(_numeric(host, int(port)))

    def proceed(self) -> bool:
        """Continue the handshake when the member can be written to or has written. Return whether
        the member has to answer. Otherwise the call may send, or must close."""
        try:
            awaits = self._channel is not None and self._shake(self._channel)
        except Exception:  # the member is gone, or not authenticated
            self._frames, awaits = [], False
        self.due = float("inf") if awaits else 0.0
        return awaits

    def _shake(self, channel: Channel) -> bool:
        """Send the next part of the handshake. Return whether the member has to answer."""
        if self._dialled:
            said = self.socket.recv(_AT_ONCE)
            if not said:
                raise ConnectionResetError
            _, words = channel.receive(said)
        else:
            self._dialled, words = True, channel.start()
        self.socket.send(words)
        return not channel.established

    def speak(self, now: float) -> bool:
        """Send the message once. Return whether it must be sent again."""
        with suppress(OSError):
            if self._frames:
                frame = self._frames.pop(0)
                self.socket.send(frame if self._channel is None else self._channel.seal(frame))
                self.due = now + INTERVAL
                return True
        self.socket.close()
        return False


def _numeric(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """A socket's address from numbers only, because this program asks no name server."""
    address, _, zone = host.partition("%")
    if ":" not in host:
        return address, port
    return address, port, 0, socket.if_nametoindex(zone) if zone else 0


def _take(lock: str) -> int | None:
    """Take the data directory's lock until this process ends; None if the node has started
    again."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return descriptor


def _end_descendants(survivor: int) -> bool:
    """Kill and collect until the kernel reports that no descendant is left. Return whether it does.
    Orphans become children of this process. The process `survivor`, if it is a child, ends by
    itself; after SURVIVOR_PATIENCE seconds this stops waiting for it."""
    over_at = time.monotonic() + SURVIVOR_PATIENCE
    while True:
        children = _children()
        for pid in children:
            if pid != survivor:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if children == [survivor] and time.monotonic() > over_at:
            return False
        signal.sigtimedwait({signal.SIGCHLD}, _BETWEEN_LOOKS)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _is_below(pid: int) -> bool:
    """Whether this process lives, and is a child of this one or of a child of this one."""
    for _ in range(2):
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            # A daemon's parent ends at once, but may not have done so yet.
            if _parent_of(pid) in _children():
                return True
    return False


def _parent_of(pid: int) -> int:
    """0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _become_subreaper() -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("this system does not let it collect what the node leaves behind")
    _children()


def _complain(problem: str) -> None:
    os.write(2, f"kevy-elect supervise: {problem}\n".encode())


def main(command: list[str]) -> int:
    """Run `command`. Exit as it does if that was by a signal, else return its status."""
    try:
        status = Wrapper().run(command)
    except (OSError, AttributeError) as error:
        _complain(f"{error}; it needs Linux with /proc")
        return 125
    return status if status >= 0 else _end_by(-status)


def _end_by(number: int) -> int:
    """End by this signal. Return the exit status if the signal does not kill this process, as in
    the first process of a container."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the node has left a core file already
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return 128 + number


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
