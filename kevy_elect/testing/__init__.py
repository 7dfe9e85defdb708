"""A simulated cluster, for the tests of this package and of programs that use it.

`SimulatedCluster` runs real electors in virtual time on a network that fails on request. It needs
no reactor. `python -m kevy_elect.testing` searches for schedules of faults that break a promise.
"""

from kevy_elect.testing.checkers import (
    Checker,
    EpochsRise,
    HealthyPrimaryStays,
    OnePrimaryPerEpoch,
    OneVotePerEpoch,
    OneWriter,
    Violation,
    default_checkers,
)
from kevy_elect.testing.cluster import SimulatedCluster
from kevy_elect.testing.node import NodeSnapshot

__all__ = [
    "Checker",
    "EpochsRise",
    "HealthyPrimaryStays",
    "NodeSnapshot",
    "OnePrimaryPerEpoch",
    "OneVotePerEpoch",
    "OneWriter",
    "SimulatedCluster",
    "Violation",
    "default_checkers",
]
