from __future__ import annotations

import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.grace import OnExit
from kevy_elect.settings.resolve import Configuration, MistakesError, Origin, Source, read
from kevy_elect.settings.table import NAMED
from tests.support.certificates import Authority

PEERS = "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103:6103"
FILE = """\
node-id = "a"
peers = "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103:6103"
"""


class ConfigurationTests(SynchronousTestCase):
    """`read` with a file of this text, variables and options."""

    def read(
        self,
        file: str | None = None,
        variables: dict[str, str] | None = None,
        **options: str,
    ) -> Configuration:
        named = {name.replace("_", "-"): value for name, value in options.items()}
        if file is not None:
            self.path = self.mktemp()
            Path(self.path).write_text(file, encoding="utf-8")
            named["config"] = self.path
        return read(named, variables or {})

    def mistakes(
        self,
        file: str | None = None,
        variables: dict[str, str] | None = None,
        **options: str,
    ) -> list[str]:
        """What is wrong, with the file called `FILE`."""
        error = self.assertRaises(MistakesError, self.read, file, variables, **options)
        assert isinstance(error, MistakesError)
        self.assertEqual(str(error).splitlines(), [str(each) for each in error.mistakes])
        return [str(each).replace(getattr(self, "path", "FILE"), "FILE") for each in error.mistakes]

    def mistake(self, *words: str, file: str, **options: str) -> None:
        """There is one mistake, and it has these words."""
        (found,) = self.mistakes(file, **options)
        for word in words:
            self.assertIn(word, found)


class UnacknowledgedTests(ConfigurationTests):
    def test_they_count_for_the_lease_unless_they_shall_not(self) -> None:
        self.assertTrue(self.read(FILE).timings.count_unacknowledged)
        for found in (
            self.read(FILE + "no-count-unacknowledged = true"),
            self.read(FILE, {"KEVY_ELECT_NO_COUNT_UNACKNOWLEDGED": "true"}),
        ):
            self.assertFalse(found.timings.count_unacknowledged)


class LayerTests(ConfigurationTests):
    def test_command_line_over_environment_over_file_over_default(self) -> None:
        found = self.read(
            FILE + "down-after = 6\nelection-timeout = 6\nlease-margin = 2.9",
            {"KEVY_ELECT_DOWN_AFTER": "7", "KEVY_ELECT_ELECTION_TIMEOUT": "7"},
            down_after="8",
        )
        names = ("down-after", "election-timeout", "lease-margin", "hb-interval")
        self.assertEqual([found.values[name] for name in names], [8, 7, 2.9, 0.2])
        self.assertEqual(found.timings.election_timeout, 7)
        self.assertEqual(
            [str(found.sources[name]).replace(self.path, "FILE") for name in names],
            ["command line", "KEVY_ELECT_ELECTION_TIMEOUT", "FILE:5", "default"],
        )

    def test_the_environment_may_name_the_file(self) -> None:
        path = self.mktemp()
        Path(path).write_text(FILE)
        found = read({}, {"KEVY_ELECT_CONFIG": path})
        self.assertEqual(found.values["config"], str(Path(path).absolute()))
        self.assertEqual(found.sources["node-id"], Source(Origin.FILE, path, 1))

    def test_an_empty_variable_is_not_set(self) -> None:
        self.assertIsNone(self.read(FILE, {"KEVY_ELECT_HTTP": ""}).values["http"])

    def test_other_variables_are_none_of_its_business(self) -> None:
        self.read(FILE, {"KEVY_EPOCH": "3", "PATH": "/bin", "KEVY_ELECTION": "x"})

    def test_flags(self) -> None:
        for value in ("true", '"yes"', '"1"', '"On"'):
            self.assertIs(self.read(f"{FILE}witness = {value}").values["witness"], True)
        for value in ("false", '"no"', '"0"', '"OFF"'):
            self.assertIs(self.read(f"{FILE}witness = {value}").values["witness"], False)
        found = self.read(FILE + "witness = true", {"KEVY_ELECT_WITNESS": "no"})
        self.assertIs(found.values["witness"], False)

    def test_underscores_do_as_well(self) -> None:
        self.assertEqual(self.read(FILE + "down_after = 6").timings.down_after, 6)

    def test_everything_has_a_value_and_a_source(self) -> None:
        found = self.read(node_id="a", peers=PEERS)
        self.assertEqual(set(found.values), set(found.sources))
        self.assertEqual(found.values["on-exit"], OnExit.RESTART)
        self.assertEqual(found.values["stop-grace"], 1.0)
        self.assertEqual(found.values["lease-margin"], 1.25)
        self.assertEqual((found.values["log-level"], found.values["log-format"]), ("info", "text"))
        self.assertIs(found.values["no-handover"], False)


