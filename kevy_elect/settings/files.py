"""Files with keys, certificates and passwords, which are read as a whole or refused."""

from __future__ import annotations

import os
import stat
from typing import Final

from kevy_elect.errors import ConfigError

_FILE_LIMIT: Final = 1024 * 1024
"""The most bytes of a file; keys, certificates and lists of authorities have fewer."""


def read_private(path: str, remedy: str) -> bytes:
    """The content of a file that only its owner may use. Raises ConfigError for any other file."""
    content = read_regular(path, remedy)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"group or others may use it (its mode is {mode:o}), and whoever has read a secret "
            "can speak as its owner; chmod 600 it, and make another secret"
        )
    return content


def read_regular(path: str, remedy: str) -> bytes:
    """The content of a regular file. Raises ConfigError for any other file."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"is no regular file; {remedy}")
            content = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror}); {remedy}") from None
    if len(content) > _FILE_LIMIT:
        raise ConfigError(f"has more than {_FILE_LIMIT // 1024} KiB; {remedy}")
    return content


def _without_waiting(path: str, flags: int) -> int:
    """Open a file, but do not wait for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
