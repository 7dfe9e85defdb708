"""A node's data directory, locked for one process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import IO, Final

from kevy_elect.errors import BallotError

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class DirectoryLock:
    """Locks a data directory for one process, because two nodes with one ballot could vote twice.

    The operating system holds the lock as long as this object and the process live, so a crash
    leaves nothing to clean up. The directory stays open, and all work through `descriptor` happens
    in it, even if its path leads elsewhere later.
    """

    FILE: Final = "elect.lock"

    def __init__(self, directory: str | os.PathLike[str], node_id: str) -> None:
        """Take the lock, and create the directory if it is missing.

        Raises BallotError, naming the directory and the holder, if another process has the lock.
        Raises it also if the directory cannot be used, or if other users may write to it.
        """
        self.directory = Path(os.path.abspath(directory))
        self.path = self.directory / self.FILE
        self._descriptors: list[int] = []
        try:
            make_directory(self.directory)
            self._directory = self._keep(os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY))
            self._check_private()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = self._keep(os.open(self.FILE, flags, 0o600, dir_fd=self._directory))
            os.fchmod(self._file, 0o600)
            self._take(node_id)
        except OSError as error:
            self.release()
            raise BallotError(
                f"{self.directory} cannot be the data directory ({_where(error)}): "
                "name a directory that this user can write, or one that can be made"
            ) from error
        except BaseException:
            self.release()
            raise

    def _keep(self, descriptor: int) -> int:
        self._descriptors.append(descriptor)
        return descriptor

    def _check_private(self) -> None:
        found = os.fstat(self._directory)
        remedy = (
            "or name one that can be made below it; a ballot that is here already, elect.meta, "
            "must move there too"
        )
        if found.st_uid != os.geteuid():
            raise BallotError(
                f"the data directory {self.directory} belongs to user {found.st_uid}, and this "
                f"node runs as user {os.geteuid()}: chown it, {remedy}"
            )
        if found.st_mode & _OTHERS_MAY_WRITE:
            raise BallotError(
                f"the data directory {self.directory} can be written by other users, who could "
                f"replace this node's vote: chmod go-w, {remedy}"
            )

    def _take(self, node_id: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise BallotError(
                f"the data directory {self.directory} is in use by {self._holder()}; "
                f"node {node_id} needs a directory of its own"
            ) from None
        # On a full disk the lock holds without the holder's name.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{node_id} (process {os.getpid()})\n".encode("ascii"), 0)

    def _holder(self) -> str:
        """The holder of the lock: the one named in the file, unless the system contradicts it."""
        said = os.pread(self._file, 100, 0).decode("ascii", "replace").strip()
        process = _locker(self._file)
        if process is None or said.endswith(f"(process {process})"):
            return f"node {said or 'unknown'}"
        return f"process {process} ({_program(process)}), which is no node that said so"

    def descriptor(self) -> int:
        """The directory's descriptor, for reading and saving. Raises BallotError if the directory's
        path no longer leads to this lock: the directory was removed, unmounted or replaced, and
        another process may have locked the new one."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(self._file)):
                return self._directory
            what = "is another one than this node locked"
        except OSError as error:
            what = f"is gone ({error.strerror})"
        raise BallotError(
            f"{self.path} {what}: the data directory was removed, unmounted or replaced. Put the "
            "directory back that was there when this node started, or restart the node once the "
            "one that is there has its ballot"
        )

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def make_directory(directory: Path) -> None:
    """Create the directory for this user alone, and its parents. It may exist already."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def open_in(directory: int, name: str, mode: str) -> IO[bytes]:
    """Open the file of this name in the directory. It follows no symbolic link, and does not wait
    for the other end of a pipe."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=directory)

    return open(name, mode, opener=opener)


def write_whole(directory: int, name: str, beside: str, text: bytes) -> None:
    """Replace the file `name` in the directory by `text`, as a whole or not at all: written to the
    file `beside`, flushed to the disk, renamed. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=directory)  # left by a crash
    with open_in(directory, beside, "xb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def _where(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def _locker(file: int) -> int | None:
    """The process that has locked this open file; None if the system does not say."""
    found = os.fstat(file)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, _, process, inode, *_ = line.split()
            if (kind, inode) == ("FLOCK", f"{device}:{found.st_ino}"):
                return int(process)
    return None


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
    except OSError:
        return "of unknown name"
