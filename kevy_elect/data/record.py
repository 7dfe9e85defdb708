"""Which history is of which epoch, kept on disk (D6)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from kevy_elect.directory import DirectoryLock, open_in, write_whole
from kevy_elect.errors import BallotError
from kevy_elect.messages import U64_MAX

KEPT: Final = 64
"""Histories that are remembered; those used last."""
_LINE: Final = re.compile(r"([0-9]{1,20}) ([!-~]{1,64}) ([!-~]{1,64})")
_LONGEST: Final = 32 * 1024


class HistoryRecord:
    """The data epochs of the histories that a member's data server had, in each of its runs: what
    a run had, the next one may have lost, or a part of it.

    In `data.meta` beside the ballot: a line `EPOCH HISTORY RUN` each, the oldest first.
    """

    FILE: Final = "data.meta"
    BESIDE: Final = "data.tmp"

    def __init__(self, lock: DirectoryLock) -> None:
        """Read it from the locked directory. Raises BallotError if that cannot be done, or if
        what is there is no such record."""
        self._lock = lock
        self.path = Path(lock.directory) / self.FILE
        self._epochs = self._load()

    @property
    def newest(self) -> int:
        """The newest data epoch of all, 0 if there is none."""
        return max(self._epochs.values(), default=0)

    def epoch_of(self, history: str, run: str) -> int:
        """The data epoch of this history in this run, 0 if it is not known."""
        return self._epochs.get((history, run), 0)

    def add(self, history: str, run: str, data_epoch: int) -> None:
        """Remember it for good. Raises BallotError, with nothing remembered, if that fails."""
        added = history, run
        if self._epochs.get(added) == data_epoch:
            return
        epochs = {each: epoch for each, epoch in self._epochs.items() if each != added}
        epochs[added] = data_epoch
        for each in list(epochs)[:-KEPT]:
            del epochs[each]
        text = "".join(f"{epoch} {' '.join(each)}\n" for each, epoch in epochs.items())
        try:
            write_whole(self._lock.descriptor(), self.FILE, self.BESIDE, text.encode("ascii"))
        except OSError as error:
            raise BallotError(f"cannot save {self.path}: {error.strerror}") from error
        self._epochs = epochs

    def _load(self) -> dict[tuple[str, str], int]:
        try:
            with open_in(self._lock.descriptor(), self.FILE, "rb") as file:
                text = file.read(_LONGEST).decode("ascii", "replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BallotError(
                f"cannot read {self.path} ({os.strerror(error.errno or 0)}): it is a file that "
                "this user must be able to read and write"
            ) from error
        epochs = {}
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            if found is None or int(found[1]) > U64_MAX:
                raise BallotError(
                    f"{self.path} has the line {line[:60]!r}, where 'EPOCH HISTORY RUN' belongs. "
                    "Remove the file to start without it: what the data server has then counts "
                    "as older than all that the others have"
                )
            epochs[found[2], found[3]] = int(found[1])
        return epochs