class MembersTests(ConfigurationTests):
    def test_as_one_string_a_list_or_tables(self) -> None:
        wanted = self.read(FILE).cluster
        for peers in (
            'peers = ["a@127.0.0.1:7101", "b@127.0.0.1:7102",\n"c@127.0.0.1:7103:6103"]',
            '[peers]\na = "127.0.0.1:7101"\nb = "127.0.0.1:7102"\nc = "127.0.0.1:7103:6103"',
            '[peers]\na = {host = "127.0.0.1", elect-port = 7101}\n'
            'b.host = "127.0.0.1"\nb.elect_port = 7102\n'
            '[peers.c]\nhost = "127.0.0.1"\nelect_port = 7103\nclient_port = 6103',
        ):
            self.assertEqual(self.read(f'node-id = "a"\n{peers}').cluster, wanted)

    def test_an_ipv6_host_needs_no_brackets_in_a_table(self) -> None:
        found = self.read('node-id = "a"\n[peers]\na = {host = "::1", elect-port = 7101}')
        self.assertEqual(str(found.cluster.me), "a@[::1]:7101")

    def test_each_wrong_one_is_named_with_its_line(self) -> None:
        found = self.mistakes(
            'node-id = "a"\n[peers]\na = "127.0.0.1:7101"\n'
            'b = "h"\nc = {host = "h", elect-prot = 1}\nd = 4\n'
            'e = {host = "h"}\nf = {host = 1, elect-port = 1}\ng = {host = "h", elect-port = "1"}\n'
            'h = "127.0.0.1:7101"\ndown-after = 4\n"*" = "h:9"\n'
        )
        wanted = [
            ("FILE:4", "'b@h' has no election port"),
            ("FILE:5", "c: a peer has", "no elect-prot; did you mean elect-port?"),
            ("FILE:6", "4 is no member"),
            ("FILE:7", "e has no elect-port"),
            ("FILE:8", "f: host 1 must be a string"),
            ("FILE:9", "g: 1 is no port"),
            ("FILE:10", "h@127.0.0.1:7101 and a@127.0.0.1:7101 have the same address"),
            ("FILE:11", "down-after belongs above the first [table]"),
            ("FILE:12", "'*' is no node id"),
        ]
        self.assertEqual(len(found), len(wanted))
        for mistake, words in zip(found, wanted, strict=True):
            for word in words:
                self.assertIn(word, mistake)

    def test_a_key_is_an_id_and_nothing_else(self) -> None:
        for entry in ('"a@x" = "h:1"', '"a@x" = {host = "h", elect-port = 1}', '"" = "h:1"'):
            self.mistake("FILE:3: --peers", "no node id", file=f'node-id = "a"\n[peers]\n{entry}')
        pages = '[http-peers]\n"a@x" = "h:1"'
        self.mistake("FILE:4: --http-peers", "no node id", file=FILE + pages)

    def test_what_is_no_list(self) -> None:
        self.mistake("FILE:2: --peers: write a table", file='node-id="a"\npeers = 3')
        self.mistake("1 is no member", file='node-id="a"\npeers = [1]')

    def test_missing_and_empty(self) -> None:
        for file in ("", 'peers = ""', "peers = []", "[peers]"):
            found = self.mistakes(file)
            self.assertEqual(len(found), 2)
            self.assertIn("--peers is missing", "".join(found))
            self.assertIn("--node-id is missing", "".join(found))

    def test_pages_are_of_members(self) -> None:
        found = self.read(FILE + '[http-peers]\nb = "10.0.0.2:8102"\na = "[::1]:8101"')
        self.assertEqual(found.values["http-peers"], {"b": "10.0.0.2:8102", "a": "[::1]:8101"})
        found = self.read(FILE, http_peers="b@10.0.0.2:8102,c@h:1")
        self.assertEqual(found.values["http-peers"], {"b": "10.0.0.2:8102", "c": "h:1"})

    def test_and_of_no_others(self) -> None:
        found = self.mistakes(
            FILE + 'http-peers = ["d@h:1", "b@h:1", "b@h:2", "c@h", "c@0.0.0.0:1", "h:1"]'
        )
        for mistake, word in zip(
            found,
            ("d is not among --peers: a, b, c", "b is there twice", "'h'", "wildcard", "id@host"),
            strict=True,
        ):
            self.assertTrue(mistake.startswith("FILE:3: --http-peers: "), mistake)
            self.assertIn(word, mistake)

    def test_what_serves_clients_of_sentinel_by_tls_is_whole_or_wrong(self) -> None:
        for name, missing in (("cert", "key"), ("key", "cert")):
            found = self.mistakes(f'{FILE}sentinel-{name} = "x"')
            self.assertIn(
                f"FILE:3: --sentinel-{name}: nothing is served; give --sentinel too", found
            )
            found = self.mistakes(f'{FILE}sentinel = "tcp:1"\nsentinel-{name} = "x"')
            self.assertIn(f"FILE:4: --sentinel-{name}: give --sentinel-{missing} FILE too", found)
        found = self.mistakes(
            f'{FILE}sentinel = "tcp:1"\nsentinel-cert = "/x"\nsentinel-key = "/y"'
        )
        self.assertTrue(
            any(each.startswith("FILE:4: --sentinel-cert: /x cannot be read") for each in found)
        )

    def test_a_port_by_twisteds_tls_names_the_files_to_give_instead(self) -> None:
        for name, remedy in (
            ("sentinel", "write tcp:PORT, and give --sentinel-cert FILE and --sentinel-key FILE"),
            ("agent-check", "write tcp:PORT"),
        ):
            found = self.mistakes(f'{FILE}{name} = "ssl:1:privateKey=/nothing"')
            (said,) = [each for each in found if "no endpoint with TLS (" in each]
            self.assertTrue(said.endswith(f"; {remedy}"), said)

    def test_what_protects_the_pages_is_whole_or_wrong(self) -> None:
        for name in ("http-cert", "http-key", "http-ca", "http-token-file"):
            found = self.mistakes(f'{FILE}{name} = "x"')
            self.assertIn(f"FILE:3: --{name}: nothing is served; give --http too", found)
        for name, missing in (("cert", "key"), ("key", "cert"), ("ca", "cert")):
            self.mistake(
                f"--http-{name}: give --http-{missing} FILE too",
                file=f'{FILE}http = "tcp:1"\nhttp-{name} = "x"',
            )
        file = FILE + 'http = "tcp:1"\n'
        self.mistake("FILE:4: --http-token-file /x: cannot be read",
                     file=file + 'http-token-file = "/x"')  # fmt: skip
        self.mistake("FILE:4: --http-cert: /x cannot be read",
                     file=file + 'http-cert = "/x"\nhttp-key = "/y"')  # fmt: skip

    def test_names_by_which_a_page_is_asked(self) -> None:
        file = FILE + 'http = "tcp:8101"\n'
        found = self.read(file + 'http-host = ["Status.example.org", "b"]')
        self.assertEqual(found.values["http-host"], ["status.example.org", "b"])
        found = self.read(file, http_host="x.example,y")
        self.assertEqual(found.values["http-host"], ["x.example", "y"])
        for wrong in ("http://x", "x:80", "x/", "x y", "*", ""):
            self.mistake(
                "FILE:4: --http-host", "no host's name", file=f'{file}http-host = ["{wrong}"]'
            )
        self.mistake("FILE:3: --http-host", "give --http too", file=FILE + 'http-host = "x"')


