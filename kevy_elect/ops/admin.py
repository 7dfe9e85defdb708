"""The operator's commands to a node, over a socket, with one JSON object per line.

A request is `{"command": NAME, ...arguments}`. Each line of the answer is an object, too:
`{"step": TEXT, "at": SECONDS}` as a handover proceeds, `{"event": {...}}` for each requested
event, and last `{"ok": true, ...}` or `{"ok": false, "error": TEXT}`. Every client that can
connect may command: keep the socket private.

With `"on": ID` the request is forwarded to that member. Without it, `switchover` and `step-down`
are forwarded to the primary. Both use the members' own endpoints (`admin_port`). A request that
was forwarded is not forwarded again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin

from kevy_elect.errors import ConfigError, ElectError
from kevy_elect.messages import Role
from kevy_elect.ops.admin_peers import AdminPeers
from kevy_elect.ops.history import History, recent
from kevy_elect.ops.maintenance import Maintenance
from kevy_elect.ops.own_status import own_status
from kevy_elect.service.election import ElectionService
from kevy_elect.service.handover import Step
from kevy_elect.settings.admin import (
    DEFAULT_PATIENCE,
    DEFAULT_REST,
    LOCAL,
    PRIMARYS,
    parse_socket,
)
from kevy_elect.transport.listener import Listener
from kevy_elect.transport.log_limit import Sparing

MAX_REQUEST: Final = 4096
"""The most bytes of a request."""
MAX_OPERATORS: Final = 16
"""The most connections at a time."""
MAX_SECONDS: Final = 1e9
"""The bound of every number in a request. Each command also has bounds of its own."""
IDLE: Final = 10.0
"""Seconds within which a request must arrive."""

MEMBER_LINES: Final = 20
"""The most requests of one other member that are logged and kept in ten seconds."""
MAX_RESULT: Final = 1000
"""The most characters of a result that are logged."""
TOLD_WITHIN: Final = 5.0
"""Seconds that each member may take to answer a command for all members."""
SLACK: Final = 60.0
"""Seconds that another member may take to answer, in addition to the requested time."""

Answer = dict[str, Any]
Say = Callable[[Answer], object]
"""Sends a part of the answer to the operator before its end."""


@attrs.frozen
class _Command:
    run: Callable[..., Awaitable[Answer]]
    arguments: Mapping[str, type | tuple[type, ...]]


async def _status(node: Admin, say: Say) -> Answer:
    return {"status": own_status(node.election).as_object(), "http_peers": dict(node.http_peers)}


async def _events(
    node: Admin, say: Say, last: int | None = None, since: float | None = None
) -> Answer:
    """Send the events that the node remembers, and those of its history on request."""
    if not ((since or 0) >= 0 and (last or 0) >= 0):  # NaN is neither
        raise ConfigError("events: 'last' and 'since' must not be below 0")
    events = recent(node.election)
    if node.history is not None and (since is not None or (last or 0) > len(events)):
        events = await node.history.read(math.inf if since is None else since)
    elif since is not None:
        events = [event for event in events if event.ago <= since]
    for event in events if last is None else events[max(0, len(events) - last) :]:
        say({"event": attrs.asdict(event)})
    return {"ok": True}


async def _step_down(node: Admin, say: Say, rest: float = DEFAULT_REST) -> Answer:
    election = node.election
    if not election.state_snapshot().can_write:
        raise ConfigError(f"{election.cluster.node_id} is not the primary with its lease")
    if not 0 <= rest <= 86400:
        raise ConfigError(f"a rest of {rest:g} s: give seconds from 0 to 86400")
    await election.step_down(rest, "the operator had it step down")
    return {"text": f"{election.cluster.node_id} stepped down and rests for {rest:g} s"}


async def _switchover(
    node: Admin,
    say: Say,
    target: str | None = None,
    timeout: float = DEFAULT_PATIENCE,
    reason: str = "",
) -> Answer:
    if not 0 < timeout <= 86400:
        raise ConfigError(f"a timeout of {timeout:g} s: give seconds above 0, up to 86400")

    def tell(step: Step) -> None:
        say({"step": step.text, "at": step.at})

    outcome = await node.election.switch_over(target, patience=timeout, tell=tell, reason=reason)
    given = attrs.asdict(outcome)
    done = given.pop("done")
    return given if done else given | {"ok": False, "error": outcome.text}


async def _pause(node: Admin, say: Say, seconds: float) -> Answer:
    node.election.pause(seconds)
    return {"text": f"{node.election.cluster.node_id} does not stand for {seconds:g} s"}


async def _resume(node: Admin, say: Say) -> Answer:
    node.election.resume()
    return {"text": f"{node.election.cluster.node_id} stands for election"}


async def _maintenance(node: Admin, say: Say, seconds: float) -> Answer:
    me = node.election.cluster.node_id
    if node.maintenance is None:
        raise ConfigError(f"{me} has no place to keep its maintenance")
    node.maintenance.begin(seconds)
    state = f"is in maintenance for {seconds:g} s" if seconds else "is in no maintenance"
    return {"text": f"{me} {state}"}


async def _offset(node: Admin, say: Say, offset: int) -> Answer:
    node.election.set_repl_offset(offset)
    return {"text": f"{node.election.cluster.node_id} is at offset {node.election.repl_offset}"}


_NUMBER = (int, float)
COMMANDS: Final[Mapping[str, _Command]] = {
    "status": _Command(_status, {}),
    "events": _Command(_events, {"last": int, "since": _NUMBER}),
    "step-down": _Command(_step_down, {"rest": _NUMBER}),
    "switchover": _Command(_switchover, {"target": str, "timeout": _NUMBER, "reason": str}),
    "pause": _Command(_pause, {"seconds": _NUMBER}),
    "resume": _Command(_resume, {}),
    "maintenance": _Command(_maintenance, {"seconds": _NUMBER}),
    "offset": _Command(_offset, {"offset": int}),
}
_NOBODY: Final = ""
"""The cause of log lines about invalid requests."""
_QUESTIONS: Final = ("status", "events")
"""Commands that change nothing, and are not logged."""
_REQUIRED: Final = {"pause": "seconds", "maintenance": "seconds", "offset": "offset"}


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """The command of a request and its arguments. Raises ConfigError with the mistake."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError("the request is no JSON") from None
    if not isinstance(request, dict):
        raise ConfigError("the request is no JSON object")
    name = request.pop("command", None)
    if not isinstance(name, str) or name not in COMMANDS:
        raise ConfigError(f"no such command; there are {', '.join(COMMANDS)}")
    known = dict(COMMANDS[name].arguments)
    if name not in LOCAL:
        known["on"] = str
    for argument, value in request.items():
        wanted = known.get(argument)
        # A bool is also an int.
        if wanted is None or not isinstance(value, wanted) or isinstance(value, bool):
            raise ConfigError(f"{name} takes no such {argument!r}")
        if wanted is _NUMBER and isinstance(value, _NUMBER) and abs(value) > MAX_SECONDS:
            raise ConfigError(f"{name}: {argument!r} is more than {MAX_SECONDS:g} s")
    if name in _REQUIRED and _REQUIRED[name] not in request:
        raise ConfigError(f"{name} needs {_REQUIRED[name]!r}")
    return name, request


