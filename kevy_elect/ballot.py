"""The durable ballot: the last epoch that this node took part in, and its vote in it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from kevy_elect.directory import DirectoryLock, make_directory, open_in, write_whole
from kevy_elect.errors import BallotError
from kevy_elect.messages import U64_MAX

_SAVED: Final = re.compile(rb"epoch ([0-9]{1,20})\nvoted ([!-~]{1,32})\n")
_LONGEST: Final = 4096
"""The most bytes that are read of a file; a ballot has about 70."""
NOBODY: Final = "-"
"""The mark for no vote in the file."""


class Ballot(Protocol):
    """The storage of an elector's ballot."""

    def load(self) -> tuple[int, str | None]:
        """The saved epoch and vote, `(0, None)` if none was ever saved.

        Raises BallotError if a saved ballot cannot be read.
        """

    def save(self, epoch: int, voted_for: str | None) -> None:
        """Save this ballot durably: it survives a crash once this returns.

        Raises BallotError if that is not certain.
        """


class MemoryBallot:
    """A ballot that lasts as long as the object: for tests and simulations only."""

    def __init__(self) -> None:
        self._saved: tuple[int, str | None] = (0, None)

    def load(self) -> tuple[int, str | None]:
        """The saved epoch and vote, `(0, None)` if none was ever saved."""
        return self._saved

    def save(self, epoch: int, voted_for: str | None) -> None:
        """Save this ballot in memory."""
        self._saved = (epoch, voted_for)


class FileBallot:
    """The ballot in the file `elect.meta` of `directory`, which is created if it is missing.

    It is saved as a whole or not at all: written to another file, flushed to the disk, renamed.
    With `lock`, which must be of the same directory, it is loaded from and saved in the locked
    directory. Both raise BallotError once the path leads to another directory.
    """

    FILE: Final = "elect.meta"
    BESIDE: Final = "elect.tmp"

    def __init__(
        self, directory: str | os.PathLike[str], lock: DirectoryLock | None = None
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / self.FILE
        self._lock = lock
        self._began = False

    def load(self) -> tuple[int, str | None]:
        """The saved epoch and vote, `(0, None)` without a file. Raises BallotError if the file
        cannot be read or is no ballot."""
        try:
            text = self._read()
        except FileNotFoundError:
            return 0, None
        except OSError as error:
            raise BallotError(
                f"cannot read the ballot {self.path} ({_strerror(error)}): "
                "this user must be able to read and write it"
            ) from error
        found = _SAVED.fullmatch(text)
        if found is None or int(found[1]) > U64_MAX:
            raise BallotError(
                f"{self.path} is no ballot: it begins {text[:60]!r}, where two lines "
                "'epoch N' and 'voted ID' belong. A node that forgot its vote could vote twice "
                "in one epoch, so it does not start. To start it, replace the file by the "
                "lines 'epoch N' and 'voted -', N being the highest epoch that any other member "
                "shows, or has in its own file if it is down"
            )
        voted = found[2].decode("ascii")
        return int(found[1]), None if voted == NOBODY else voted

    def _read(self) -> bytes:
        with self._opened() as directory, open_in(directory, self.FILE, "rb") as file:
            return file.read(_LONGEST)

    def save(self, epoch: int, voted_for: str | None) -> None:
        """Save this ballot: it is on the disk when this returns. Raises BallotError if that
        fails."""
        text = f"epoch {epoch}\nvoted {voted_for or NOBODY}\n".encode("ascii")
        try:
            with self._opened() as directory:
                write_whole(directory, self.FILE, self.BESIDE, text)
        except OSError as error:
            raise BallotError(f"cannot save the ballot {self.path}: {error.strerror}") from error

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The descriptor of the directory."""
        if self._lock is not None:
            yield self._lock.descriptor()
            return
        if not self._began:
            make_directory(self.directory)
            self._began = True
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _strerror(error: OSError) -> str:
    """The text of the error. For a symbolic link, the system's would be about too many levels."""
    return "a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)


class Saved(Protocol):
    """Receives the result of each save: its duration in seconds, and whether it succeeded."""

    def __call__(self, took: float, *, kept: bool) -> object: ...


class TimedBallot:
    """A wrapper of a ballot that calls `tell` after each save."""

    def __init__(
        self,
        ballot: Ballot,
        clock: Callable[[], float],
        tell: Saved,
    ) -> None:
        self._ballot = ballot
        self._clock = clock
        self._tell = tell

    def load(self) -> tuple[int, str | None]:
        """See `Ballot.load`."""
        return self._ballot.load()

    def save(self, epoch: int, voted_for: str | None) -> None:
        """See `Ballot.save`."""
        began, kept = self._clock(), False
        try:
            self._ballot.save(epoch, voted_for)
            kept = True
        finally:
            self._tell(self._clock() - began, kept=kept)