class CommandsTests(ConfigurationTests):
    def test_words_are_taken_as_they_are(self) -> None:
        found = self.read(FILE + 'on-change = ["a b", "$c", ""]\nrun-primary = "d \'e f\'"')
        self.assertEqual(
            found.commands, {"on-change": ("a b", "$c", ""), "run-primary": ("d", "e f")}
        )

    def test_a_shell_is_for_strings(self) -> None:
        found = self.read(FILE + 'shell = true\non-change = ["a"]\noffset-command = "b | c"')
        self.assertEqual(
            found.commands, {"on-change": ("a",), "offset-command": ("/bin/sh", "-c", "b | c")}
        )
        self.mistake("FILE:3: --shell: no command", file=FILE + 'shell = true\non-change = ["a"]')

    def test_what_is_no_command(self) -> None:
        for value, word in (
            ("[]", "name a program"),
            ('["", "a"]', "name a program"),
            ('["a", 1]', "list of strings"),
            ("{a = 1}", "list of strings"),
            ("1", "list of strings"),
            ('["a", "\\u0000"]', "NUL"),
            ('"a \\u0000"', "NUL"),
        ):
            self.mistake("FILE:3: --on-change", word, file=f"{FILE}on-change = {value}")
        for shell in ("true", "false"):
            self.mistake("FILE:4: --on-change", file=f'{FILE}shell = {shell}\non-change = "a \'b"')

    def test_how_a_check_is_judged_is_said_beside_its_command(self) -> None:
        found = self.read(FILE + 'check-command = "c"\ncheck-fall = 5')
        self.assertEqual([found.values[f"check-{each}"] for each in ("fall", "rise")], [5, 1])
        self.mistake(
            "FILE:3: --check-fall 5: there is no --check-command", file=FILE + "check-fall = 5"
        )
        for wrong in ("0", "1001", "1.5", "true", '"x"', '"-1"'):
            file = f'{FILE}check-command = "c"\ncheck-rise = {wrong}'
            self.mistake("FILE:4: --check-rise", "a whole number from 1 to 1000", file=file)

    def test_a_witness_is_not_checked(self) -> None:
        file = FILE + 'witness = true\ncheck-command = "c"'
        self.mistake("FILE:4: --check-command: a --witness is never primary", file=file)

    def test_the_grace_and_the_timings_may_stand_in_different_places(self) -> None:
        found = self.mistakes(
            FILE + 'run-primary = "job"\nstop-grace = 2', {"KEVY_ELECT_DOWN_AFTER": "4"}
        )
        self.assertEqual(len(found), 1)
        self.assertIn("FILE:4: --stop-grace 2: must be between 0 and", found[0])


