"""The last will: the message that a wrapper sends once this node's process is dead."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import attrs
from twisted.logger import Logger

import kevy_elect
from kevy_elect import wire
from kevy_elect.messages import Heartbeat, Role
from kevy_elect.service import wrapper
from kevy_elect.service.wrapper import VARIABLE, Will
from kevy_elect.transport import credentials
from kevy_elect.transport.channel import PLAIN, PLAIN_SECURITY, Channel, Security

SOCKETS: Final = (b"LISTEN_PID", b"LISTEN_FDS")
_ROOT: Final = str(Path(kevy_elect.__file__).resolve().parents[1])


@attrs.frozen
class Addressee:
    """A member to notify, and the channel of the connection to it."""

    node_id: str
    host: str
    """The address in numbers: after the death of the node, no name is resolved."""
    port: int
    channel: Channel = PLAIN


def run_below(command: Sequence[str]) -> NoReturn:
    """Become the wrapper of `command`, which then runs as its child."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Without site: the wrapper runs as long as the node, and should be small.
    words = [sys.executable, "-I", "-S", wrapper.__file__, *command]
    os.execve(sys.executable, words, _environment())


def _environment() -> dict[bytes, bytes]:
    """This process's environment, with the variables for systemd's sockets. Twisted has removed
    them, and the node needs them."""
    environment = dict(os.environb)
    with suppress(OSError):
        for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name in SOCKETS:
                environment.setdefault(name, value)
    return environment


class LastWill:
    """This process's will, which the wrapper above it reads.

    There is one while this node is primary. It has the message of an orderly resignation
    (R7): a heartbeat of the epoch that it leads, in the role of a replica. The wrapper sends
    it to members that acknowledge heartbeats, after every process that could write is dead. A
    node of the existing implementation would take it as a sign of life.
    """

    log = Logger()

    def __init__(self, record: int, parent: int) -> None:
        """`record` is the file for the will, `parent` a descriptor of the wrapper's process."""
        self._record = record
        self._wrapper = parent
        self._prepared = b""
        self._parent = select.poll()
        self._parent.register(parent, select.POLLIN)
        self._widowed = False
        self._left: tuple[object, ...] | None = None
        Will(os.getpid()).write(record)

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> LastWill | None:
        """The will that `environment` names; None without a wrapper. This removes its variable,
        because processes that this one starts must not use it."""
        record, _, parent = environment.pop(VARIABLE, "").partition(" ")
        if not (record.isdigit() and parent.isdigit()):
            return None
        try:
            for descriptor in (int(record), int(parent)):
                os.set_inheritable(descriptor, False)
        except OSError:
            return None  # a process between this one and the wrapper closed them
        return cls(int(record), int(parent))

    def is_heard(self) -> bool:
        """Whether the wrapper is still alive."""
        if not self._widowed and self._parent.poll(0):
            self._widowed = True
            self.log.critical(
                "the process that this node runs below is dead: should this one die too, the "
                "others will only notice its silence. Restart the node"
            )
        return not self._widowed

    @property
    def stands(self) -> bool:
        """Whether the other members would be notified now if this process died."""
        return self._left is not None and self.is_heard()

    def leave(
        self,
        node_id: str,
        epoch: int,
        offset: int,
        lock: Path,
        members: Iterable[Addressee],
        survivor: int = 0,
        security: Security = PLAIN_SECURITY,
    ) -> None:
        """Make a will: notify `members` that the primary of `epoch` has resigned, over connections
        of `security`. The node holds `lock`, and the wrapper takes it then. The wrapper first waits
        until the process `survivor`, if there is one, has ended by itself."""
        members = tuple(members)
        left = (epoch, offset, members, lock, survivor, security)
        if left != self._left:
            frame = wire.encode(Heartbeat(epoch, node_id, Role.REPLICA, offset))
            receivers = tuple(f"{each.host} {each.port} {each.node_id}" for each in members)
            secret, path = self._credentials(security, members)
            Will(os.getpid(), str(lock), frame, receivers, survivor, secret, path).write(
                self._record
            )
            self._left = left
            self._have_read(secret)

    def _credentials(self, security: Security, members: Iterable[Addressee]) -> tuple[bytes, str]:
        """The wrapper's credentials, and the import path for them."""
        if security.kind == "plain":
            return b"", ""
        channels = {member.node_id: member.channel for member in members}
        path = [each for each in sys.path if os.path.isabs(each) and os.pathsep not in each]
        return credentials.write(security, channels), os.pathsep.join([_ROOT, *path])

    def _have_read(self, secret: bytes) -> None:
        """Let the wrapper prepare these credentials now, because it would take too long after the
        death of this process."""
        if secret and secret != self._prepared:
            self._prepared = secret
            with suppress(OSError, AttributeError):
                # It wakes up at this signal, and then checks its will.
                signal.pidfd_send_signal(self._wrapper, signal.SIGCHLD)

    def withdraw(self) -> None:
        """Remove the will: notify no member."""
        if self._left is not None:
            Will(os.getpid()).write(self._record)
            self._left = None
