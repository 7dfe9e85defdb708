"""Real nodes, and attackers that can reach their ports.

`python -m tests.soak.hostile` runs a cluster of real twistd processes on loopback that write
whenever they may. It attacks the cluster in one way after another, and measures the effect:
elections, leases, memory, file descriptors, lines in the logs, and the time until all is as before.
"""
