"""A TOML file, with the line on which each key stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from kevy_elect.errors import ConfigError

MAX_SIZE: Final = 32 * 1024
"""Bytes; more is no configuration of a node, but the wrong file."""

Keys = tuple[str | int, ...]
"""Where a value stands: the keys that lead to it, and the index in an array of tables."""

_CLOSERS: Final = ("]", "}", '"""', "'''")
"""One of these ends every statement of several lines."""
_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


class FileError(ConfigError):
    """The file cannot be read. `line` says where it is wrong, if that is known."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


class ConfigFile:
    """What a file says. `path` is as it was given, `values` is what tomllib makes of it."""

    def __init__(self, path: str, text: str) -> None:
        """Raises FileError if `text` is no TOML."""
        self.path = path
        self._text = text
        try:
            self.values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _PLACE.search(str(error))
            line, what = (int(found[1]), _PLACE.sub("", str(error))) if found else (None, error)
            column = f" in column {found[2]}" if found else ""
            raise FileError(f"no TOML: {what}{column}", line) from None
        except RecursionError:
            raise FileError("no configuration: it is nested too deeply") from None
        except ValueError:  # of a number with more digits than Python reads
            raise FileError("no configuration: it has a number that is far too large") from None

    @cached_property
    def lines(self) -> dict[Keys, int]:
        return lines_of(self._text)

    def line(self, *keys: str | int) -> int | None:
        """The line on which the statement begins that gives the value at `keys`; else the
        nearest that leads there, None if there is none."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return self.lines[keys[:length]]
        return None


def read(path: str) -> ConfigFile:
    """Raises FileError if it cannot be read, is too large, or is no TOML in UTF-8."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise FileError("is no regular file; correct --config")
        with open(path, "rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}; correct --config") from None
    if len(content) > MAX_SIZE:
        raise FileError(f"is larger than {MAX_SIZE // 1024} KiB: that is no configuration")
    try:
        return ConfigFile(path, content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError("no TOML: it is not in UTF-8; save it in that encoding", line) from None


def lines_of(text: str) -> dict[Keys, int]:
    """The line on which each key of a TOML document first appears; `text` must be valid.

    A statement of TOML ends at the first line end up to which it can be parsed by itself:
    a string, array or table that is still open cannot. So tomllib tells the statements
    apart, and each one's keys.
    """
    found: dict[Keys, int] = {}
    last: dict[Keys, int] = {}  # the index of the newest table of each array of tables
    table: Keys = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        may_end = not statement or any(closer in line for closer in _CLOSERS)
        statement += line + "\n"
        if not may_end:
            continue
        try:
            part = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _enter(part, last)
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], start)
        else:
            _note(part, table, start, found)
        statement, start = "", number + 1
    return found


def _enter(header: Mapping[str, Any], last: dict[Keys, int]) -> Keys:
    """The keys of the table that a header opens, a new one if it is one of an array."""
    keys: Keys = ()
    inner: Any = header
    while inner:
        ((key, inner),) = inner.items()
        keys += (key,)
        if isinstance(inner, list):
            last[keys] = last.get(keys, -1) + 1
            inner = {}
        if keys in last:
            keys += (last[keys],)
    return keys


def _note(part: Mapping[str, Any], above: Keys, line: int, found: dict[Keys, int]) -> None:
    for key, value in part.items():
        found.setdefault((*above, key), line)
        if isinstance(value, dict):
            _note(value, (*above, key), line, found)
