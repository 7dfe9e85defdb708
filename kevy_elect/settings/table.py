"""The settings of a node in one table, which defines options, variables, file keys and help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum
from typing import Final

import attrs

from kevy_elect.config import ElectConfig
from kevy_elect.grace import OnExit

PREFIX: Final = "KEVY_ELECT_"
"""The prefix of all environment variables."""
DEFAULT_STOP_GRACE: Final = 1.0
DEFAULT_SENTINEL_NAME: Final = "mymaster"
DEFAULT_CHECK_FALL: Final = 3
DEFAULT_CHECK_RISE: Final = 1
LINKS: Final = ("plain", "noise", "tls")
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "critical")


class Kind(Enum):
    """The kind of a setting's value."""

    NODE_ID = "node id"
    PEERS = "members"
    PAGES = "status pages"
    KEYS = "public keys"
    NAMES = "host names"
    RANKS = "priorities"
    NAME = "name"
    ENDPOINT = "endpoint"
    SOCKET = "socket"
    ADDRESS = "address"
    DIRECTORY = "directory"
    FILE = "file"
    COMMAND = "command"
    SECONDS = "seconds"
    COUNT = "count"
    CHOICE = "choice"
    FLAG = "flag"


class Group(Enum):
    """The subject of a setting, used as a heading."""

    CLUSTER = "Cluster"
    LINKS = "Links between members"
    SERVICES = "Services"
    COMMANDS = "Commands"
    DATA = "Data server"
    TIMINGS = "Timings"
    LOG = "Log"


@attrs.frozen
class Setting:
    """One setting. Its option has the same name, and so has its key in a file, where underscores
    may replace the hyphens."""

    name: str
    kind: Kind
    group: Group
    meaning: str
    metavar: str = ""
    """The placeholder of the value in help texts; a flag has none."""
    default: str = ""
    """The default as text; empty for a required setting and for a flag."""
    choices: tuple[str, ...] = ()
    reloadable: bool = False
    """Whether a running node applies a new value when it rereads its configuration."""

    @property
    def option(self) -> str:
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.field.upper()

    @property
    def field(self) -> str:
        """The name in Python, for instance in ElectConfig."""
        return self.name.replace("-", "_")

    @property
    def repeatable(self) -> bool:
        """Whether the option may be given again, to add to a list."""
        return self.kind in (Kind.PEERS, Kind.PAGES, Kind.KEYS, Kind.NAMES, Kind.RANKS)

    @property
    def help(self) -> str:
        """The meaning and the default."""
        return f"{self.meaning} [default: {self.default}]" if self.default else self.meaning


def _timing(name: str, meaning: str, default: str = "") -> Setting:
    default = default or f"{getattr(ElectConfig(), name.replace('-', '_')):g}"
    return Setting(name, Kind.SECONDS, Group.TIMINGS, meaning, "S", default, reloadable=True)


