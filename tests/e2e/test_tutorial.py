"""docs/tutorial.md, typed from its beginning to its end."""

from __future__ import annotations

from pathlib import Path

from kevy_elect.children.processes import is_running
from kevy_elect.cli.demo.ports import free_ports
from tests.support.pages import Reader
from tests.support.waiting import wait_for


def test_it_ends_with_each_report_written_once(tmp_path: Path) -> None:
    a, b, c = free_ports(3)
    reader = Reader(
        "tutorial.md",
        tmp_path,
        {
            "7101": str(a),
            "7102": str(b),
            "7103": str(c),
            "EVERY = 1.0": "EVERY = 0.05",
            "down-after = 1.5": "down-after = 2",
        },
    )
    reader.save_files()
    try:
        reader.type_all()
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        wait_for(lambda: not any(map(is_running, pids)))
        words = [line.split() for line in (tmp_path / "reports.txt").read_text().splitlines()]
        numbers = [int(line[1]) for line in words]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert len({line[3] for line in words}) >= 2
    finally:
        reader.end()
