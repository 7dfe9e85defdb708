"""The name that operators give a cluster. Members compare theirs only for people to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_NAME: Final = 64
"""Characters of a name that are shown; other members may report anything."""


def mixed_names(members: Mapping[str, str]) -> str | None:
    """A warning if members report several names; None if all that have one have the same.

    `members` has the name that each member reports, by its id, empty without one.
    """
    found: dict[str, list[str]] = {}
    for node_id, name in members.items():
        if name:
            found.setdefault(name[:MAX_NAME], []).append(node_id)
    if len(found) < 2:
        return None
    each = "; ".join(f"{name} on {', '.join(ids)}" for name, ids in found.items())
    return (
        f"the members differ in --cluster-name: {each}. Give all of them the same, unless one "
        "belongs to another cluster: then correct its address"
    )
