"""The name that operators give a cluster. Members compare theirs only for people to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kevy_elect.settings.text import sides

MAX_NAME: Final = 64
"""The most characters of a name, and of the shown part of one that another member reports."""


def mixed_names(members: Mapping[str, str]) -> str | None:
    """A warning if members report several names; None if all that have one have the same.

    `members` has the name that each member reports, by its id, empty without one.
    """
    named = {node_id: name[:MAX_NAME] for node_id, name in members.items() if name}
    each = sides(named, str)
    if each is None:
        return None
    return (
        f"the members differ in --cluster-name: {each}. Give all of them the same, unless one "
        "belongs to another cluster: then correct its address"
    )