class _Operator(LineOnlyReceiver, TimeoutMixin):
    """One request and its answer."""

    delimiter = b"\n"
    MAX_LENGTH = MAX_REQUEST
    transport: Any
    log = Logger()

    def __init__(self, node: Admin) -> None:
        self._node = node
        self._asked = False

    def connectionMade(self) -> None:
        self._node.listener.opened(self)
        self.setTimeout(IDLE)

    def connectionLost(self, reason: object = None) -> None:
        self.setTimeout(None)
        self._node.listener.lost(self)

    def end(self) -> None:
        self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        if self._asked:
            return
        self._asked = True
        self.setTimeout(None)
        answering = Deferred.fromCoroutine(self._node.answer(line, self._tell))
        answering.addCallback(self._tell)
        answering.addErrback(lambda f: self.log.failure("an operator's command failed", f))
        answering.addBoth(lambda _: self.end())

    def _tell(self, answer: Answer) -> None:
        self.sendLine(json.dumps(answer).encode())


class _Operators(ServerFactory):
    noisy = False

    def __init__(self, node: Admin) -> None:
        self._node = node

    def buildProtocol(self, addr: IAddress | None) -> _Operator | None:
        full = len(self._node.listener) >= MAX_OPERATORS
        return None if full else _Operator(self._node)


