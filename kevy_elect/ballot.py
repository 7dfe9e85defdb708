"""The durable ballot: the last epoch that this node took part in, and whom it voted for."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from kevy_elect.errors import BallotError
from kevy_elect.messages import U64_MAX

_SAVED: Final = re.compile(rb"epoch ([0-9]{1,20})\nvoted ([!-~]{1,32})\n")
NOBODY: Final = "-"
"""Stands in the file for no vote."""


class Ballot(Protocol):
    """Where an elector keeps its ballot."""

    def load(self) -> tuple[int, str | None]:
        """The saved epoch and vote, `(0, None)` if none was ever saved.

        Raises BallotError if there is something that cannot be read.
        """

    def save(self, epoch: int, voted_for: str | None) -> None:
        """Keep this ballot for good: it survives a crash once this returns.

        Raises BallotError if that is not certain.
        """


class MemoryBallot:
    """A ballot that lasts as long as the object: for tests and simulations only."""

    def __init__(self) -> None:
        self._saved: tuple[int, str | None] = (0, None)

    def load(self) -> tuple[int, str | None]:
        return self._saved

    def save(self, epoch: int, voted_for: str | None) -> None:
        self._saved = (epoch, voted_for)


class FileBallot:
    """The ballot in `elect.meta` below `directory`, which is made if it is missing.

    Saved as a whole or not at all: written beside, flushed to the disk, renamed.
    """

    FILE: Final = "elect.meta"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.path = self.directory / self.FILE

    def load(self) -> tuple[int, str | None]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return 0, None
        except OSError as error:
            raise BallotError(
                f"cannot read the ballot {self.path} ({error.strerror}): "
                "it is a file of two lines that this user must be able to read and write"
            ) from error
        found = _SAVED.fullmatch(text)
        if found is None or int(found[1]) > U64_MAX:
            raise BallotError(
                f"{self.path} is no ballot: it begins {text[:60]!r}, where two lines "
                "'epoch N' and 'voted ID' belong. A node that forgot its vote could vote twice "
                "in one epoch, so it does not start. To have it start, replace the file by the "
                "lines 'epoch N' and 'voted -', N being the highest epoch that any other member "
                "shows, or has in its own file if it is down"
            )
        voted = found[2].decode("ascii")
        return int(found[1]), None if voted == NOBODY else voted

    def save(self, epoch: int, voted_for: str | None) -> None:
        text = f"epoch {epoch}\nvoted {voted_for or NOBODY}\n".encode("ascii")
        beside = self.path.with_suffix(".tmp")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(beside, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
            _sync_directory(self.directory)
        except OSError as error:
            raise BallotError(f"cannot save the ballot {self.path}: {error.strerror}") from error


class TimedBallot:
    """Another ballot, with `tell(took, kept)` called after each save: seconds, and success."""

    def __init__(
        self,
        ballot: Ballot,
        clock: Callable[[], float],
        tell: Callable[[float, bool], object],
    ) -> None:
        self._ballot = ballot
        self._clock = clock
        self._tell = tell

    def load(self) -> tuple[int, str | None]:
        return self._ballot.load()

    def save(self, epoch: int, voted_for: str | None) -> None:
        began, kept = self._clock(), False
        try:
            self._ballot.save(epoch, voted_for)
            kept = True
        finally:
            self._tell(self._clock() - began, kept)


class DirectoryLock:
    """Keeps a data directory for one process: two nodes with one ballot could vote twice.

    Held by the operating system for as long as this object lives and the process
    runs, so a crash leaves nothing to clean up.
    """

    FILE: Final = "elect.lock"

    def __init__(self, directory: str | os.PathLike[str], node_id: str) -> None:
        """Take the lock, making the directory if it is missing.

        Raises BallotError, naming the directory and both nodes, if it is in use,
        and also if the directory cannot be used.
        """
        self.path = Path(directory) / self.FILE
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise BallotError(
                f"{self.path.parent} cannot be the data directory ({error.strerror}): "
                "name a directory that this user can write, or one that can be made"
            ) from error
        try:
            self._take(node_id)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, node_id: str) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise BallotError(f"cannot lock {self.path}: {error.strerror}") from error
            holder = os.pread(self._fd, 100, 0).decode("ascii", "replace").strip()
            raise BallotError(
                f"the data directory {self.path.parent} is in use by node {holder or 'unknown'}; "
                f"node {node_id} needs a directory of its own"
            ) from None
        # On a full disk it cannot be told who holds the lock; it is held all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{node_id} (process {os.getpid()})\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let the directory go; harmless the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
