"""Elects one primary among N copies of a service, by quorum, over TCP.

    from twisted.application.service import Application
    from kevy_elect import Cluster, ElectionService, PeerAddr

    members = "a@10.0.0.1:7101", "b@10.0.0.2:7101", "c@10.0.0.3:7101"
    cluster = Cluster("a", tuple(map(PeerAddr.parse, members)))
    election = ElectionService(cluster, data_dir="/var/lib/myapp/election")

    def work() -> None:
        if election.can_write():  # asked at the moment of writing, never remembered
            write_something(fencing_token=election.state_snapshot().epoch)

    application = Application("myapp")
    election.setServiceParent(application)

`PrimaryOnly` runs a service of your own on the primary only, and `Elector` is the
election without Twisted. A name below is imported at its first use, so that
`import kevy_elect.elector` imports no Twisted.
"""

TYPE_CHECKING = False  # type checkers know the name; `typing` is slow to load

if TYPE_CHECKING:
    from kevy_elect.ballot import FileBallot, MemoryBallot
    from kevy_elect.children.primary_only import PrimaryOnly
    from kevy_elect.config import Cluster, ElectConfig, PeerAddr
    from kevy_elect.elector import Elector
    from kevy_elect.errors import BallotError, ConfigError, ElectError, FrameError, HandoverError
    from kevy_elect.messages import Role
    from kevy_elect.service.election import ElectionService
    from kevy_elect.service.fake import FakeElection
    from kevy_elect.service.observers import Change, ElectorSnapshot
    from kevy_elect.service.reactor import use_monotonic_time

__all__ = [
    "BallotError",
    "Change",
    "Cluster",
    "ConfigError",
    "ElectConfig",
    "ElectError",
    "ElectionService",
    "Elector",
    "ElectorSnapshot",
    "FakeElection",
    "FileBallot",
    "FrameError",
    "HandoverError",
    "MemoryBallot",
    "PeerAddr",
    "PrimaryOnly",
    "Role",
    "use_monotonic_time",
]

__version__ = "0.1.0"

_HOMES = {
    "ballot": ("FileBallot", "MemoryBallot"),
    "children.primary_only": ("PrimaryOnly",),
    "config": ("Cluster", "ElectConfig", "PeerAddr"),
    "elector": ("Elector",),
    "errors": ("BallotError", "ConfigError", "ElectError", "FrameError", "HandoverError"),
    "messages": ("Role",),
    "service.election": ("ElectionService",),
    "service.fake": ("FakeElection",),
    "service.observers": ("Change", "ElectorSnapshot"),
    "service.reactor": ("use_monotonic_time",),
}
"""The module of each name. Type checkers read the imports above; Python reads this."""

if not TYPE_CHECKING:  # otherwise a checker would assume that every name exists

    def __getattr__(name: str) -> object:
        from importlib import import_module

        for home, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{home}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
