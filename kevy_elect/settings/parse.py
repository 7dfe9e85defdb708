"""The value of one setting, from the text of an option or a variable, or from TOML."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from typing import Any, Final

from kevy_elect.config import PeerAddr, check_node_id, join_host_port, parse_advertised
from kevy_elect.errors import ConfigError
from kevy_elect.messages import is_printable
from kevy_elect.settings.admin import parse_socket, parts
from kevy_elect.settings.cluster_name import MAX_NAME
from kevy_elect.settings.links import parse_key
from kevy_elect.settings.table import NAMED, Kind, Setting, did_you_mean
from kevy_elect.settings.text import shown

MAX_PORT: Final = 65535
MAX_COUNT: Final = 1000
_PEER_KEYS: Final = ("host", "elect-port", "client-port")
_HOST_NAME: Final = re.compile("[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_-])?")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def parse(setting: Setting, value: Any) -> Any:
    """The value in the type that the node uses. Raises ConfigError, which describes the mistake
    but does not name the setting. Lists of members use `entries` instead."""
    return _PARSERS[setting.kind](setting, value)


def hyphened(key: str) -> str:
    """A key of a file with hyphens, as this package names it; underscores may replace them."""
    return key.replace("_", "-")


# Lists of members


def entries(value: Any) -> list[tuple[str | None, Any]]:
    """The entries of a list of members, each with its id if the list is a table by id.

    Raises ConfigError if it is no such list.
    """
    if isinstance(value, str):
        return [(None, part) for part in value.split(",") if part.strip()]
    if isinstance(value, list):
        return [(None, each) for each in value]
    if isinstance(value, dict):
        return list(value.items())
    raise ConfigError("write a table by id, a list of strings, or one string")


def peer(node_id: str | None, entry: Any) -> PeerAddr:
    """One member. Raises ConfigError."""
    if node_id is not None and isinstance(entry, dict):
        check_node_id(node_id)
        return _peer_of_table(node_id, {hyphened(key): value for key, value in entry.items()})
    return PeerAddr.parse(_entry_text(node_id, entry))


def _peer_of_table(node_id: str, table: dict[str, Any]) -> PeerAddr:
    for key in table:
        if key not in _PEER_KEYS:
            hint = did_you_mean(key, _PEER_KEYS) or _misplaced(key)
            raise ConfigError(
                f"{node_id}: a peer has {', '.join(_PEER_KEYS)}, but no {shown(key)}{hint}"
            )
    for key in ("host", "elect-port"):
        if key not in table:
            raise ConfigError(f"{node_id} has no {key}: add it")
    host = table["host"]
    if not isinstance(host, str):
        raise ConfigError(f"{node_id}: host {shown(host)} must be a string in quotes")
    ports = [table[key] for key in ("elect-port", "client-port") if key in table]
    for port in ports:
        if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
            raise ConfigError(
                f"{node_id}: {shown(port)} is no port: write a number between 1 and 65535"
            )
    address = ":".join([join_host_port(host, ports[0]), *map(str, ports[1:])])
    return PeerAddr.parse(f"{node_id}@{address}")


def page(node_id: str | None, entry: Any) -> tuple[str, str]:
    """A member's id and the `host:port` of its service. Raises ConfigError."""
    text = _entry_text(node_id, entry)
    member, at, address = text.strip().partition("@")
    if not at:
        raise ConfigError(f"{text!r} names no member: write id@host:port")
    check_node_id(member)
    return member, parse_advertised(address)


def keys(node_id: str | None, entry: Any) -> tuple[str, tuple[bytes, ...]]:
    """A member's id and its public keys: `id=key`, or in a table by id one key or a list.

    Raises ConfigError.
    """
    node_id, entry = _assigned(node_id, entry, "key", "id=key")
    several = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(each, str) for each in several):
        raise ConfigError(f"{node_id}: write a key in quotes, or a list of keys")
    try:
        return node_id, tuple(parse_key(each.strip()) for each in several)
    except ConfigError as error:
        raise ConfigError(f"{node_id}: {error}") from None


