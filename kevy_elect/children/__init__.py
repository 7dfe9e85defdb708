"""The commands and services that a node runs: on the primary, at changes, or all the time."""
