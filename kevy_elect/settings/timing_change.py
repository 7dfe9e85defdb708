"""Whether timings may be changed while a cluster runs.

A voter promises for down_after to back nobody else, and a primary counts on that for
lease_duration. So at no moment may the lease of any member be longer than the promise of
another (docs/protocol.md, section 2): down_after changes in two steps, each of which is
finished on all members before the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from kevy_elect.config import ElectConfig

Settings = Mapping[str, float | bool]
"""As a status document has them."""


def step_problem(present: ElectConfig, new: ElectConfig) -> str | None:
    """Why a member must not go from `present` to `new` while others still go by `present`,
    and what to do instead; None if it may."""
    if not _fits(new.lease_duration, present):
        return (
            f"a lease of {new.lease_duration:g} s is more than the other members promise while "
            f"they have --down-after {present.down_after:g}: change it in two steps. First give "
            f"all members --down-after {new.down_after:g} with --lease-duration "
            f"{_longest(present):g}, then --lease-duration {new.lease_duration:g}"
        )
    if not _fits(present.lease_duration, new):
        return (
            f"--down-after {new.down_after:g} promises less than the lease of "
            f"{present.lease_duration:g} s that the other members have: change it in two steps. "
            f"First give all members --lease-duration {_longest(new):g}, then --down-after "
            f"{new.down_after:g}"
        )
    return None


def _longest(config: ElectConfig) -> float:
    """The longest lease, in seconds, for which a member with these timings promises enough."""
    return config.down_after - config.ack_margin


def _fits(lease: float, config: ElectConfig) -> bool:
    longest = _longest(config)
    return lease <= longest or math.isclose(lease, longest, rel_tol=1e-9)


def mixed_timings(members: Mapping[str, Settings]) -> list[str]:
    """What is to be said of members whose timings differ: a sentence each, the worst first.

    `members` are the settings that each tells of itself, by its id.
    """
    return [*_too_long_leases(members), *_differences(members)]


def _too_long_leases(members: Mapping[str, Settings]) -> list[str]:
    told = {each: settings for each, settings in members.items() if "down_after" in settings}
    if not told:
        return []
    promises = {each: settings["down_after"] for each, settings in told.items()}
    leases = {each: _lease_of(settings) for each, settings in told.items()}
    leads, follows = max(leases, key=leases.__getitem__), min(promises, key=promises.__getitem__)
    lease, promise = leases[leads], promises[follows]
    if lease <= promise:
        return []
    return [
        f"{leads} has a lease of {lease:g} s, and {follows} promises only its down_after of "
        f"{promise:g} s: two nodes could write at once. Set --lease-duration on {leads} below "
        f"{promise:g} before anything else"
    ]


def _lease_of(settings: Settings) -> float:
    """What a node that tells none has by default."""
    unless_told = settings["down_after"] - settings.get("ack_margin", 0.0)
    return settings.get("lease_duration", unless_told)


def _differences(members: Mapping[str, Settings]) -> Iterator[str]:
    names = dict.fromkeys(name for settings in members.values() for name in settings)
    for name in names:
        found: dict[float | bool, list[str]] = {}
        for node_id, settings in members.items():
            if name in settings:
                found.setdefault(settings[name], []).append(node_id)
        if len(found) > 1:
            each = "; ".join(f"{_text(value)} on {', '.join(ids)}" for value, ids in found.items())
            yield f"the members differ in {name}: {each}. Give all of them the same"


def _text(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
