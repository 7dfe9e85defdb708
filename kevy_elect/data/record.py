"""The record of the epoch of each history, on disk (D6)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import attrs

from kevy_elect.directory import DirectoryLock, open_in, write_whole
from kevy_elect.errors import BallotError
from kevy_elect.local_server import Assignment, Histories
from kevy_elect.messages import U64_MAX

KEPT: Final = 64
"""The number of histories that are kept, the last used ones."""
_LINE: Final = re.compile(
    r"(-?[0-9]{1,20}) ([!-~]{1,64}) ([!-~]{1,64})"
    r"(?: ([0-9]{1,20}) ([0-9]{1,20})(?: ([!-~]{1,64}))?)?"
)
_LONGEST: Final = 32 * 1024


class HistoryRecord:
    """The `histories` of a member's data server.

    `data.meta` beside the ballot has a line `EPOCH HISTORY RUN` for each, the oldest first, with
    `-` in front if it may be a later epoch. The last command to the server has a line
    `EPOCH HISTORY RUN LENGTH BEGINS-AT [TAKEN]`.
    """

    FILE: Final = "data.meta"
    BESIDE: Final = "data.tmp"

    def __init__(self, lock: DirectoryLock) -> None:
        """Read it from the locked directory. Raises BallotError if that fails, or if
        the file is no such record."""
        self._lock = lock
        self.path = Path(lock.directory) / self.FILE
        self.histories = self._load()

    def keep(self, histories: Histories) -> None:
        """Replace those that are kept. Raises BallotError, with nothing changed, if that fails."""
        if histories != self.histories:
            self._save(histories)

    def note(self, history: str, run: str, data_epoch: int) -> None:
        """See `Histories.note`. Raises BallotError, with nothing changed, if that fails."""
        self.keep(self.histories.note(history, run, data_epoch))

    def assign(self, assignment: Assignment) -> None:
        """See `Histories.assign`. Raises BallotError, with nothing changed, if that fails."""
        if not self.histories.repeats(assignment):
            self._save(self.histories.assign(assignment))

    def _save(self, histories: Histories) -> None:
        histories = attrs.evolve(histories, epochs=dict([*histories.epochs.items()][-KEPT:]))
        lines = [f"{epoch} {' '.join(each)}\n" for each, epoch in histories.epochs.items()]
        if last := histories.assignment:
            what = last.data_epoch, last.history, last.run, last.length, last.begins_at
            lines.append(" ".join((*map(str, what), last.taken)).rstrip() + "\n")
        text = "".join(lines)
        try:
            write_whole(self._lock.descriptor(), self.FILE, self.BESIDE, text.encode("ascii"))
        except OSError as error:
            raise BallotError(f"cannot save {self.path}: {error.strerror}") from error
        self.histories = histories

    def _load(self) -> Histories:
        try:
            with open_in(self._lock.descriptor(), self.FILE, "rb") as file:
                text = file.read(_LONGEST).decode("ascii", "replace")
        except FileNotFoundError:
            return Histories()
        except OSError as error:
            raise BallotError(
                f"cannot read {self.path} ({os.strerror(error.errno or 0)}): this user must "
                "be able to read and write it"
            ) from error
        epochs, last = {}, None
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            if found is None or int(found[1]) > U64_MAX:
                raise BallotError(
                    f"{self.path} has the line {line[:60]!r} instead of 'EPOCH HISTORY RUN'. "
                    "Remove the file to start without it: the data of this server then "
                    "counts as older than that of all others"
                )
            if found[4] is None:
                epochs[found[2], found[3]] = int(found[1])
            else:
                at = int(found[4]), int(found[1]), int(found[5])
                last = Assignment(found[2], found[3], *at, found[6] or "")
        return Histories(epochs, last)