class StoreTests(ConfigurationTests):
    """A store that is driven by commands."""

    WHOLE = (
        'advertise = "a.example:1"\npromote = "p"\nfollow = "f"\noffset-command = "o"\n'
        'demote = "d"\n'
    )

    def test_enough_commands_are_needed(self) -> None:
        found = self.read(FILE + self.WHOLE)
        self.assertEqual(set(found.commands), {"promote", "follow", "offset-command", "demote"})
        self.read(FILE + self.WHOLE.replace("demote", "freeze"))
        for left_out, needed in (
            ("demote", "--freeze CMD or --demote CMD"),
            ("follow", "--follow CMD"),
            ("offset-command", "--offset-command CMD"),
        ):
            file = FILE + re.sub(rf"(?m)^{left_out}.*\n", "", self.WHOLE)
            self.mistake("FILE:4: --promote", f"a store needs {needed} too", file=file)

    def test_there_is_one_store_or_none(self) -> None:
        self.mistake("FILE:5: --promote", "a witness", file=FILE + "witness = true\n" + self.WHOLE)
        found = self.mistakes(FILE + 'redis = "h:1"\n' + self.WHOLE)
        self.assertTrue(any("--redis drives a Redis" in mistake for mistake in found))

    def test_its_address_is_needed(self) -> None:
        file = FILE + self.WHOLE.partition("\n")[2]
        self.mistake("FILE:3: --promote", "clients and replicas would be sent", file=file)


