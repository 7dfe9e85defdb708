from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig
from kevy_elect.ops.log import LogLines
from kevy_elect.ops.page_access import PageAccess
from kevy_elect.ops.reload import MOST_MISTAKES, SPACING, Reload
from kevy_elect.settings.links import make_private_key, public_key
from kevy_elect.settings.resolve import Configuration, read
from kevy_elect.transport.channel import Security
from tests.support.certificates import Authority

FILE = """\
node-id = "a"
peers = "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103"
lease-duration = 3.9  # for down-after from 4 s on
"""


class Reactor(Clock):
    """Has no threads: what is to run in one runs once it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.soon: list[Callable[[], object]] = []
        self.in_threads: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self.soon.append(partial(function, *args) if args else function)

    def getThreadPool(self) -> Reactor:
        return self

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, object], object], function: Callable[[], object]
    ) -> None:
        def run() -> None:
            try:
                on_result(True, function())
            except Exception:
                on_result(False, Failure())

        self.in_threads.append(run)

    def run(self) -> None:
        """Until nothing is left to do."""
        while self.in_threads or self.soon or self.getDelayedCalls():
            if self.in_threads or self.soon:
                (self.in_threads or self.soon).pop(0)()
            else:
                self.advance(SPACING)


class Election:
    """Takes timings, unless it is told to fail."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.used: list[ElectConfig] = []
        self.use_timings: Callable[[ElectConfig], object] = self.used.append
        self.secured: list[Security] = []
        self.use_security: Callable[[Security], object] = self.secured.append


class Hook:
    def __init__(self) -> None:
        self.used: list[tuple[str, ...]] = []

    def use(self, command: tuple[str, ...], reason: str) -> None:
        self.used.append(command)


class Offset:
    command: tuple[str, ...] = ()

    def use(self, command: Sequence[str]) -> None:
        self.command = tuple(command)


class Check:
    def __init__(self) -> None:
        self.used: list[tuple[tuple[str, ...], int, int]] = []

    def use(self, command: Sequence[str], fall: int, rise: int) -> None:
        self.used.append((tuple(command), fall, rise))