class Admin(Service):
    """Takes an operator's commands for `election` on an endpoint.

    `http_peers` are the base URLs of other members' pages, by their ids, for clients that ask.
    `history` has the events that the node itself no longer remembers, and keeps the operator's
    commands. `peers` forwards commands to other members.
    """

    log = Logger()

    def __init__(
        self,
        election: ElectionService,
        description: str,
        http_peers: Mapping[str, str] | None = None,
        history: History | None = None,
        peers: AdminPeers | None = None,
        maintenance: Maintenance | None = None,
    ) -> None:
        """Raises ConfigError for an invalid description of a Unix socket."""
        self.election = election
        self.description = description
        self.http_peers = http_peers or {}
        self.history = history
        self.peers = peers or AdminPeers(election, {})
        self.maintenance = maintenance
        self._sparing = Sparing()
        self._at_work = ""  # the member whose forwarded command is in progress
        self.listener = Listener[_Operator]()
        self._is_private = parse_socket(description) is not None

    def startService(self) -> None:
        """Listen. Raises as `Listener.listen` does."""
        super().startService()
        self.listener.listen(self.description, _Operators(self), self.election.reactor)
        if not self._is_private:
            self.log.warn(
                "{node}: operators' commands are taken on {where}, from whoever reaches it",
                node=self.election.cluster.node_id,
                where=self.description,
            )

    def stopService(self) -> Deferred[None]:
        """Fires when the socket and all connections are closed."""
        super().stopService()
        return self.listener.close()

    async def answer(self, line: bytes, say: Say, member: str = "") -> Answer:
        """Execute a request and return the last object of the answer; `say` gets the others.

        Another `member` may have forwarded the request. One such command runs at a time.
        """
        try:
            name, arguments = _parse(line)
        except ConfigError as error:
            if self._sparing.line(_NOBODY, self.election.now()) is not None:
                self.note(str(error), member)
            return {"ok": False, "error": str(error)}
        try:
            on = arguments.pop("on", None)
            where = self._where(name, on, member)
            if name not in _QUESTIONS:
                place = f" on {where}" if where else ""
                given = [f"{argument}={value!r}" for argument, value in arguments.items()]
                self.note(" ".join(["asked to", name, *given]) + place, member)
            if where:
                answer = await self._hand_on(where, name, arguments, say)
            else:
                with self._one_at_a_time(name, member):
                    answer = await COMMANDS[name].run(self, say, **arguments)
                if name == "maintenance" and on is None and not member:
                    answer = await self._tell_all({"command": name, **arguments}, say, answer)
        except ElectError as error:
            answer = {"ok": False, "error": str(error)}
        answer = {"ok": True} | answer
        result = answer.get("error") or answer.get("text")
        if result:
            self.note(str(result)[:MAX_RESULT], member)
        return answer

    def _where(self, name: str, on: str | None, member: str) -> str:
        """The other member that must execute a command; empty for this node. Raises ConfigError if
        that member cannot be reached."""
        me, snapshot = self.election.cluster.node_id, self.election.state_snapshot()
        if member:
            if on is not None or name in LOCAL:
                raise ConfigError(f"{me} does not take this from another member")
            return ""
        if on == me:
            return ""
        if on is None:
            if name not in PRIMARYS or snapshot.role is Role.PRIMARY:
                return ""
            on = snapshot.current_primary
            if on is None or on == me:
                raise ConfigError(f"{me} is not the primary, and knows none at the moment")
        elif on not in self.election.cluster.ids:
            members = ", ".join(self.election.cluster.ids)
            raise ConfigError(f"{on!r} is no member; there are {members}")
        if on not in self.peers:
            why = f"{me} is not the primary, {on} is" if name in PRIMARYS else f"this is {me}"
            raise ConfigError(
                f"{why}: run this on {on}'s machine, or have {me} ask it, by --admin-listen on "
                f"{on} and --admin-peers on {me}"
            )
        return on

    async def _hand_on(
        self, member: str, name: str, arguments: Mapping[str, Any], say: Say
    ) -> Answer:
        patience = SLACK + min(86400.0, abs(arguments.get("timeout", 0.0)))
        request = {"command": name, **arguments}
        return await self.peers.ask(member, request, say, patience)

    async def _tell_all(self, request: Mapping[str, Any], say: Say, mine: Answer) -> Answer:
        """Send the request to all other members, and report each answer."""
        say({"told": mine["text"]})
        others = [peer.node_id for peer in self.election.cluster.peers]
        asked = [Deferred.fromCoroutine(self._tell_one(each, request)) for each in others]
        missing = []
        for member, each in zip(others, asked, strict=True):
            answer = await each
            say({"told": str(answer.get("text") or answer.get("error"))})
            if not answer["ok"]:
                missing.append(member)
        if missing:
            return {"ok": False, "error": f"run it on the machine of {', '.join(missing)}, too"}
        return {"text": "all members were told"}

    async def _tell_one(self, member: str, request: Mapping[str, Any]) -> Answer:
        if member not in self.peers:
            return {"ok": False, "error": f"{member} cannot be asked: it is not in --admin-peers"}
        try:
            return await self.peers.ask(member, request, lambda told: None, TOLD_WITHIN)
        except ElectError as error:
            return {"ok": False, "error": str(error)}

    @contextmanager
    def _one_at_a_time(self, name: str, member: str) -> Iterator[None]:
        """Raise ConfigError while another forwarded command is in progress."""
        if not member or name in _QUESTIONS:
            yield
            return
        if self._at_work:
            raise ConfigError(f"a command that {self._at_work} forwarded is in progress: try again")
        self._at_work = member
        try:
            yield
        finally:
            self._at_work = ""

    def note(self, text: str, member: str = "") -> None:
        """Log and keep an operator's command or its result, with the other member if it was
        forwarded."""
        if member and self._sparing.line(member, self.election.now(), MEMBER_LINES) is None:
            return
        who = f"operator on {member}" if member else "operator"
        self.log.info(
            "{node}: {who}: {text}", node=self.election.cluster.node_id, who=who, text=text
        )
        if self.history is not None:
            self.history.keep("operator", f"{who}: {text}")
