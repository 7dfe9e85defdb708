"""SIGHUP: a running node rereads its configuration and applies what needs no restart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.application.service import Service
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from kevy_elect.children.change_hook import Hook
from kevy_elect.children.health_check import HealthCheck
from kevy_elect.errors import ConfigError
from kevy_elect.ops.log import LogLines
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.service.election import ElectionService
from kevy_elect.service.timers import timers
from kevy_elect.settings.resolve import Configuration, MistakesError, grace_problem
from kevy_elect.settings.table import NAMED, TIMINGS
from kevy_elect.settings.timing_change import step_problem
from kevy_elect.transport.security import security_of

WHY: Final = "the configuration was reread"
SPACING: Final = 0.5
"""Seconds from the end of one reading to the next one, so that signals without end do not keep the
process busy."""
MOST_MISTAKES: Final = 20
"""The most mistakes of one reading that are logged."""


class Offset(Protocol):
    """Reads how much data there is from a command."""

    def use(self, command: Sequence[str]) -> None:
        """Run another command from now on."""


class Reload(Service):
    """While it runs, SIGHUP rereads the configuration.

    Timings, keys, the protection of the pages, the hook, the offset command, the check and the log
    level change at once; other changes are logged, and need a restart. If there is a mistake,
    or the timings need more than one step (`step_problem`), nothing changes.
    """

    log = Logger()
    _KEYS: Final = frozenset({"noise-key", "peer-keys", "tls-cert", "tls-key", "tls-ca"})
    _PAGES: Final = frozenset({"http-cert", "http-key", "http-ca"})
    _SENTINEL: Final = frozenset({"sentinel-cert", "sentinel-key"})
    _CHECK: Final = frozenset({"check-command", "check-fall", "check-rise"})

    def __init__(
        self,
        present: Configuration,
        read: Callable[[], Configuration],
        *,
        election: ElectionService,
        hook: Hook,
        offset: Offset,
        check: HealthCheck,
        log_lines: LogLines,
        access: PageAccess | None = None,
    ) -> None:
        """`present` is the running configuration; `read` reads it, and raises MistakesError."""
        self._present = present
        self._read = read
        self._election = election
        self._hook = hook
        self._offset = offset
        self._check = check
        self._log_lines = log_lines
        self._access = access or PageAccess()
        self._reading = self._again = False
        self._rest: Any = None
        self._before: Any = None
        self._caught = False

    def startService(self) -> None:
        super().startService()
        if threading.current_thread() is threading.main_thread():  # only there
            reactor: Any = self._election.reactor
            self._before = signal.signal(
                signal.SIGHUP, lambda *_: reactor.callFromThread(self.reread)
            )
            self._caught = True

    def stopService(self) -> None:
        """Restore the former handler of SIGHUP."""
        super().stopService()
        if self._rest is not None and self._rest.active():
            self._rest.cancel()
            self._reading = False
        if self._caught:
            signal.signal(signal.SIGHUP, self._before or signal.SIG_DFL)
            self._caught = False

    def reread(self) -> None:
        """Read again, in a thread, because a disk may be slow and a file hard to parse; then apply
        the changes if there is no mistake. One reading runs at a time; requests meanwhile, or
        just afterwards, cause one more, SPACING seconds after it."""
        if not self.running:
            return  # the signal came while the services were stopping
        if self._reading:
            self._again = True
            return
        self._reading, self._again = True, False
        reactor: Any = self._election.reactor
        deferToThreadPool(reactor, reactor.getThreadPool(), self._read).addBoth(self._was_read)

    def _was_read(self, new: Configuration | Failure) -> None:
        if self.running:
            self._take(new)
            self._rest = timers(self._election.reactor).callLater(SPACING, self._go_on)
        else:
            self._reading = False

    def _go_on(self) -> None:
        self._reading = False
        if self._again:
            self.reread()

    def _take(self, new: Configuration | Failure) -> None:
        try:
            if isinstance(new, Failure):
                new.raiseException()
            self._check_timings(new)
            self._check_running_command(new)
            self._check_pages(new)
            changed = self._changed(new)
            self._apply(new, changed)
        except MistakesError as error:
            self._refuse(*map(str, error.mistakes))
        except ConfigError as error:
            self._refuse(str(error))
        except Exception:
            self.log.failure("{why}, but that failed", why=WHY)
        else:
            self._tell(changed)

    def _changed(self, new: Configuration) -> list[str]:
        """The settings that differ from what this node runs with."""
        present = self._present
        changed = [name for name in NAMED if new.values[name] != present.values[name]]
        if "links" in changed:  # all keys wait for the restart, too
            return [name for name in changed if name not in self._KEYS]
        if new.links != present.links and self._KEYS.isdisjoint(changed):
            # A file of the same name may have another key in it.
            changed.append("noise-key" if new.values["links"] == "noise" else "tls-cert")
        if new.pages.token != present.pages.token and "http-token-file" not in changed:
            changed.append("http-token-file")
        if new.pages.content != present.pages.content and self._PAGES.isdisjoint(changed):
            changed.append("http-cert")
        same = new.pages.sentinel_content == present.pages.sentinel_content
        if not same and self._SENTINEL.isdisjoint(changed):
            changed.append("sentinel-cert")
        return changed

    def _check_timings(self, new: Configuration) -> None:
        """Raise ConfigError for timings that need more than one step from those in force."""
        problem = step_problem(self._present.timings, new.timings)
        if problem is not None:
            raise ConfigError(problem)

    def _check_running_command(self, new: Configuration) -> None:
        """Raise ConfigError unless the running command, with its grace, can still be dead
        before the lease ends: neither changes without a restart."""
        if "run-primary" in self._present.commands:
            grace = self._present.values["stop-grace"]
            problem = grace_problem(grace, new.timings)
            if problem is not None:
                raise ConfigError(f"--stop-grace {grace:g} (until a restart): {problem}")

    def _check_pages(self, new: Configuration) -> None:
        """Raise ConfigError for a change between pages with and without TLS."""
        present = self._present.pages
        if (new.pages.serving is None) != (present.serving is None):
            raise ConfigError("--http-cert: TLS begins or ends only at a restart")
        if (new.pages.sentinel is None) != (present.sentinel is None):
            raise ConfigError("--sentinel-cert: TLS begins or ends only at a restart")

    def _apply(self, new: Configuration, changed: list[str]) -> None:
        if any(setting.name in changed for setting in TIMINGS):
            self._election.use_timings(new.timings)
        if "log-level" in changed:
            self._log_lines.level = new.values["log-level"]
        if "on-change" in changed:
            self._hook.use(new.commands.get("on-change", ()), WHY)
        if "offset-command" in changed:
            self._offset.use(new.commands.get("offset-command", ()))
        if not self._CHECK.isdisjoint(changed):
            command = new.commands.get("check-command", ())
            self._check.use(command, new.values["check-fall"], new.values["check-rise"])
        if not self._KEYS.isdisjoint(changed):
            peers = [peer.node_id for peer in new.cluster.peers]
            self._election.use_security(security_of(new.links, peers))
        self._access.present = new.pages
        applied = {name: new.values[name] for name in changed if NAMED[name].reloadable}
        self._present = self._present.evolved(applied, new.timings, new.links, new.pages)

    def _refuse(self, *mistakes: str) -> None:
        left_out = len(mistakes) - MOST_MISTAKES
        if left_out > 0:
            mistakes = (*mistakes[:MOST_MISTAKES], f"and {left_out} more mistakes")
        for mistake in mistakes:
            self.log.critical(
                "{why}, but nothing of it is used: {mistake}", why=WHY, mistake=mistake
            )

    def _tell(self, changed: list[str]) -> None:
        applied = [name for name in changed if NAMED[name].reloadable]
        waiting = [name for name in changed if not NAMED[name].reloadable]
        if applied:
            self.log.info("{why}: new {names}", why=WHY, names=", ".join(applied))
        if waiting:
            self.log.warn(
                "{why}: {names} also changed, which needs a restart",
                why=WHY,
                names=", ".join(waiting),
            )
        if not changed:
            self.log.info("{why}: nothing has changed", why=WHY)
