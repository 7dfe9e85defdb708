"""Orders for a node to misbehave at an exact point of its program: files in a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DIE_BEFORE_SAVE: Final = "die-before-save"
DIE_AFTER_SAVE: Final = "die-after-save"
STOP_BEFORE_WRITE: Final = "stop-before-write"
STALL_NAMES: Final = "stall-names"


class Orders:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def give(self, order: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / order).touch()

    def stands(self, order: str) -> bool:
        return (self._directory / order).exists()

    def take(self, order: str) -> bool:
        """Whether this order is in force. It is then no longer so."""
        try:
            (self._directory / order).unlink()
        except FileNotFoundError:
            return False
        return True

    def withdraw(self) -> None:
        """Withdraw all orders."""
        for order in self._directory.glob("*"):
            order.unlink(missing_ok=True)
