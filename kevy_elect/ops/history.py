"""The history of a node's events in its data directory, which survives restarts.

It consists of JSON lines with the time of day, in two files of at most 512 KiB each:
`events.jsonl`, and before it `events.old.jsonl`. The election does not depend on them: an event
that cannot be kept is logged once, and written with the next event. Unlike a ballot, an event is
not flushed to the disk: after a crash of the machine the last lines may be missing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import attrs
from twisted.internet.task import deferLater
from twisted.logger import Logger

from kevy_elect import __version__
from kevy_elect.directory import DirectoryLock
from kevy_elect.errors import BallotError, StatusError
from kevy_elect.events import EVENTS_KEPT, SERVICE, STARTED, STOPPED, Event
from kevy_elect.ops.own_status import event_status
from kevy_elect.service.election import ElectionService
from kevy_elect.status import DatedEvent, EventStatus, dated_event

FILE: Final = "events.jsonl"
OLD: Final = "events.old.jsonl"
MAX_FILE: Final = 512 * 1024
"""Bytes of each file."""
MAX_TEXT: Final = 1000
"""Characters of a text that are kept."""
MAX_AGAIN: Final = 64 * 1024
"""Bytes of lines that are told again after a restart: each status has them."""
MAX_AGE: Final = 3600.0
"""Seconds before a start whose events are told again: the page shows an hour."""
TURN: Final = 64
"""Lines that are read in one turn of the reactor: the election must not wait for a reader."""


class History:
    """A probe of `election` that keeps all events, and the node's starts and stops.

    Create it before the election starts. `wall` returns the time of day, in seconds since
    1970. Without a locked data directory it keeps nothing.
    """

    log = Logger()

    def __init__(self, election: ElectionService, wall: Callable[[], float] = time.time) -> None:
        self._election = election
        self._wall = wall
        self._unwritten: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self._failing = False
        self._began = False
        self._epoch = 0
        election.probes.add(self)
        election.add_observer(lambda snapshot, reason: self._look())

    def keep(self, kind: str, text: str) -> None:
        """Keep an event that is not the elector's, such as an operator's command."""
        self._keep(_noted(kind, text, self._epoch))

    # As a probe

    def noted(self, event: Event) -> None:
        """Keep the event."""
        self._begin()
        self._epoch = event.epoch
        self._keep(event_status(self._election.now() - event.at, event))

    def ticked(self, late: float) -> None:
        """Note a start, if nothing else has happened since."""
        self._begin()

    def saved(self, took: float, *, kept: bool) -> None:
        """Nothing: the elector notes an event for a ballot that cannot be saved."""

    def _look(self) -> None:
        if self._began and not self._election.is_electing:
            self._began = False
            self._keep(_noted(SERVICE, "stopped", self._epoch, STOPPED))

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._epoch = self._election.state_snapshot().epoch
            text = f"started, version {__version__}"
            started = _noted(SERVICE, text, self._epoch, STARTED)
            if self._election.directory is not None:
                earlier = (*self._recent_past(), (self._election.now(), started))
                self._election.earlier = earlier
            self._keep(started)

    def _recent_past(self) -> list[tuple[float, EventStatus]]:
        """The events of the time before the start that are told again, by this node's clock."""
        now, wall = self._election.now(), self._wall()
        found: list[tuple[float, EventStatus]] = []
        left = MAX_AGAIN
        lines = self._lines(MAX_AGAIN + EVENTS_KEPT)  # each line has an end, which is not counted
        for line in lines[: -EVENTS_KEPT - 1 : -1]:  # the newest first
            left -= len(line)
            event = _event(line, wall) if left >= 0 else None
            if event is not None and event.ago <= MAX_AGE:
                found.append((now - event.ago, _undated(event)))
        return found[::-1]

    # Writing

    def _keep(self, event: EventStatus) -> None:
        directory = self._election.directory
        if directory is None:
            return
        self._unwritten.append(_line(event, self._wall() - event.ago))
        try:
            while self._unwritten:
                _append(directory, self._unwritten[0])
                self._unwritten.popleft()
        except (OSError, BallotError) as error:
            self._fail(directory, error)
        else:
            self._failing = False

    def _fail(self, directory: DirectoryLock, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            self.log.warn(
                "{node}: events cannot be kept in {file} ({problem}); the last {number} are "
                "written once that works again",
                node=self._election.cluster.node_id,
                file=directory.directory / FILE,
                problem=getattr(error, "strerror", None) or error,
                number=EVENTS_KEPT,
            )

    # Reading

    async def read(self, since: float = math.inf) -> list[DatedEvent]:
        """The kept events of the last `since` seconds, the oldest first. Lines that are no events
        are left out."""
        lines, now = self._lines(), self._wall()
        found: list[DatedEvent] = []
        for at in range(0, len(lines), TURN):
            events = (_event(line, now) for line in lines[at : at + TURN])
            found += [event for event in events if event is not None and event.ago <= since]
            await deferLater(self._election.reactor, 0)
        return found

    def _lines(self, most: int = MAX_FILE) -> list[bytes]:
        """The kept lines, of each file those in the last `most` bytes."""
        directory, kept = self._election.directory, []
        if directory is not None:
            try:
                kept = [*_tail(directory, OLD, most), *_tail(directory, FILE, most)]
            except (OSError, BallotError) as error:
                self._fail(directory, error)
        return [*kept, *self._unwritten]


def recent(election: ElectionService, wall: Callable[[], float] = time.time) -> list[DatedEvent]:
    """The events in the memory of `election`, the oldest first, with their times of day."""
    now = wall()
    return [_dated(event_status(ago, event), now - ago) for ago, event in election.recent_events()]


def _noted(kind: str, text: str, epoch: int, cause: str | None = None) -> EventStatus:
    return EventStatus(ago=0.0, kind=kind, text=text, critical=False, epoch=epoch, cause=cause)


def _undated(event: DatedEvent) -> EventStatus:
    fields = attrs.asdict(event)
    del fields["at"]
    return EventStatus(**fields)


def _dated(event: EventStatus, at: float) -> DatedEvent:
    return DatedEvent(**attrs.asdict(event), at=at)


# One event as a line


def _line(event: EventStatus, at: float) -> bytes:
    fields = attrs.asdict(event)
    del fields["ago"]
    fields["text"], fields["reason"] = event.text[:MAX_TEXT], event.reason[:MAX_TEXT]
    return json.dumps({"at": round(at, 6)} | fields).encode() + b"\n"


def _event(line: bytes, now: float) -> DatedEvent | None:
    """The event of a line, None if it is none."""
    try:
        fields = json.loads(line)
        return dated_event(fields | {"ago": max(0.0, now - fields["at"])})
    except (ValueError, OverflowError, RecursionError, TypeError, KeyError, StatusError):
        return None


# The files, only in the directory that this node has locked


@contextmanager
def _opened(directory: DirectoryLock, name: str, flags: int) -> Iterator[int]:
    """A file's descriptor. Raises OSError unless it is a regular file, without following a link
    or waiting for a pipe; BallotError if the directory is gone."""
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=directory.descriptor())
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        yield file
    finally:
        os.close(file)


def _append(directory: DirectoryLock, line: bytes) -> None:
    """Add a line completely or not at all; first make room if the file is full."""
    with _opened(directory, FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT) as file:
        size = os.fstat(file).st_size
        # An unfinished line of a crash must not spoil this line, too.
        text = line if size == 0 or os.pread(file, 1, size - 1) == b"\n" else b"\n" + line
        if size + len(text) <= MAX_FILE:
            _write_whole(file, text, size)
            return
    there = directory.descriptor()
    os.replace(FILE, OLD, src_dir_fd=there, dst_dir_fd=there)
    with _opened(directory, FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
        _write_whole(file, line, 0)


def _write_whole(file: int, text: bytes, size: int) -> None:
    try:
        if os.write(file, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def _tail(directory: DirectoryLock, name: str, most: int) -> list[bytes]:
    """The lines of the last `most` bytes; the first may be the end of one."""
    try:
        with _opened(directory, name, os.O_RDONLY) as file:
            return os.pread(file, most, max(0, os.fstat(file).st_size - most)).splitlines()
    except FileNotFoundError:
        return []
