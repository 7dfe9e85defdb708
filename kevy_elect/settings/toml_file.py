"""A TOML file, with the line of each key."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

from kevy_elect.errors import ConfigError

MAX_SIZE: Final = 32 * 1024
"""Bytes; a larger file is no configuration of a node, but the wrong file."""

Keys = tuple[str | int, ...]
"""The place of a value: the keys that lead to it, and the index in an array of tables."""

DEEPEST: Final = 16
"""The most words of one key; tomllib would take seconds for thousands of them."""
_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[ \t\r]+"
    r"|[^\s\"'#\[\]{}=.]+"
    r"|.",
    re.DOTALL,
)
"""A string, a comment, blanks, the text between them, or one character."""
_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


class FileError(ConfigError):
    """The file cannot be read. `line` is the place of the mistake, if that is known."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


class ConfigFile:
    """The content of a file. `path` is as given, `values` is the result of tomllib."""

    def __init__(self, path: str, text: str) -> None:
        """Raises FileError if `text` is no TOML."""
        self.path = path
        self._text = text
        for begun, _, words in _statements(text):
            if len(words) > DEEPEST:
                raise FileError(
                    f"no configuration: a key has {len(words)} parts, and may have {DEEPEST}", begun
                )
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
        """The line on which the statement for the value at `keys` begins; otherwise the
        nearest that leads there, None if there is none."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return self.lines[keys[:length]]
        return None


def read(path: str) -> ConfigFile:
    """Raises FileError if it cannot be read, is too large, or is no TOML in UTF-8."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block
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
    """The line on which each key of a TOML document first appears, except those inside of
    inline tables. `text` must be valid; otherwise the result is meaningless."""
    found: dict[Keys, int] = {}
    last: dict[Keys, int] = {}  # the index of the newest table of each array of tables
    table: Keys = ()
    for line, opener, words in _statements(text):
        names = tuple(map(_name, words))
        if opener:
            keys = table = _enter(names, last, of_array=opener == "[[")
        else:
            keys = (*table, *names)
        for length in range(1, len(keys) + 1):
            found.setdefault(keys[:length], line)
    return found


def _statements(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """For each head of a table and each assignment: the line on which it begins, the opening
    brackets, and the words of its key. One pass suffices for any text."""
    line, begun, opener, words = 1, 0, "", list[str]()
    in_value, depth = False, 0
    for token in _TOKEN.findall(text):
        if token == "\n" and depth <= 0:
            if words:
                yield begun, opener, words
            begun, opener, words, in_value, depth = 0, "", [], False, 0
        elif in_value:
            depth += (token in ("[", "{")) - (token in ("]", "}"))
        elif token == "=":
            in_value = True
        elif token == "[":
            opener += token
            begun = begun or line
        elif token not in ("]", ".") and not token.isspace() and not token.startswith("#"):
            words.append(token)
            begun = begun or line
        line += token.count("\n")
    if words:
        yield begun, opener, words


def _name(word: str) -> str:
    """The key that a word stands for."""
    if word[0] not in "\"'":
        return word
    try:
        return next(iter(tomllib.loads(f"{word} = 0")))
    except tomllib.TOMLDecodeError:
        return word


def _enter(names: tuple[str, ...], last: dict[Keys, int], *, of_array: bool) -> Keys:
    """The keys of the table that a head opens; in an array of tables, those of a new one."""
    keys: Keys = ()
    for place, name in enumerate(names, 1):
        keys += (name,)
        if of_array and place == len(names):
            last[keys] = last.get(keys, -1) + 1
        if keys in last:
            keys += (last[keys],)
    return keys
