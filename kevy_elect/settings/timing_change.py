"""Decides whether timings may be changed while a cluster runs.

A voter promises for down_after to back no other node, and a primary relies on this for
lease_duration. So the lease of a member must never be longer than the promise of another
member (docs/protocol.md, section 2). down_after therefore changes in two steps, and the first is
finished on all members before the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from kevy_elect.config import ElectConfig
from kevy_elect.settings.text import sides

Settings = Mapping[str, float | bool]
"""Timings as in a status document."""


def step_problem(present: ElectConfig, new: ElectConfig) -> str | None:
    """Why a member must not change from `present` to `new` while others still use `present`,
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
    """The longest lease, in seconds, that the promise of a member with these timings covers."""
    return config.down_after - config.ack_margin


def _fits(lease: float, config: ElectConfig) -> bool:
    longest = _longest(config)
    return lease <= longest or math.isclose(lease, longest, rel_tol=1e-9)


def mixed_timings(members: Mapping[str, Settings]) -> list[str]:
    """Warnings about members whose timings differ: a sentence each, the worst first.

    `members` has the settings that each member reports, by its id.
    """
    return [*_too_long_leases(members), *_differences(members)]


def _too_long_leases(members: Mapping[str, Settings]) -> list[str]:
    timings = {each: settings for each, settings in members.items() if "down_after" in settings}
    if not timings:
        return []
    promises = {each: settings["down_after"] for each, settings in timings.items()}
    leases = {each: _lease_of(settings) for each, settings in timings.items()}
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
    """The lease of a member that reports none: its default."""
    default = settings["down_after"] - settings.get("ack_margin", 0.0)
    return settings.get("lease_duration", default)


def _differences(members: Mapping[str, Settings]) -> Iterator[str]:
    names = dict.fromkeys(name for settings in members.values() for name in settings)
    for name in names:
        given = {who: settings[name] for who, settings in members.items() if name in settings}
        each = sides(given, _text)
        if each is not None:
            yield f"the members differ in {name}: {each}. Give all of them the same"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
