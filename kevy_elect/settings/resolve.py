"""A node's whole configuration: command line over environment over file over defaults, checked."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, TypeVar

import attrs

from kevy_elect.config import Cluster, ElectConfig, PeerAddr, parse_advertised
from kevy_elect.errors import ConfigError
from kevy_elect.grace import OnExit, longest_stop_grace
from kevy_elect.settings import parse as values
from kevy_elect.settings import toml_file as config_file
from kevy_elect.settings.admin import parse_socket, socket_in
from kevy_elect.settings.links import (
    Links,
    NoiseKeys,
    TlsIdentity,
    public_key,
    read_identity,
    read_password,
    read_private_key,
)
from kevy_elect.settings.pages import PageSecurity, read_contexts, read_serving, read_token
from kevy_elect.settings.pem import ClientTls
from kevy_elect.settings.table import (
    COMMANDS,
    DEFAULT_CHECK_FALL,
    DEFAULT_CHECK_RISE,
    DEFAULT_SENTINEL_NAME,
    DEFAULT_STOP_GRACE,
    NAMED,
    PREFIX,
    SETTINGS,
    TIMINGS,
    Kind,
    Setting,
    did_you_mean,
)
from kevy_elect.settings.text import shown

T = TypeVar("T")

_OTHER_NAMES: Final[dict[tuple[str, ...], str]] = {
    ("secure", "private_key_file"): "noise-key",
    ("cluster", "secure"): "links",
    ("cluster", "peer_keys"): "peer-keys",
}
"""The names of these settings in the existing implementation's file."""
_OTHER_TABLES: Final = {keys[0] for keys in _OTHER_NAMES}
_UNQUOTED: Final = (
    Kind.PEERS,
    Kind.PAGES,
    Kind.KEYS,
    Kind.NAMES,
    Kind.RANKS,
    Kind.ADDRESS,
    Kind.COMMAND,
)
_NOISE: Final = ("noise-key", "peer-keys")
_TLS: Final = ("tls-cert", "tls-key", "tls-ca")
_PAGES_TLS: Final = ("http-cert", "http-key", "http-ca")
_PAGES: Final = (*_PAGES_TLS, "http-token-file")
_SENTINEL_TLS: Final = ("sentinel-cert", "sentinel-key")
_SENTINEL: Final = ("sentinel-name", "sentinel-peers", "sentinel-password-file", *_SENTINEL_TLS)
_ADMIN: Final = ("admin-listen", "admin-peers")
_REDIS_TLS: Final = ("redis-tls-ca", "redis-tls-cert", "redis-tls-key")
_REDIS: Final = ("redis-command", "redis-user", "redis-password-file", *_REDIS_TLS)
_STORE: Final = ("freeze", "promote", "follow", "demote")
_NOT_WITH_REDIS: Final = {
    "witness": "a witness has no data",
    "offset-command": "the Redis says itself how much data there is",
}
_ABOUT: Final = {
    "stop-grace": "run-primary",
    "on-exit": "run-primary",
    "check-fall": "check-command",
    "check-rise": "check-command",
}
"""Settings that only refine a command."""
LONGEST_FAILBACK: Final = 86400.0
"""Seconds for which a member must be fit before it gets the role back, at most."""
_HINTED: Final = 20
"""The most mistakes for which a similar name is searched, which takes about 1 ms each."""
_SOLE_OPTIONS: Final = ("config",)
"""The settings that a file cannot have."""


class Origin(Enum):
    """The kind of place that a value comes from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


@attrs.frozen
class Source:
    """The place where a value was given."""

    origin: Origin
    name: str = ""
    """The file's path, or the environment variable."""
    line: int | None = None

    def __str__(self) -> str:
        if self.line is not None:
            return f"{self.name}:{self.line}"
        return self.name or self.origin.value


_DEFAULT: Final = Source(Origin.DEFAULT)
_COMMAND_LINE: Final = Source(Origin.COMMAND_LINE)


