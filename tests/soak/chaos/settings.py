"""The settings of a node's process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import attrs

VARIABLE: Final = "CHAOS_MEMBER"


@attrs.frozen
class MemberSettings:
    node: str
    peers: list[str]
    addresses: dict[str, str]
    listen: str
    data: Path = attrs.field(converter=Path)
    orders: Path = attrs.field(converter=Path)
    status: Path = attrs.field(converter=Path)
    journal: Path = attrs.field(converter=Path)
    refusals: Path = attrs.field(converter=Path)
    monotonic: bool
    """Whether the reactor's timers use the monotonic clock."""
    links: list[str]
    """The options for its links."""
    stall: float
    """Seconds by which name resolution is late, when ordered."""

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(attrs.asdict(self), default=str)}

    @classmethod
    def from_environment(cls) -> MemberSettings:
        return cls(**json.loads(os.environ[VARIABLE]))
