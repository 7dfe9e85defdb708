"""Definitions for a node and its operator's client: the place of the admin socket, and the defaults
and bounds of commands."""

from __future__ import annotations

import os
import re
from typing import Final

from kevy_elect.errors import ConfigError

SOCKET: Final = "admin.sock"
"""The socket's name in the data directory."""
MODE: Final = 0o600
"""The socket's mode, unless its description has another."""
LONGEST_PATH: Final = 107
"""The most bytes of a Unix socket's path on Linux."""
DEFAULT_REST: Final = 30.0
"""Seconds for which a node that stepped down does not run for election."""
DEFAULT_PATIENCE: Final = 10.0
"""Seconds for which a switchover waits for children and data."""
DEFAULT_MAINTENANCE: Final = 3600.0
"""Seconds after which maintenance ends by itself."""
LONGEST_MAINTENANCE: Final = 7 * 86400.0
PRIMARYS: Final = ("step-down", "switchover")
"""Commands that only the primary can execute."""
LOCAL: Final = ("offset",)
"""Commands that are not forwarded: only this machine knows its data."""
LONGEST_REASON: Final = 200
"""The most characters of an operator's reason."""


def check_reason(reason: str) -> None:
    """Raise ConfigError unless the reason is short and printable on one line."""
    if len(reason) > LONGEST_REASON:
        raise ConfigError(
            f"the reason has {len(reason)} characters, and may have {LONGEST_REASON}: shorten it"
        )
    if not reason.isprintable():
        raise ConfigError("the reason has a character that cannot be printed: write one line")


def socket_in(data_dir: str | os.PathLike[str]) -> str:
    """The description of the default endpoint of a node with this data directory."""
    path = os.path.join(data_dir, SOCKET)
    return "unix:" + re.sub(r"([\\:])", r"\\\1", path)


def parse_socket(description: str) -> tuple[str, int] | None:
    """Path and mode of the Unix socket in `description`; None if it is not a Unix socket.

    Raises ConfigError for an invalid socket.
    """
    kind, _, rest = description.partition(":")
    if kind != "unix":
        return None
    path, *more = parts(rest)
    path = path.removeprefix("address=")
    mode = MODE
    for part in more:
        if not re.fullmatch("mode=[0-7]{3,4}", part):
            raise ConfigError(f"{description!r}: write unix:PATH or unix:PATH:mode=660")
        mode = int(part.removeprefix("mode="), 8)
    length = len(os.fsencode(path))
    if not 0 < length <= LONGEST_PATH:
        raise ConfigError(
            f"the path of the socket {path!r} has {length} bytes, and may have "
            f"{LONGEST_PATH}: choose a shorter one"
        )
    return path, mode


def parts(text: str) -> list[str]:
    """The parts between the colons of an endpoint's description. A backslash quotes
    the character after it, as in every endpoint of Twisted."""
    found = [""]
    characters = iter(text)
    for each in characters:
        if each == ":":
            found.append("")
        else:
            found[-1] += next(characters, each) if each == "\\" else each
    return found
