"""What a server says of itself in INFO, be it a Redis or a Valkey."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.data.redis import _fields, _kind, _parse
from kevy_elect.data.server import DataServerError

VALKEY = """# Server
redis_version:7.2.4
server_name:valkey
valkey_version:8.1.1
server_mode:standalone
process_id:4711
run_id:8c6ad4f1ae4b1d0b5a9d3c2e7f60a1b2c3d4e5f6
tcp_port:6379

# Replication
role:slave
master_host:10.0.0.2
master_port:6379
master_link_status:up
master_sync_in_progress:0
slave_read_repl_offset:1290
slave_repl_offset:1288
slave_priority:100
slave_read_only:1
replicas_repl_buffer_size:0
connected_slaves:0
master_failover_state:no-failover
master_replid:5f3c
master_repl_offset:1288
"""
"""A replica, with the fields that the documentation of Valkey 8 has for INFO. It keeps those of
Redis 7.2, and adds `server_name` and `valkey_version`."""


def info(text: str = VALKEY, **changes: str) -> dict[str, str]:
    lines = text.splitlines()
    for name, value in changes.items():
        lines = [f"{name}:{value}" if line.startswith(f"{name}:") else line for line in lines]
    return _fields("\r\n".join(lines).encode())


class InfoTests(SynchronousTestCase):
    def test_a_replica_of_valkey_is_read_as_one_of_redis(self) -> None:
        report = _parse(info())
        self.assertEqual((report.takes_writes, report.source), (False, "10.0.0.2:6379"))
        self.assertEqual((report.in_sync, report.is_copying), (True, False))
        self.assertEqual((report.history, report.length), ("5f3c", 1288))
        self.assertEqual((report.run[:4], report.process), ("8c6a", 4711))

    def test_so_is_its_primary(self) -> None:
        report = _parse(info(role="master", master_repl_offset="1300"))
        self.assertEqual((report.takes_writes, report.source), (True, ""))
        self.assertEqual(report.length, 1300)

    def test_a_frozen_one_replicates_from_nobody(self) -> None:
        self.assertEqual(_parse(info(master_host="127.0.0.1", master_port="1")).source, "")

    def test_people_read_the_name_of_what_it_is(self) -> None:
        self.assertEqual(_kind(info()), "Valkey")
        self.assertEqual(_kind(info(server_name="redis")), "Redis")
        self.assertEqual(_kind(info("redis_version:7.0.15")), "Redis")

    def test_an_info_without_what_is_needed_is_refused(self) -> None:
        text = VALKEY.replace("run_id:", "another:")
        self.assertRaises(DataServerError, _parse, info(text))

    def test_a_replica_that_takes_writes_is_refused_with_what_to_set(self) -> None:
        """It would take writes when it is frozen, too."""
        with self.assertRaisesRegex(DataServerError, "set 'replica-read-only yes'"):
            _parse(info(slave_read_only="0"))

    def test_one_that_does_not_tell_whether_it_is_read_only_is_believed(self) -> None:
        text = VALKEY.replace("slave_read_only:1\n", "")
        self.assertFalse(_parse(info(text)).takes_writes)

    def test_a_role_is_required(self) -> None:
        self.assertRaises(DataServerError, _parse, info(VALKEY.replace("role:", "rule:")))