@attrs.frozen
class Mistake:
    """One mistake. `text` names settings as the command line does."""

    text: str
    setting: str | None
    source: Source

    def __str__(self) -> str:
        """The text, after the file and line or the environment variable."""
        named = self.source.origin in (Origin.FILE, Origin.ENVIRONMENT)
        return f"{self.source}: {self.text}" if named else self.text


class MistakesError(ConfigError):
    """All mistakes of a configuration, one per line."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


@attrs.frozen
class Configuration:
    """A configuration without mistakes."""

    values: dict[str, Any]
    """Each setting's value by name: seconds as floats, commands as words including their shell,
    the addresses of `http-peers`, `sentinel-peers` and `admin-peers` by id; None for what is off
    or left to the election."""
    cluster: Cluster
    timings: ElectConfig
    links: Links
    pages: PageSecurity
    _source: Callable[[str], Source] = attrs.field(eq=False, repr=False)

    @property
    def sources(self) -> dict[str, Source]:
        """The place of each setting's value; the lines of a file are searched for this."""
        return {name: self._source(name) for name in NAMED}

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """The commands, as words, by their setting's name."""
        return {name: self.values[name] for name in COMMANDS if self.values[name]}

    def evolved(
        self,
        changed: Mapping[str, Any],
        timings: ElectConfig,
        links: Links,
        pages: PageSecurity,
    ) -> Configuration:
        """The same but for these values, timings, keys, and what protects the pages."""
        values = {**self.values, **changed}
        return attrs.evolve(self, values=values, timings=timings, links=links, pages=pages)


def read(command_line: Mapping[str, str], environment: Mapping[str, str]) -> Configuration:
    """The configuration that these options (texts by name, "true" for a flag), variables, and
    the file that either names make together.

    Raises MistakesError, which has all mistakes.
    """
    reading = _Reading()
    reading.gather(command_line, environment)
    return reading.result()


@attrs.frozen
class _Given:
    value: Any
    source: Source
    keys: tuple[str, ...] = ()
    """Its name in the file, with the table first."""


