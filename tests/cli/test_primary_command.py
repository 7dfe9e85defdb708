"""`kevy-elect primary`: one line for a script, and an exit status."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.demo.ports import free_ports
from kevy_elect.cli.main import main
from tests.cli.test_status_command import node, status_page
from tests.support.statuses import document, replica


class PrimaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def assert_says(self, words: list[str], status: int, out: str, err: str = "") -> None:
        self.assertEqual((main(["primary", *words]), self.out.getvalue()), (status, out))
        if err:
            self.assertIn(err, self.err.getvalue())
        else:
            self.assertEqual(self.err.getvalue(), "")

    def test_this_machines_node_names_it(self) -> None:
        with node(lambda: replica("c")) as where:
            self.assert_says(["--admin", where], 0, "127.0.0.1:6001\n")

    def test_pages_name_it(self) -> None:
        nobody = f"127.0.0.1:{free_ports(1)[0]}"
        with status_page(document) as url:
            self.assert_says([nobody, url], 0, "127.0.0.1:6001\n")

    def test_as_json(self) -> None:
        found = {"node_id": "a", "address": "127.0.0.1:6001", "epoch": 3}
        with status_page(document) as url:
            self.assert_says([url, "--json"], 0, json.dumps(found) + "\n")

    def test_without_one_it_prints_nothing_and_ends_with_1(self) -> None:
        problem = "kevy-elect: c knows no primary\n"
        with node(lambda: replica("c", primary=None)) as where:
            self.assert_says(["--admin", where], 1, "", problem)
        with status_page(lambda: replica("c", primary=None)) as url:
            self.assert_says([url], 1, "", "c knows no primary")

    def test_it_waits_for_one(self) -> None:
        told: list[dict[str, Any]] = [replica("c", primary=None), document()]
        with node(lambda: told.pop(0)) as where:
            self.assert_says(["--admin", where, "--wait", "30s"], 0, "127.0.0.1:6001\n")

    def test_a_node_that_does_not_answer_is_3(self) -> None:
        where = f"tcp:127.0.0.1:{free_ports(1)[0]}"
        for wait in ([], ["--wait", "0.1"]):
            self.assert_says(["--admin", where, *wait], 3, "", f"no node answers on {where}")

    def test_wrong_usage_is_2(self) -> None:
        self.assert_says(["nowhere"], 2, "", "'nowhere' has no port")

    def test_what_a_page_says_is_printable(self) -> None:
        with status_page(lambda: replica("\x1b[2J", primary=None)) as url:
            self.assertEqual(main(["primary", url]), 1)
        self.assertNotIn("\x1b", self.err.getvalue())


class IsPrimaryTests(SynchronousTestCase):
    """`kevy-elect is-primary`: an exit status for the jobs of cron."""

    def run_command(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        return main(["is-primary", *words]), out.getvalue(), err.getvalue()

    def test_the_primary_is_0_and_silent(self) -> None:
        with node(document) as where:
            self.assertEqual(self.run_command("--admin", where), (0, "", ""))

    def test_a_replica_is_1_and_silent(self) -> None:
        with node(lambda: replica("c")) as where:
            self.assertEqual(self.run_command("--admin", where), (1, "", ""))

    def test_a_primary_without_a_lease_is_1(self) -> None:
        with node(lambda: document(can_write=False)) as where:
            self.assertEqual(self.run_command("--admin", where), (1, "", ""))

    def test_json_has_the_fencing_token(self) -> None:
        with node(document) as where:
            status, out, _ = self.run_command("--admin", where, "--json")
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(out), {"node_id": "a", "primary": True, "epoch": 3})

    def test_no_answer_is_3_with_a_reason(self) -> None:
        status, out, err = self.run_command("--admin", f"tcp:127.0.0.1:{free_ports(1)[0]}")
        self.assertEqual((status, out), (3, ""))
        self.assertIn("no node answers", err)
