from __future__ import annotations

import os

from twisted.internet.endpoints import quoteStringArgument
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.errors import ConfigError
from kevy_elect.settings.admin import parse_socket, socket_in


class SocketTests(SynchronousTestCase):
    def test_a_unix_socket_is_private_unless_told_otherwise(self) -> None:
        self.assertEqual(parse_socket("unix:/run/a.sock"), ("/run/a.sock", 0o600))
        self.assertEqual(parse_socket("unix:a.sock:mode=660"), ("a.sock", 0o660))
        self.assertEqual(parse_socket("unix:address=a.sock"), ("a.sock", 0o600))

    def test_no_path_is_too_odd_for_the_usual_socket(self) -> None:
        for data_dir in ("/data:1", "/a\\b", "/a\\:b", "/a:", "\\"):
            path = os.path.join(data_dir, "admin.sock")
            self.assertEqual(parse_socket(socket_in(data_dir)), (path, 0o600))
            self.assertEqual(socket_in(data_dir), f"unix:{quoteStringArgument(path)}")

    def test_other_endpoints_are_none(self) -> None:
        self.assertIsNone(parse_socket("tcp:7000:interface=127.0.0.1"))

    def test_what_cannot_be_a_socket_is_refused_by_name(self) -> None:
        for description in ("unix:", "unix:/a:mode=999", "unix:/a:lockfile=0", "unix:" + "x" * 200):
            error = self.assertRaises(ConfigError, parse_socket, description)
            self.assertIn(description.removeprefix("unix:")[:20], str(error))