class RedisTlsTests(ConfigurationTests):
    REDIS = FILE + 'advertise = "a.example:1"\nredis = "127.0.0.1:1"\n'

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        certificate, key = authority.sign("node", [])
        self.files = {
            "redis_tls_ca": str(authority.path),
            "redis_tls_cert": certificate,
            "redis_tls_key": key,
        }

    def without(self, name: str) -> dict[str, str]:
        return {each: file for each, file in self.files.items() if each != name}

    def test_an_authority_is_enough_and_a_certificate_may_be_added(self) -> None:
        authority = self.files["redis_tls_ca"]
        self.assertEqual(
            self.read(self.REDIS, redis_tls_ca=authority).values["redis-tls-ca"], authority
        )
        self.read(self.REDIS, **self.files)

    def test_each_file_that_is_missing_is_named(self) -> None:
        for name in self.files:
            wanted = f"give --{name.replace('_', '-')} FILE too"
            self.mistake(wanted, file=self.REDIS, **self.without(name))

    def test_files_that_cannot_be_used_are_named(self) -> None:
        given = self.files | {"redis_tls_ca": self.files["redis_tls_key"]}
        self.mistake("node.key", "no certificate of an authority", file=self.REDIS, **given)
        os.chmod(self.files["redis_tls_key"], 0o644)
        self.mistake("node.key", "chmod 600", file=self.REDIS, **self.files)

    def test_there_has_to_be_a_redis(self) -> None:
        found = self.mistakes(FILE, **self.files)
        self.assertEqual(len(found), 3)
        self.assertIn("no Redis is driven", found[0])


class SocketTests(ConfigurationTests):
    def test_it_is_in_the_data_directory(self) -> None:
        self.assertEqual(self.read(FILE).values["admin"], "unix:kevy-elect-a/admin.sock")
        found = self.read(FILE, data_dir="/x:y")
        self.assertEqual(found.values["admin"], r"unix:/x\:y/admin.sock")

    def test_it_may_be_elsewhere_or_nowhere(self) -> None:
        self.assertEqual(
            self.read(FILE, admin="unix:/x:mode=660").values["admin"], "unix:/x:mode=660"
        )
        self.assertIsNone(self.read(FILE, no_admin="true").values["admin"])

    def test_but_not_both(self) -> None:
        self.mistake("--admin unix:x: there is --no-admin", file=FILE, admin="unix:x", no_admin="1")

    def test_a_path_too_long_for_a_socket(self) -> None:
        deep = "/" + "d" * 107
        self.mistake("--admin", "bytes", file=FILE, admin=f"unix:{deep}")
        self.mistake("--data-dir", "--no-admin", file=FILE, data_dir=deep)
        self.read(FILE, data_dir=deep, no_admin="true")


