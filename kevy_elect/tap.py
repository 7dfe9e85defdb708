"""The command line: `twistd kevy-elect` and `twist kevy-elect`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NoReturn

from twisted.application import strports
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage

from kevy_elect import __version__
from kevy_elect.children.change_hook import Hook
from kevy_elect.children.health_check import HealthCheck
from kevy_elect.children.offset_command import OffsetCommand
from kevy_elect.children.primary_command import Command
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.config import Cluster, ElectConfig, parse_host
from kevy_elect.data.commands import Commands
from kevy_elect.data.server import Guard
from kevy_elect.data.server_command import ServerCommand
from kevy_elect.errors import BallotError, ElectError
from kevy_elect.grace import OnExit, whole_grace
from kevy_elect.ops.admin import Admin
from kevy_elect.ops.admin_peers import AdminPeers
from kevy_elect.ops.admin_port import AdminPort
from kevy_elect.ops.agent_check import AgentCheckFactory
from kevy_elect.ops.history import History
from kevy_elect.ops.log import LogLines
from kevy_elect.ops.maintenance import Maintenance
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.ops.port import Port
from kevy_elect.ops.reload import Reload
from kevy_elect.ops.systemd import notifiers
from kevy_elect.service.election import ElectionService, use_monotonic_time
from kevy_elect.service.last_will import run_below
from kevy_elect.service.wrapper import VARIABLE
from kevy_elect.settings import resolve as configuration
from kevy_elect.settings.links import read_password
from kevy_elect.settings.pages import token_warning
from kevy_elect.settings.pem import ClientTls
from kevy_elect.settings.resolve import Configuration, MistakesError
from kevy_elect.settings.table import NAMED, SETTINGS, did_you_mean
from kevy_elect.transport.security import security_of
from kevy_elect.transport.tls_streams import TlsFactory


class Options(usage.Options):
    """The options of `twistd kevy-elect`, which make a configuration with environment and file.

    After parsing, the item of each option has the value in force, and `configuration` has all of
    them. `cluster`, `timings`, `commands` (as words, by the option's name), `stop_grace` (seconds)
    and `on_exit` are parts of it.
    """

    synopsis = "[options]"
    longdesc = (
        "Elects one primary among the peers, replaces it when it dies, and guarantees that "
        "no two write at once. Run one beside each copy of your service: "
        "twistd -n --pidfile= kevy-elect --node-id a "
        "--peers a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103. "
        "Each option may be given as an environment variable too, such as KEVY_ELECT_NODE_ID, "
        "or in the file of --config; kevy-elect check-config shows the result."
    )
    optParameters: ClassVar[list[list[object]]] = [
        [each.name, None, None, each.help]
        for each in SETTINGS
        if each.metavar and not each.repeatable
    ]
    optFlags: ClassVar[list[list[object]]] = [
        [each.name, None, each.help] for each in SETTINGS if not each.metavar
    ]

    configuration: Configuration
    cluster: Cluster
    timings: ElectConfig
    commands: dict[str, tuple[str, ...]]
    stop_grace: float
    on_exit: OnExit

    def __init__(self) -> None:
        super().__init__()
        self._lists: dict[str, list[str]] = {}
        self._given: dict[str, str] = {}

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Raises UsageError for invalid input, with one mistake on each line. Below twistd or
        twist, it prints these lines and ends the process with status 1, because those programs
        would print their own usage and end with status 64 or 0."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            hint = "" if isinstance(error.__cause__, MistakesError) else self._hint(str(error))
            sys.exit("\n".join(f"kevy-elect: {line}{hint}" for line in str(error).splitlines()))

    def _hint(self, error: str) -> str:
        words = [word for word in error.split() if word.startswith("--")]
        meant = did_you_mean(words[0], [each.option for each in SETTINGS]) if words else ""
        return f"{meant}; see --help"

    def parseArgs(self, *extra: str) -> None:
        """Raises UsageError for any word that is no option."""
        if extra:
            raise usage.UsageError(
                f"unexpected {extra[0]!r}: write the peers without spaces, or in quotes"
            )

    def opt_peers(self, peers: str) -> None:
        self._lists.setdefault("peers", []).append(peers)

    def opt_http_peers(self, pages: str) -> None:
        self._lists.setdefault("http-peers", []).append(pages)

    def opt_http_host(self, names: str) -> None:
        self._lists.setdefault("http-host", []).append(names)

    def opt_peer_keys(self, keys: str) -> None:
        self._lists.setdefault("peer-keys", []).append(keys)

    def opt_sentinel_peers(self, ports: str) -> None:
        self._lists.setdefault("sentinel-peers", []).append(ports)

    def opt_admin_peers(self, ports: str) -> None:
        self._lists.setdefault("admin-peers", []).append(ports)

    def opt_priorities(self, ranks: str) -> None:
        self._lists.setdefault("priorities", []).append(ranks)

    opt_priorities.__doc__ = NAMED["priorities"].help
    opt_peers.__doc__ = NAMED["peers"].help
    opt_http_peers.__doc__ = NAMED["http-peers"].help
    opt_sentinel_peers.__doc__ = NAMED["sentinel-peers"].help
    opt_admin_peers.__doc__ = NAMED["admin-peers"].help
    opt_http_host.__doc__ = NAMED["http-host"].help
    opt_peer_keys.__doc__ = NAMED["peer-keys"].help

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"kevy-elect {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Make the configuration. Raises UsageError with option, value and remedy of each
        mistake."""
        for setting in SETTINGS:
            if setting.name in self._lists:
                self._given[setting.name] = ",".join(self._lists[setting.name])
            elif not setting.metavar and self[setting.name]:
                self._given[setting.name] = "true"
            elif setting.metavar and self.get(setting.name) is not None:
                self._given[setting.name] = self[setting.name]
        try:
            found = configuration.read(self._given, os.environ)
        except MistakesError as error:
            raise usage.UsageError(str(error)) from error
        self.configuration = found
        self.update(found.values)
        self.cluster, self.timings, self.commands = found.cluster, found.timings, found.commands
        self.stop_grace, self.on_exit = self["stop-grace"], self["on-exit"]

    def reread(self) -> Configuration:
        """Read the configuration again, with the same options. Raises MistakesError."""
        file = {"config": self["config"]} if self["config"] is not None else {}
        return configuration.read(self._given | file, os.environ)


class StartError(SystemExit, Exception):
    """The node cannot start. It ends the process with status 1 and without a traceback. It is also
    an Exception, so that a daemonizing twistd prints its text on the terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 1


class Node(MultiService):
    """The election, and the services beside it that the options request. It reports why it cannot
    start."""

    log = Logger()

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.log_lines = LogLines(
            options["log-level"], options["log-format"], options.cluster.node_id
        )
        self.election = ElectionService(
            options.cluster,
            data_dir=options["data-dir"],
            config=options.timings,
            listen=options["listen"],
            advertise=options["advertise"],
            witness=options["witness"],
            priorities=options["priorities"],
            cluster_name=options["cluster-name"] or "",
            handover=not options["no-handover"],
            security=security_of(
                options.configuration.links, [peer.node_id for peer in options.cluster.peers]
            ),
        )
        self._data_dir = options["data-dir"]
        self._warning = token_warning(options)
        history = History(self.election)
        maintenance = Maintenance(self.election)
        access = PageAccess(options.configuration.pages)
        privileged = options["allow-new-privileges"]
        on_change, asked, checked = (
            options.commands.get(name, ())
            for name in ("on-change", "offset-command", "check-command")
        )
        hook = Hook(self.election, on_change, privileged=privileged)
        store = _store(options, self.election)
        offset = OffsetCommand(self.election, () if store else asked, privileged=privileged)
        check = HealthCheck(
            self.election,
            checked,
            fall=options["check-fall"],
            rise=options["check-rise"],
            privileged=privileged,
        )
        reload = Reload(
            options.configuration,
            options.reread,
            election=self.election,
            hook=hook,
            offset=store or offset,
            check=check,
            log_lines=self.log_lines,
            access=access,
        )
        self._listening = [
            (f"--listen {self.election.listen}", self.election),
            *_pages(options, self.election, access),
            *_admin(options, self.election, history, maintenance),
        ]
        self._beside: list[IService] = [
            hook,
            offset,
            check,
            *([reload] if options["config"] is not None else []),
            *_data(options, self.election, store),
            *_primary_command(options, self.election),
            *notifiers(self.election, os.environ),
            maintenance,
            *_failback(options, self.election, access),
        ]
        # They stop in reverse order: the hook stops after the election, and runs at its end.
        for child in (*self._beside, *(service for _, service in self._listening)):
            child.setServiceParent(self)

    def privilegedStartService(self) -> None:
        use_monotonic_time()
        self.log_lines.begin()
        if self._warning is not None:
            self.log.warn("{warning}", warning=self._warning)
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
        for child in self._beside:
            with self._explaining("--data-dir"):
                child.startService()

    def stopService(self) -> Deferred[object]:
        """Stop the election first: its handover stops the command, and the hook runs at its end."""
        self.running = False
        return self.election.stopService().addCallback(lambda _: MultiService.stopService(self))

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
            # Some endpoints check their descriptions late, and some kinds cannot listen here.
            raise self._start_error(f"{option}: {error}; choose another endpoint") from None

    def _start_error(self, text: str) -> StartError:
        self.log.critical("cannot start: {text}", text=text)
        return StartError(text)


def _page_urls(options: Options) -> dict[str, str]:
    """The URLs of the members' pages, with TLS if this node uses it."""
    scheme = "http" if options["http-cert"] is None else "https"
    peers = options["http-peers"].items()
    return {node_id: f"{scheme}://{address}" for node_id, address in peers}


def _pages(
    options: Options, election: ElectionService, access: PageAccess
) -> Iterator[tuple[str, IService]]:
    """The services that listen, each with the option that requests it."""
    if options["http"] is not None:
        from kevy_elect.ops.http import site

        urls = _page_urls(options)
        known = {parse_host(address) for address in options["http-peers"].values()}
        pages = site(election, urls, hosts={*known, *options["http-host"]}, access=access)
        service: IService
        if access.present.token is None:
            service = Port("--http", options["http"], pages, reactor=election.reactor)
        else:
            service = strports.service(options["http"], pages)
        yield f"--http {options['http']}", service
    if options["agent-check"] is not None:
        agent = AgentCheckFactory(election)
        port = Port("--agent-check", options["agent-check"], agent, reactor=election.reactor)
        yield f"--agent-check {options['agent-check']}", port
    if options["sentinel"] is not None:
        yield f"--sentinel {options['sentinel']}", _sentinel(options, election, access)


def _sentinel(options: Options, election: ElectionService, access: PageAccess) -> IService:
    from kevy_elect.ops.sentinel import Sentinel
    from kevy_elect.ops.sentinel_port import SentinelFactory

    sentinel = Sentinel(election, options["sentinel-name"], options["sentinel-peers"])
    path = options["sentinel-password-file"]
    password = None if path is None else read_password(path)
    factory = SentinelFactory(election, sentinel, password)
    within = TlsFactory(factory, lambda: access.present.sentinel)
    service: IService = strports.service(options["sentinel"], within)
    return service


def _admin(
    options: Options, election: ElectionService, history: History, maintenance: Maintenance
) -> Iterator[tuple[str, IService]]:
    if options["admin"] is not None:
        peers = AdminPeers(election, options["admin-peers"])
        pages = _page_urls(options)
        admin = Admin(election, options["admin"], pages, history, peers, maintenance)
        yield f"--admin {options['admin']}", admin
        if options["admin-listen"] is not None:
            port = AdminPort(admin, options["admin-listen"])
            yield f"--admin-listen {options['admin-listen']}", port


def _failback(
    options: Options, election: ElectionService, access: PageAccess
) -> Iterator[IService]:
    if options["failback"] is not None:
        from kevy_elect.ops.failback import LOOK_EVERY, FailbackService
        from kevy_elect.ops.page_poll import Others

        pages = Others(
            election.cluster,
            election.config,
            _page_urls(options),
            reactor=election.reactor,
            clock=election.now,
            answered=lambda node_id: None,
            access=access,
            every=LOOK_EVERY,
        )
        yield FailbackService(election, options["priorities"], pages, options["failback"])


def _store(options: Options, election: ElectionService) -> Commands | None:
    if "promote" not in options.commands:
        return None
    privileged = options["allow-new-privileges"]
    return Commands(election, options.commands, privileged=privileged)


def _data(
    options: Options, election: ElectionService, store: Commands | None
) -> Iterator[IService]:
    if store is not None:
        from kevy_elect.data.guarded import CommandGuard
        from kevy_elect.data.service import DataService

        yield DataService(election, store, CommandGuard(store, reactor=election.reactor))
    elif options["redis"] is not None:
        yield _redis(options, election)


def _redis(options: Options, election: ElectionService) -> IService:
    from kevy_elect.data.guarded import GuardProcess
    from kevy_elect.data.redis import Redis
    from kevy_elect.data.service import DataService

    user, path = options["redis-user"], options["redis-password-file"]

    def credentials() -> list[str | bytes]:
        """Read the password for each connection, because it may change."""
        return [] if path is None else [*([user] if user else []), read_password(path)]

    deadline = max(0.2, min(1.0, election.config.down_after / 4))
    redis = Redis(
        options["redis"],
        reactor=election.reactor,
        deadline=deadline,
        credentials=credentials,
        tls=_redis_tls(options),
    )
    guard: Guard = GuardProcess(redis, reactor=election.reactor)
    if "redis-command" in options.commands:
        guard = ServerCommand(
            options.commands["redis-command"],
            guard,
            node_id=election.cluster.node_id,
            reactor=election.reactor,
            privileged=options["allow-new-privileges"],
        )
    service: IService = DataService(election, redis, guard)
    return service


def _redis_tls(options: Options) -> ClientTls | None:
    if (authority := options["redis-tls-ca"]) is None:
        return None
    certificate, key = options["redis-tls-cert"], options["redis-tls-key"]
    return ClientTls(authority=authority, certificate=certificate, key=key)


def _primary_command(options: Options, election: ElectionService) -> Iterator[IService]:
    if "run-primary" in options.commands:
        command = Command(
            election,
            options.commands["run-primary"],
            stop_grace=options.stop_grace,
            on_exit=options.on_exit,
            privileged=options["allow-new-privileges"],
        )
        yield PrimaryOnly(election, command, stop_grace=whole_grace(options.stop_grace))


def makeService(options: Options) -> Node:
    """The service for twistd. With --last-will, the process becomes a wrapper that starts the same
    program again below itself."""
    if options["last-will"] and VARIABLE not in os.environ:
        run_below([sys.executable, *sys.orig_argv[1:]])
    return Node(options)