class ReloadCase(SynchronousTestCase):
    """A service with fakes around it, and a file to reread."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.election, self.hook, self.offset = Election(), Hook(), Offset()
        self.check = Check()
        self.access = PageAccess()
        self.lines = LogLines("info", "text", "a")
        self.logged: list[tuple[Any, str]] = []
        globalLogPublisher.addObserver(self.log)
        self.addCleanup(globalLogPublisher.removeObserver, self.log)

    def log(self, event: Any) -> None:
        if event["log_namespace"].startswith("kevy_elect.ops.reload"):
            self.logged.append((event["log_level"], formatEvent(event)))

    def read(self) -> Configuration:
        return read({"config": str(self.path)}, {})

    def start(self, text: str = "") -> Reload:
        self.path.write_text(FILE + text)
        anything: Any = (self.election, self.hook, self.offset, self.check)
        election, hook, offset, check = anything
        service = Reload(
            self.read(),
            self.read,
            election=election,
            hook=hook,
            offset=offset,
            check=check,
            log_lines=self.lines,
            access=self.access,
        )
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    def reread(self, service: Reload, text: str) -> None:
        self.path.write_text(FILE + text)
        self.logged.clear()
        service.reread()
        self.election.reactor.run()

    def applied(self) -> tuple[object, ...]:
        """All that may have been changed."""
        used = self.election.used, self.hook.used, self.check.used
        return *used, self.offset.command, self.lines.level


class ReloadTests(ReloadCase):
    def test_another_check_is_taken_or_another_judgement_of_it(self) -> None:
        service = self.start()
        self.reread(service, 'check-command = "check"')
        self.reread(service, 'check-command = "check"\ncheck-fall = 5')
        self.reread(service, "")
        self.assertEqual(self.check.used, [(("check",), 3, 1), (("check",), 5, 1), ((), 3, 1)])

    def test_new_timings_hooks_and_level_are_taken(self) -> None:
        service = self.start()
        self.reread(
            service,
            'down-after = 6\non-change = "hook"\noffset-command = ["o"]\nlog-level = "warn"',
        )
        self.assertEqual([config.down_after for config in self.election.used], [6])
        self.assertEqual(self.hook.used, [("hook",)])
        self.assertEqual((self.offset.command, self.lines.level), (("o",), "warn"))
        names = "on-change, offset-command, down-after, lease-margin, log-level"
        self.assertEqual(
            self.logged, [(LogLevel.info, f"the configuration was reread: new {names}")]
        )

    def test_new_keys_are_taken_also_from_a_file_of_the_same_name(self) -> None:
        own, new = self.mktemp(), self.mktemp()
        make_private_key(own)
        b, c = public_key(b"b" * 32).hex(), public_key(b"c" * 32).hex()
        links = f'links = "noise"\nnoise-key = "{own}"\npeer-keys = "b={b},c={c}"\n'
        service = self.start(links)
        self.reread(service, links)
        self.assertEqual(self.election.secured, [])
        self.reread(service, links.replace(f"b={b}", f"b={c}"))
        self.assertEqual(self.logged[0][1], "the configuration was reread: new peer-keys")
        make_private_key(new)
        os.replace(new, own)
        self.reread(service, links.replace(f"b={b}", f"b={c}"))
        self.assertEqual(self.logged[0][1], "the configuration was reread: new noise-key")
        self.assertEqual([each.kind for each in self.election.secured], ["noise"] * 2)
        os.chmod(own, 0o644)
        self.reread(service, links)
        self.assertIn("nothing of it is used", self.logged[0][1])
        self.assertEqual(len(self.election.secured), 2)

    def test_a_new_token_is_taken_also_from_a_file_of_the_same_name(self) -> None:
        token = Path(self.mktemp())
        token.touch(0o600)
        token.write_text("0123456789abcdef")
        pages = f'http = "tcp:8101"\nhttp-token-file = "{token}"\n'
        service = self.start('http = "tcp:8101"')
        self.reread(service, pages)
        self.assertEqual(self.access.present.token, b"0123456789abcdef")
        token.write_text("0123456789abcdeg")
        self.reread(service, pages)
        self.assertEqual(self.access.present.token, b"0123456789abcdeg")
        self.assertEqual(self.logged[0][1], "the configuration was reread: new http-token-file")
        token.write_text("short")
        self.reread(service, pages)
        self.assertIn("holds no token", self.logged[0][1])
        self.assertEqual(self.access.present.token, b"0123456789abcdeg")
        self.reread(service, 'http = "tcp:8101"')
        self.assertIsNone(self.access.present.token)

    def test_a_new_certificate_of_the_pages_is_taken_and_to_begin_tls_takes_a_restart(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        certificate, key = authority.sign("page", [])
        pages = f'http = "tcp:8101"\nhttp-cert = "{certificate}"\nhttp-key = "{key}"\n'
        service = self.start(pages)
        self.reread(service, pages)
        self.assertEqual(self.logged[0][1], "the configuration was reread: nothing has changed")
        authority.sign("page", [])
        self.reread(service, pages)
        self.assertEqual(self.logged[0][1], "the configuration was reread: new http-cert")
        self.assertIsNotNone(self.access.present.serving)
        self.reread(service, 'http = "tcp:8101"')
        self.assertIn("only at a restart", self.logged[0][1])

    def test_nor_does_a_certificate_for_clients_of_sentinel(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        certificate, key = authority.sign("face", [])
        face = (
            f'advertise = "127.0.0.1:1"\nsentinel = "tcp:1"\nsentinel-cert = "{certificate}"\n'
            f'sentinel-key = "{key}"\n'
        )
        service = self.start(face)
        authority.sign("face", [])
        self.reread(service, face)
        self.assertEqual(self.logged[0][1], "the configuration was reread: new sentinel-cert")
        self.assertIsNotNone(self.access.present.sentinel)
        self.reread(service, 'advertise = "127.0.0.1:1"\nsentinel = "tcp:1"')
        self.assertIn("only at a restart", self.logged[0][1])

    def test_another_kind_of_links_waits_for_a_restart_with_its_keys(self) -> None:
        own = self.mktemp()
        make_private_key(own)
        b, c = public_key(b"b" * 32).hex(), public_key(b"c" * 32).hex()
        links = f'links = "noise"\nnoise-key = "{own}"\npeer-keys = "b={b},c={c}"\n'
        service = self.start()
        self.reread(service, links)
        self.assertIn("links also changed, which needs a restart", self.logged[0][1])
        self.assertEqual(self.election.secured, [])

    def test_only_what_changed_is_touched(self) -> None:
        service = self.start('down-after = 6\non-change = "hook"')
        self.reread(service, 'down-after = 6\non-change = "hook"\n# nothing else')
        self.assertEqual(self.applied(), ([], [], [], (), "info"))
        self.assertEqual(self.logged[0][1], "the configuration was reread: nothing has changed")

    def test_what_is_no_longer_there_is_no_longer_used(self) -> None:
        service = self.start('down-after = 6\non-change = "hook"')
        self.reread(service, "")
        self.assertEqual(self.hook.used, [()])
        self.assertEqual([config.down_after for config in self.election.used], [5])

    def test_a_change_is_from_what_was_taken_last(self) -> None:
        service = self.start()
        for text in ("down-after = 6", "down-after = 6", ""):
            self.reread(service, text)
        self.assertEqual([config.down_after for config in self.election.used], [6, 5])

    def test_down_after_changes_in_two_steps(self) -> None:
        """The order that one node can see; `kevy-elect status` sees all of them."""
        service = self.start("down-after = 5")
        for text in ("down-after = 8", "down-after = 3"):
            self.path.write_text(FILE.replace("lease-duration = 3.9", "") + text)
            self.logged.clear()
            service.reread()
            self.election.reactor.run()
            self.assertEqual(self.election.used, [])
            self.assertEqual(self.logged[0][0], LogLevel.critical)
            self.assertIn("change it in two steps. First give all members", self.logged[0][1])
        for lease, promise in ((3.9, 8), (7.84, 8), (2.9, 8), (2.9, 3)):
            text = FILE.replace("3.9", str(lease)) + f"down-after = {promise}"
            self.path.write_text(text)
            service.reread()
            self.election.reactor.run()
        self.assertEqual(
            [(each.lease_duration, each.down_after) for each in self.election.used],
            [(3.9, 8), (7.84, 8), (2.9, 8), (2.9, 3)],
        )

    def test_a_shell_makes_another_command(self) -> None:
        service = self.start('on-change = "hook"')
        self.reread(service, 'on-change = "hook"\nshell = true')
        self.assertEqual(self.hook.used, [("/bin/sh", "-c", "hook")])

    def test_what_takes_a_restart_is_named_each_time(self) -> None:
        service = self.start()
        for _ in range(2):
            self.reread(service, 'http = "tcp:8101"\nwitness = true')
            self.assertEqual(
                self.logged,
                [
                    (
                        LogLevel.warn,
                        "the configuration was reread: witness, http also changed, "
                        "which needs a restart",
                    )
                ],
            )
        self.assertEqual(self.applied(), ([], [], [], (), "info"))

    def test_mistakes_leave_all_as_it_was_and_are_critical(self) -> None:
        service = self.start()
        self.reread(service, 'down-after = 6\nlog-level = "warn"\nlisten = 1\nhook = "x"')
        self.assertEqual(self.applied(), ([], [], [], (), "info"))
        self.assertEqual([level for level, _ in self.logged], [LogLevel.critical] * 2)
        self.assertIn(f"nothing of it is used: {self.path}:6: --listen 1", self.logged[0][1])
        self.assertIn(f"{self.path}:7: hook: there is no such setting", self.logged[1][1])
        self.reread(service, "down-after = 6")
        self.assertEqual([config.down_after for config in self.election.used], [6])

    def test_a_file_that_is_gone_leaves_all_as_it_was(self) -> None:
        service = self.start()
        self.path.unlink()
        service.reread()
        self.election.reactor.run()
        self.assertIn("cannot be read", self.logged[-1][1])
        self.assertEqual(self.logged[-1][0], LogLevel.critical)

    def test_timings_that_the_command_that_runs_has_no_time_for(self) -> None:
        service = self.start('run-primary = "job"\nstop-grace = 1')
        self.reread(service, "down-after = 4")
        self.assertEqual(self.applied(), ([], [], [], (), "info"))
        self.assertIn("--stop-grace 1 (until a restart): must be between 0", self.logged[0][1])

    def test_a_failure_is_logged_and_the_next_signal_is_heard(self) -> None:
        service = self.start()
        self.election.use_timings = self.fail
        self.reread(service, "down-after = 6")
        self.assertEqual(len(self.flushLoggedErrors(self.failureException)), 1)
        self.election.use_timings = self.election.used.append
        self.reread(service, "down-after = 6")
        self.assertEqual([config.down_after for config in self.election.used], [6])


class ReadingTests(ReloadCase):
    def test_the_reactor_goes_on_meanwhile(self) -> None:
        service = self.start()
        self.path.write_text(FILE + "down-after = 6")
        service.reread()
        self.assertEqual((self.logged, self.election.used), ([], []))
        self.election.reactor.run()
        self.assertEqual([config.down_after for config in self.election.used], [6])

    def test_what_is_asked_for_meanwhile_is_one_more_reading(self) -> None:
        service = self.start()
        reactor = self.election.reactor
        for _ in range(100):
            service.reread()
        self.assertEqual(len(reactor.in_threads), 1)
        reactor.in_threads.pop()()
        while reactor.soon:
            reactor.soon.pop(0)()
        self.assertEqual(len(self.logged), 1)
        self.path.write_text(FILE + "down-after = 6")  # after it was read
        reactor.advance(SPACING / 2)
        self.assertEqual(reactor.in_threads, [])
        reactor.run()
        self.assertEqual(len(self.logged), 2)
        self.assertEqual([config.down_after for config in self.election.used], [6])

    def test_signals_without_end_make_a_reading_now_and_then(self) -> None:
        service = self.start()
        reactor, readings = self.election.reactor, 0
        for _ in range(100):
            service.reread()
            while reactor.in_threads or reactor.soon:
                readings += bool(reactor.in_threads)
                (reactor.in_threads or reactor.soon).pop(0)()
            reactor.advance(SPACING / 10)
        self.assertEqual(readings, 10)
        service.stopService()
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_what_was_read_while_the_service_stopped_is_not_taken(self) -> None:
        service = self.start()
        self.path.write_text(FILE + "down-after = 6")
        service.reread()
        service.stopService()
        self.election.reactor.run()
        self.assertEqual(self.applied(), ([], [], [], (), "info"))

    def test_of_many_mistakes_the_first_are_told(self) -> None:
        service = self.start()
        self.reread(service, "\n".join(f"x{number} = 1" for number in range(1000)))
        self.assertEqual(len(self.logged), MOST_MISTAKES + 1)
        self.assertIn(f"and {1000 - MOST_MISTAKES} more mistakes", self.logged[-1][1])


class SignalTests(ReloadCase):
    def setUp(self) -> None:
        super().setUp()
        self.before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, self.before)

    def test_sighup_has_the_reactor_reread(self) -> None:
        service = self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual(self.election.reactor.soon, [service.reread])

    def test_stopping_gives_the_signal_back(self) -> None:
        service = self.start()
        service.stopService()
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
        service.reread()  # one that was on its way
        self.assertEqual(self.logged, [])

    def test_another_thread_leaves_the_signal_alone(self) -> None:
        thread = threading.Thread(target=self.start)
        thread.start()
        thread.join()
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)
