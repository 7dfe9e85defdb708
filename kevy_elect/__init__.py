"""Elects one primary among N copies of a service, by quorum, over plain TCP."""

__version__ = "0.1.0"
