"""The driver of a simulated data server: the same decisions as `kevy_elect.data.service`."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol

from kevy_elect.driving import (
    Frozen,
    Report,
    State,
    assignment_of,
    deviation,
    first_in_sync,
    is_unseen,
    learned,
    needed,
)
from kevy_elect.elector import Elector
from kevy_elect.errors import BallotError, ElectError
from kevy_elect.local_server import (
    FREEZE,
    STAY,
    Duty,
    Histories,
    Task,
    join_offset,
)
from kevy_elect.testing.data.server import SimulatedServer, World
from kevy_elect.testing.node import SimulatedNode

DEADLINE: Final = 1.0
"""The longest time for an answer, as a part of hb_interval."""


class ServerError(ElectError):
    """The server does not answer, or gives a wrong answer."""


class Host(World, Protocol):
    """The driver's view of the cluster."""

    command_delay: float
    """The longest time for a command or its answer."""

    def order(self, node: SimulatedNode, call: Callable[[Elector, float], object]) -> None: ...
    def losing(self, node: SimulatedNode) -> None: ...
    def promoted(self, node: SimulatedNode) -> None: ...
    def note(self, who: str, text: str) -> None: ...


class _Work:
    """A task in progress. It is over when it and the tasks that it interrupted have ended."""

    def __init__(self, before: _Work | None) -> None:
        self.is_over = False
        self._ends = 1
        self._then: list[Callable[[], object]] = []
        if before is not None and not before.is_over:
            self._ends += 1
            before.when_over(self.ended)

    def when_over(self, then: Callable[[], object]) -> None:
        if self.is_over:
            then()
        else:
            self._then.append(then)

    def ended(self) -> None:
        self._ends -= 1
        if self._ends == 0:
            self.is_over = True
            for then in self._then:
                then()


Steps = Generator[Any, Any, None]