def rank(node_id: str | None, entry: Any) -> tuple[str, int]:
    """A member's id and its priority: `id=N`, or in a table by id a number.

    Raises ConfigError.
    """
    node_id, entry = _assigned(node_id, entry, "priority", "id=N")
    text = str(entry).strip()
    if isinstance(entry, bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise ConfigError(f"{node_id}: {shown(entry)}: must be a whole number from 0 to 999999")
    return node_id, int(text)


def _assigned(node_id: str | None, entry: Any, what: str, form: str) -> tuple[str, Any]:
    """A member's id and what is assigned to it: in a table by id, or by `id=…`."""
    if node_id is None:
        if not isinstance(entry, str) or "=" not in entry:
            raise ConfigError(f"{shown(entry)} is no member's {what}: write {form}")
        node_id, _, entry = entry.strip().partition("=")
    check_node_id(node_id)
    return node_id, entry


def host_name(node_id: str | None, entry: Any) -> str:
    """A name of a host, in lower case. Raises ConfigError."""
    text = entry.strip() if node_id is None and isinstance(entry, str) else ""
    if not _HOST_NAME.fullmatch(text):
        raise ConfigError(
            f"{shown(entry)} is no host's name: write for instance status.example.org, "
            "without scheme, port and path"
        )
    return text.lower()


def _entry_text(node_id: str | None, entry: Any) -> str:
    if not isinstance(entry, str):
        hint = "" if node_id is None else _misplaced(hyphened(node_id))
        raise ConfigError(f"{shown(entry)} is no member: write a string{hint}")
    if node_id is None:
        return entry
    check_node_id(node_id)
    return f"{node_id}@{entry}"


def _misplaced(key: str) -> str:
    return f"; the setting {key} belongs above the first [table]" if key in NAMED else ""


# All other kinds


def _text(setting: Setting, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError("must be a string: put it in quotes")
    if "\0" in value:
        raise ConfigError("cannot contain the character NUL: leave it out")
    return value


def _path(setting: Setting, value: Any) -> str:
    if not _text(setting, value):
        raise ConfigError(f"is empty: name a {setting.kind.value}")
    return str(value)


def _node_id(setting: Setting, value: Any) -> str:
    check_node_id(_text(setting, value))
    return str(value)


def _name(setting: Setting, value: Any) -> str:
    text = _text(setting, value)
    if not 1 <= len(text) <= MAX_NAME or not is_printable(text):
        raise ConfigError(
            f"no name: write 1 to {MAX_NAME} printable ASCII characters, without spaces"
        )
    return text


def _flag(setting: Setting, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise ConfigError("neither true nor false")


def _seconds(setting: Setting, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError("not a number of seconds, such as 0.5") from None
    except OverflowError:
        return math.inf  # its bounds are checked later, with a better message


def _count(setting: Setting, value: Any) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise ConfigError(f"write a whole number from 1 to {MAX_COUNT}")
    return value


def _choice(setting: Setting, value: Any) -> str:
    if value not in setting.choices:
        raise ConfigError(f"choose one of {', '.join(setting.choices)}{_close(setting, value)}")
    return str(value)


def _close(setting: Setting, value: Any) -> str:
    return did_you_mean(value, setting.choices) if isinstance(value, str) else ""


def _address(setting: Setting, value: Any) -> str:
    return parse_advertised(_text(setting, value))


def _endpoint(setting: Setting, value: Any) -> str:
    # Here, because a client that only names settings needs no Twisted.
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString

    description = _text(setting, value)
    try:
        serverFromString(reactor, description)
    except Exception as error:  # raised by any parser that the description names
        if parts(description)[0] in ("ssl", "tls"):
            raise ConfigError(_tls_remedy(setting, error)) from None
        raise ConfigError(
            f"no endpoint ({' '.join(str(error).split())}); "
            "write for instance tcp:7101 or tcp:7101:interface=127.0.0.1"
        ) from None
    _check_port(description)
    return description


def _tls_remedy(setting: Setting, error: Exception) -> str:
    remedy = "write tcp:PORT"
    if setting.name in ("http", "sentinel"):
        remedy += f", and give --{setting.name}-cert FILE and --{setting.name}-key FILE"
    return f"no endpoint with TLS ({' '.join(str(error).split())}); {remedy}"


def _check_port(description: str) -> None:
    """Raise ConfigError for a port that Twisted accepts, and with which it cannot listen."""
    kind, *rest = parts(description)
    if kind not in ("tcp", "tcp4", "tcp6", "ssl"):
        return
    for each in rest:
        port = each.removeprefix("port=")
        if port.isdigit() and int(port) > MAX_PORT:
            raise ConfigError(f"{port} is no port: write a number of at most {MAX_PORT}")


def _socket(setting: Setting, value: Any) -> str:
    is_unix = parse_socket(_text(setting, value)) is not None
    return str(value) if is_unix else _endpoint(setting, value)


def _command(setting: Setting, value: Any) -> tuple[str, ...]:
    """The words of a command, before any of it is passed to a shell."""
    if isinstance(value, str):
        return split_command(value, shell=False)
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ConfigError("write one string, or a list of strings")
    if not value or not value[0]:
        raise ConfigError("there is no command: name a program, and its arguments after it")
    if any("\0" in word for word in value):
        raise ConfigError("a command cannot contain the character NUL: leave it out")
    return tuple(value)


def split_command(text: str, *, shell: bool) -> tuple[str, ...]:
    """The words of a command, or with `shell` the words that run it with /bin/sh.

    Raises ConfigError if it is empty or a quote is left open.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"{str(error).lower()}: close the quote, or escape it") from None
    if not words or not words[0]:
        raise ConfigError("there is no command: name a program, and its arguments after it")
    if "\0" in text:
        raise ConfigError("a command cannot contain the character NUL: leave it out")
    return ("/bin/sh", "-c", text) if shell else words


_PARSERS: Final[dict[Kind, Callable[[Setting, Any], Any]]] = {
    Kind.NODE_ID: _node_id,
    Kind.NAME: _name,
    Kind.ENDPOINT: _endpoint,
    Kind.SOCKET: _socket,
    Kind.ADDRESS: _address,
    Kind.DIRECTORY: _path,
    Kind.FILE: _path,
    Kind.COMMAND: _command,
    Kind.SECONDS: _seconds,
    Kind.COUNT: _count,
    Kind.CHOICE: _choice,
    Kind.FLAG: _flag,
}
