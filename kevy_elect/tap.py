"""The command line: `twistd kevy-elect` and `twist kevy-elect`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NoReturn

import attrs
from twisted.application import strports
from twisted.application.service import IService, MultiService, Service
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from kevy_elect import __version__
from kevy_elect.command import Command, OnExit, longest_stop_grace, whole_grace
from kevy_elect.config import Cluster, ElectConfig, PeerAddr, parse_advertised
from kevy_elect.errors import BallotError, ConfigError, ElectError
from kevy_elect.hook import Hook
from kevy_elect.offset import OffsetCommand
from kevy_elect.primary_only import PrimaryOnly
from kevy_elect.run import split_command
from kevy_elect.service import ElectionService, use_monotonic_time

TIMINGS = (
    ("hb-interval", "Seconds between two heartbeats to each peer"),
    ("down-after", "Seconds of silence after which a peer is down"),
    ("election-timeout", "Seconds after which a candidate without a quorum gives up"),
    ("election-backoff", "Seconds it then waits at least"),
    ("election-backoff-jitter", "Seconds it waits at most on top of that, at random"),
    ("lease-margin", "Seconds by which a lease ends before others may take over"),
)
COMMANDS = ("run-primary", "on-change", "offset-command")
DEFAULT_STOP_GRACE = 1.0
_ON_EXIT = ", ".join(each.value for each in OnExit)
_DEFAULTS = {"lease-margin": "the greater of down-after / 4 and 4 × hb-interval"}


def _timing_parameters() -> Iterator[list[object]]:
    defaults = ElectConfig()
    for option, meaning in TIMINGS:
        default = _DEFAULTS.get(option, getattr(defaults, option.replace("-", "_")))
        yield [option, None, None, f"{meaning} [default: {default}]"]


class Options(usage.Options):
    """Options of `twistd kevy-elect`. After parsing, `cluster`, `timings`, `commands` (in words,
    by the option's name), `stop_grace` (seconds) and `on_exit` hold the result."""

    synopsis = "[options]"
    longdesc = (
        "Elects one primary among the peers, replaces it when it dies, and guarantees that "
        "no two write at once. Run one beside each copy of your service: "
        "twistd -n --pidfile= kevy-elect --node-id a "
        "--peers a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103"
    )
    optParameters: ClassVar[list[list[object]]] = [
        ["node-id", None, None, "This node's id, one of those in --peers"],
        ["listen", None, None, "Endpoint to listen on [default: host and port of our own peer]"],
        [
            "advertise",
            None,
            None,
            "HOST:PORT where clients reach this node when it is primary "
            "[default: host and client port of our own peer]",
        ],
        ["data-dir", None, None, "Directory for the ballot [default: kevy-elect-<node-id>]"],
        [
            "http",
            None,
            None,
            "Endpoint for GET /status, such as tcp:8101:interface=127.0.0.1 [default: off]",
        ],
        ["run-primary", None, None, "Command to run while this node is primary [default: none]"],
        [
            "stop-grace",
            None,
            None,
            f"Seconds from its SIGTERM to its SIGKILL [default: {DEFAULT_STOP_GRACE:g}]",
        ],
        [
            "on-exit",
            None,
            None,
            f"If it ends by itself: {_ON_EXIT} the node [default: {OnExit.RESTART.value}]",
        ],
        ["on-change", None, None, "Command to run at the start and at each change [default: none]"],
        [
            "offset-command",
            None,
            None,
            "Command that prints how much data this copy has, run each second [default: none]",
        ],
        *_timing_parameters(),
    ]
    optFlags: ClassVar[list[list[object]]] = [
        ["witness", None, "Vote, but never become primary"],
        ["shell", None, "Have /bin/sh run the commands"],
    ]

    cluster: Cluster
    timings: ElectConfig
    commands: dict[str, tuple[str, ...]]
    stop_grace: float
    on_exit: OnExit

    def __init__(self) -> None:
        super().__init__()
        self._peers: list[str] = []

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Raises UsageError for input that is wrong. Below twistd or twist it ends the process
        instead, with that one message and status 1: they print all their own usage, and
        end with 64 or, some, with 0."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            hint = "" if str(error).startswith("--") else "; see --help"
            sys.exit(f"kevy-elect: {error}{hint}")

    def parseArgs(self, *extra: str) -> None:
        """Raises UsageError: there are options only."""
        if extra:
            raise usage.UsageError(
                f"unexpected {extra[0]!r}: write the peers without spaces, or in quotes"
            )

    def opt_peers(self, peers: str) -> None:
        """Every member, this one too: id@host:elect_port[:client_port],... (repeatable)"""
        self._peers += [peer for peer in peers.split(",") if peer.strip()]

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"kevy-elect {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Raises UsageError, naming option, value and remedy, unless all is well."""
        for required, given in (("node-id", self["node-id"]), ("peers", self._peers)):
            if not given:
                raise usage.UsageError(f"--{required} is missing; see --help")
        with _blaming("--peers"):
            members = tuple(PeerAddr.parse(peer) for peer in self._peers)
        ids = [member.node_id for member in members]
        if self["node-id"] not in ids:
            raise usage.UsageError(
                f"--node-id {self['node-id']}: not among --peers, which name {', '.join(ids)}. "
                "Correct it, or add this node: --peers lists every member"
            )
        with _blaming("--peers"):
            self.cluster = Cluster(self["node-id"], members)
        self.timings = self._read_timings()
        if self["advertise"] is not None:
            with _blaming("--advertise"):
                parse_advertised(self["advertise"])
        else:
            with _blaming("--peers", remedy="give --advertise HOST:PORT"):
                parse_advertised(self.cluster.me.client_addr)
        for option in ("listen", "http"):
            if self[option] is not None:
                _check_endpoint(option, self[option])
        self._read_commands()
        if self["data-dir"] is None:
            self["data-dir"] = f"kevy-elect-{self['node-id']}"

    def _read_commands(self) -> None:
        self.commands = {}
        for option in COMMANDS:
            text = self[option]
            if text is not None:
                with _blaming(f"--{option} {text!r}"):
                    self.commands[option] = split_command(text, bool(self["shell"]))
        if self["shell"] and not self.commands:
            raise usage.UsageError(f"--shell: no command to run; give --{', --'.join(COMMANDS)}")
        for option in ("stop-grace", "on-exit"):
            if self[option] is not None and "run-primary" not in self.commands:
                raise usage.UsageError(
                    f"--{option} {self[option]}: there is no --run-primary that it could be about; "
                    "give that too, or leave this out"
                )
        if "run-primary" in self.commands:
            self._read_primary_options()

    def _read_primary_options(self) -> None:
        if self["witness"]:
            raise usage.UsageError(
                f"--run-primary {self['run-primary']!r}: a --witness is never primary; "
                "leave one of them out"
            )
        text = self["on-exit"]
        try:
            self.on_exit = OnExit.RESTART if text is None else OnExit(text)
        except ValueError:
            raise usage.UsageError(f"--on-exit {text}: choose one of {_ON_EXIT}") from None
        self.stop_grace = self._read_stop_grace()

    def _read_stop_grace(self) -> float:
        text = self["stop-grace"]
        try:
            grace = DEFAULT_STOP_GRACE if text is None else float(text)
        except ValueError:
            raise usage.UsageError(
                f"--stop-grace {text}: not a number of seconds, such as 0.5"
            ) from None
        longest = longest_stop_grace(self.timings)
        shown = f"{grace:g} (the default)" if text is None else text
        if longest < 0:
            raise usage.UsageError(
                f"--stop-grace {shown}: these timings leave no time to stop --run-primary "
                "before the lease ends; raise --down-after or lower --hb-interval"
            )
        if not 0 <= grace <= longest:
            raise usage.UsageError(
                f"--stop-grace {shown}: must be between 0 and {longest:g} s with these timings, "
                "so that the command is dead before the lease ends; "
                "correct it, raise --down-after or lower --hb-interval"
            )
        return grace

    def _read_timings(self) -> ElectConfig:
        given = {}
        for option, _ in TIMINGS:
            text = self[option]
            if text is not None:
                try:
                    given[option.replace("-", "_")] = float(text)
                except ValueError:
                    raise usage.UsageError(
                        f"--{option} {text}: not a number of seconds, such as 0.5"
                    ) from None
        try:
            return ElectConfig(**given)
        except ConfigError as error:
            raise usage.UsageError(_in_options(str(error))) from None


@contextmanager
def _blaming(option: str, remedy: str | None = None) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise usage.UsageError(f"{option}: {error}" + (f"; {remedy}" if remedy else "")) from None


def _in_options(text: str) -> str:
    """Name the settings in `text` as the command line does, longest first."""
    for name in sorted((field.name for field in attrs.fields(ElectConfig)), key=len, reverse=True):
        text = text.replace(f" {name}", f" --{name.replace('_', '-')}")
        if text.startswith(name):
            text = f"--{name.replace('_', '-')}{text[len(name) :]}"
    return text


def _check_endpoint(option: str, description: str) -> None:
    from twisted.internet import reactor

    try:
        serverFromString(reactor, description)
    except Exception as error:  # whatever parser the description names
        raise usage.UsageError(
            f"--{option} {description}: no endpoint ({error}); "
            "write for instance tcp:7101 or tcp:7101:interface=127.0.0.1"
        ) from None


class StartError(SystemExit, Exception):
    """The node cannot start. Ends the process with status 1 and no traceback; being an
    Exception too, it lets a daemonizing twistd pass its text on to the terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 1


class Node(MultiService):
    """The election and, if asked for, its status page and commands; explains why it cannot
    start."""

    log = Logger()

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.election = ElectionService(
            options.cluster,
            data_dir=options["data-dir"],
            config=options.timings,
            listen=options["listen"],
            advertise=options["advertise"],
            witness=bool(options["witness"]),
        )
        self._data_dir = options["data-dir"]
        self._listening: list[tuple[str, IService]] = [
            (f"--listen {self.election.listen}", self.election)
        ]
        if options["http"] is not None:
            from kevy_elect.status import site

            page = strports.service(options["http"], site(self.election))
            self._listening.append((f"--http {options['http']}", page))
        self._commands = list(_commands(options, self.election))
        # Stopped in reverse: the hook outlives the election, and so hears of its end.
        for child in (*self._commands, *(page for _, page in self._listening)):
            child.setServiceParent(self)

    def privilegedStartService(self) -> None:
        use_monotonic_time()
        Service.privilegedStartService(self)
        for option, child in self._listening:
            with self._explaining(option):
                child.privilegedStartService()

    def startService(self) -> None:
        use_monotonic_time()
        Service.startService(self)
        for option, child in self._listening:
            with self._explaining(option):
                child.startService()
        for child in self._commands:
            child.startService()

    @contextmanager
    def _explaining(self, option: str) -> Iterator[None]:
        try:
            yield
        except BallotError as error:
            raise self._start_error(f"--data-dir {self._data_dir}: {error}") from None
        except CannotListenError as error:
            problem = getattr(error.socketError, "strerror", None) or error.socketError
            if getattr(error.socketError, "errno", None) == errno.EADDRINUSE:
                remedy = "end what holds that port, or choose another"
            else:
                remedy = "choose an address of this machine"
            raise self._start_error(f"{option}: {problem}; {remedy}") from None
        except (ElectError, OSError, OverflowError, AttributeError) as error:
            # Endpoints check their descriptions late, and not all kinds can listen here.
            raise self._start_error(f"{option}: {error}; choose another endpoint") from None

    def _start_error(self, text: str) -> StartError:
        self.log.critical("cannot start: {text}", text=text)
        return StartError(text)


def _commands(options: Options, election: ElectionService) -> Iterator[IService]:
    """The services that run the commands of `options`."""
    commands = options.commands
    if "on-change" in commands:
        yield Hook(election, commands["on-change"])
    if "offset-command" in commands:
        yield OffsetCommand(election, commands["offset-command"])
    if "run-primary" in commands:
        command = Command(
            election,
            commands["run-primary"],
            stop_grace=options.stop_grace,
            on_exit=options.on_exit,
        )
        yield PrimaryOnly(election, command, stop_grace=whole_grace(options.stop_grace))


def makeService(options: Options) -> Node:
    """What twistd runs."""
    return Node(options)
