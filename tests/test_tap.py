from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect import __version__
from kevy_elect.children.change_hook import Hook
from kevy_elect.children.health_check import HealthCheck
from kevy_elect.children.offset_command import OffsetCommand
from kevy_elect.children.primary_only import PrimaryOnly
from kevy_elect.data.commands import Commands
from kevy_elect.grace import OnExit, whole_grace
from kevy_elect.settings.table import COMMANDS, NAMED, Group
from kevy_elect.tap import Node, Options, makeService

PEERS = "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103:6103"


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))
    return options


def parsed(*more: str) -> Options:
    return parse("--node-id", "a", "--peers", PEERS, *more)


class OptionsTests(SynchronousTestCase):
    def test_id_and_peers_are_enough(self) -> None:
        options = parsed()
        self.assertEqual(options.cluster.ids, ("a", "b", "c"))
        self.assertEqual(options["data-dir"], "kevy-elect-a")
        self.assertEqual((options.timings.hb_interval, options.timings.down_after), (0.2, 5.0))

    def test_peers_may_be_repeated(self) -> None:
        one, two, three = PEERS.split(",")
        options = parse("--node-id", "b", "--peers", one, "--peers", f"{two},{three}")
        self.assertEqual(options.cluster.ids, ("a", "b", "c"))

    def test_timings_are_seconds(self) -> None:
        timings = parsed("--hb-interval", "0.05", "--down-after=0.5").timings
        self.assertEqual((timings.hb_interval, timings.down_after), (0.05, 0.5))

    def test_each_timing_has_its_option(self) -> None:
        values = {
            "hb-interval": 0.1,
            "down-after": 4.0,
            "election-timeout": 2.0,
            "election-backoff": 0.5,
            "election-backoff-jitter": 0.0,
            "lease-margin": 1.5,
        }
        arguments = [f"--{option}={value}" for option, value in values.items()]
        timings = parsed(*arguments).timings
        for option, value in values.items():
            self.assertEqual(getattr(timings, option.replace("-", "_")), value, option)

    def test_commands_are_split_into_words(self) -> None:
        options = parsed("--run-primary", "job 'a b'", "--on-change", "hook", "--on-exit", "stop")
        self.assertEqual(options.commands, {"run-primary": ("job", "a b"), "on-change": ("hook",)})
        self.assertEqual((options.stop_grace, options.on_exit), (1.0, OnExit.STOP))

    def test_a_shell_runs_them_if_asked_to(self) -> None:
        options = parsed("--shell", "--offset-command", "wc -l < data", "--run-primary", "a | b")
        self.assertEqual(options.commands["offset-command"], ("/bin/sh", "-c", "wc -l < data"))
        self.assertEqual(options.commands["run-primary"], ("/bin/sh", "-c", "a | b"))

    def test_environment_and_file_count_too(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(f'node-id = "c"\npeers = "{PEERS}"\ndown-after = 6\nwitness = true\n')
        self.patch(os, "environ", {"KEVY_ELECT_CONFIG": path, "KEVY_ELECT_HTTP": "tcp:8101"})
        options = parse("--down-after=7")
        self.assertEqual((options.cluster.node_id, options.timings.down_after), ("c", 7))
        self.assertEqual((options["http"], options["witness"]), ("tcp:8101", True))

    def test_rereading_finds_the_file_from_anywhere(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(directory)
        Path("node.toml").write_text("down-after = 6\n")
        options = parsed("--config", "node.toml", "--election-timeout=2")
        Path("node.toml").write_text("down-after = 7\nelection-timeout = 1\n")
        os.chdir("/")
        timings = options.reread().timings
        self.assertEqual((timings.down_after, timings.election_timeout), (7, 2))
        self.assertEqual(options.timings.down_after, 6)

    def test_lists_may_be_given_bit_by_bit(self) -> None:
        options = parsed("--http-peers=a@h:1", "--http-peers=b@h:2,c@h:3")
        self.assertEqual(options["http-peers"], {"a": "h:1", "b": "h:2", "c": "h:3"})

    def test_version(self) -> None:
        printed: list[str] = []
        self.patch(__import__("builtins"), "print", printed.append)
        leaving = self.assertRaises(SystemExit, parse, "--version")
        self.assertEqual((leaving.code, printed), (0, [f"kevy-elect {__version__}"]))


class WrongInputTests(SynchronousTestCase):
    """One message that names option, value and remedy."""

    def refused(self, *arguments: str) -> str:
        return str(self.assertRaises(UsageError, parse, *arguments))

    def refused_with(self, *more: str) -> str:
        return self.refused("--node-id", "a", "--peers", PEERS, *more)

    def check(self, message: str, *words: str) -> None:
        for word in words:
            self.assertIn(word, message)

    def test_missing_options(self) -> None:
        self.check(self.refused(), "--node-id")
        self.check(self.refused("--node-id", "a"), "--peers")

    def test_an_unknown_id(self) -> None:
        message = self.refused("--node-id", "x", "--peers", PEERS)
        self.check(message, "--node-id x", "a, b, c", "lists every member")

    def test_all_mistakes_at_once(self) -> None:
        message = self.refused("--node-id=a", "--peers=a@h:1,b@h", "--listen=x", "--on-exit=stop")
        self.assertEqual(message.count("\n"), 2)
        self.check(message, "--peers: 'b@h'", "--listen x", "--on-exit stop")

    def test_below_twistd_they_end_the_process_one_a_line(self) -> None:
        options = Options()
        options.parent = Options()
        wrong = ["--node-id=a", "--peers=a@h:1", "--listen=x", "--log-level=all"]
        leaving = self.assertRaises(SystemExit, options.parseOptions, wrong)
        for line, setting in zip(str(leaving).splitlines(), ("listen", "log-level"), strict=True):
            self.assertTrue(line.startswith(f"kevy-elect: --{setting} "), line)
            self.assertNotIn("--help", line)

    def test_an_unknown_option_that_is_nearly_one(self) -> None:
        options = Options()
        options.parent = Options()
        leaving = self.assertRaises(SystemExit, options.parseOptions, ["--dwon-after=3"])
        self.check(str(leaving), "--dwon-after", "did you mean --down-after?", "see --help")

    def test_duplicate_ids_and_addresses(self) -> None:
        message = self.refused("--node-id", "a", "--peers", "a@h:1,a@h:2")
        self.check(message, "--peers", "'a'", "needs its own")
        message = self.refused("--node-id", "a", "--peers", "a@h:1,b@h:1")
        self.check(message, "--peers", "a@h:1", "b@h:1", "address", "needs its own")

    def test_bad_peers(self) -> None:
        for peer in ("a", "a@h", "a@h:0", "a@h:70000", "a@h:x", "a@::1:7101", "a b@h:1", "a@h:1:0"):
            message = self.refused("--node-id", "a", "--peers", peer)
            self.check(message, "--peers")
            self.assertRegex(message, r"id@host:elect_port|port between|brackets|node id")

    def test_timings_that_are_no_numbers(self) -> None:
        self.check(self.refused_with("--down-after", "5s"), "--down-after 5s", "seconds")

    def test_timings_out_of_bounds(self) -> None:
        for value in ("0", "-1", "nan", "inf"):
            self.check(self.refused_with(f"--hb-interval={value}"), "--hb-interval", value, "above")

    def test_timings_that_break_a_relation_are_named_as_options(self) -> None:
        message = self.refused_with("--down-after", "0.5")
        self.check(message, "--down-after", "0.5 s", "5 × --hb-interval", "raise --down-after")
        message = self.refused_with("--election-timeout", "0.1")
        self.check(message, "--election-timeout", "2 × --hb-interval")
        message = self.refused_with("--lease-margin", "4")
        self.check(message, "--lease-margin", "--down-after / 2")
        message = self.refused_with("--lease-margin", "0.1")
        self.check(message, "--lease-margin", "--hb-interval + --pause-after")

    def test_a_wildcard_cannot_be_advertised(self) -> None:
        for address in ("0.0.0.0:6379", "[::]:6379"):
            message = self.refused_with("--advertise", address)
            self.check(message, "--advertise", address, "wildcard")

    def test_nor_is_it_advertised_by_default(self) -> None:
        message = self.refused("--node-id", "a", "--peers", "a@0.0.0.0:7101,b@h:2,c@h:3")
        self.check(message, "--peers", "wildcard", "--advertise HOST:PORT")

    def test_an_advertised_address_needs_a_port(self) -> None:
        self.check(self.refused_with("--advertise", "host"), "--advertise", "'host'")

    def test_commands_that_are_none(self) -> None:
        for option in COMMANDS:
            message = self.refused_with(f"--{option}", " ")
            self.check(message, f"--{option}: there", "name a program")
            message = self.refused_with(f"--{option}", "job 'a")
            self.check(message, f"--{option}: ", "no closing quotation", "close the quote")

    def test_an_unknown_thing_to_do_on_exit(self) -> None:
        message = self.refused_with("--run-primary=job", "--on-exit=again")
        self.check(message, "--on-exit again", "restart, step-down, stop")

    def test_a_grace_that_the_lease_has_no_time_for(self) -> None:
        for grace in ("2", "-1", "nan", "inf"):
            message = self.refused_with("--run-primary=job", f"--stop-grace={grace}")
            self.check(message, f"--stop-grace {grace}", "between 0 and 1.399 s", "--down-after")
        message = self.refused_with("--run-primary=job", "--stop-grace=soon")
        self.check(message, "--stop-grace soon", "seconds")

    def test_timings_that_leave_no_time_for_any_grace(self) -> None:
        message = self.refused_with("--run-primary=job", "--hb-interval=0.4", "--down-after=5")
        self.check(message, "--stop-grace 1 (the default)", "leave no time", "--hb-interval")

    def test_options_about_nothing(self) -> None:
        for option in ("--stop-grace=1", "--on-exit=stop"):
            message = self.refused_with("--on-change=hook", option)
            self.check(message, option.replace("=", " "), "--run-primary")
        self.check(self.refused_with("--shell"), "--shell", "--run-primary")

    def test_a_witness_that_should_run_as_primary(self) -> None:
        message = self.refused_with("--witness", "--run-primary=job")
        self.check(message, "--run-primary: ", "--witness", "leave one")

    def test_endpoints_that_are_none(self) -> None:
        for option in ("listen", "http"):
            message = self.refused_with(f"--{option}", "nonsense:1")
            self.check(message, f"--{option} nonsense:1", "tcp:7101")


class PluginTests(SynchronousTestCase):
    def test_twistd_finds_the_plugin(self) -> None:
        found = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "kevy-elect"]
        self.assertEqual(len(found), 1)
        plugin: Any = found[0]
        self.assertTrue(IPlugin.providedBy(plugin))
        self.assertIs(plugin.options, Options)
        self.assertIs(plugin.makeService, makeService)

    def test_the_service_is_what_was_asked_for(self) -> None:
        node = makeService(parsed("--witness", "--advertise", "example.org:6379"))
        self.assertIsInstance(node, Node)
        self.assertTrue(node.election.witness)
        self.assertEqual(node.election.advertise, "example.org:6379")
        self.assertEqual(node.election.listen, "tcp:7101:interface=127.0.0.1")

    def test_commands_become_services_beside_the_election(self) -> None:
        commands = [
            f"--{option}=job" for option in COMMANDS if NAMED[option].group is Group.COMMANDS
        ]
        node = makeService(parsed(*commands, "--stop-grace=0.4"))
        hook, offset, check, only, _, election, *_ = node.services
        self.assertIsInstance(hook, Hook)
        self.assertIsInstance(offset, OffsetCommand)
        self.assertIsInstance(check, HealthCheck)
        self.assertIsInstance(only, PrimaryOnly)
        self.assertIs(election, node.election)
        self.assertEqual(only.stop_grace, whole_grace(0.4))

    def test_a_store_is_driven_by_its_commands_and_says_itself_what_it_has(self) -> None:
        commands = [f"--{option}=job" for option in COMMANDS if option != "redis-command"]
        node = makeService(parsed(*commands, "--advertise=a.example:1"))
        _, offset, _, driver, *_ = node.services
        self.assertEqual(offset.command, ())
        self.assertIs(node.election.data, driver)
        self.assertIsInstance(driver.server, Commands)

    def test_such_a_store_needs_no_client_of_redis(self) -> None:
        script = "import sys; sys.modules['hiredis'] = None; import kevy_elect.data.service"
        subprocess.run([sys.executable, "-c", script + ", kevy_elect.tap"], check=True)

    def test_a_node_without_pages_loads_no_web_server(self) -> None:
        """It is several megabytes."""
        script = "import sys, kevy_elect.tap; assert 'twisted.web' not in sys.modules"
        subprocess.run([sys.executable, "-c", script], check=True)

    def services(self, *more: str) -> list[str]:
        return [type(service).__name__ for service in makeService(parsed(*more)).services]

    def test_what_is_served_is_what_was_asked_for(self) -> None:
        plain = self.services()
        self.assertEqual(self.services("--no-admin"), plain[:-1])
        served = self.services("--http=tcp:0", "--http-peers=a@h:1,b@h:2", "--agent-check=tcp:0")
        self.assertEqual(len(served), len(plain) + 2)

    def test_only_with_a_file_is_there_something_to_reread(self) -> None:
        path = self.mktemp()
        with open(path, "w"):
            pass
        self.assertNotIn("Reload", self.services())
        self.assertIn("Reload", self.services(f"--config={path}"))

    def test_the_default_address_for_clients_has_the_client_port(self) -> None:
        node = makeService(parse("--node-id", "c", "--peers", PEERS))
        self.assertEqual(node.election.advertise, "127.0.0.1:6103")

    def test_an_ipv6_member_listens_on_its_address(self) -> None:
        node = makeService(parse("--node-id", "a", "--peers", "a@[::1]:7101"))
        self.assertEqual(node.election.listen, r"tcp6:7101:interface=\:\:1")
        self.assertEqual(node.election.advertise, "[::1]:7101")
