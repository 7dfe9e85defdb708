"""The log of a node: its lowest level, and its format as text or as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    PredicateResult,
    eventAsText,
    globalLogPublisher,
)
from zope.interface import implementer

PACKAGE = "kevy_elect"
_OWN_FIELDS = ("time", "level", "logger", "message", "node")


class JsonFormat:
    """Formats an event as one JSON object and a line end; never raises.

    An object has `time` (ISO 8601, UTC), `level`, `logger` (the namespace), `message` with
    the traceback if there is one, `node`, and those fields of the event that are text,
    numbers, true, false or null.
    """

    def __init__(self, node_id: str | None = None) -> None:
        self.node_id = node_id

    def __call__(self, event: Mapping[str, Any]) -> str:
        for fields in (_scalars, _nothing):
            try:
                return json.dumps(self._own(event) | fields(event), allow_nan=False) + "\n"
            except Exception:
                continue  # for instance a number of thousands of digits
        return json.dumps(self._own({"log_format": "an event that cannot be shown"})) + "\n"

    def _own(self, event: Mapping[str, Any]) -> dict[str, Any]:
        at = datetime.fromtimestamp(event.get("log_time") or time.time(), UTC)
        level = event.get("log_level") or LogLevel.info
        text = eventAsText(dict(event), includeTimestamp=False, includeSystem=False)
        own = (at.isoformat(timespec="milliseconds"), level.name, _logger(event), text)
        return dict(zip(_OWN_FIELDS, (*own, self.node_id), strict=True))


def _logger(event: Mapping[str, Any]) -> str | None:
    namespace = event.get("log_namespace")
    return namespace if isinstance(namespace, str) else None


def _scalars(event: Mapping[str, Any]) -> dict[str, Any]:
    """The plain fields of an event; the others are in its message."""
    plain: dict[str, Any] = {}
    for key, value in event.items():
        if not isinstance(key, str) or key.startswith("log_") or key in _OWN_FIELDS:
            continue
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, float) and not -sys.float_info.max <= value <= sys.float_info.max:
            value = str(value)  # JSON has neither infinity nor NaN
        if value is None or isinstance(value, (str, int, float)):
            plain[key] = value
    return plain


def _nothing(event: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def json_observer() -> ILogObserver:
    """Writes JSON lines to standard output: `twistd --logger kevy_elect.ops.log.json_observer`."""
    observer: ILogObserver = FileLogObserver(sys.stdout, JsonFormat())
    return observer


@implementer(ILogFilterPredicate)
class LevelPredicate:
    """Passes this package's lines from `level` on, and all other lines."""

    def __init__(self, level: str) -> None:
        self.level = level

    def __call__(self, event: LogEvent) -> Any:
        namespace = str(event.get("log_namespace"))
        ours = namespace == PACKAGE or namespace.startswith(f"{PACKAGE}.")
        level = event.get("log_level")
        if ours and level is not None and level < LogLevel.levelWithName(self.level):
            return PredicateResult.no
        return PredicateResult.maybe


class LogLines:
    """Filters and formats log lines, whatever log the process has.

    twistd chooses and opens the log by its own options, before any service starts. This
    wraps its observers and does not replace them. They stay wrapped to the end, because services
    also log while they stop.
    """

    log = Logger()

    def __init__(self, level: str, format: str, node_id: str) -> None:
        """`level` is one of `settings.LOG_LEVELS`, `format` of `settings.LOG_FORMATS`."""
        self._predicate = LevelPredicate(level)
        self._format = format
        self._node_id = node_id
        self._wrapped: list[tuple[ILogObserver, ILogObserver]] = []
        self._formats: list[tuple[FileLogObserver, Any]] = []

    @property
    def level(self) -> str:
        """The lowest level of this package's lines; may be set at any time."""
        return self._predicate.level

    @level.setter
    def level(self, level: str) -> None:
        self._predicate.level = level

    def begin(self) -> None:
        """Filter and format from now on, if that was not begun before."""
        if self._wrapped:
            return
        # The publisher's only list of observers is private.
        for observer in list(globalLogPublisher._observers):
            self._use_format(observer)
            wrapper = FilteringLogObserver(observer, [self._predicate])
            self._wrapped.append((observer, wrapper))
            globalLogPublisher.removeObserver(observer)
            globalLogPublisher.addObserver(wrapper)
        if self._format == "json" and not self._formats:
            self.log.warn(
                "--log-format json: this log is not a file, so its format stays; "
                "use twistd's --logfile, or --logger kevy_elect.ops.log.json_observer"
            )

    def end(self) -> None:
        """Restore everything as it was before `begin`."""
        for observer, wrapper in self._wrapped:
            globalLogPublisher.removeObserver(wrapper)
            globalLogPublisher.addObserver(observer)
        for file, format in self._formats:
            file.formatEvent = format
        self._wrapped, self._formats = [], []

    def _use_format(self, observer: ILogObserver) -> None:
        if not isinstance(observer, FileLogObserver):
            return
        if isinstance(observer.formatEvent, JsonFormat):
            observer.formatEvent.node_id = self._node_id
            self._formats.append((observer, observer.formatEvent))
        elif self._format == "json":
            self._formats.append((observer, observer.formatEvent))
            observer.formatEvent = JsonFormat(self._node_id)