SETTINGS: Final = (
    Setting(
        "config",
        Kind.FILE,
        Group.CLUSTER,
        "TOML file with settings by these names; options and environment take precedence",
        "FILE",
        "none",
    ),
    Setting(
        "node-id", Kind.NODE_ID, Group.CLUSTER, "This node's id, one of those in --peers", "ID"
    ),
    Setting(
        "peers",
        Kind.PEERS,
        Group.CLUSTER,
        "Every member, including this one: id@host:elect_port[:client_port],... (repeatable)",
        "LIST",
    ),
    Setting(
        "listen",
        Kind.ENDPOINT,
        Group.CLUSTER,
        "Endpoint to listen on",
        "ENDPOINT",
        "host and port of this node in --peers",
    ),
    Setting(
        "advertise",
        Kind.ADDRESS,
        Group.CLUSTER,
        "HOST:PORT where clients reach this node when it is primary",
        "HOST:PORT",
        "host and client port of this node in --peers",
    ),
    Setting(
        "data-dir",
        Kind.DIRECTORY,
        Group.CLUSTER,
        "Directory for the ballot",
        "DIR",
        "kevy-elect-<id>",
    ),
    Setting(
        "cluster-name",
        Kind.NAME,
        Group.CLUSTER,
        "Name of the cluster that status, page and metrics show; the same on all members",
        "NAME",
        "none",
    ),
    Setting("witness", Kind.FLAG, Group.CLUSTER, "Vote, but never become primary"),
    Setting(
        "priorities",
        Kind.RANKS,
        Group.CLUSTER,
        "Which members run first for primary among those with equal data: id=N,..., the higher N "
        "first, 0 for those not named; the same on all members (repeatable)",
        "LIST",
        "none",
    ),
    Setting(
        "failback",
        Kind.SECONDS,
        Group.CLUSTER,
        "Hand the role to a member that --priorities prefer, once that is fit for S seconds, as "
        "its page in --http-peers says",
        "S",
        "off",
    ),
    Setting(
        "no-handover",
        Kind.FLAG,
        Group.CLUSTER,
        "On SIGTERM stop without handing the role over first",
    ),
    Setting(
        "last-will",
        Kind.FLAG,
        Group.CLUSTER,
        "Run below a parent process that notifies the other members at once when this process dies",
    ),
    Setting(
        "no-count-unacknowledged",
        Kind.FLAG,
        Group.CLUSTER,
        "Do not count members for the lease that do not acknowledge it, such as those of the "
        "existing implementation",
        reloadable=True,
    ),
    Setting(
        "links",
        Kind.CHOICE,
        Group.LINKS,
        "Links between members: plain without authentication, or noise or tls, with which each "
        "member proves its identity. All members need the same",
        "KIND",
        "plain",
        LINKS,
    ),
    Setting(
        "noise-key",
        Kind.FILE,
        Group.LINKS,
        "File with this node's private key, made by kevy-elect keygen",
        "FILE",
        "none",
        reloadable=True,
    ),
    Setting(
        "peer-keys",
        Kind.KEYS,
        Group.LINKS,
        "Public keys of the members: id=key,...; a member may have several while it changes "
        "its own (repeatable)",
        "LIST",
        "none",
        reloadable=True,
    ),
    *(
        Setting(name, Kind.FILE, Group.LINKS, meaning, "FILE", "none", reloadable=True)
        for name, meaning in (
            ("tls-cert", "PEM file with this node's certificate and any intermediate certificates"),
            ("tls-key", "PEM file with the certificate's private key"),
            ("tls-ca", "PEM file with the authority that signs the members' certificates"),
        )
    ),
    Setting(
        "http",
        Kind.ENDPOINT,
        Group.SERVICES,
        "Endpoint for page, status, checks and metrics, such as tcp:8101:interface=127.0.0.1",
        "ENDPOINT",
        "off",
    ),
    Setting(
        "http-peers",
        Kind.PAGES,
        Group.SERVICES,
        "Addresses of the members' --http pages: id@host:port,... (repeatable)",
        "LIST",
        "none",
    ),
    Setting(
        "http-host",
        Kind.NAMES,
        Group.SERVICES,
        "Host name that --http answers to, beside addresses, localhost and the hosts of --peers "
        "and --http-peers: NAME,... (repeatable)",
        "LIST",
        "none",
    ),
    *(
        Setting(name, Kind.FILE, Group.SERVICES, meaning, "FILE", default, reloadable=True)
        for name, meaning, default in (
            ("http-cert", "PEM file with the certificate by which --http is served by TLS", "none"),
            ("http-key", "PEM file with the private key of that", "none"),
            (
                "http-ca",
                "PEM file with the authority that signs the --http-cert of the members",
                "those that the system trusts",
            ),
            (
                "http-token-file",
                "File with the token that --http asks for, but for health checks; all members "
                "need the same",
                "none",
            ),
        )
    ),
    Setting(
        "agent-check",
        Kind.ENDPOINT,
        Group.SERVICES,
        "Endpoint for a load balancer's agent checks, such as tcp:8201",
        "ENDPOINT",
        "off",
    ),
    Setting(
        "sentinel",
        Kind.ENDPOINT,
        Group.SERVICES,
        "Endpoint for clients that find the primary by Redis Sentinel, such as tcp:26379",
        "ENDPOINT",
        "off",
    ),
    Setting(
        "sentinel-name",
        Kind.NAME,
        Group.SERVICES,
        "Name of the primary for clients of --sentinel",
        "NAME",
        DEFAULT_SENTINEL_NAME,
    ),
    Setting(
        "sentinel-peers",
        Kind.PAGES,
        Group.SERVICES,
        "Addresses of the members' --sentinel ports: id@host:port,... (repeatable)",
        "LIST",
        "none",
    ),
    Setting(
        "sentinel-password-file",
        Kind.FILE,
        Group.SERVICES,
        "File with the password of clients of --sentinel",
        "FILE",
        "none",
    ),
    *(
        Setting(name, Kind.FILE, Group.SERVICES, meaning, "FILE", "none", reloadable=True)
        for name, meaning in (
            (
                "sentinel-cert",
                "PEM file with the certificate by which --sentinel is served by TLS",
            ),
            ("sentinel-key", "PEM file with the private key of that"),
        )
    ),
    Setting(
        "admin",
        Kind.SOCKET,
        Group.SERVICES,
        "Unix socket for the operator's commands, such as unix:/run/kevy/a.sock:mode=660",
        "ENDPOINT",
        "admin.sock in the data directory",
    ),
    Setting("no-admin", Kind.FLAG, Group.SERVICES, "Take no operator's commands"),
    Setting(
        "admin-listen",
        Kind.ENDPOINT,
        Group.SERVICES,
        "Endpoint for operators' commands that other members forward, such as tcp:7201; "
        "needs --links noise or tls",
        "ENDPOINT",
        "off",
    ),
    Setting(
        "admin-peers",
        Kind.PAGES,
        Group.SERVICES,
        "Addresses of the members' --admin-listen: id@host:port,... (repeatable)",
        "LIST",
        "none",
    ),
    Setting(
        "run-primary",
        Kind.COMMAND,
        Group.COMMANDS,
        "Command to run while this node is primary",
        "CMD",
        "none",
    ),
    Setting(
        "stop-grace",
        Kind.SECONDS,
        Group.COMMANDS,
        "Seconds from the SIGTERM of --run-primary to its SIGKILL",
        "S",
        f"{DEFAULT_STOP_GRACE:g}",
    ),
    Setting(
        "on-exit",
        Kind.CHOICE,
        Group.COMMANDS,
        "Reaction when --run-primary ends by itself: restart it, step-down, or stop the node",
        "WHAT",
        OnExit.RESTART.value,
        tuple(each.value for each in OnExit),
    ),
    Setting(
        "on-change",
        Kind.COMMAND,
        Group.COMMANDS,
        "Command to run at the start and at each change",
        "CMD",
        "none",
        reloadable=True,
    ),
    Setting(
        "offset-command",
        Kind.COMMAND,
        Group.COMMANDS,
        "Command that prints how much data this copy has, run each second",
        "CMD",
        "none",
        reloadable=True,
    ),
    Setting(
        "check-command",
        Kind.COMMAND,
        Group.COMMANDS,
        "Command that fails when this node should not be primary, run each second",
        "CMD",
        "none",
        reloadable=True,
    ),
    Setting(
        "check-fall",
        Kind.COUNT,
        Group.COMMANDS,
        "Failures in a row that make the node unhealthy",
        "N",
        str(DEFAULT_CHECK_FALL),
        reloadable=True,
    ),
    Setting(
        "check-rise",
        Kind.COUNT,
        Group.COMMANDS,
        "Successes in a row that make it healthy again",
        "N",
        str(DEFAULT_CHECK_RISE),
        reloadable=True,
    ),
    Setting(
        "allow-new-privileges",
        Kind.FLAG,
        Group.COMMANDS,
        "Let commands of a node that is not root use sudo and setuid files, which the node cannot "
        "kill",
    ),
    Setting("shell", Kind.FLAG, Group.COMMANDS, "Run the commands with /bin/sh", reloadable=True),
    Setting(
        "redis",
        Kind.ADDRESS,
        Group.DATA,
        "The Redis beside this node: promoted on the primary, a replica elsewhere",
        "HOST:PORT",
        "none",
    ),
    Setting(
        "redis-command",
        Kind.COMMAND,
        Group.DATA,
        "Command that runs that Redis in the foreground, for as long as the node runs; it has to "
        "start without taking writes",
        "CMD",
        "none",
    ),
    Setting(
        "redis-user",
        Kind.NAME,
        Group.DATA,
        "User as which the node logs in to --redis",
        "NAME",
        "Redis' default user",
    ),
    Setting(
        "redis-password-file",
        Kind.FILE,
        Group.DATA,
        "File with the password of that user",
        "FILE",
        "none",
    ),
    Setting(
        "redis-tls-ca",
        Kind.FILE,
        Group.DATA,
        "The port of --redis is one for TLS; authorities that may have signed its certificate",
        "FILE",
        "none",
    ),
    Setting(
        "redis-tls-cert",
        Kind.FILE,
        Group.DATA,
        "The node's certificate, if --redis asks its clients for one",
        "FILE",
        "none",
    ),
    Setting(
        "redis-tls-key",
        Kind.FILE,
        Group.DATA,
        "The private key of that certificate",
        "FILE",
        "none",
    ),
    *(
        Setting(name, Kind.COMMAND, Group.DATA, meaning, "CMD", "none")
        for name, meaning in (
            ("freeze", "Instead of --redis: command that ends the store's replication"),
            ("promote", "Command that makes the store take the clients' writes"),
            ("follow", "Command that makes the store replicate from $KEVY_PRIMARY_ADDR"),
            (
                "demote",
                "Command that makes the store take no more writes; without it, --freeze does",
            ),
        )
    ),
    _timing("hb-interval", "Seconds between two heartbeats to each peer"),
    _timing("down-after", "Seconds of silence after which a peer is down"),
    _timing("election-timeout", "Seconds after which a candidate without a quorum gives up"),
    _timing("election-backoff", "Seconds for which it then waits at least"),
    _timing("election-backoff-jitter", "Upper bound of a random time that is added to this wait"),
    _timing(
        "lease-margin",
        "Seconds between the end of a lease and the earliest takeover",
        "the greater of down-after / 4 and 4 × hb-interval",
    ),
    _timing(
        "lease-duration",
        "Seconds for which an acknowledgement backs the lease; for changing down-after",
        "down-after less 1/50",
    ),
    Setting(
        "log-level",
        Kind.CHOICE,
        Group.LOG,
        f"Lowest level that is logged: {', '.join(LOG_LEVELS)}",
        "LEVEL",
        "info",
        LOG_LEVELS,
        reloadable=True,
    ),
    Setting(
        "log-format",
        Kind.CHOICE,
        Group.LOG,
        "Format of the log: text, or json for an object per line",
        "FORMAT",
        "text",
        LOG_FORMATS,
    ),
)
"""All settings, in the order in which they are documented."""
NAMED: Final = {setting.name: setting for setting in SETTINGS}
TIMINGS: Final = tuple(each for each in SETTINGS if each.group is Group.TIMINGS)
COMMANDS: Final = tuple(each.name for each in SETTINGS if each.kind is Kind.COMMAND)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: `; did you mean X?`, or nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