class MistakesTests(ConfigurationTests):
    def test_all_at_once_each_with_its_place(self) -> None:
        found = self.mistakes(
            "dwon-after = 3\n"
            'config = "other"\n'
            'election-timeout = "soon"\n'
            "lease-margin = 4\n"
            "witness = 1\n"
            'log-level = "wran"\n'
            "http = 8101\n"
            "[peers]\n"
            'a = "h"\n',
            {"KEVY_ELECT_HBINTERVAL": "1", "KEVY_ELECT_STOP_GRACE": "1", "KEVY_ELECT_ADMIN": "x"},
            node_id="a",
            agent_check="nonsense",
        )
        wanted = [
            "KEVY_ELECT_HBINTERVAL: there is no such setting; did you mean KEVY_ELECT_HB_INTERVAL?",
            "--agent-check nonsense: no endpoint (",
            "KEVY_ELECT_ADMIN: --admin x: no endpoint (",
            "KEVY_ELECT_STOP_GRACE: --stop-grace 1: there is no --run-primary",
            "FILE:1: dwon-after: there is no such setting; did you mean down-after?",
            "FILE:2: --config is not for a file",
            "FILE:3: --election-timeout soon: not a number of seconds",
            "FILE:4: --lease-margin (4 s) must be at most 2.5 s, which is --down-after / 2",
            "FILE:5: --witness 1: neither true nor false",
            "FILE:6: --log-level wran: choose one of debug, info, warn, error, critical; "
            "did you mean warn?",
            "FILE:7: --http 8101: must be a string: put it in quotes",
            "FILE:9: --peers: 'a@h' has no election port",
        ]
        self.assertEqual(len(found), len(wanted), found)
        for mistake, beginning in zip(sorted(found), sorted(wanted), strict=True):
            self.assertTrue(mistake.startswith(beginning), mistake)

    def test_those_of_the_file_come_last_and_from_top_to_bottom(self) -> None:
        found = self.mistakes(
            'witness = 1\nhttp = 1\nlisten = 1\nnode-id = "*"', peers="a@h:1", x="1"
        )
        places = [mistake.partition(" ")[0] for mistake in found]
        self.assertEqual(places, ["FILE:1:", "FILE:2:", "FILE:3:", "FILE:4:"])

    def test_every_timing_that_is_wrong_is_named_once(self) -> None:
        found = self.mistakes(
            FILE + "down-after = 0.9\nelection-timeout = 0.1\nelection-backoff = -1\n"
            "election-backoff-jitter = nan\n"
        )
        self.assertEqual(
            [mistake.partition(" (")[0] for mistake in found],
            [
                "FILE:3: --down-after",
                "FILE:4: --election-timeout",
                "FILE:5: --election-backoff",
                "FILE:6: --election-backoff-jitter",
            ],
        )

    def test_a_relation_to_what_is_wrong_itself_says_nothing(self) -> None:
        file = FILE + 'hb-interval = "fast"\nelection-timeout = 0.1\n'
        self.mistake("FILE:3: --hb-interval fast", file=file)
        found = self.mistakes(file + "down-after = 4\nlease-margin = 3\n")
        self.assertEqual(len(found), 2)
        self.assertIn(
            "FILE:6: --lease-margin (3 s) must be at most 2 s, which is --down-after / 2", found[1]
        )

    def test_a_relation_is_blamed_on_what_was_given(self) -> None:
        self.mistake(
            "FILE:3: --down-after (5 s)", "5 × --hb-interval", file=FILE + "hb-interval = 2"
        )

    def test_values_that_are_no_seconds(self) -> None:
        for value in ("true", "[1]", "2020-01-01", '"5s"', "{}"):
            self.mistake("FILE:3: --down-after", "seconds", file=f"{FILE}down-after = {value}")
        self.mistake("must be above 0 and finite", file=f"{FILE}down-after = 1{'0' * 400}")

    def test_a_setting_given_twice(self) -> None:
        self.mistake("FILE:4", "twice", file=FILE + "down-after = 6\ndown_after = 7")

    def test_a_mistake_is_one_line_whatever_was_written(self) -> None:
        for line in ('"a\\nb" = 1', 'http = "tcp\\n"', 'log-level = "\\n"', 'data-dir = ""'):
            self.mistake("FILE:3", file=FILE + line)

    def test_of_a_file_that_is_no_toml_only_that_is_said(self) -> None:
        self.mistake("FILE:2: no TOML", file='node-id = "*"\nx = \n')

    def test_and_what_else_is_wrong_by_itself(self) -> None:
        found = self.mistakes("x = \n", {"KEVY_ELECT_HTP": "x"}, listen="x", down_after="1s")
        self.assertEqual(len(found), 4)
        for mistake, word in zip(found, ("HTP", "--listen", "--down", "FILE:1"), strict=True):
            self.assertIn(word, mistake)

    ODD = (
        *("1", "-1", "0.5", "nan", "-inf", "true", "2020-01-01", "12:30:00", f"0x{'f' * 9000}"),
        *(
            '""',
            '" "',
            '"x"',
            '"a@h:1"',
            '"a@"',
            '"@:,*"',
            '"tcp:1"',
            '"unix:"',
            '"\\u001b[2J\\n"',
            '["é\\u2028"]',
        ),
        *("[]", "{}", '["x", ""]', "[[]]", "[{}]", '{a = "h:1"}', '{a = {host = "h"}}'),
        *('{b = {host = "::1", elect-port = 1, client_port = 0}}', '{"\\n" = 1}'),
    )

    @limits(deadline=None)
    @given(st.dictionaries(st.sampled_from([*NAMED, "x", "a.b", "data_dir"]), st.sampled_from(ODD)))
    def test_nothing_that_a_file_can_say_makes_it_fail(self, settings: dict[str, str]) -> None:
        file = "".join(f"{name} = {value}\n" for name, value in settings.items())
        self.mistakes(file, node_id="not there")

    def test_a_file_that_is_not_there(self) -> None:
        (found,) = self.mistakes(config="/no/such.toml")
        self.assertEqual(
            found, "/no/such.toml: cannot be read: No such file or directory; correct --config"
        )