class _Reading:
    """One reading: the given values, their meanings, and the mistakes."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.file: config_file.ConfigFile | None = None
        self.unread = False
        """Whether there is a file whose content is not known."""
        self.given: dict[str, _Given] = {}
        self.values: dict[str, Any] = {}
        """The values that are valid by themselves; at last all of them."""

    def result(self) -> Configuration:
        for setting in SETTINGS:
            if setting.name in self.given and not setting.repeatable:
                with self._blaming(setting):
                    given = self.given[setting.name]
                    self.values[setting.name] = values.parse(setting, given.value)
        if self.unread:
            raise MistakesError(_in_order(self.mistakes))
        cluster, timings = self._cluster(), self._timings()
        self.values["priorities"] = self._by_member("priorities", values.rank)
        for name in ("http-peers", "sentinel-peers", "admin-peers"):
            self.values[name] = self._by_member(name, values.page)
        self._check_failback(timings)
        self._http_hosts()
        self._check_sentinel(cluster)
        self._check_redis(cluster)
        self._check_store(cluster)
        self._check_commands()
        self._check_primary_settings(timings)
        self._check_admin()
        links = self._links(cluster)
        pages = self._pages()
        self._check_last_will()
        if self.mistakes or cluster is None or timings is None:
            raise MistakesError(_in_order(self.mistakes))
        self._fill_in(cluster, timings)
        return Configuration(self.values, cluster, timings, links, pages, self._source)

    # The given values and their places

    def gather(self, command_line: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Take the values, each from the place with the highest precedence."""
        above = dict(self._of_environment(environment))
        above |= {name: _Given(text, _COMMAND_LINE) for name, text in command_line.items()}
        path = above["config"].value if "config" in above else ""
        self.given = (dict(self._of_file(path)) if path else {}) | above

    def _of_environment(self, environment: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
        variables = {setting.variable: setting.name for setting in SETTINGS}
        for variable in sorted(environment):
            source = Source(Origin.ENVIRONMENT, variable)
            if variable in variables:
                if environment[variable]:  # an empty variable counts as not set
                    yield variables[variable], _Given(environment[variable], source)
            elif variable.startswith(PREFIX):
                hint = did_you_mean(variable, variables) or "; see `twistd kevy-elect --help`"
                self.mistakes.append(Mistake(f"there is no such setting{hint}", None, source))

    def _of_file(self, path: str) -> Iterator[tuple[str, _Given]]:
        try:
            self.file = config_file.read(path)
        except config_file.FileError as error:
            source = Source(Origin.FILE, path, error.line)
            self.mistakes.append(Mistake(str(error), "config", source))
            self.unread = True
            return
        for keys, value in _settings_of(self.file.values):
            key = ".".join(keys)
            name = _OTHER_NAMES.get(keys, values.hyphened(key))
            if keys in _OTHER_NAMES and name in map(values.hyphened, self.file.values):
                text = f"--{name} is given twice, as {key} too: leave one out"
                self.mistakes.append(Mistake(text, name, self._place(*keys)))
            elif name not in NAMED:
                few = len(self.mistakes) < _HINTED
                hint = (few and did_you_mean(name, NAMED)) or "; see `twistd kevy-elect --help`"
                text = f"{shown(key)}: there is no such setting{hint}"
                self.mistakes.append(Mistake(text, key, self._place(*keys)))
            elif name in _SOLE_OPTIONS:
                text = f"--{name} is not for a file: give it as an option"
                self.mistakes.append(Mistake(text, name, self._place(*keys)))
            elif len(keys) == 1 and name != key and name in self.file.values:
                text = f"--{name} is given twice, with hyphens and with underscores: leave one out"
                self.mistakes.append(Mistake(text, name, self._place(*keys)))
            else:
                yield name, _Given(_translated(keys, value), Source(Origin.FILE, path), keys)

    def _place(self, *keys: str) -> Source:
        assert self.file is not None
        return Source(Origin.FILE, self.file.path, self.file.line(*keys))

    def _source(self, name: str, *keys: str) -> Source:
        """The place of the setting, or in a table of a file that of the value at its `keys`."""
        given = self.given.get(name, _Given(None, _DEFAULT))
        return self._place(*given.keys, *keys) if given.keys else given.source

    # Mistakes

    def _add(self, name: str, text: str, *keys: str) -> None:
        self.mistakes.append(Mistake(text, name, self._source(name, *keys)))

    @contextmanager
    def _blaming(self, setting: Setting, *keys: str) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self._add(setting.name, f"{self._quoted(setting)}: {error}", *keys)

    def _quoted(self, setting: Setting) -> str:
        """The setting as it was given, unless the mistake quotes its value itself, or the
        value must not be logged, such as the arguments of a command."""
        if setting.kind in _UNQUOTED:
            return setting.option
        return f"{setting.option} {shown(self.given[setting.name].value)}"

    def _fine(self, *names: str) -> bool:
        """Whether none of these settings is wrong by itself."""
        return all(name in self.values or name not in self.given for name in names)

    # Members

    def _entries(self, setting: Setting) -> list[tuple[str | None, Any]]:
        if setting.name in self.given:
            with self._blaming(setting):
                return values.entries(self.given[setting.name].value)
        return []

    def _cluster(self) -> Cluster | None:
        setting, before = NAMED["peers"], len(self.mistakes)
        found = self._entries(setting)
        if not found and len(self.mistakes) == before:
            self._add("peers", "--peers is missing; see --help")
        members: list[PeerAddr] = []
        for node_id, entry in found:
            with self._blaming(setting, *_key(node_id)):
                member = values.peer(node_id, entry)
                Cluster((*members, member)[0].node_id, (*members, member))  # all different
                members.append(member)
        ids = [member.node_id for member in members]
        me = self.values.get("node-id")
        if "node-id" not in self.given:
            self._add("node-id", "--node-id is missing; see --help")
        elif len(self.mistakes) == before and me is not None and me not in ids:
            self._add(
                "node-id",
                f"--node-id {me}: not among --peers, which name {', '.join(ids)}. "
                "Correct it, or add this node: --peers lists every member",
            )
        if len(self.mistakes) > before or me is None:
            return None
        cluster = Cluster(me, tuple(members))
        self.values["peers"] = [str(member) for member in members]
        if "advertise" not in self.given:
            try:
                parse_advertised(cluster.me.client_addr)
            except ConfigError as error:
                self._add("peers", f"--peers: {error}; give --advertise HOST:PORT", *_key(me))
        return cluster

    def _by_member(
        self,
        name: str,
        parse: Callable[[str | None, Any], tuple[str, Any]],
        *,
        several: bool = False,
    ) -> dict[str, Any]:
        """The value of each member that this setting names; with `several`, the sum of its values
        if it is named more than once."""
        setting = NAMED[name]
        members = {peer.partition("@")[0] for peer in self.values.get("peers", ())}
        found: dict[str, Any] = {}
        for node_id, entry in self._entries(setting):
            with self._blaming(setting, *_key(node_id)):
                member, value = parse(node_id, entry)
                if members and member not in members:
                    hint = did_you_mean(member, members) or f": {', '.join(sorted(members))}"
                    raise ConfigError(f"{member} is not among --peers{hint}")
                if member in found and not several:
                    raise ConfigError(f"{member} is there twice: leave one out")
                found[member] = found[member] + value if member in found else value
        return found

    def _check_failback(self, timings: ElectConfig | None) -> None:
        if "failback" not in self.given or not self._fine("failback", "priorities", "http-peers"):
            return
        after, ranks = self.values["failback"], self.values["priorities"]
        if timings is not None and not timings.down_after <= after <= LONGEST_FAILBACK:
            self._add(
                "failback",
                f"{self._quoted(NAMED['failback'])}: must be between --down-after "
                f"({timings.down_after:g}) and {LONGEST_FAILBACK:g}",
            )
        if not any(ranks.values()):
            self._add("failback", "--failback: nobody is preferred; give --priorities too")
        for member in sorted(each for each, rank in ranks.items() if rank):
            if member not in self.values["http-peers"]:
                self._add(
                    "failback",
                    f"--failback: {member} never gets the role, since its page is not known; add "
                    "it to --http-peers",
                )

    def _http_hosts(self) -> None:
        setting = NAMED["http-host"]
        names: list[str] = []
        for key, entry in self._entries(setting):
            with self._blaming(setting, *_key(key)):
                names.append(values.host_name(key, entry))
        self.values["http-host"] = names
        if names and "http" not in self.given:
            self._add("http-host", "--http-host: nothing is served; give --http too")

    def _pages(self) -> PageSecurity:
        """What protects the pages, and the port for clients of Redis Sentinel, if anything does."""
        for name in _PAGES:
            if name in self.given and "http" not in self.given:
                self._add(name, f"--{name}: nothing is served; give --http too")
        token = None
        if "http-token-file" in self.values:
            with self._blaming(NAMED["http-token-file"]):
                token = read_token(self.values["http-token-file"])
        serving, asking, content = self._tls(_PAGES_TLS, read_contexts) or (None, None, "")
        sentinel, sentinel_content = self._tls(_SENTINEL_TLS, read_serving) or (None, "")
        return PageSecurity(
            token=token,
            serving=serving,
            asking=asking,
            content=content,
            sentinel=sentinel,
            sentinel_content=sentinel_content,
        )

    def _tls(self, names: tuple[str, ...], read: Callable[..., T]) -> T | None:
        """What `read` makes of these settings: a certificate, its key, and maybe authorities. None
        if none is given, or one is a mistake."""
        given = [name for name in names if name in self.given]
        missing = [name for name in names[:2] if name not in self.given]
        if given and missing:
            self._add(given[0], f"--{given[0]}: give --{missing[0]} FILE too")
        elif given and self._fine(*given):
            try:
                return read(*map(self.values.get, names))
            except ConfigError as error:
                self._add(names[0], f"--{names[0]}: {error}")
        return None

    def _check_sentinel(self, cluster: Cluster | None) -> None:
        if "sentinel" not in self.given:
            for name in _SENTINEL:
                if name in self.given:
                    self._add(name, f"--{name}: nothing is served; give --sentinel too")
            return
        if "sentinel-password-file" in self.values:
            with self._blaming(NAMED["sentinel-password-file"]):
                read_password(self.values["sentinel-password-file"])
        if not self.values.get("witness"):
            self._expect_client_port(cluster, "sentinel", "clients would be sent")

    def _check_redis(self, cluster: Cluster | None) -> None:
        if "redis" not in self.given:
            for name in _REDIS:
                if name in self.given:
                    self._add(name, f"--{name}: no Redis is driven; give --redis too")
            return
        quoted = self._quoted(NAMED["redis"])
        for other, why in _NOT_WITH_REDIS.items():
            if self.values.get(other):
                self._add("redis", f"{quoted}: {why}; leave --redis or --{other} out")
        if "redis-user" in self.given and "redis-password-file" not in self.given:
            self._add("redis-user", "--redis-user: give --redis-password-file FILE too")
        if "redis-password-file" in self.values:
            with self._blaming(NAMED["redis-password-file"]):
                read_password(self.values["redis-password-file"])
        self._check_redis_tls()
        if importlib.util.find_spec("hiredis") is None:
            self._add("redis", f"{quoted}: needs hiredis: pip install 'kevy-elect[redis]'")
        self._expect_client_port(cluster, "redis", "clients and replicas would be sent")

    def _check_redis_tls(self) -> None:
        """Its files can be used, and none is missing."""
        given = [name for name in _REDIS_TLS if name in self.given]
        if not given or not self._fine(*given):
            return
        needed = _REDIS_TLS[:1] if given == ["redis-tls-ca"] else _REDIS_TLS
        missing = [f"--{name} FILE" for name in needed if name not in given]
        if missing:
            self._add(given[0], f"--{given[0]}: give {' and '.join(missing)} too")
            return
        with self._blaming(NAMED[given[0]]):
            ClientTls(
                authority=self.values["redis-tls-ca"],
                certificate=self.values.get("redis-tls-cert"),
                key=self.values.get("redis-tls-key"),
            ).context()

    def _check_store(self, cluster: Cluster | None) -> None:
        """A store needs a sufficient set of commands, and no other driver."""
        given = [name for name in _STORE if name in self.given]
        if not given:
            return
        needed = [
            name for name in ("promote", "follow", "offset-command") if name not in self.given
        ]
        missing = [f"--{name} CMD" for name in needed]
        if "freeze" not in given and "demote" not in given:
            missing.append("--freeze CMD or --demote CMD")
        option = f"--{given[0]}"
        if missing:
            self._add(given[0], f"{option}: a store needs {', '.join(missing)} too")
        if "redis" in self.given:
            self._add(given[0], f"{option}: --redis drives a Redis; leave one of them out")
        if self.values.get("witness"):
            self._add(given[0], f"{option}: a witness has no data; leave {option} or --witness out")
        self._expect_client_port(cluster, given[0], "clients and replicas would be sent")

    def _expect_client_port(self, cluster: Cluster | None, name: str, what: str) -> None:
        """Report the setting unless this node announces a port of its own for clients."""
        if cluster is None or "advertise" in self.given:
            return
        if cluster.me.client_port == cluster.me.elect_port:
            self._add(
                name,
                f"{self._quoted(NAMED[name])}: {what} to the election port of {cluster.node_id}; "
                "give its client port in --peers, or --advertise HOST:PORT",
            )

    # Links

    def _links(self, cluster: Cluster | None) -> Links:
        """The keys of this node and of its peers, if its links need them."""
        before = len(self.mistakes)
        self.values["peer-keys"] = self._peer_keys()
        readable = len(self.mistakes) == before
        kind = self.values.get("links")
        given = [name for name in (*_NOISE, *_TLS) if name in self.given]
        if given and "links" not in self.given:
            self._add(
                given[0],
                f"--{given[0]}: plain links have no keys; give --links "
                f"{'noise' if given[0] in _NOISE else 'tls'} too, or leave it out",
            )
        if kind == "tls":
            return self._tls_identity()
        if kind != "noise":
            return None
        if "noise-key" not in self.given:
            self._add(
                "links",
                "--links noise: this node has no key to prove itself by; make one by "
                "kevy-elect keygen FILE and give --noise-key FILE",
            )
        if cluster is not None and readable:
            self._check_all_have_keys(cluster)
        private = self._private_key()
        return None if private is None else NoiseKeys(private, self.values["peer-keys"])

    def _tls_identity(self) -> TlsIdentity | None:
        missing = [f"--{name} FILE" for name in _TLS if name not in self.given]
        if missing:
            self._add("links", f"--links tls: give {', '.join(missing)} too")
        files = [self.values[name] for name in _TLS if name in self.values]
        if len(files) == len(_TLS) and "node-id" in self.values:
            try:
                return read_identity(self.values["node-id"], *files)
            except ConfigError as error:
                self._add("tls-cert", f"--links tls: {error}")
        return None

    def _check_last_will(self) -> None:
        if self.values.get("last-will") and sys.platform != "linux":
            self._add("last-will", "--last-will needs Linux; leave it out")

    def _check_all_have_keys(self, cluster: Cluster) -> None:
        keys = self.values["peer-keys"]
        missing = [peer.node_id for peer in cluster.peers if peer.node_id not in keys]
        if missing:
            self._add(
                "peer-keys" if "peer-keys" in self.given else "links",
                f"--peer-keys: there is no key of {', '.join(missing)}; add id=key, "
                "the key being what kevy-elect pubkey prints on that member",
            )

    def _peer_keys(self) -> dict[str, tuple[bytes, ...]]:
        found = self._by_member("peer-keys", values.keys, several=True)
        # One list serves all members, so this node's own key may be in it.
        found.pop(self.values.get("node-id", ""), None)
        return found

    def _private_key(self) -> bytes | None:
        if "noise-key" in self.values:
            with self._blaming(NAMED["noise-key"]):
                private = read_private_key(self.values["noise-key"])
                public_key(private)  # which needs the library that the links need
                return private
        return None

    # Timings

    def _timings(self) -> ElectConfig | None:
        """The timings. Each wrong one is left out after its report, to find the
        others; a relation to one that was left out is not reported."""
        given = {each.field: self.values[each.name] for each in TIMINGS if each.name in self.values}
        given["count_unacknowledged"] = not self.values.get("no-count-unacknowledged")
        wrong = {each.name for each in TIMINGS if not self._fine(each.name)}
        while True:
            try:
                timings = ElectConfig(**given)
            except ConfigError as error:
                if not error.settings:
                    raise
                relation, others = map(_options, (error.settings, error.remedies))
                if not wrong.intersection(relation):
                    named = [*relation, *others]
                    blamed = [name for name in named if name in self.given]
                    text = error.naming(lambda field: f"--{values.hyphened(field)}")
                    self._add((blamed or named)[0], text)
                wrong.add(relation[0])
                if given.pop(NAMED[relation[0]].field, None) is None:
                    return None
            else:
                return None if wrong else timings

    # Commands

    def _check_commands(self) -> None:
        texts = [name for name in COMMANDS if self._is_text(name)]
        if self.values.get("shell") and not texts:
            options = ", ".join(NAMED[name].option for name in COMMANDS)
            self._add("shell", f"--shell: no command to run; give {options}")
        if self.values.get("shell"):
            for name in texts:
                if name in self.values:
                    self.values[name] = values.split_command(self.given[name].value, shell=True)
        for name, command in _ABOUT.items():
            if name in self.given and command not in self.given:
                self._add(
                    name,
                    f"{self._quoted(NAMED[name])}: there is no --{command} that it could be "
                    "about; give that too, or leave this out",
                )

    def _is_text(self, name: str) -> bool:
        """Whether a command was given as one string, which a shell may run. Words are run
        without a shell."""
        return name in self.given and isinstance(self.given[name].value, str)

    def _check_primary_settings(self, timings: ElectConfig | None) -> None:
        for name in ("run-primary", "check-command"):
            if name in self.given and self.values.get("witness"):
                self._add(
                    name,
                    f"{self._quoted(NAMED[name])}: a --witness is never primary; "
                    "leave one of them out",
                )
        if "run-primary" not in self.given:
            return
        if timings is None or not self._fine("stop-grace"):
            return
        grace = self.values.get("stop-grace", DEFAULT_STOP_GRACE)
        shown = f"--stop-grace {grace:g} (the default)"
        if "stop-grace" in self.given:
            shown = self._quoted(NAMED["stop-grace"])
        problem = grace_problem(grace, timings)
        if problem is not None:
            self._add("stop-grace", f"{shown}: {problem}")

    def _check_admin(self) -> None:
        for name in _ADMIN:
            if name in self.given:
                self._check_admin_of_members(NAMED[name])
        if self.values.get("no-admin"):
            if "admin" in self.given:
                quoted = self._quoted(NAMED["admin"])
                self._add("admin", f"{quoted}: there is --no-admin too; leave one of them out")
        elif "admin" not in self.given and self.values.get("data-dir"):
            try:
                parse_socket(socket_in(self.values["data-dir"]))
            except ConfigError as error:
                text = f"--data-dir: {error}, give --admin unix:PATH, or --no-admin"
                self._add("data-dir", text)

    def _check_admin_of_members(self, setting: Setting) -> None:
        if self.values.get("no-admin"):
            text = f"{setting.option}: there is --no-admin too; leave one of them out"
            self._add(setting.name, text)
        if self.values.get("links", "plain") == "plain" and self._fine("links"):
            self._add(
                setting.name,
                f"{setting.option}: plain links prove nothing, so whoever reaches the port could "
                "command the nodes; give --links noise or tls too, or leave it out",
            )

    # What was not given

    def _fill_in(self, cluster: Cluster, timings: ElectConfig) -> None:
        result: dict[str, Any] = dict.fromkeys(NAMED)
        result |= {each.name: False for each in SETTINGS if not each.metavar}
        result |= {each.name: each.default for each in SETTINGS if each.choices}
        result |= {each.name: getattr(timings, each.field) for each in TIMINGS}
        result["stop-grace"] = DEFAULT_STOP_GRACE
        result["sentinel-name"] = DEFAULT_SENTINEL_NAME
        result["check-fall"] = DEFAULT_CHECK_FALL
        result["check-rise"] = DEFAULT_CHECK_RISE
        result["data-dir"] = f"kevy-elect-{cluster.node_id}"
        result |= self.values
        result["on-exit"] = OnExit(result["on-exit"])
        if result["config"] is not None:
            result["config"] = os.path.abspath(result["config"])
        if result["no-admin"]:
            result["admin"] = None
        elif result["admin"] is None:
            result["admin"] = socket_in(result["data-dir"])
        self.values = result


def _settings_of(file: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings in a file with the keys that lead to them; those of the existing
    implementation are in tables."""
    for key, value in file.items():
        if key in _OTHER_TABLES and isinstance(value, dict):
            for inner, inner_value in value.items():
                yield (key, inner), inner_value
        else:
            yield (key,), value


def _translated(keys: tuple[str, ...], value: Any) -> Any:
    """The value of a setting of the existing implementation in terms of this one's."""
    if keys == ("cluster", "secure") and isinstance(value, bool):
        return "noise" if value else "plain"
    return value


def _options(fields: Iterable[str]) -> list[str]:
    """The fields of ElectConfig among these that are settings."""
    return [name for name in map(values.hyphened, fields) if name in NAMED]


def _in_order(mistakes: list[Mistake]) -> tuple[Mistake, ...]:
    """Sorted, with those of the file last, from its top to its bottom."""
    return tuple(sorted(mistakes, key=lambda mistake: mistake.source.line or 0))


def _key(node_id: str | None) -> tuple[str, ...]:
    return () if node_id is None else (node_id,)


def grace_problem(grace: float, timings: ElectConfig) -> str | None:
    """Why a command cannot have so many seconds from SIGTERM to SIGKILL; None if it can."""
    longest = longest_stop_grace(timings)
    if longest < 0:
        return (
            "these timings leave no time to stop --run-primary before the lease ends; "
            "raise --down-after or lower --hb-interval"
        )
    if not 0 <= grace <= longest:
        return (
            f"must be between 0 and {longest:g} s with these timings, "
            "so that the command is dead before the lease ends; "
            "correct it, raise --down-after or lower --hb-interval"
        )
    return None
