"""Containerfile and compose.yaml: a node accepts what they tell it, and finds the others."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.cli.main import main
from tests.support import ROOT

try:
    import yaml
except ImportError:
    yaml = None

IDS = ("a", "b", "c")


@skipIf(yaml is None, "PyYAML is not installed")
class ComposeTests(SynchronousTestCase):
    def setUp(self) -> None:
        text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
        self.file: dict[str, Any] = yaml.safe_load(text)
        self.services = self.file["services"]

    def settings(self, node_id: str) -> dict[str, Any]:
        """What the node of this container makes of its options and environment."""
        service = self.services[node_id]
        for name, value in service["environment"].items():
            self.patch_environment(name, value)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            status = main(["check-config", "--json", *service["command"].split()])
        self.assertEqual(status, 0, out.getvalue())
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def patch_environment(self, name: str, value: str) -> None:
        self.patch(os, "environ", os.environ | {name: value})

    def test_a_node_accepts_its_settings(self) -> None:
        for node_id in IDS:
            told = json.dumps(self.settings(node_id))
            self.assertIn(f'"redis-{node_id}:6379"', told)

    def test_the_members_are_the_containers(self) -> None:
        peers = self.services["a"]["environment"]["KEVY_ELECT_PEERS"]
        self.assertEqual(re.findall(r"(\w)@(\w):7101", peers), [(each, each) for each in IDS])
        for node_id in IDS:
            self.assertIn(node_id, self.services)
            self.assertIn(f"redis-{node_id}", self.services)
            self.assertIn(f"--node-id {node_id} ", self.services[node_id]["command"])

    def test_each_ballot_has_a_volume_of_its_own(self) -> None:
        volumes = [self.services[node_id]["volumes"] for node_id in IDS]
        self.assertEqual(volumes, [[f"{node_id}:/data"] for node_id in IDS])
        self.assertEqual(set(self.file["volumes"]), set(IDS))

    def test_redis_takes_no_writes_before_its_node_says_so(self) -> None:
        for node_id in IDS:
            command = self.services[f"redis-{node_id}"]["command"]
            self.assertIn("--replicaof 127.0.0.1 1", command)


class ContainerfileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (ROOT / "Containerfile").read_text(encoding="utf-8")

    def test_it_starts_a_wrapper_and_a_node_that_is_not_root(self) -> None:
        (entry,) = re.findall(r"^ENTRYPOINT (.*)$", self.text, re.M)
        self.assertEqual(
            json.loads(entry),
            ["kevy-elect", "supervise", "--", "twistd", "-n", "--pidfile=", "kevy-elect"],
        )
        (user,) = re.findall(r"^USER (\d+)$", self.text, re.M)
        self.assertNotEqual(user, "0")
        self.assertIn(f"useradd --uid {user} ", self.text)

    def test_the_ballot_is_on_a_volume(self) -> None:
        self.assertIn("KEVY_ELECT_DATA_DIR=/data/election", self.text)
        self.assertIn("\nVOLUME /data\n", self.text)

    def test_what_it_builds_from_is_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        self.assertEqual(ignored[0], "*")
        for each in ignored[1:]:
            self.assertTrue((ROOT / each.removeprefix("!")).exists(), each)
