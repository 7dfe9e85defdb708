"""Real nodes and whoever else can reach their ports.

`python -m tests.soak.hostile` runs a cluster of real twistd processes on loopback that write
whenever they may, attacks it in one way after the other, and measures what that cost:
elections, leases, memory, file descriptors, lines in the logs, and the time until all
is as before.
"""