class SimulatedDriver:
    """Drives `server` for `node`, also after restarts of the node. Its record survives them.

    Names and order of its steps are those of `DataService`.
    """

    def __init__(self, node: SimulatedNode, server: SimulatedServer, host: Host) -> None:
        self.node = node
        self.server = server
        self.record = Histories()
        self._host = host
        self._held: list[Callable[[], object]] = []
        self._reset()

    def _reset(self) -> None:
        self.state = State.UNKNOWN
        self.doing: Task | None = None
        self._turn = 0
        self._rests = False
        self._work: _Work | None = None
        self._kept = STAY
        self._report: Report | None = None
        self._frozen: Report | None = None
        self._first: Report | None = None
        self._looked_at = -math.inf
        self._asking = False
        self._held.clear()

    def start(self) -> None:
        """Begin to drive the server for a node that was just started."""
        self._reset()
        self.node.machine.set_repl_offset(join_offset(self.record.newest("", "", 0), 0))
        self._loop(self.node.life)

    def wake(self) -> None:
        """Continue after a pause of the node."""
        held, self._held = self._held, []
        for each in held:
            each()

    def watch(self) -> None:
        """Act if the duty has changed."""
        self._act()

    # The duty

    @property
    def _duty(self) -> Duty:
        return self.node.elector.duty(self.node.clock())

    def _act(self) -> None:
        if self._rests or not self.node.running or self.node.paused:
            return
        duty = self._duty
        if duty == self._kept:
            self._kept = duty
        task = needed(duty, self.state, self._kept, self.doing)
        if task is None or task is self.doing:
            return
        if self.doing is None or task is Task.FREEZE:
            self._begin(task, duty)

    def _begin(self, task: Task, duty: Duty) -> None:
        self._turn += 1
        self.doing = task
        steps = {Task.FREEZE: self._freeze, Task.PROMOTE: self._promote, Task.FOLLOW: self._follow}
        before, self._work = self._work, _Work(self._work)
        doing = steps[task](self._turn, duty, before)
        self._go_on(doing, self._work, self._turn, task)

    def _go_on(self, steps: Steps, work: _Work, turn: int, task: Task, value: Any = None) -> None:
        """Run the next of these steps. Each waits for an answer, or for another task."""

        def then(value: Any) -> None:
            self._go_on(steps, work, turn, task, value)

        try:
            wanted = steps.throw(value) if isinstance(value, ElectError) else steps.send(value)
        except StopIteration:
            self._done(turn, task)
            work.ended()
        except (ServerError, BallotError) as error:
            if turn == self._turn:
                self._lose(str(error))
            self._done(turn, task)
            work.ended()
        else:
            if isinstance(wanted, _Work):
                wanted.when_over(lambda: then(None))
            else:
                self._ask(wanted, then)

    def _done(self, turn: int, task: Task) -> None:
        if turn != self._turn:
            return
        self.doing = None
        if self.state is not State.UNKNOWN:
            self._act()
        elif task is Task.PROMOTE:
            self._begin(Task.FREEZE, FREEZE)  # it may take writes
        else:
            self._rests = True

    def _freeze(self, turn: int, duty: Duty, before: _Work | None) -> Steps:
        overtakes = before is not None and not before.is_over
        frozen = yield self.server.freeze
        if turn == self._turn and overtakes:
            yield before
            frozen = yield self.server.freeze
        if turn == self._turn:
            self._took_frozen(frozen)

    def _took_frozen(self, frozen: Frozen) -> None:
        if frozen.after.takes_writes or frozen.after.source:
            raise ServerError("was told to freeze, and did not")
        self._learn(frozen.before)
        self.state = State.FROZEN
        self._report = self._frozen = frozen.after
        after = frozen.after
        offset = self._offset(after)
        newest = self.record.newest(after.history, after.run, after.length)
        self._order(lambda elector, now: elector.server_frozen(offset, now, newest))

    def _promote(self, turn: int, duty: Duty, before: _Work | None) -> Steps:
        if self.state is not State.FROZEN:
            yield from self._freeze(turn, duty, before)
        if turn != self._turn:
            return
        report = yield self.server.report
        if report != self._frozen:
            raise ServerError("was frozen, and is not what it was then")
        if turn != self._turn or self._duty != duty:
            return
        self._tell(report, duty)
        self.state, self._kept = State.PRIMARY, duty
        self._order(lambda elector, now: elector.server_released())
        report = yield self.server.promote
        if not report.takes_writes:
            raise ServerError("got the command to take writes, and does not")
        self._remember(report, duty.data_epoch)
        if turn == self._turn and self._duty == duty:
            self._report = report
            self.node.elector.set_repl_offset(self._offset(report))
            self._order(lambda elector, now: elector.server_promoted(now))
            self._host.promoted(self.node)

    def _follow(self, turn: int, duty: Duty, before: _Work | None) -> Steps:
        goes_on = False
        if self.state is State.UNKNOWN:
            report = yield self.server.report
            covered = self.record.covers(report.run, duty.data_epoch)
            goes_on = covered and report.source == duty.address
        if not goes_on:
            if self.state is not State.FROZEN and turn == self._turn:
                yield from self._freeze(turn, duty, before)
            report = yield self.server.report
            if turn == self._turn and report != self._frozen:
                raise ServerError("was frozen, and is not what it was then")
        if turn != self._turn or self._duty != duty:
            return
        if not goes_on:
            self._tell(report, duty)
        self._order(lambda elector, now: elector.server_released(duty.data_epoch))
        yield lambda: self.server.follow(duty.address)
        report = yield self.server.report
        if turn == self._turn:
            if report.source != duty.address:
                raise ServerError(f"got the command to follow {duty.address}, and does not")
            self.state = State.FOLLOWING
            self._kept = duty
            self._took(report)

    # The state of the server

    def _loop(self, life: int) -> None:
        if life != self.node.life:
            return
        if self.node.paused:
            self._held.append(lambda: self._loop(life))
            return
        self._look()
        host = self._host
        host.at(host.now + self.node.config.hb_interval, lambda: self._loop(life))

    def _look(self) -> None:
        self._rests = False
        self._act()
        if not self._asking:
            self._asking = True
            turn = self._turn
            self._ask(self.server.report, lambda report: self._looked(report, turn))

    def _looked(self, report: Report | ServerError, turn: int) -> None:
        self._asking = False
        if turn != self._turn or self.doing is not None:
            return
        if isinstance(report, ServerError):
            self._lose(str(report))
        elif self.state is State.UNKNOWN:
            self._report = report
        elif problem := deviation(report, self._report, self._frozen, self.state):
            self._lose(problem)
        else:
            self._took(report)
        self._act()

    def _took(self, report: Report) -> None:
        self._report = report
        self._learn(report)
        self.node.elector.set_repl_offset(self._offset(report))

    def _learn(self, report: Report) -> None:
        now, longest = self.node.clock(), self.node.config.lease_margin
        unseen = is_unseen(self.state, self._kept, self._looked_at, now, longest)
        self._looked_at = now
        if not self.node.disk.broken:
            self._first = first_in_sync(self._first, report)
            kept, duty, first = self._kept, self._duty, self._first
            self.record = learned(self.record, report, self.state, kept, duty, first, unseen=unseen)

    def _remember(self, report: Report, data_epoch: int) -> None:
        self._save(self.record.note(report.history, report.run, data_epoch))

    def _tell(self, report: Report, duty: Duty) -> None:
        note = assignment_of(report, duty, self.record.assignment)
        if not self.record.repeats(note):
            self._save(self.record.assign(note))

    def _save(self, record: Histories) -> None:
        if self.node.disk.broken:
            raise BallotError("the simulated disk refuses to save")
        self.record = record

    def epoch_of(self, report: Report) -> int:
        return self.record.epoch_of(report.history, report.run, report.length)

    def _offset(self, report: Report) -> int:
        if report.is_copying:
            return 0
        return join_offset(self.epoch_of(report), report.length)

    def _lose(self, why: str) -> None:
        known, self.state = self.state, State.UNKNOWN
        if known is not State.UNKNOWN or self.doing is Task.PROMOTE:
            self._host.losing(self.node)
            self._host.note(self.node.node_id, f"the data server {why}")
            self._order(lambda elector, now: elector.server_lost(now, why))

    def _order(self, call: Callable[[Elector, float], object]) -> None:
        self._host.order(self.node, call)

    # Commands to the server

    def _ask(self, action: Callable[[], Any], then: Callable[[Any], object]) -> None:
        """Let the server run `action`, and call `then` with its answer or a ServerError."""
        host, server, life = self._host, self.server, self.node.life
        until = host.now + DEADLINE * self.node.config.hb_interval
        open_ = [then]

        def finish(answer: Any) -> None:
            if self.node.life != life or not open_:
                return
            if self.node.paused:
                self._held.append(lambda: finish(answer))
            else:
                late = host.now > until
                open_.pop()(ServerError("gave no answer in time") if late else answer)

        def reply(answer: Any) -> None:
            host.at(host.now + host.rng.random() * host.command_delay, lambda: finish(answer))

        def arrive() -> None:
            if server.running:
                server.receive(server.run, lambda: reply(action()))
            else:
                reply(ServerError("cannot be reached"))

        host.at(host.now + host.rng.random() * host.command_delay, arrive)
        host.at(until, lambda: finish(ServerError("gave no answer in time")))
