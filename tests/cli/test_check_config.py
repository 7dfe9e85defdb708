from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli import check_config
from kevy_elect.config import ElectConfig
from kevy_elect.settings.table import NAMED
from tests.support.certificates import Authority
from tests.support.statuses import document

FILE = 'node-id = "a"\ndown-after = 6\n[peers]\na = "h:1"\nb = "h:2"\nc = "h:3"\n'


@contextlib.contextmanager
def node(status: dict[str, Any]) -> Iterator[str]:
    """The admin socket of a node that says this of itself."""

    class Admin(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            reply = {"ok": True, "http_peers": {}, "status": status}
            self.wfile.write(json.dumps(reply).encode() + b"\n")

    # The path of a test's directory is too long for a socket.
    with (
        tempfile.TemporaryDirectory() as directory,
        socketserver.ThreadingUnixStreamServer(f"{directory}/s", Admin) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"unix:{directory}/s"
        finally:
            server.shutdown()
            thread.join()


class CheckConfigTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = self.mktemp()
        Path(self.path).write_text(FILE)
        self.patch(os, "environ", {"KEVY_ELECT_HTTP": "tcp:8101"})

    def check(self, *options: str, status: int = 0) -> tuple[str, str]:
        """What it prints on stdout and stderr."""
        self.patch(sys, "stdout", io.StringIO())
        self.patch(sys, "stderr", io.StringIO())
        parser = argparse.ArgumentParser()
        check_config.add_commands(parser.add_subparsers())
        try:
            args = parser.parse_args(["check-config", f"--config={self.path}", *options])
            found = args.run(args)
        except SystemExit as leaving:
            found = leaving.code
        self.assertEqual(found, status)
        return sys.stdout.getvalue(), sys.stderr.getvalue()  # type: ignore[attr-defined]

    def test_a_certificate_that_ends_within_30_days_is_warned_about(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        for days, warned in ((29, True), (31, False)):
            certificate, key = authority.member("a", days)
            given = ("--links=tls", f"--tls-cert={certificate}", f"--tls-key={key}")
            given = (*given, f"--tls-ca={authority.path}")
            self.assertEqual("expires in 2" in self.check(*given)[1], warned)
            warnings = json.loads(self.check("--json", *given)[0])["warnings"]
            self.assertEqual([certificate in each for each in warnings], [True] * warned)

    def test_each_value_with_its_source(self) -> None:
        shown, _ = self.check("--on-change", "job 'a b'", "--witness", "--http-peers=b@h:1")
        rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in shown.splitlines()}
        self.assertEqual(list(rows), list(NAMED))
        for name, value, source in (
            ("node-id", "a", f"{self.path}:1"),
            ("peers", "a@h:1,b@h:2,c@h:3", f"{self.path}:3"),
            ("down-after", "6", f"{self.path}:2"),
            ("http", "tcp:8101", "KEVY_ELECT_HTTP"),
            ("http-peers", '{"b": "h:1"}', "command line"),
            ("on-change", '["job", "a b"]', "command line"),
            ("witness", "true", "command line"),
            ("lease-margin", "1.5", "default"),
            ("listen", "host and port of this node in --peers", "default"),
            ("agent-check", "off", "default"),
        ):
            self.assertTrue(rows[name].startswith(value), rows[name])
            self.assertTrue(rows[name].endswith(source), rows[name])

    def test_what_is_switched_off_is_off(self) -> None:
        shown, _ = self.check("--no-admin")
        self.assertRegex(shown, r"(?m)^admin +off +default$")

    def test_all_mistakes_at_once(self) -> None:
        shown, complaint = self.check(
            "--listen=x", "--log-format=xml", "--http-peers=d@h:1", status=1
        )
        self.assertEqual(shown, "")
        self.assertEqual(complaint.count("\n"), 3)
        for line in complaint.splitlines():
            self.assertRegex(line, "^kevy-elect: --(listen x|log-format xml|http-peers): ")

    def told(self, *options: str, status: int = 0) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.check("--json", *options, status=status)[0])
        return told

    def test_json(self) -> None:
        told = self.told("--run-primary=sh -c job")
        self.assertEqual((told["ok"], told["mistakes"]), (True, []))
        self.assertEqual(list(told["settings"]), list(NAMED))
        place = {"source": "file", "name": self.path, "line": 2}
        self.assertEqual(told["settings"]["down-after"], {"value": 6.0} | place)
        nowhere = {"source": "default", "name": None, "line": None}
        self.assertEqual(told["settings"]["on-exit"], {"value": "restart"} | nowhere)
        self.assertEqual(told["settings"]["run-primary"]["value"], ["sh", "-c", "job"])

    def test_a_program_that_is_not_there(self) -> None:
        for command in ("no-such-program --now", "/etc/passwd", "./job"):
            _, complaint = self.check("--run-primary", command, status=1)
            self.assertIn("kevy-elect: --run-primary: there is no program", complaint)
            self.assertIn(command.split()[0], complaint)
        self.check("--run-primary", "no-such-program --now", "--shell")

    def test_nor_is_that_of_the_redis(self) -> None:
        given = ("--redis=127.0.0.1:6379", "--redis-command=no-such-server /etc/redis.conf")
        _, complaint = self.check("--advertise=127.0.0.1:6379", *given, status=1)
        self.assertIn("kevy-elect: --redis-command: there is no program", complaint)

    def test_a_port_that_is_none(self) -> None:
        for endpoint in ("tcp:80801", "tcp:port=65536:interface=127.0.0.1"):
            _, complaint = self.check("--http", endpoint, status=1)
            self.assertIn(f"--http {endpoint}: ", complaint)
            self.assertIn("is no port", complaint)
        self.check("--http", "tcp:65535", "--listen", "unix:80801")

    def test_json_of_mistakes(self) -> None:
        with open(self.path, "a") as file:
            file.write('d = "h:3"\n')
        told = self.told(status=1)
        self.assertEqual((told["ok"], told["settings"]), (False, {}))
        (mistake,) = told["mistakes"]
        self.assertIn("the same address", mistake.pop("message"))
        place = {"source": "file", "name": self.path, "line": 7}
        self.assertEqual(mistake, {"setting": "peers"} | place)

    def test_wrong_usage(self) -> None:
        _, complaint = self.check("--no-such", status=2)
        self.assertIn("--no-such", complaint)

    def test_help_has_each_setting(self) -> None:
        shown, _ = self.check("--help")
        for setting in NAMED.values():
            self.assertIn(f"{setting.option} {setting.metavar}".strip(), shown)

    def test_timings_that_the_running_node_must_not_take_in_one_step(self) -> None:
        timings = attrs.asdict(ElectConfig(down_after=8.0))
        with node(document(settings=timings)) as where:
            _, errors = self.check(f"--admin={where}", "--down-after=8")
            self.assertEqual(errors, "")
            _, errors = self.check(f"--admin={where}", status=1)
            self.assertEqual(
                errors,
                f"kevy-elect: {self.path}:2: this node runs with other timings: --down-after 6 "
                "promises less than the lease of 7.84 s that the other members have: change it "
                "in two steps. First give all members --lease-duration 5.88, then --down-after 6\n",
            )
            self.check(f"--admin={where}", "--down-after=8", "--lease-duration=5.88")
            told, _ = self.check(f"--admin={where}", "--json", status=1)
            (mistake,) = json.loads(told)["mistakes"]
            self.assertEqual((mistake["setting"], mistake["line"]), ("down-after", 2))

    def test_a_node_that_cannot_be_asked_or_is_another_is_let_be(self) -> None:
        longer = attrs.asdict(ElectConfig(down_after=8.0))
        with node(document(settings=longer)) as where:
            pass
        self.check(f"--admin={where}")
        for told in (
            document(node_id="b", settings=longer),
            document(settings={"down_after": 8.0}),
            document(settings=longer | {"down_after": True}),
            document(settings=longer | {"hb_interval": 0.0}),
        ):
            with node(told) as where:
                self.check(f"--admin={where}")
